"""From a stored record to one training example, in tensorflow ops.

One similarity per example moves image, mask and every landmark set together. Randomness is
stateless: an example's crop and colours depend on its key alone.
"""

from __future__ import annotations

import math

import tensorflow as tf

from data_pipelines.reading import colours
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


def training_example(
    record: Example,
    key: tf.Tensor,
    *,
    image_size: int,
    crop_scale: tuple[float, float],
    augment: colours.Augmentation,
) -> Example:
    """A randomly cropped, moved and coloured example.

    Args:
      record: as `sources.parse` gives it.
      key: [2] int64; everything random follows from it.
      image_size: pixels of the example.
      crop_scale: range of the crop's side, relative to the face box.
      augment: strengths and probabilities, see configs/common.py.
    """
    settings = dict(augment)
    uniform = tf.random.stateless_uniform([len(_DRAWS)], key)
    shape = tf.io.extract_jpeg_shape(record["image"])
    matrix, window = _training_window(
        uniform, record["face_box"], shape, image_size, tuple(crop_scale), settings
    )
    example = warp_example(record, matrix, window, image_size)
    draws = _draws(uniform)
    if settings["p_clahe"] > 0:
        image = colours.augment_with_clahe(example["image"], draws, key, settings)
    else:
        image = _painted(example["image"], uniform, key, settings)
    example["image"] = image
    if settings["p_flip"] > 0:
        flipped = draws["if_flip"] < settings["p_flip"]
        example = tf.cond(flipped, lambda: mirror_example(example), lambda: example)
    return example


def evaluation_example(record: Example, *, image_size: int, crop_scale: float) -> Example:
    """The centred crop of fixed scale, nothing random."""
    shape = tf.io.extract_jpeg_shape(record["image"])
    matrix, window = _evaluation_window(record["face_box"], shape, image_size, crop_scale)
    return warp_example(record, matrix, window, image_size)


def crop_matrix(box: tf.Tensor, scale: tf.Tensor, size: int) -> tf.Tensor:
    """`photos.crops.crop_matrix` in tensorflow: [3, 3] from stored pixels to crop pixels."""
    zoom = size / (scale * (box[2] - box[0] + box[3] - box[1]) / 2)
    centre = (box[:2] + box[2:]) / 2
    return _similarity(zoom, tf.zeros([]), size / 2 - zoom * centre)


def warp_example(record: Example, matrix: tf.Tensor, window: tf.Tensor, size: int) -> Example:
    """Moves image, mask and landmarks by one similarity and drops fields that only records have.

    Pixels from beyond the stored image are black and outside the face hull; landmarks come out in
    [-1, 1] and stay where they fall, also beyond the picture.

    Args:
      record: as `sources.parse` gives it.
      matrix: [3, 3] from stored pixels to crop pixels.
      window: [4] y, x, height, width of what the crop needs of the stored picture.
      size: of the crop.
    """
    image = tf.image.decode_and_crop_jpeg(record["image"], window, channels=3)
    mask = tf.slice(record["face_mask"], [window[0], window[1], 0], [window[2], window[3], 1])
    image, mask, shrink = _shrunk(image, mask, matrix)
    limits = tf.shape(image)[:2]
    marks = {name: record[name] for name in batch.LANDMARK_SETS}
    flags = {name: record[f"has_{name}"] for name in batch.LANDMARK_SETS}
    place = (matrix, tf.cast(window[:2], tf.float32), shrink, limits)
    warped = _sampled(*_padded(image, mask), marks, flags, place, size)
    return {**{key: record[key] for key in batch.EXAMPLE_SPEC if key in record}, **warped}


def mirror_example(example: Example) -> Example:
    """Left and right exchanged; labels that have no known mirror image are dropped.

    FLAME's bases and the 203 points are not symmetric, so coefficients and those points go.
    """
    mirrored = dict(
        example,
        image=tf.reverse(example["image"], [1]),
        face_mask=tf.reverse(example["face_mask"], [1]),
    )
    for name, order in MIRRORED.items():
        marks = tf.gather(example[name], order) * [-1.0, 1.0]
        mirrored[name] = tf.where(example[f"has_{name}"], marks, 0.0)
    for flag in ("has_landmarks_203", "has_flame", "has_shape", "has_eval"):
        mirrored |= {key: tf.zeros_like(example[key]) for key in (flag, *batch.FLAGS[flag])}
    return mirrored


