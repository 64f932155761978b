"""Kernels that only a CPU uses. Each stands beside the plain PyTorch branch that every other device takes."""
