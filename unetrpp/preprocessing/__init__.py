"""Crop, normalise, resample: one case from raw images to the form the network sees."""
