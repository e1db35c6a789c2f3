"""How fast the data pipeline is: `python -m benchmarks.pipeline --json=OUT`.

Measures the mixture at reference size against the least any pipeline must do, decoding and resizing
the stored crop, in the same process and in turns; each augmentation is also left out once.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable

import numpy as np
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from benchmarks.results import save
from configs import stage2
from data_pipelines.reading import baseline, mixture
from fields_jax import cli

_JSON = flags.DEFINE_string("json", "", "file to write the figures to")
_ROOT = flags.DEFINE_string("root", "", "folder of prepared sets (default: generated pictures)")
_MIXTURE = flags.DEFINE_string("mixture", "", "sets below --root, NAME=SHARE,NAME=SHARE")
_IMAGES = flags.DEFINE_integer("images", 1280, "images per measurement", 64)
_ROUNDS = flags.DEFINE_integer("rounds", 3, "measurements of each; the median is shown", 1)
_THREADS = flags.DEFINE_integer("threads", 0, "threads of the pipeline (default: all cores)")

_BATCH = 64
# Parts that can be left out, and the settings that do so.
_PARTS = {
    "brightness and contrast": dict(p_brightness_contrast=0.0),
    "gamma": dict(p_gamma=0.0),
    "jitter": dict(p_jitter=0.0),
    "RGB shift": dict(p_rgb_shift=0.0),
    "blur": dict(p_blur=0.0),
    "noise": dict(p_noise=0.0),
}


def mixed(data: ConfigDict, size: int, images: int) -> float:
    """Images a second of the training mixture."""
    return timed(mixture.training_batches(data, image_size=size, batch_size=_BATCH, seed=0), images)


def timed(batches, images: int) -> float:
    """Images a second after the first two batches."""
    count = max(1, images // _BATCH)
    for _ in itertools.islice(batches, 2):
        pass
    started = time.perf_counter()
    for _ in itertools.islice(batches, count):
        pass
    return count * _BATCH / (time.perf_counter() - started)


def variants(data: ConfigDict, size: int, threads: int, images: int) -> dict[str, Callable]:
    """What is measured, by name."""

    def changed(**augment: float) -> Callable[[], float]:
        other = ConfigDict(data.to_dict())
        other.augment.update(augment)
        return lambda: mixed(other, size, images)

    colours = {key: value for part in _PARTS.values() for key, value in part.items()}
    return {
        "decode and resize": lambda: timed(
            baseline.decode_and_resize(data, size, _BATCH, threads), images
        ),
        "default": changed(),
        "with CLAHE at 0.255": changed(p_clahe=0.255),
        "crop only": changed(p_geometric=0.0, **colours),
        **{f"without {name}": changed(**part) for name, part in _PARTS.items()},
    }


def main(_: list[str]) -> None:
    """Prints images a second of every variant and writes them as JSON."""
    config = stage2.get_config("full")
    data, threads = config.data, _THREADS.value or os.cpu_count() or 1
    data.threads = threads
    with tempfile.TemporaryDirectory() as folder:
        data.root = _ROOT.value or folder
        data.mixture = (
            _MIXTURE.value if _ROOT.value else baseline.write_pictures(epath.Path(folder))
        )
        measured = variants(data, config.image_size, threads, _IMAGES.value)
        rates: dict[str, list[float]] = {name: [] for name in measured}
        for _ in range(_ROUNDS.value):
            for name, measure in measured.items():
                rates[name].append(measure())
    median = {name: float(np.median(found)) for name, found in rates.items()}
    floor = median["decode and resize"]
    cost = {name: 1 / median["default"] - 1 / median[f"without {name}"] for name in _PARTS}
    report = {
        "image_size": config.image_size,
        "threads": threads,
        "images_per_s": median,
        "share_of_decode_and_resize": {name: rate / floor for name, rate in median.items()},
        "costliest_augmentation": max(cost, key=cost.get),
    }
    for name, rate in median.items():
        print(f"{name:32} {rate:8.1f} images/s  {rate / floor:5.2f} of decode and resize")
    save(_JSON.value, report)


if __name__ == "__main__":
    cli.run(main)
