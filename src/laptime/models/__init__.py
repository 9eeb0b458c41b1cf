"""Models: how they are loaded, and where their vision tower, projector, language model and layers are."""
