"""Workloads: prompts of a given length, images of a given size, and files of questions."""
