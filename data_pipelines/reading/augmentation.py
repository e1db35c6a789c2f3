"""From stored records to training examples, in tensorflow ops.

One similarity per example moves image, mask and every landmark set together. Randomness is
stateless: an example's crop and colours depend on its key alone.

Every op costs some microseconds, whatever its size, so only pictures are made one by one
(`pictures`); what comes before (`training_plan`) and after (`labelled`) is done for a whole batch.
Both compute in float64 and round to float32. Vector and scalar code differ in the last digit, and
which of them runs depends on the size of the batch; an example must not.
"""

from __future__ import annotations

import math

import tensorflow as tf

from data_pipelines.reading import colours, sources
from fields_jax import batch
from fields_jax.landmark_schemes import MIRRORED

if tf.config.get_visible_devices("GPU"):
    tf.config.set_visible_devices([], "GPU")  # the accelerator belongs to JAX

# The numbers in [0, 1) an example draws, in order.
# fmt: off
_DRAWS = (
    "crop", "shift_x", "shift_y", "zoom", "rotate", "brightness", "contrast", "gamma",
    "jitter_brightness", "jitter_contrast", "jitter_saturation", "jitter_hue",
    "red", "green", "blue", "blur", "noise",
    "if_geometric", "if_brightness_contrast", "if_gamma", "if_jitter", "if_rgb_shift",
    "if_blur", "if_noise", "clahe", "if_clahe", "if_flip",
)
# fmt: on

_DEGREE = math.pi / 180
_BLOCK = 64  # pixels; windows of stored pictures are multiples of it, so that XLA sees few shapes
_MARGIN = 2  # pixels about a window: neighbours in sampling, and where JPEG's colours are blended

Example = dict[str, tf.Tensor]


def training_plan(
    serialized: tf.Tensor,
    keys: tf.Tensor,
    *,
    image_size: int,
    crop_scale: tuple[float, float],
    augment: colours.Augmentation,
) -> Example:
    """What `pictures` needs to make randomly cropped, moved and coloured examples.

    Args:
      serialized: [B] records.
      keys: [B, 2] int64; everything random of an example follows from its key.
      image_size: pixels of an example.
      crop_scale: range of the crop's side, relative to the face box.
      augment: strengths and probabilities, see configs/common.py.
    """
    uniform = tf.map_fn(
        lambda key: tf.random.stateless_uniform([len(_DRAWS)], key),
        keys,
        fn_output_signature=tf.TensorSpec([len(_DRAWS)]),
    )
    draws, stored = _draws(_wide(uniform)), sources.parse_pictures(serialized)
    scale = colours.between(draws["crop"], *crop_scale)
    move = _after(
        _random_similarity(draws, image_size, augment),
        crop_similarity(_wide(stored["face_box"]), scale, image_size),
    )
    drawn = {"uniform": uniform, "key": keys, "flipped": draws["if_flip"] < augment["p_flip"]}
    return {**_plan(serialized, stored, move, image_size), **drawn}


def evaluation_plan(serialized: tf.Tensor, *, image_size: int, crop_scale: float) -> Example:
    """As `training_plan`, for centred crops of fixed scale, nothing random."""
    stored = sources.parse_pictures(serialized)
    move = crop_similarity(_wide(stored["face_box"]), crop_scale, image_size)
    return _plan(serialized, stored, move, image_size)


def pictures(planned: Example, image_size: int, augment: colours.Augmentation | None) -> Example:
    """Image and mask of one example, and what `labelled` needs.

    Args:
      planned: one example's row of a plan.
      image_size: pixels.
      augment: of `training_plan`; None leaves the colours.
    """
    words = crop_words(planned, image_size)
    if augment is None:
        image, mask = _unpacked(words)
    elif augment["p_clahe"] > 0:
        drawn = (_draws(planned["uniform"]), planned["key"], dict(augment))
        painted = colours.augment_with_clahe(words, *drawn)
        image, mask = _unpacked(painted)
    else:
        image, mask = _painted(words, planned["uniform"], planned["key"], dict(augment))
    kept = {name: planned[name] for name in ("serialized", "move", "flipped") if name in planned}
    return {**kept, "image": image, "face_mask": mask}


