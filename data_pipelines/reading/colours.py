"""Colour augmentation: albumentations' transforms as SMIRK chains them, in tensorflow ops.

Written to be compiled by XLA, which goes over a picture once, where tensorflow's kernels do so for
every op.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import tensorflow as tf

from data_pipelines.reading import clahe

# Weights of ITU-R BT.601, as tf.image.rgb_to_grayscale rounds them.
_GRAY = (0.2989, 0.5870, 0.1140)

Augmentation = Mapping[str, float | tuple[float, float]]
Draws = dict[str, tf.Tensor]

compiled = tf.function(jit_compile=True, autograph=False)


def augment(image: tf.Tensor, draws: Draws, key: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Changes the colours of one picture.

    The jitter's four steps keep one order.

    Args:
      image: [H, W, 3] uint8, its shape known.
      draws: numbers in [0, 1) by name, see `augmentation`.
      key: [2] int64, of the noise.
      settings: strengths and probabilities, see configs/common.py; no CLAHE.

    Returns:
      [H, W, 3] uint8.
    """
    return _second_part(_first_part(image, draws, settings), draws, key, settings)


def augment_with_clahe(
    image: tf.Tensor, draws: Draws, key: tf.Tensor, settings: Augmentation
) -> tf.Tensor:
    """Does what `augment` does, with contrast-limited equalisation after the jitter.

    For settings with `p_clahe` above 0. XLA cannot count into histograms, so this is not compiled
    as one program; what comes before and after the equalisation is.
    """
    image = _before_clahe(image, draws, settings)
    image = _sometimes("clahe", _clahe, image, draws, settings)
    return _after_clahe(image, draws, key, settings)


def between(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """A number of [0, 1) stretched to a range."""
    return low + (high - low) * uniform


def around(uniform: tf.Tensor, strength: float) -> tf.Tensor:
    """A number of [0, 1) stretched to [-strength, strength)."""
    return strength * (2 * uniform - 1)


def to_uint8(image: tf.Tensor) -> tf.Tensor:
    """Rounded and cut to 0..255."""
    return tf.saturate_cast(tf.round(image), tf.uint8)


def _first_part(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    # Both are functions of one level, of which a picture has 256 and pixels many more.
    levels = tf.range(256.0)
    levels = _sometimes("brightness_contrast", _brightness_contrast, levels, draws, settings)
    levels = _sometimes("gamma", _gamma, levels, draws, settings)
    image = tf.gather(levels, tf.cast(image, tf.int32))
    return _sometimes("jitter", _jitter, image, draws, settings)


def _second_part(
    image: tf.Tensor, draws: Draws, key: tf.Tensor, settings: Augmentation
) -> tf.Tensor:
    def noise(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
        deviation = tf.sqrt(between(draws["noise"], *settings["noise_variance"]))
        return image + deviation * _normal(image.shape, key)

    image = _sometimes("rgb_shift", _rgb_shift, image, draws, settings)
    image = _sometimes("blur", _blur, image, draws, settings)
    return to_uint8(_sometimes("noise", noise, image, draws, settings))


_before_clahe, _after_clahe = compiled(_first_part), compiled(_second_part)


def _sometimes(
    name: str,
    transform: Callable[[tf.Tensor, Draws, Augmentation], tf.Tensor],
    image: tf.Tensor,
    draws: Draws,
    settings: Augmentation,
) -> tf.Tensor:
    probability = settings[f"p_{name}"]
    if probability <= 0:
        return image
    return tf.cond(
        draws[f"if_{name}"] < probability,
        lambda: tf.clip_by_value(transform(image, draws, settings), 0.0, 255.0),
        lambda: image,
    )


def _brightness_contrast(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    return image * (1 + around(draws["contrast"], settings["contrast"])) + 255 * around(
        draws["brightness"], settings["brightness"]
    )


def _gamma(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    return 255 * (image / 255) ** (between(draws["gamma"], *settings["gamma"]) / 100)


def _jitter(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    brightness, contrast, saturation, hue = (
        around(draws[f"jitter_{name}"], settings["jitter"])
        for name in ("brightness", "contrast", "saturation", "hue")
    )
    # Brightness, contrast about the mean grey, saturation about each pixel's grey: all linear.
    gray = tf.constant(_GRAY)[:, None]
    mean = tf.tensordot(tf.reduce_mean(image, [0, 1]), gray[:, 0], 1) * (1 + brightness)
    colours = (1 + saturation) * tf.eye(3) - saturation * gray
    matrix = (1 + brightness) * (1 + contrast) * colours
    image = tf.clip_by_value(tf.tensordot(image, matrix, 1) - contrast * mean, 0.0, 255.0)
    return 255 * tf.image.adjust_hue(image / 255, hue)


def _clahe(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    return clahe.equalise(image, between(draws["clahe"], *settings["clahe"]))


def _rgb_shift(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    shifts = [around(draws[name], settings["rgb_shift"]) for name in ("red", "green", "blue")]
    return image + tf.stack(shifts)


def _blur(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    """Box blur of a random odd width in `settings["blur"]`, the border mirrored."""
    narrowest, widest = (int(width) // 2 for width in settings["blur"])
    radius = tf.cast(between(draws["blur"], narrowest, widest + 1), tf.int32)
    height, width, _ = image.shape
    image = tf.pad(image, [[widest, widest], [widest, widest], [0, 0]], "REFLECT")

    def box(radius: int) -> tf.Tensor:
        near = range(widest - radius, widest + radius + 1)
        rows = tf.add_n([image[i : i + height] for i in near])
        return tf.add_n([rows[:, i : i + width] for i in near]) / len(near) ** 2

    # One branch per width, not one sum with weights: a branch gets its input ready-made, else XLA
    # computes the padding again for every neighbour.
    branches = [functools.partial(box, r) for r in range(narrowest, widest + 1)]
    return tf.switch_case(radius - narrowest, branches)


def _normal(shape: tf.TensorShape, key: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers: MurmurHash3's finaliser of a counter, made normal.

    XLA's own generator takes a hundred times as long on a CPU.
    """
    seed = tf.cast(tf.bitwise.bitwise_xor(key[0], key[1]), tf.uint32)
    bits = tf.cast(tf.range(shape.num_elements()), tf.uint32) * _word(0x9E3779B9) + seed
    for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _word(shift)))
        bits *= _word(multiplier)
    steps = tf.cast(tf.bitwise.right_shift(bits, _word(9)), tf.int32)  # 23 bits: exact in float32
    uniform = (tf.cast(steps, tf.float32) + 0.5) / 2**23
    return tf.reshape(tf.math.ndtri(uniform), shape)


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
