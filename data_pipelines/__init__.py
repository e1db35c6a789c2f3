"""Everything that makes and reads training data; the only package that imports tensorflow.

`spec`, `detector` and the command `landmarks` do without it. `records` says what shards hold, `ops`
and `mixture` turn shards into batches, and each sub-package is one TFDS builder; `prepare` is their
command.
"""

import os

# Before the first import of tensorflow, whoever makes it: no start-up notes on stderr.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "0")
