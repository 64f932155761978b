"""Augmentation on the training device: each transform draws its parameters, then applies them."""
