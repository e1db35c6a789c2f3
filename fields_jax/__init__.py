"""FIELDS: emotion-faithful 3D faces from one image, in JAX."""

__version__ = "0.1.0"
