"""Heads whose faces are made none, so that a finder learns what makes a face one."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw, ImageFilter

# Rows of the 68 points that are mixed up: an eye with its brow, the other, nose, mouth.
_PARTS = (
    *((*range(17, 22), *range(36, 42)), (*range(22, 27), *range(42, 48))),
    *(tuple(range(28, 36)), tuple(range(48, 68))),
)


def spoilt(
    rng: np.random.Generator, picture: Image.Image, marks: Float[np.ndarray, "68 2"]
) -> Image.Image:
    """A head whose face is none: its parts wiped out, upside down, or in disorder.

    Args:
      rng: generator.
      picture: of the head.
      marks: its landmarks in pixels.
    """
    kind = rng.integers(3)
    inner = marks[17:]
    if kind == 0:
        return _patched(picture, inner, _smeared)
    if kind == 1:
        return _patched(picture, inner, lambda patch: patch.transpose(Image.Transpose.ROTATE_180))
    parts = [marks[list(rows)] for rows in _PARTS]
    wiped = _patched(picture, inner, _smeared)
    order = rng.permutation(len(parts))
    if (order == np.arange(len(parts))).all():
        order = order[::-1]
    for here, there in zip(parts, order, strict=True):
        source = _patch_box(parts[there], 0.25)
        turned = (
            Image.Transpose.ROTATE_180 if rng.random() < 0.5 else Image.Transpose.FLIP_LEFT_RIGHT
        )
        wiped = _patched(
            wiped,
            here,
            lambda patch, s=source, t=turned: picture.crop(s).resize(patch.size).transpose(t),
            0.25,
        )
    return wiped


def _patched(picture, points, change, margin=0.18):
    """The picture with a patch about some points changed, its edge softened."""
    box = _patch_box(points, margin)
    width, height = box[2] - box[0], box[3] - box[1]
    made = change(picture.crop(box))
    soft = Image.new("L", (width, height), 0)
    edge = 0.12 * min(width, height)
    ImageDraw.Draw(soft).ellipse((edge, edge, width - edge, height - edge), fill=255)
    picture = picture.copy()
    picture.paste(made, box[:2], soft.filter(ImageFilter.GaussianBlur(edge / 2)))
    return picture


def _patch_box(points, margin):
    low, high = points.min(axis=0), points.max(axis=0)
    room = margin * (high - low).max() + 1
    return tuple(int(value) for value in (*np.floor(low - room), *np.ceil(high + room)))


def _smeared(patch):
    few = patch.resize((3, 3), Image.Resampling.BOX)
    return few.resize(patch.size, Image.Resampling.BICUBIC)
