"""The records of shards: one schema for every builder, so that any sets can be mixed.

A record is a JPEG crop of any size, wider than training needs so that the training crop can move
inside it, with everything geometric in pixels of that stored crop: continuous coordinates, x right,
y down, the centre of pixel (i, j) at (j + 0.5, i + 0.5).
"""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from fields_jax import batch
from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError

_DIMENSIONS = {"n_expression": batch.N_EXPRESSION, "n_shape": batch.N_SHAPE}

_JPEG_QUALITY = 95  # tensorflow's own

# Fields of a batch that are pictures, are set by the reader, or say whether a label is there.
_NOT_LABELS = ("image", "face_mask", "source", "id", *batch.FLAGS)

# Shape and dtype of every label a builder may give.
LABELS: dict[str, tuple[tuple[int, ...], np.dtype]] = {
    key: (tuple(_DIMENSIONS.get(d, d) for d in field.shape), np.dtype(field.dtype))
    for key, field in batch.EXAMPLE_SPEC.items()
    if key not in _NOT_LABELS
}


def features() -> tfds.features.FeaturesDict:
    """The feature dictionary of every builder.

    `image` is JPEG RGB; `face_mask` is PNG with 255 outside the face hull and 0 inside; `face_box`
    is (x0, y0, x1, y1) of the face landmarks, about which the training crop is made. Older sets
    lack the fields of `batch.OPTIONAL`.
    """
    return tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg"),
            "face_mask": tfds.features.Image(shape=(None, None, 1), encoding_format="png"),
            "face_box": tfds.features.Tensor(shape=(4,), dtype=np.float32),
            "id": tfds.features.Text(),
            **{
                key: tfds.features.Tensor(shape=shape, dtype=dtype)
                for key, (shape, dtype) in LABELS.items()
            },
            **{flag: tfds.features.Tensor(shape=(), dtype=np.bool_) for flag in batch.FLAGS},
        }
    )


def record(
    image: np.ndarray,
    face_mask: np.ndarray,
    face_box: np.ndarray,
    *,
    id: str,
    annotated_68: bool = True,
    **labels: Any,
) -> dict[str, Any]:
    """One example as `features()` encodes it; absent labels are filled in and flagged.

    Args:
      image: [H, W, 3] uint8 RGB, the stored crop.
      face_mask: [H, W] of 0 and 1 (or bool), 1 outside the hull of the face.
      face_box: [4] x0, y0, x1, y1 of the face landmarks, in pixels of `image`.
      id: names the example in errors and reports; unique in its set.
      annotated_68: False where `landmarks_68` were read off mediapipe's points.
      **labels: any keys of `LABELS`, landmarks in pixels of `image`; None means absent.

    Raises:
      UserError: labels of a wrong shape, not finite or out of range, only some of the labels that
        share a flag (such as valence without arousal), or an empty box.
      ValueError: pictures of a wrong shape, or an unknown key.
    """
    labels = {key: value for key, value in labels.items() if value is not None}
    if unknown := sorted(set(labels) - set(LABELS)):
        raise ValueError(
            f"record {id!r}: unknown labels {', '.join(unknown)}; known: {', '.join(LABELS)}"
        )
    image, face_mask, face_box = _checked_picture(image, face_mask, face_box, id)
    return {
        "image": image,
        "face_mask": np.where(face_mask[..., None], np.uint8(255), np.uint8(0)),
        "face_box": face_box,
        "id": id,
        **{key: _checked_label(key, labels.get(key), id) for key in LABELS},
        **{flag: _has(flag, labels, id) for flag in batch.FLAGS},
        "has_annotated_68": annotated_68 and "landmarks_68" in labels,
    }


def with_labels(example: dict[str, Any], **labels: Any) -> dict[str, Any]:
    """A record with labels that it lacked.

    Args:
      example: as `record` makes it.
      **labels: keys of `LABELS`, all of a flag together.

    Raises:
      UserError: as `record`.
    """
    id = example["id"]
    added = {flag: keys for flag, keys in batch.FLAGS.items() if not labels.keys().isdisjoint(keys)}
    return {
        **example,
        **{key: _checked_label(key, value, id) for key, value in labels.items()},
        **{flag: _has(flag, labels, id) for flag in added},
    }


def with_encoded_pictures(example: dict[str, Any]) -> dict[str, Any]:
    """The record with its pictures as the bytes that shards hold, by pillow.

    Much smaller in memory, and many threads can do it at once.
    """
    return {
        **example,
        "image": _encoded(example["image"], "JPEG", quality=_JPEG_QUALITY),
        "face_mask": _encoded(example["face_mask"][..., 0], "PNG"),
    }


def _encoded(pixels: np.ndarray, kind: str, **options: Any) -> bytes:
    stored = io.BytesIO()
    Image.fromarray(pixels).save(stored, format=kind, **options)
    return stored.getvalue()


def _checked_picture(
    image: np.ndarray, face_mask: np.ndarray, face_box: np.ndarray, id: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    image, face_mask = np.asarray(image), np.asarray(face_mask)
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        raise ValueError(
            f"record {id!r}: image must be uint8 [H, W, 3], found {image.dtype} {image.shape}"
        )
    if face_mask.shape != image.shape[:2] or not np.isin(face_mask, (0, 1)).all():
        raise ValueError(
            f"record {id!r}: face_mask must be 0 and 1 of shape {image.shape[:2]}, "
            f"found {face_mask.dtype} {face_mask.shape}"
        )
    box = np.asarray(face_box, np.float32)
    if box.shape != (4,) or not np.isfinite(box).all() or not (box[2:] > box[:2]).all():
        raise UserError(f"record {id!r}: face_box must be x0 < x1, y0 < y1, found {face_box}")
    return image, face_mask, box


def _checked_label(key: str, value: Any, id: str) -> np.ndarray:
    shape, dtype = LABELS[key]
    if value is None:
        return np.full(shape, batch.ABSENT.get(key, 0), dtype)
    array = np.asarray(value, dtype)
    if array.shape != shape:
        raise UserError(f"record {id!r}: {key} must have shape {shape}, found {array.shape}")
    if not np.isfinite(array).all():
        raise UserError(f"record {id!r}: {key} is not finite")
    if key == "emotion" and not 0 <= array < len(EMOTIONS):
        raise UserError(f"record {id!r}: emotion must be 0..{len(EMOTIONS) - 1} or None")
    if key == "fit_residual" and array < 0:
        raise UserError(f"record {id!r}: fit_residual must not be negative, found {array}")
    if key in ("valence", "arousal") and not -1 <= array <= 1:
        raise UserError(f"record {id!r}: {key} must be in [-1, 1], found {array}")
    return array


def _has(flag: str, labels: dict[str, Any], id: str) -> bool:
    given = [key in labels for key in batch.FLAGS[flag]]
    if any(given) and not all(given):
        raise UserError(
            f"record {id!r}: {', '.join(batch.FLAGS[flag])} come together or not at all"
        )
    return all(given)
