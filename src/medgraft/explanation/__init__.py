"""Where a net looked: maps of an image's places by how much they speak for an answer, and what such a map is worth."""
