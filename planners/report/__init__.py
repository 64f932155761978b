"""The plan report: text and picture."""