def labelled(made: Example, image_size: int, p_flip: float = 0.0) -> Example:
    """A batch of examples: `pictures` with all labels.

    Landmarks come out in [-1, 1] and stay where they fall, also beyond the picture.
    """
    labels = sources.parse_labels(made["serialized"])
    for name in batch.LANDMARK_SETS:
        there = _moved(_wide(made["move"])[:, None], _wide(labels[name]))
        there = tf.cast(2 * there / image_size - 1, tf.float32)
        labels[name] = tf.where(labels[f"has_{name}"][:, None, None], there, 0.0)
    example = {**labels, "image": made["image"], "face_mask": made["face_mask"]}
    if p_flip <= 0:
        return example
    return {
        key: tf.where(_column(made["flipped"], value), value, example[key])
        for key, value in mirrored(example).items()
    }


def crop_similarity(box: tf.Tensor, scale: tf.Tensor | float, size: int) -> tf.Tensor:
    """`photos.crops.crop_matrix` of boxes [..., 4], as similarities [..., 4] (see `_moved`)."""
    x0, y0, x1, y1 = tf.unstack(box, axis=-1)
    zoom = size / (scale * (x1 - x0 + y1 - y0) / 2)
    left, top = size / 2 - zoom * ((x0 + x1) / 2), size / 2 - zoom * ((y0 + y1) / 2)
    return tf.stack([zoom, tf.zeros_like(zoom), left, top], -1)


def mirrored(examples: Example) -> Example:
    """A batch with left and right exchanged; labels that have no known mirror image are dropped.

    FLAME's bases and the 203 points are not symmetric, so coefficients and those points go.
    """
    made = dict(
        examples,
        image=tf.reverse(examples["image"], [2]),
        face_mask=tf.reverse(examples["face_mask"], [2]),
    )
    for name, order in MIRRORED.items():
        marks = tf.gather(examples[name], order, axis=1) * [-1.0, 1.0]
        made[name] = tf.where(examples[f"has_{name}"][:, None, None], marks, 0.0)
    for flag in ("has_landmarks_203", "has_flame", "has_shape", "has_eval"):
        made |= {key: tf.zeros_like(examples[key]) for key in (flag, *batch.FLAGS[flag])}
    made["fit_residual"] = tf.zeros_like(examples["fit_residual"])
    return made


def crop_words(planned: Example, size: int) -> tf.Tensor:
    """The crop of one example: [size, size] int32 words of red, green, blue and 255 in the face.

    Pixels from beyond the stored image are black and outside the face hull.
    """
    mask = tf.io.decode_png(planned["face_mask"], 1)
    window = stored_window(planned["reach"], tf.shape(mask)[:2])
    image = tf.image.decode_and_crop_jpeg(planned["image"], window, channels=3)
    return sampled_window(image, mask, planned, window, size)


def sampled_window(
    image: tf.Tensor, mask: tf.Tensor, planned: Example, window: tf.Tensor, size: int
) -> tf.Tensor:
    """`crop_words` from a decoded window [H, W, 3] of the picture and its whole mask."""
    mask = tf.slice(mask, [window[0], window[1], 0], [window[2], window[3], 1])
    image, mask, place = tf.cond(
        tf.logical_or(planned["factor"] > 1, tf.reduce_any(window[2:] % _BLOCK > 0)),
        lambda: _fitted(image, mask, planned["factor"]),
        lambda: (image, mask, tf.concat([tf.ones([2]), tf.cast(window[2:], tf.float32)], 0)),
    )
    place = tf.concat([planned["move"], tf.cast(window[:2], tf.float32), place], 0)
    return _sampled(image, mask, place, size)


