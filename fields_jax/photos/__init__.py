"""Photographs of faces: files, landmark files and the geometry of crops, in numpy and pillow."""
