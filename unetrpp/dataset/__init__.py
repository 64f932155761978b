"""The raw dataset: its description, labels, splits and verification."""
