"""Faces: terminal tables, the HTML page, the Perfetto export. They render values and compute nothing."""
