"""Noise taken away: nets that learn it from noisy images, a model that draws as a prior, and filters beside them."""
