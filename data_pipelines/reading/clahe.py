"""Contrast-limited adaptive histogram equalisation (CLAHE) in tensorflow ops.

SMIRK uses it for a quarter of its pictures. It is off by default; `config.data.augment.p_clahe`
switches it on.
"""

from __future__ import annotations

import tensorflow as tf

_TILES = 8  # in each direction, as albumentations has it
_LEVELS = 256


def equalise(image: tf.Tensor, clip_limit: tf.Tensor) -> tf.Tensor:
    """Equalises brightness tile by tile; colour differences stay.

    This is OpenCV's method, on luma in the place of Lab's lightness. Each tile's histogram is cut
    at clip_limit x pixels / 256 (at least 1), and what is cut off is spread evenly over all levels.
    A pixel is looked up in the four nearest tiles, and the four results are blended.

    Args:
      image: [S, S, 3] floats in 0..255, S a multiple of 8.
      clip_limit: how steep a tile's mapping may be.

    Returns:
      [S, S, 3] floats, not clipped.
    """
    size = image.shape[0]
    side = size // _TILES
    luma = tf.image.rgb_to_grayscale(image)[..., 0]
    level = tf.cast(tf.clip_by_value(tf.round(luma), 0, _LEVELS - 1), tf.int32)
    tables = _tables(level, side, clip_limit)

    # Position of each row or column among the tiles' centres; beyond the outer ones they hold.
    place = (tf.range(size, dtype=tf.float32) + 0.5) / side - 0.5
    place = tf.clip_by_value(place, 0.0, _TILES - 1.0)
    low = tf.cast(tf.floor(place), tf.int32)
    high = tf.minimum(low + 1, _TILES - 1)
    weight = place - tf.cast(low, tf.float32)

    def looked_up(row: tf.Tensor, column: tf.Tensor) -> tf.Tensor:
        tile = row[:, None] * _TILES + column[None, :]
        return tf.gather(tf.reshape(tables, [-1]), tile * _LEVELS + level)

    upper = _blend(looked_up(low, low), looked_up(low, high), weight[None, :])
    lower = _blend(looked_up(high, low), looked_up(high, high), weight[None, :])
    return image + (_blend(upper, lower, weight[:, None]) - luma)[..., None]


def _tables(level: tf.Tensor, side: int, clip_limit: tf.Tensor) -> tf.Tensor:
    """[64, 256] new brightness of each level in each tile."""
    tiles = tf.reshape(level, [_TILES, side, _TILES, side])
    tiles = tf.reshape(tf.transpose(tiles, [0, 2, 1, 3]), [_TILES * _TILES, side * side])
    offset = _LEVELS * tf.range(_TILES * _TILES)[:, None]
    flat = tf.math.bincount(
        tf.reshape(tiles + offset, [-1]),
        minlength=_TILES * _TILES * _LEVELS,
        maxlength=_TILES * _TILES * _LEVELS,
    )
    counts = tf.cast(tf.reshape(flat, [_TILES * _TILES, _LEVELS]), tf.float32)
    limit = tf.maximum(1.0, clip_limit * side * side / _LEVELS)
    kept = tf.minimum(counts, limit)
    excess = tf.reduce_sum(counts - kept, axis=1, keepdims=True)
    cumulative = tf.cumsum(kept + excess / _LEVELS, axis=1)
    return cumulative * ((_LEVELS - 1) / (side * side))


def _blend(one: tf.Tensor, other: tf.Tensor, weight: tf.Tensor) -> tf.Tensor:
    return one + weight * (other - one)
