"""Photographs of faces: images, landmark files and the geometry of crops, in numpy and pillow."""
