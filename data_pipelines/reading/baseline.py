"""The baseline that `benchmarks/pipeline.py` compares the data pipeline with; only used there.

It decodes and resizes stored pictures, the least any pipeline must do. It is here because only this
package imports tensorflow.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import tensorflow as tf
import tensorflow_datasets as tfds
from etils import epath
from ml_collections import ConfigDict

from data_pipelines import records
from data_pipelines.reading import mixture, sources


def write_pictures(folder: epath.Path, count: int = 128, stored: int = 256) -> str:
    """Writes a set of pictures with the spectrum of photographs; returns its `data.mixture`."""
    rng = np.random.default_rng(0)
    frequency = np.hypot(*np.meshgrid(*[np.fft.fftfreq(stored)] * 2)) + 1 / stored

    def picture() -> np.ndarray:
        noise = np.fft.fft2(rng.standard_normal((3, stored, stored)))
        smooth = np.fft.ifft2(noise / frequency).real.transpose(1, 2, 0)
        return (128 + 50 * smooth / smooth.std()).clip(0, 255).astype(np.uint8)

    mask = np.ones((stored, stored), np.uint8)
    mask[64:192, 64:192] = 0
    marks = rng.uniform(64, 192, (68, 2))
    examples = (
        (i, records.record(picture(), mask, [64, 64, 192, 192], id=f"{i}", landmarks_68=marks))
        for i in range(count)
    )
    tfds.disable_progress_bar()
    tfds.dataset_builders.store_as_tfds_dataset(
        "pictures", "1.0.0", records.features(), {"train": examples}, data_dir=folder
    )
    return "pictures=1"


def decode_and_resize(
    data: ConfigDict, size: int, batch_size: int, threads: int
) -> Iterator[np.ndarray]:
    """Endless batches [B, size, size, 3] uint8 of stored crops, decoded, resized and no more."""
    names = [name for name, _ in mixture.parse_mixture(data.mixture)]
    shards = [s for name in names for s in sources.open_source(data.root, name, "train").shards]

    def small(serialized: tf.Tensor) -> tf.Tensor:
        wanted = {"image": tf.io.FixedLenFeature([], tf.string)}
        picture = tf.io.decode_jpeg(tf.io.parse_single_example(serialized, wanted)["image"], 3)
        return tf.cast(tf.image.resize(picture, [size, size]), tf.uint8)

    options = tf.data.Options()
    options.threading.private_threadpool_size = threads
    options.threading.max_intra_op_parallelism = 1
    serialized_records = tf.data.TFRecordDataset(shards).cache().repeat()
    batches = (
        serialized_records.map(small, num_parallel_calls=threads).batch(batch_size).prefetch(2)
    )
    return batches.with_options(options).as_numpy_iterator()
