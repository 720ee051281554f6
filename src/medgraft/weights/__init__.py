"""Weights on disk: the catalogue, safetensors in and out, downloads."""
