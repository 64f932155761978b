"""The plan report as text and as a picture."""
