"""Losses: Dice with cross-entropy, Unified Focal, the focal distance penalty, deep supervision."""
