"""How fast the data pipeline is: `python -m benchmarks.pipeline --json=OUT`.

Measures the mixture at reference size against the least any pipeline must do, decoding and resizing
the stored crop, in the same process and in turns; each augmentation is also left out once.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Collection

import numpy as np
from absl import flags
from etils import epath
from ml_collections import ConfigDict

from benchmarks.figures import Figure
from benchmarks.results import save
from configs import stage2
from data_pipelines.reading import baseline, mixture
from fields_jax import cli

_BATCH = 64
_FLOOR, _DEFAULT, _CLAHE = "decode and resize", "default", "with CLAHE at 0.255"
# Parts that can be left out, and the settings that do so.
_PARTS = {
    "brightness and contrast": dict(p_brightness_contrast=0.0),
    "gamma": dict(p_gamma=0.0),
    "jitter": dict(p_jitter=0.0),
    "RGB shift": dict(p_rgb_shift=0.0),
    "blur": dict(p_blur=0.0),
    "noise": dict(p_noise=0.0),
}


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("root", "", "folder of prepared sets (default: generated pictures)")
    flags.DEFINE_string("mixture", "", "sets below --root, NAME=SHARE,NAME=SHARE")
    flags.DEFINE_integer("images", 1280, "images per measurement", 64)
    flags.DEFINE_integer("rounds", 3, "measurements of each; the median is shown", 1)
    flags.DEFINE_integer("threads", 0, "threads of the pipeline (default: all cores)")


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
        _FLOOR: lambda: timed(baseline.decode_and_resize(data, size, _BATCH, threads), images),
        _DEFAULT: changed(),
        _CLAHE: changed(p_clahe=0.255),
        "crop only": changed(p_geometric=0.0, **colours),
        **{f"without {name}": changed(**part) for name, part in _PARTS.items()},
    }


def median_rates(
    config: ConfigDict, images: int, rounds: int, names: Collection[str] = ()
) -> dict[str, float]:
    """Images a second of the variants, measured in turns.

    Args:
      config: `data`, with its threads, and `image_size`; without a `data.root` pictures are made.
      images: of each measurement.
      rounds: measurements of each; the median counts.
      names: of the variants; none: all.
    """
    data = ConfigDict(config.data.to_dict())
    data.threads = data.threads or os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as folder:
        if not data.root:
            data.root, data.mixture = folder, baseline.write_pictures(epath.Path(folder))
        measured = variants(data, config.image_size, data.threads, images)
        rates: dict[str, list[float]] = {name: [] for name in names or measured}
        for _ in range(rounds):
            for name, found in rates.items():
                found.append(measured[name]())
    return {name: float(np.median(found)) for name, found in rates.items()}


def figures(config: ConfigDict, images: int, rounds: int) -> list[Figure]:
    """Seconds of an image against those of decoding and resizing it.

    Args:
      config, images, rounds: as of `median_rates`.
    """
    rates = median_rates(config, images, rounds, (_FLOOR, _DEFAULT, _CLAHE))
    floor = {_FLOOR: 1 / rates.pop(_FLOOR)}
    size = config.image_size
    return [
        Figure(f"{name}, {size} px", 1 / rate, items=1, against=floor)
        for name, rate in rates.items()
    ]


def main(_: list[str]) -> None:
    """Prints images a second of every variant and writes them as JSON."""
    chosen, config = flags.FLAGS, stage2.get_config("full")
    config.data.threads = chosen.threads
    config.data.root, config.data.mixture = chosen.root, chosen.mixture or config.data.mixture
    median = median_rates(config, chosen.images, chosen.rounds)
    floor = median[_FLOOR]
    cost = {name: 1 / median[_DEFAULT] - 1 / median[f"without {name}"] for name in _PARTS}
    report = {
        "image_size": config.image_size,
        "threads": chosen.threads or os.cpu_count(),
        "images_per_s": median,
        "share_of_decode_and_resize": {name: rate / floor for name, rate in median.items()},
        "costliest_augmentation": max(cost, key=cost.get),
    }
    for name, rate in median.items():
        print(f"{name:32} {rate:8.1f} images/s  {rate / floor:5.2f} of decode and resize")
    save(chosen.json, report)


if __name__ == "__main__":
    define_flags()
    cli.run(main)
