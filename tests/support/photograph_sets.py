"""Folders of photographs with their points, and the splits of a prepared set."""

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from tests.support.raw_sets import mesh


def write_photograph(folder, name, *, width=120, height=90, points=None, seed=0):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    Image.fromarray(rng.integers(0, 255, (height, width, 3), np.uint8)).save(path)
    np.save(path.with_suffix(".npy"), mesh(width, height, seed) if points is None else points)
    return path


def write_photographs(folder, count=4):
    for index in range(count):
        write_photograph(
            folder, f"day{index % 2}/{index}.{('png', 'jpg')[index // 2 % 2]}", seed=index
        )


def split_sizes(folder):
    infos = tfds.builder_from_directory(folder).info.splits
    return {split: info.num_examples for split, info in infos.items()}
