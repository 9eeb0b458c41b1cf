"""Triton kernels of one decode step."""
