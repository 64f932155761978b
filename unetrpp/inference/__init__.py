"""Prediction: tiles, folds, export to the original grid."""
