"""A synthetic visual-question task, and a small vision-language model whose knobs cost real accuracy."""
