"""TFDS builder: BP4D-Spontaneous and BP4D+, frames of 3D sequences with FLAME fits of the scans."""
