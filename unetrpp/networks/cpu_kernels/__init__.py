"""Kernels that only a CPU takes. Each has a plain PyTorch branch that other devices take."""
