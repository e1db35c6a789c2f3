"""Closest points, normals, similarity transforms and rotations, in numpy and in JAX."""