def _draws(uniform: tf.Tensor) -> colours.Draws:
    return dict(zip(_DRAWS, tf.unstack(uniform), strict=True))


def _random_similarity(
    draws: colours.Draws, size: int, settings: colours.Augmentation
) -> tf.Tensor:
    """Turn, zoom and shift about the middle of the crop; often (1 - p) the identity."""
    applied = tf.cast(draws["if_geometric"] < settings["p_geometric"], tf.float32)
    angle = applied * colours.around(draws["rotate"], settings["rotate"]) * _DEGREE
    zoom = 1 + applied * colours.around(draws["zoom"], settings["zoom"])
    shift = tf.stack(
        [colours.around(draws[name], settings["shift"]) for name in ("shift_x", "shift_y")]
    )
    middle = tf.fill([2], size / 2)
    turned = tf.linalg.matvec(_similarity(zoom, angle, tf.zeros([2]))[:2, :2], middle)
    return _similarity(zoom, angle, middle - turned + applied * size * shift)


def _similarity(zoom: tf.Tensor, angle: tf.Tensor, translation: tf.Tensor) -> tf.Tensor:
    cosine, sine = zoom * tf.cos(angle), zoom * tf.sin(angle)
    rows = [[cosine, -sine, translation[0]], [sine, cosine, translation[1]], [0.0, 0.0, 1.0]]
    return tf.stack([tf.stack(row) for row in rows])


@colours.compiled
def _training_window(
    uniform: tf.Tensor,
    box: tf.Tensor,
    shape: tf.Tensor,
    size: int,
    crop_scale: tuple[float, float],
    settings: colours.Augmentation,
) -> tuple[tf.Tensor, tf.Tensor]:
    draws = _draws(uniform)
    matrix = crop_matrix(box, colours.between(draws["crop"], *crop_scale), size)
    matrix = tf.matmul(_random_similarity(draws, size, settings), matrix)
    return matrix, _window(matrix, shape, size)


@colours.compiled
def _evaluation_window(
    box: tf.Tensor, shape: tf.Tensor, size: int, crop_scale: float
) -> tuple[tf.Tensor, tf.Tensor]:
    matrix = crop_matrix(box, tf.constant(crop_scale, tf.float32), size)
    return matrix, _window(matrix, shape, size)


def _window(matrix: tf.Tensor, shape: tf.Tensor, size: int) -> tf.Tensor:
    """The stored pixels that a crop samples: [4] y, x, height, width.

    Enlarged to a multiple of `_BLOCK`, since decoding less would not be faster.
    """
    inverse = _inverse(matrix)
    corners = tf.constant([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]) * size
    corners = (tf.matmul(corners, inverse[:2, :2], transpose_b=True) + inverse[:2, 2])[:, ::-1]
    limits = tf.cast(shape[:2], tf.float32)
    low = tf.clip_by_value(tf.floor(tf.reduce_min(corners, 0)) - _MARGIN, 0.0, limits - 1)
    high = tf.clip_by_value(tf.math.ceil(tf.reduce_max(corners, 0)) + _MARGIN, low + 1, limits)
    extent = tf.minimum(_BLOCK * tf.math.ceil((high - low) / _BLOCK), limits)
    low = tf.minimum(low, limits - extent)
    return tf.cast(tf.concat([low, extent], 0), tf.int32)


def _inverse(matrix: tf.Tensor) -> tf.Tensor:
    """The inverse of a similarity [3, 3]."""
    (a, b, x), (c, d, y) = (tf.unstack(row) for row in tf.unstack(matrix)[:2])
    area = a * d - b * c
    rows = [[d, -b, b * y - d * x], [-c, a, c * x - a * y], [0.0, 0.0, area]]
    return tf.stack([tf.stack(row) for row in rows]) / area


