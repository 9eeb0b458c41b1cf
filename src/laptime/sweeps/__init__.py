"""A sweep over a grid of knobs, by one process or many, that survives whatever happens to them."""
