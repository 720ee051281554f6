"""Unwanted areas cut away: what a run keeps or hides, burned-in letters, and the data set that is left."""