def stored_window(reach: tf.Tensor, shape: tf.Tensor) -> tf.Tensor:
    """The stored pixels that a crop samples: [4] int32 y, x, height, width.

    Enlarged to a multiple of `_BLOCK`, since decoding less would not be faster.

    Args:
      reach: [4] lowest y, x and highest y, x of the crop, in stored pixels.
      shape: [2] of the stored picture.
    """
    limits = tf.cast(shape, tf.float32)
    low = tf.clip_by_value(tf.floor(reach[:2]) - _MARGIN, 0.0, limits - 1)
    high = tf.clip_by_value(tf.math.ceil(reach[2:]) + _MARGIN, low + 1, limits)
    extent = tf.minimum(_BLOCK * tf.math.ceil((high - low) / _BLOCK), limits)
    return tf.cast(tf.concat([tf.minimum(low, limits - extent), extent], 0), tf.int32)


def _draws(uniform: tf.Tensor) -> colours.Draws:
    return dict(zip(_DRAWS, tf.unstack(uniform, axis=-1), strict=True))


def _plan(serialized: tf.Tensor, stored: Example, move: tf.Tensor, size: int) -> Example:
    back = _inverse(move)
    corners = _wide(tf.constant([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])) * size
    corners = tf.cast(_moved(back[:, None], corners[None])[..., ::-1], tf.float32)
    reach = tf.concat([tf.reduce_min(corners, 1), tf.reduce_max(corners, 1)], 1)
    # How often the crop shrinks the picture.
    factor = tf.cast(tf.sqrt(back[:, 0] ** 2 + back[:, 1] ** 2) + 1e-3, tf.int32)
    kept = {name: stored[name] for name in ("image", "face_mask")}
    return {
        **kept,
        "serialized": serialized,
        "move": tf.cast(move, tf.float32),
        "reach": reach,
        "factor": factor,
    }


def _random_similarity(
    draws: colours.Draws, size: int, settings: colours.Augmentation
) -> tf.Tensor:
    """Turn, zoom and shift about the middle of the crop; often (1 - p) the identity."""
    applied = _wide(draws["if_geometric"] < settings["p_geometric"])
    angle = applied * colours.around(draws["rotate"], settings["rotate"]) * _DEGREE
    zoom = 1 + applied * colours.around(draws["zoom"], settings["zoom"])
    cosine, sine = zoom * tf.cos(angle), zoom * tf.sin(angle)
    x, y = (
        applied * size * colours.around(draws[name], settings["shift"])
        for name in ("shift_x", "shift_y")
    )
    middle = size / 2
    left, top = middle - middle * (cosine - sine) + x, middle - middle * (sine + cosine) + y
    return tf.stack([cosine, sine, left, top], -1)


def _wide(numbers: tf.Tensor) -> tf.Tensor:
    return tf.cast(numbers, tf.float64)


