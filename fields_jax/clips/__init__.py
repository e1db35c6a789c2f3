"""Faces in motion: clips decoded, faces followed, coefficients smoothed, files of each person."""
