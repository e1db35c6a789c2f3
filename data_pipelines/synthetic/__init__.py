"""Faces rendered from the procedural head: data sets that need no licence and no download."""
