"""How much each decoder block matters, as people read it."""
