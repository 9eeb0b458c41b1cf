"""FastDecoder: a model's own greedy decoding, merged, compiled and captured once."""
