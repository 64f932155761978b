"""A model for other machines and other programs: zip archives, ONNX, released checkpoints."""
