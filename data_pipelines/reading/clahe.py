"""Contrast-limited adaptive histogram equalisation (CLAHE) in tensorflow ops.

SMIRK uses it for a quarter of its pictures. It is off by default; `config.data.augment.p_clahe`
switches it on.
"""

from __future__ import annotations

import tensorflow as tf

# Weights of ITU-R BT.601, as tf.image.rgb_to_grayscale rounds them.
LUMA = (0.2989, 0.5870, 0.1140)

_TILES = 8  # in each direction, as albumentations has it
_LEVELS = 256
BINS = _TILES * _TILES * _LEVELS


def bins(image: tf.Tensor) -> tf.Tensor:
    """Where each pixel counts among the histograms of all tiles.

    Args:
      image: [3, S, S] floats in 0..255, S a multiple of 8.

    Returns:
      [S, S] int32 in 0..`BINS` - 1.
    """
    tile = tf.range(image.shape[1]) // (image.shape[1] // _TILES)
    return (tile[:, None] * _TILES + tile) * _LEVELS + _level(_luma(image))


def histograms(places: tf.Tensor) -> tf.Tensor:
    """[`BINS`] int32, how many pixels have each of `bins`."""
    return tf.raw_ops.Bincount(
        arr=tf.reshape(places, [-1]), size=BINS, weights=tf.zeros([0], tf.int32)
    )


def equalise(image: tf.Tensor, counts: tf.Tensor, clip_limit: tf.Tensor) -> tf.Tensor:
    """Equalises brightness tile by tile; colour differences stay.

    This is OpenCV's method, on luma in the place of Lab's lightness. Each tile's histogram is cut
    at clip_limit x pixels / 256 (at least 1), and what is cut off is spread evenly over all levels.
    A pixel is looked up in the four nearest tiles, and the four results are blended.

    Args:
      image: [3, S, S] floats in 0..255, S a multiple of 8.
      counts: [`BINS`] int32, its `histograms`.
      clip_limit: how steep a tile's mapping may be.

    Returns:
      [3, S, S] floats, not clipped.
    """
    size = image.shape[1]
    side = size // _TILES
    luma = _luma(image)
    level = _level(luma)
    tables = tf.reshape(_tables(counts, side, clip_limit), [-1])

    # Position of each row or column among the tiles' centres; beyond the outer ones they hold.
    place = (tf.range(size, dtype=tf.float32) + 0.5) / side - 0.5
    place = tf.clip_by_value(place, 0.0, _TILES - 1.0)
    low = tf.cast(tf.floor(place), tf.int32)
    high = tf.minimum(low + 1, _TILES - 1)
    weight = place - tf.cast(low, tf.float32)

    def looked_up(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        tile = row[:, None] * _TILES + column[None, :]
        return tf.gather(tables, tile * _LEVELS + level)

    upper = _blend(looked_up(low, low), looked_up(low, high), weight[None, :])
    lower = _blend(looked_up(high, low), looked_up(high, high), weight[None, :])
    return image + (_blend(upper, lower, weight[:, None]) - luma)


def _luma(image: tf.Tensor) -> tf.Tensor:
    return sum(weight * image[i] for i, weight in enumerate(LUMA))


def _level(luma: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.clip_by_value(tf.round(luma), 0, _LEVELS - 1), tf.int32)


def _tables(counts: tf.Tensor, side: int, clip_limit: tf.Tensor) -> tf.Tensor:
    """[64, 256] new brightness of each level in each tile."""
    counts = tf.cast(tf.reshape(counts, [_TILES * _TILES, _LEVELS]), tf.float32)
    limit = tf.maximum(1.0, clip_limit * side * side / _LEVELS)
    kept = tf.minimum(counts, limit)
    excess = tf.reduce_sum(counts - kept, axis=1, keepdims=True)
    cumulative = tf.cumsum(kept + excess / _LEVELS, axis=1)
    return cumulative * ((_LEVELS - 1) / (side * side))


def _blend(one: tf.Tensor, other: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return one + weight * (other - one)