def _shrunk(
    image: tf.Tensor, mask: tf.Tensor, matrix: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Averages both down where a crop shrinks them twofold or more: sampling would skip pixels.

    Returns:
      Both, and [2] their new height and width as fractions of the old.
    """
    factor = tf.cast(1 / tf.norm(matrix[:2, 0]) + 1e-3, tf.int32)

    def averaged() -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        old = tf.shape(image)[:2]
        new = tf.maximum(old // factor, 1)
        small = (colours.to_uint8(tf.image.resize(x, new, method="area")) for x in (image, mask))
        return *small, tf.cast(new, tf.float32) / tf.cast(old, tf.float32)

    return tf.cond(factor > 1, averaged, lambda: (image, mask, tf.ones([2])))


def _padded(image: tf.Tensor, mask: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Pads both to a multiple of `_BLOCK`, so that XLA compiles few shapes."""
    short = -tf.shape(image)[:2] % _BLOCK
    padding = [[0, short[0]], [0, short[1]], [0, 0]]
    return tf.cond(
        tf.reduce_any(short > 0),
        lambda: (tf.pad(image, padding), tf.pad(mask, padding)),
        lambda: (image, mask),
    )


@colours.compiled
def _sampled(
    image: tf.Tensor,
    mask: tf.Tensor,
    marks: dict[str, tf.Tensor],
    flags: dict[str, tf.Tensor],
    place: tuple[tf.Tensor, tf.Tensor, tf.Tensor, tf.Tensor],
    size: int,
) -> Example:
    """Samples image and mask bilinearly at the centres of a crop's pixels; moves the landmarks.

    Compiled, since tensorflow's own op takes three times as long.

    Args:
      image: [H, W, 3] uint8, a window of the stored picture.
      mask: [H, W, 1] uint8, 255 outside the face.
      marks: landmark sets [N, 2] in pixels of the whole stored picture.
      flags: which of the sets are there.
      place: matrix [3, 3] from stored pixels to crop pixels, the window's corner (y, x), how much
        it was shrunk (y, x), and its rows and columns; what lies beyond these is padding.
      size: of the crop.
    """
    matrix, corner, shrink, limits = place
    inverse, columns = _inverse(matrix), tf.shape(image)[1]
    face = tf.bitwise.invert(mask)  # beyond the picture all is 0
    pixels = tf.reshape(tf.bitcast(tf.concat([image, face], 2), tf.int32), [-1])
    centres = tf.range(size, dtype=tf.float32) + 0.5

    def neighbours(axis: int) -> list[tuple[tf.Tensor, tf.Tensor]]:
        """The two nearest pixels along y or x and their weights, each [size, size]."""
        x, y, shift = tf.unstack(inverse[1 - axis])
        at = x * centres[None, :] + y * centres[:, None] + shift - corner[axis]
        at = at * shrink[axis] - 0.5
        first, found = tf.floor(at), []
        for index, weight in ((first, first + 1 - at), (first + 1, at - first)):
            index = tf.cast(index, tf.int32)
            kept = tf.clip_by_value(index, 0, limits[axis] - 1)
            found.append((kept, tf.where(index == kept, weight, 0.0)))
        return found

    total = 0.0
    for row, down in neighbours(0):
        for column, along in neighbours(1):
            channels = tf.bitcast(tf.gather(pixels, row * columns + column), tf.uint8)
            total += (down * along)[..., None] * tf.cast(channels, tf.float32)

    def moved(name: str) -> tf.Tensor:
        there = tf.matmul(marks[name], matrix[:2, :2], transpose_b=True) + matrix[:2, 2]
        return tf.where(flags[name], 2 * there / size - 1, 0.0)

    return {
        "image": colours.to_uint8(total[..., :3]),
        "face_mask": tf.cast(total[..., 3] < 127.5, tf.uint8),
        **{name: moved(name) for name in marks},
    }


@colours.compiled
def _painted(
    image: tf.Tensor, uniform: tf.Tensor, key: tf.Tensor, settings: colours.Augmentation
) -> tf.Tensor:
    """Changes the colours.

    A program of its own: compiled together with the sampling, both take a fifth longer.
    """
    return colours.augment(image, _draws(uniform), key, settings)
