"""Reads sets: mixtures of shards as batches, cropped, augmented, balanced."""
