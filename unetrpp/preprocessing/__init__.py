"""Preprocessing: crop, normalise and resample one case, from the raw image to the network's input."""
