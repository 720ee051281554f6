"""Structures that a prompt shows, outlined without training: in pictures and through volumes, measured and written."""
