"""A trained model: its folder and its checkpoints."""
