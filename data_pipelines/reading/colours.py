"""Colour augmentation: albumentations' transforms as SMIRK chains them, in tensorflow ops.

Written to be compiled by XLA, which goes over a picture once, where tensorflow's kernels do so for
every op. A picture is [3, H, W], one plane per colour, or [H, W] words of four bytes: red, green,
blue and one more that stays as it is. XLA makes vector instructions of loops over either, and not
of loops over [H, W, 3], where neighbours are of different colours.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping

import numpy as np
import tensorflow as tf

from data_pipelines.reading import clahe

_GRAY = clahe.LUMA

Augmentation = Mapping[str, float | tuple[float, float]]
Draws = dict[str, tf.Tensor]

# The standard normal quantiles in the middle of as many equally likely intervals.
_QUANTILES = tf.math.ndtri((np.arange(2**16) + 0.5) / 2**16).numpy().astype(np.float32)

compiled = tf.function(jit_compile=True, autograph=False)


def augment(words: tf.Tensor, draws: Draws, key: tf.Tensor, settings: Augmentation) -> tf.Tensor:
    """Changes the colours of one picture.

    The jitter's four steps keep one order.

    Args:
      words: [H, W] int32, its shape known.
      draws: numbers in [0, 1) by name, see `augmentation`.
      key: [2] int64, of the noise.
      settings: strengths and probabilities, see configs/common.py; no CLAHE.

    Returns:
      [H, W] int32 words.
    """
    return _second_part(_first_part(words, draws, settings), words, draws, key, settings)


def augment_with_clahe(
    words: tf.Tensor, draws: Draws, key: tf.Tensor, settings: Augmentation
) -> tf.Tensor:
    """Does what `augment` does, with contrast-limited equalisation after the jitter.

    For settings with `p_clahe` above 0. XLA is slow at counting into histograms, so tensorflow does
    that between two compiled programs.
    """
    image, places = _before_clahe(words, draws, settings)
    counts = tf.cond(
        draws["if_clahe"] < settings["p_clahe"],
        lambda: clahe.histograms(places),
        lambda: tf.zeros([clahe.BINS], tf.int32),
    )
    return _after_clahe(image, counts, words, draws, key, settings)


def pack(image: tf.Tensor, fourth: tf.Tensor) -> tf.Tensor:
    """Words [H, W] int32 of [H, W, 3] and [H, W, 1] uint8."""
    return tf.bitcast(tf.concat([image, fourth], 2), tf.int32)


def unpack(words: tf.Tensor) -> tf.Tensor:
    """The colours of words: [H, W, 3] uint8."""
    return tf.bitcast(words, tf.uint8)[..., :3]


def between(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    """A number of [0, 1) stretched to a range."""
    return low + (high - low) * uniform


def around(uniform: tf.Tensor, strength: float) -> tf.Tensor:
    """A number of [0, 1) stretched to [-strength, strength)."""
    return strength * (2 * uniform - 1)


def byte(words: tf.Tensor, number: int | tf.Tensor) -> tf.Tensor:
    """One of the four bytes of words, as int32."""
    return tf.bitwise.bitwise_and(tf.bitwise.right_shift(words, 8 * number), 255)


def joined(planes: list[tf.Tensor], fourth: tf.Tensor) -> tf.Tensor:
    """Words of three planes, rounded (0..255), and of the fourth byte of other words."""
    words = tf.bitwise.bitwise_and(fourth, -(2**24))
    for number, plane in enumerate(planes):
        words += 256**number * tf.cast(tf.round(plane), tf.int32)
    return words


def _first_part(words: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    # Both are functions of one level, of which a picture has 256 and pixels many more.
    levels = tf.range(256.0)
    levels = _sometimes("brightness_contrast", _brightness_contrast, levels, draws, settings)
    levels = _sometimes("gamma", _gamma, levels, draws, settings)
    image = tf.gather(levels, byte(words[None], tf.range(3)[:, None, None]))
    return _sometimes("jitter", _jitter, image, draws, settings)


def _second_part(
    image: tf.Tensor, words: tf.Tensor, draws: Draws, key: tf.Tensor, settings: Augmentation
) -> tf.Tensor:
    def noise(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
        deviation = tf.sqrt(between(draws["noise"], *settings["noise_variance"]))
        return image + deviation * _normal(image.shape, key)

    image = _sometimes("rgb_shift", _rgb_shift, image, draws, settings)
    image = _sometimes("blur", _blur, image, draws, settings)
    image = _sometimes("noise", noise, image, draws, settings)
    return joined(tf.unstack(image), words)


@compiled
def _before_clahe(
    words: tf.Tensor, draws: Draws, settings: Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    image = _first_part(words, draws, settings)
    return image, clahe.bins(image)


@compiled
def _after_clahe(
    image: tf.Tensor,
    counts: tf.Tensor,
    words: tf.Tensor,
    draws: Draws,
    key: tf.Tensor,
    settings: Augmentation,
) -> tf.Tensor:
    def equalised(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
        return clahe.equalise(image, counts, between(draws["clahe"], *settings["clahe"]))

    image = _sometimes("clahe", equalised, image, draws, settings)
    return _second_part(image, words, draws, key, settings)


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
    gray = tf.constant(_GRAY)
    mean = tf.tensordot(tf.reduce_mean(image, [1, 2]), gray, 1) * (1 + brightness)
    factor = (1 + brightness) * (1 + contrast)
    pale = saturation * sum(weight * image[i] for i, weight in enumerate(_GRAY))
    image = factor * ((1 + saturation) * image - pale) - contrast * mean
    return _turned(tf.clip_by_value(image, 0.0, 255.0), hue)


def _turned(image: tf.Tensor, hue: tf.Tensor) -> tf.Tensor:
    """Turns the hue by a fraction of the circle; the largest and the smallest colour stay."""
    red, green, blue = tf.unstack(image)
    top = tf.maximum(tf.maximum(red, green), blue)
    span = top - tf.minimum(tf.minimum(red, green), blue)
    scale = 1 / tf.where(span > 0, span, 1.0)
    sixths = tf.where(
        top == red,
        (green - blue) * scale,
        tf.where(top == green, 2 + (blue - red) * scale, 4 + (red - green) * scale),
    )
    sixths = tf.constant([5.0, 3.0, 1.0])[:, None, None] + sixths + 6 * hue
    sixths -= 6 * tf.floor(sixths / 6)
    return top - span * tf.clip_by_value(tf.minimum(sixths, 4 - sixths), 0.0, 1.0)


def _rgb_shift(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    shifts = [around(draws[name], settings["rgb_shift"]) for name in ("red", "green", "blue")]
    return image + tf.stack(shifts)[:, None, None]


def _blur(image: tf.Tensor, draws: Draws, settings: Augmentation) -> tf.Tensor:
    """Box blur of a random odd width in `settings["blur"]`, the border mirrored."""
    narrowest, widest = (int(width) // 2 for width in settings["blur"])
    radius = tf.cast(between(draws["blur"], narrowest, widest + 1), tf.int32)
    _, height, width = image.shape
    image = tf.pad(image, [[0, 0], [widest, widest], [widest, widest]], "REFLECT")

    def box(radius: int) -> tf.Tensor:
        near = range(widest - radius, widest + radius + 1)
        rows = tf.add_n([image[:, i : i + height] for i in near])
        return tf.add_n([rows[..., i : i + width] for i in near]) / len(near) ** 2

    # One branch per width, not one sum with weights: a branch gets its input ready-made, else XLA
    # computes the padding again for every neighbour.
    branches = [functools.partial(box, r) for r in range(narrowest, widest + 1)]
    return tf.switch_case(radius - narrowest, branches)


def _normal(shape: tf.TensorShape, key: tf.Tensor) -> tf.Tensor:
    """Standard normal numbers [3, H, W]: MurmurHash3's finaliser of a counter, made normal.

    XLA's own generator takes a hundred times as long on a CPU, and its quantile function, exact to
    the last digit, three times as long as a table of 65,536.
    """
    colours, height, width = shape
    seed = tf.cast(tf.bitwise.bitwise_xor(key[0], key[1]), tf.uint32)
    pixel = tf.reshape(tf.range(height * width), [1, height, width])
    counter = colours * pixel + tf.range(colours)[:, None, None]
    bits = tf.cast(counter, tf.uint32) * _word(0x9E3779B9) + seed
    for multiplier, shift in ((0x85EBCA6B, 16), (0xC2B2AE35, 13), (1, 16)):
        bits = tf.bitwise.bitwise_xor(bits, tf.bitwise.right_shift(bits, _word(shift)))
        bits *= _word(multiplier)
    return tf.gather(_QUANTILES, tf.cast(tf.bitwise.right_shift(bits, _word(16)), tf.int32))


def _word(value: int) -> tf.Tensor:
    return tf.constant(value, tf.uint32)
