"""Boxes in volumes: candidates by a classical search, judged by the features of a net of pictures."""
