"""Everything that makes and reads training data; the only package that imports tensorflow.

The command `landmarks` does without it. `records` says what shards hold, `reading` turns shards
into batches, and `building` holds what the TFDS builders of photographs share. `synthetic`,
`affectnet`, `bp4d` and `faces` are one builder each. `prepare` is their command; a new set is
registered in fields_jax/data_sets.py (docs/extending.md).
"""

import os

# Set before any import of tensorflow: it then prints no start-up messages on stderr.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
