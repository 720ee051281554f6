"""Boxes in volumes by a detector that learns in volumes."""
