"""Augmentation: each transform draws its parameters, then applies them on the training device."""
