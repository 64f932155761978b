"""Prediction: sliding window, mean over folds and models, export to the grid of the input."""
