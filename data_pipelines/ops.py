"""From a stored record to one training example, in tensorflow ops.

One similarity per example moves image, mask and every landmark set together. Randomness is
stateless: an example's crop and colours depend on its key alone.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import tensorflow as tf

from data_pipelines import clahe, spec
from data_pipelines.mirror import MIRRORED

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
_GRAY = (
    0.2989,
    0.5870,
    0.1140,
)  # weights of ITU-R BT.601, as tf.image.rgb_to_grayscale rounds them

Augmentation = Mapping[str, float | tuple[float, float]]
Draws = dict[str, tf.Tensor]
Example = dict[str, tf.Tensor]


def training_example(
    record: Example,
    key: tf.Tensor,
    *,
    image_size: int,
    crop_scale: tuple[float, float],
    augment: Augmentation,
) -> Example:
    """A randomly cropped, moved and coloured example.

    Args:
      record: a decoded record (see `records.features`).
      key: [2] int64; everything random follows from it.
      image_size: pixels of the example.
      crop_scale: range of the crop's side, relative to the face box.
      augment: strengths and probabilities, see configs/common.py.
    """
    uniform = tf.random.stateless_uniform([len(_DRAWS)], key)
    draws = dict(zip(_DRAWS, tf.unstack(uniform), strict=True))
    scale = _between(draws["crop"], *crop_scale)
    matrix = crop_matrix(record["face_box"], scale, image_size)
    matrix = tf.matmul(_random_similarity(draws, image_size, augment), matrix)
    example = warp_example(record, matrix, image_size)
    if augment["p_flip"] > 0:
        flipped = draws["if_flip"] < augment["p_flip"]
        example = tf.cond(flipped, lambda: mirror_example(example), lambda: example)
    image = augment_colours(example["image"], draws, key, augment)
    return {**example, "image": _to_uint8(image)}


def evaluation_example(record: Example, *, image_size: int, crop_scale: float) -> Example:
    """The centred crop of fixed scale, nothing random."""
    matrix = crop_matrix(record["face_box"], tf.constant(crop_scale, tf.float32), image_size)
    return warp_example(record, matrix, image_size)


def crop_matrix(box: tf.Tensor, scale: tf.Tensor, size: int) -> tf.Tensor:
    """`photos.crops.crop_matrix` in tensorflow: [3, 3] from stored pixels to crop pixels."""
    zoom = size / (scale * (box[2] - box[0] + box[3] - box[1]) / 2)
    centre = (box[:2] + box[2:]) / 2
    return _similarity(zoom, tf.zeros([]), size / 2 - zoom * centre)


def warp_example(record: Example, matrix: tf.Tensor, size: int) -> Example:
    """Moves image, mask and landmarks by one similarity and drops what only records hold.

    Pixels from beyond the stored image are black and outside the face hull; landmarks come out in
    [-1, 1] and stay where they fall, also beyond the picture.
    """
    mask = tf.cast(record["face_mask"] > 127, tf.float32)
    warped = {
        "image": _to_uint8(_warp(tf.cast(record["image"], tf.float32), matrix, size, "BILINEAR")),
        "face_mask": tf.cast(_warp(mask, matrix, size, "NEAREST", fill=1.0)[..., 0], tf.uint8),
    }
    for name in spec.LANDMARK_SETS:
        pixels = tf.matmul(record[name], matrix[:2, :2], transpose_b=True) + matrix[:2, 2]
        warped[name] = tf.where(record[f"has_{name}"], 2 * pixels / size - 1, 0.0)
    return {**{key: record[key] for key in spec.EXAMPLE_SPEC if key in record}, **warped}


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
        mirrored |= {key: tf.zeros_like(example[key]) for key in (flag, *spec.FLAGS[flag])}
    return mirrored


def augment_colours(
    image: tf.Tensor, draws: Draws, key: tf.Tensor, augment: Augmentation
) -> tf.Tensor:
    """Albumentations' colour transforms as SMIRK chains them.

    The jitter's four steps keep one order.

    Args:
      image: [H, W, 3] uint8.
      draws: in [0, 1), see `_DRAWS`.
      key: [2] of the noise.
      augment: strengths and probabilities.

    Returns:
      [H, W, 3] floats in [0, 255].
    """
    # The first two are functions of one level, of which a picture has 256 and pixels many more.
    levels = tf.range(256.0)
    for name, transform in (("brightness_contrast", _brightness_contrast), ("gamma", _gamma)):
        levels = _sometimes(name, transform, levels, draws, augment)
    image = tf.gather(levels, tf.cast(image, tf.int32))
    for name, transform in (
        ("jitter", _jitter),
        ("clahe", _clahe),
        ("rgb_shift", _rgb_shift),
        ("blur", _blur),
    ):
        image = _sometimes(name, transform, image, draws, augment)

    def noise(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
        deviation = tf.sqrt(_between(draws["noise"], *augment["noise_variance"]))
        own_key = tf.random.fold_in(key, 1)  # `key` itself gave the draws
        return image + deviation * tf.random.stateless_normal(tf.shape(image), own_key)

    return _sometimes("noise", noise, image, draws, augment)


def _sometimes(name, transform, image, draws: Draws, augment: Augmentation) -> tf.Tensor:
    probability = augment[f"p_{name}"]
    if probability <= 0:
        return image
    return tf.cond(
        draws[f"if_{name}"] < probability,
        lambda: tf.clip_by_value(transform(image, draws, augment), 0.0, 255.0),
        lambda: image,
    )


def _brightness_contrast(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
    return image * (1 + _around(draws["contrast"], augment["contrast"])) + 255 * _around(
        draws["brightness"], augment["brightness"]
    )


def _gamma(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
    return 255 * (image / 255) ** (_between(draws["gamma"], *augment["gamma"]) / 100)


def _jitter(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
    brightness, contrast, saturation, hue = (
        _around(draws[f"jitter_{name}"], augment["jitter"])
        for name in ("brightness", "contrast", "saturation", "hue")
    )
    # Brightness, contrast about the mean grey, saturation about each pixel's grey: all linear.
    gray = tf.constant(_GRAY)[:, None]
    mean = tf.tensordot(tf.reduce_mean(image, [0, 1]), gray[:, 0], 1) * (1 + brightness)
    colours = (1 + saturation) * tf.eye(3) - saturation * gray
    matrix = (1 + brightness) * (1 + contrast) * colours
    image = tf.clip_by_value(tf.tensordot(image, matrix, 1) - contrast * mean, 0.0, 255.0)
    return 255 * tf.image.adjust_hue(image / 255, hue)


def _clahe(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
    return clahe.equalise(image, _between(draws["clahe"], *augment["clahe"]))


def _rgb_shift(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
    shifts = [_around(draws[name], augment["rgb_shift"]) for name in ("red", "green", "blue")]
    return image + tf.stack(shifts)


def _blur(image: tf.Tensor, draws: Draws, augment: Augmentation) -> tf.Tensor:
    """Box blur of a random odd width in `augment["blur"]`, the border mirrored."""
    narrowest, widest = (int(width) // 2 for width in augment["blur"])
    radius = tf.floor(_between(draws["blur"], narrowest, widest + 1))
    box = tf.cast(tf.abs(tf.range(-widest, widest + 1.0)) <= radius, tf.float32)
    kernel = tf.tile(tf.reshape(box / tf.reduce_sum(box), [-1, 1, 1, 1]), [1, 1, 3, 1])
    padded = tf.pad(image, [[widest, widest], [widest, widest], [0, 0]], "REFLECT")[None]
    columns = tf.nn.depthwise_conv2d(padded, kernel, [1, 1, 1, 1], "VALID")
    rows = tf.transpose(kernel, [1, 0, 2, 3])
    return tf.nn.depthwise_conv2d(columns, rows, [1, 1, 1, 1], "VALID")[0]


def _random_similarity(draws: Draws, size: int, augment: Augmentation) -> tf.Tensor:
    """Turn, zoom and shift about the middle of the crop; often (1 - p) the identity."""
    applied = tf.cast(draws["if_geometric"] < augment["p_geometric"], tf.float32)
    angle = applied * _around(draws["rotate"], augment["rotate"]) * _DEGREE
    zoom = 1 + applied * _around(draws["zoom"], augment["zoom"])
    shift = tf.stack([_around(draws[name], augment["shift"]) for name in ("shift_x", "shift_y")])
    middle = tf.fill([2], size / 2)
    turned = tf.linalg.matvec(_similarity(zoom, angle, tf.zeros([2]))[:2, :2], middle)
    return _similarity(zoom, angle, middle - turned + applied * size * shift)


def _similarity(zoom: tf.Tensor, angle: tf.Tensor, translation: tf.Tensor) -> tf.Tensor:
    cosine, sine = zoom * tf.cos(angle), zoom * tf.sin(angle)
    rows = [[cosine, -sine, translation[0]], [sine, cosine, translation[1]], [0.0, 0.0, 1.0]]
    return tf.stack([tf.stack(row) for row in rows])


def _warp(
    image: tf.Tensor, matrix: tf.Tensor, size: int, interpolation: str, fill: float = 0.0
) -> tf.Tensor:
    """Resamples [H, W, C] floats so that stored pixel p lands on matrix p.

    Where the image shrinks twofold or more it is averaged down first, for bilinear sampling would
    skip pixels.
    """
    inverse = tf.linalg.inv(matrix)
    if interpolation == "BILINEAR":
        shrink = tf.maximum(1, tf.cast(tf.norm(inverse[:2, 0]) + 1e-3, tf.int32))
        image, reduction = tf.cond(
            shrink > 1, lambda: _shrink(image, shrink), lambda: (image, tf.ones([2]))
        )
        inverse = tf.linalg.diag(tf.concat([reduction, [1.0]], 0)) @ inverse
    # The op counts pixel centres as whole numbers: half a pixel off our coordinates on both sides.
    offset = tf.linalg.matvec(inverse[:2, :2], tf.fill([2], 0.5)) + inverse[:2, 2] - 0.5
    transform = tf.concat([inverse[0, :2], offset[:1], inverse[1, :2], offset[1:], [0, 0]], 0)
    warped = tf.raw_ops.ImageProjectiveTransformV3(
        images=image[None],
        transforms=transform[None],
        output_shape=[size, size],
        interpolation=interpolation,
        fill_mode="CONSTANT",
        fill_value=fill,
    )[0]
    return tf.ensure_shape(warped, [size, size, None])


def _shrink(image: tf.Tensor, factor: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Area average, and by how much (x, y) coordinates have shrunk."""
    old = tf.shape(image)[:2]
    new = tf.maximum(old // factor, 1)
    ratio = tf.cast(new, tf.float32) / tf.cast(old, tf.float32)
    return tf.image.resize(image, new, method="area"), ratio[::-1]


def _to_uint8(image: tf.Tensor) -> tf.Tensor:
    return tf.saturate_cast(tf.round(image), tf.uint8)


def _between(uniform: tf.Tensor, low: float, high: float) -> tf.Tensor:
    return low + (high - low) * uniform


def _around(uniform: tf.Tensor, strength: float) -> tf.Tensor:
    return strength * (2 * uniform - 1)
