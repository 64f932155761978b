"""Kernels that only a CPU uses. Each has a plain PyTorch equivalent, which all other devices use."""
