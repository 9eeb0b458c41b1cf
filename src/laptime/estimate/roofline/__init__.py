"""Work and roofline terms: what a configuration must compute and move, with units."""
