"""Readers of published data sets, one file each: local files in, examples out. No torch."""
