"""Training sets of a few pictures with two dots each, and batches of them."""

import itertools

import numpy as np
import tensorflow_datasets as tfds
from ml_collections import ConfigDict

from data_pipelines import records
from data_pipelines.reading import mixture
from fields_jax.photos import crops

STORED = 96
SIZES = {"a": 10, "b": 7, "c": 5}
COLOURS = ("brightness_contrast", "gamma", "jitter", "clahe", "rgb_shift", "blur", "noise")
OFF = {f"p_{name}": 0.0 for name in COLOURS}
AUGMENT = {
    "p_geometric": 0.9,
    "shift": 0.05,
    "zoom": 0.1,
    "rotate": 10.0,
    "p_brightness_contrast": 0.5,
    "brightness": 0.2,
    "contrast": 0.2,
    "p_gamma": 0.5,
    "gamma": (80.0, 120.0),
    "p_jitter": 0.25,
    "jitter": 0.05,
    "p_rgb_shift": 0.25,
    "rgb_shift": 20.0,
    "p_blur": 0.1,
    "blur": (3, 7),
    "p_noise": 0.5,
    "noise_variance": (10.0, 50.0),
    "p_clahe": 0.0,
    "clahe": (1.0, 4.0),
    "p_flip": 0.0,
}


def dotted_record(name, index, stored=STORED):
    """Two white dots on black at landmarks 0 and 1, and a tilted square as the face."""
    rng = np.random.default_rng(index)
    middle = stored / 2
    points = middle + rng.uniform(-0.12, 0.12, (68, 2)) * stored
    points[:2] = middle + np.array([[-0.1, -0.08], [0.09, 0.1]]) * stored
    points[2:6] = middle + np.array([[0, -0.2], [0.2, 0], [0, 0.2], [-0.2, 0]]) * stored
    rows, columns = np.mgrid[:stored, :stored] + 0.5
    distance = np.hypot(columns - points[:2, 0, None, None], rows - points[:2, 1, None, None])
    width = stored / 40
    image = (250 * np.exp(-0.5 * (distance / width) ** 2).max(0)).astype(np.uint8)
    return records.record(
        np.repeat(image[..., None], 3, axis=2),
        crops.hull_mask(points[2:6], stored, stored),
        [stored / 4, stored / 4, stored * 3 / 4, stored * 3 / 4],
        id=f"{name}{index}",
        landmarks_68=points,
        emotion=index % 8,
        subject=index,
    )


def write_sets(root):
    """dots/a, dots/b and dots/c of small pictures, dots/large of large ones."""
    for config, count in SIZES.items():
        write_set(root, config, count)
    write_set(root, "large", 3, stored=320)
    return root


def write_set(root, config, count, stored=STORED):
    tfds.disable_progress_bar()
    examples = [(i, dotted_record(config, i, stored)) for i in range(count)]
    tfds.dataset_builders.store_as_tfds_dataset(
        "dots",
        "1.0.0",
        records.features(),
        {"train": examples, "test": examples[: count // 2 + 1]},
        config=config,
        data_dir=root,
    )


def make_config(root, mix="dots/a=3,dots/b=2,dots/c=1", augment=(), **changes):
    values = {
        "root": str(root),
        "mixture": mix,
        "crop_scale": (1.2, 1.8),
        "eval_crop_scale": 1.4,
        "augment": AUGMENT | dict(augment),
        "cache_examples": 100,
        "shuffle_buffer": 4,
        "threads": 1,
        "balanced": "",
        "max_bad_share": 0.01,
    }
    return ConfigDict(values | changes)


def take(config, count, batch_size=6, seed=3, image_size=32, **kwargs):
    batches = mixture.training_batches(
        config, image_size=image_size, batch_size=batch_size, seed=seed, **kwargs
    )
    return list(itertools.islice(batches, count))


def assert_same(one, other):
    assert set(one) == set(other)
    for key in one:
        np.testing.assert_array_equal(one[key], other[key], err_msg=key)
