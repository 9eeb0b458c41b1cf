"""Triton kernels of one decode step, and the block shapes that they are launched with."""
