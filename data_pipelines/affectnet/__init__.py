"""TFDS builder: AffectNet, the manually annotated images and the release of eight classes."""