def _moved(move: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
    """Points [..., 2] moved by similarities [..., 4], a, b, c, d: to ax - by + c, bx + ay + d."""
    a, b, c, d = tf.unstack(move, axis=-1)
    x, y = tf.unstack(points, axis=-1)
    return tf.stack([a * x - b * y + c, b * x + a * y + d], -1)


def _after(second: tf.Tensor, first: tf.Tensor) -> tf.Tensor:
    """The similarity that does the first, then the second."""
    a, b, _, _ = tf.unstack(second, axis=-1)
    c, d, _, _ = tf.unstack(first, axis=-1)
    turned = tf.stack([a * c - b * d, a * d + b * c], -1)
    return tf.concat([turned, _moved(second, first[..., 2:])], -1)


def _inverse(move: tf.Tensor) -> tf.Tensor:
    a, b, c, d = tf.unstack(move, axis=-1)
    area = a * a + b * b
    return tf.stack([a, -b, -(a * c + b * d), b * c - a * d], -1) / area[..., None]


def _column(flags: tf.Tensor, like: tf.Tensor) -> tf.Tensor:
    """Flags [B] with dimensions of 1 for those of [B, ...]."""
    return tf.reshape(flags, [-1] + [1] * (len(like.shape) - 1))


def _fitted(
    image: tf.Tensor, mask: tf.Tensor, factor: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Averages both down where a crop shrinks them twofold or more: sampling would skip pixels.

    Then pads both to a multiple of `_BLOCK`, so that XLA compiles few shapes.

    Returns:
      Both, and [4] by how much they shrank along y and x, and rows and columns without padding.
    """
    old = tf.shape(image)[:2]
    new = tf.maximum(old // tf.maximum(factor, 1), 1)

    def averaged(picture: tf.Tensor) -> tf.Tensor:
        return tf.saturate_cast(tf.round(tf.image.resize(picture, new, method="area")), tf.uint8)

    image, mask = tf.cond(
        factor > 1, lambda: (averaged(image), averaged(mask)), lambda: (image, mask)
    )
    short = -new % _BLOCK
    padding = [[0, short[0]], [0, short[1]], [0, 0]]
    new, old = tf.cast(new, tf.float32), tf.cast(old, tf.float32)
    return tf.pad(image, padding), tf.pad(mask, padding), tf.concat([new / old, new], 0)


def _sampled(image: tf.Tensor, mask: tf.Tensor, place: tf.Tensor, size: int) -> tf.Tensor:
    """Samples image and mask bilinearly at the centres of a crop's pixels.

    Compiled, since tensorflow's own op takes many times as long; as two programs, since one loop
    that gathers and blends has no vector instructions.

    Args:
      image: [H, W, 3] uint8, a window of the stored picture.
      mask: [H, W, 1] uint8, 255 outside the face.
      place: [10] similarity from stored pixels to crop pixels, the window's corner (y, x), how much
        it was shrunk (y, x), and its rows and columns; what lies beyond these is padding.
      size: of the crop.

    Returns:
      [size, size] int32 words, see `crop_words`.
    """
    return _blended(_gathered(image, mask, place, size), place, size)


@colours.compiled
def _gathered(
    image: tf.Tensor, mask: tf.Tensor, place: tf.Tensor, size: int
) -> tuple[tf.Tensor, ...]:
    """The words of the four stored pixels around each of the crop's."""
    columns = tf.shape(image)[1]
    pixels = tf.reshape(colours.pack(image, tf.bitwise.invert(mask)), [-1])
    taps = _taps(place, size)
    return tuple(tf.gather(pixels, row * columns + column) for row, _, column, _ in taps)


@colours.compiled
def _blended(words: tuple[tf.Tensor, ...], place: tf.Tensor, size: int) -> tf.Tensor:
    planes = [0.0] * 4
    for four, (_, down, _, along) in zip(words, _taps(place, size), strict=True):
        for number in range(4):
            planes[number] += down * along * tf.cast(colours.byte(four, number), tf.float32)
    face = tf.where(planes[3] < 127.5, 0, -1)
    return colours.joined(planes[:3], face)


def _taps(place: tf.Tensor, size: int) -> list[tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Row and its weight, column and its weight, of the four nearest pixels, [size, size] each."""
    a, b, x, y = tf.unstack(_inverse(place[:4]))
    limits = tf.cast(place[8:], tf.int32)
    centres = tf.range(size, dtype=tf.float32) + 0.5

    def neighbours(axis: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
        along_x, along_y, shift = ((b, a, y), (a, -b, x))[axis]
        at = along_x * centres[None, :] + along_y * centres[:, None] + shift - place[4 + axis]
        at = at * place[6 + axis] - 0.5
        first, found = tf.floor(at), []
        for index, weight in ((first, first + 1 - at), (first + 1, at - first)):
            index = tf.cast(index, tf.int32)
            kept = tf.clip_by_value(index, 0, limits[axis] - 1)
            found.append((kept, tf.where(index == kept, weight, 0.0)))
        return found

    return [(row, down, *other) for row, down in neighbours(0) for other in neighbours(1)]


@colours.compiled
def _painted(
    words: tf.Tensor, uniform: tf.Tensor, key: tf.Tensor, settings: colours.Augmentation
) -> tuple[tf.Tensor, tf.Tensor]:
    """Changes the colours.

    A program of its own: compiled together with the sampling, both take a fifth longer.
    """
    painted = colours.augment(words, _draws(uniform), key, settings)
    return colours.unpack(painted), _mask(words)


@colours.compiled
def _unpacked(words: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    return colours.unpack(words), _mask(words)


def _mask(words: tf.Tensor) -> tf.Tensor:
    return tf.cast(words >= 0, tf.uint8)  # the fourth byte is 255 in the face
