"""Learning: the one training loop, exact resume, the cache of frozen layers, inference."""
