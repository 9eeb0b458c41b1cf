"""How right an answer is, by the published definitions. Strings in, scores out; no torch."""
