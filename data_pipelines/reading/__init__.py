"""Sets read: mixtures of shards as batches, cropped, augmented, balanced."""
