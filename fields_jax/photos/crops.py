"""Geometry of face crops in numpy and pillow: boxes, hull masks, the crop's matrix.

Points are continuous pixel coordinates, x right, y down: pixel (i, j) of an image covers
[j, j+1) x [i, i+1) and its centre is (j + 0.5, i + 0.5), so that 2p/size - 1 agrees with what the
rasteriser samples. SMIRK and TEASER count pixel centres as whole numbers and map the crop's border
to 0 and size - 1; ours differs from theirs by half a pixel and a zoom of size / (size - 1).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float, Int, UInt8
from PIL import Image, ImageDraw

from fields_jax.errors import UserError

# Bounds for the box of a face. Below 16 pixels an eye is 3 pixels wide and shows nothing.
SMALLEST_FACE = 16  # pixels, the smaller side of the box
# A quarter of a face twice as wide and high as the picture lies inside it: the closest close-up
# that still has eyes, nose and mouth, and the least of a face at the edge that tells much.
LARGEST_FACE = 2.0  # the larger side of the box, in larger sides of the picture
LEAST_INSIDE = 0.25  # fraction of the box inside the picture

_NORMALISED = 2.0  # coordinates as fractions of a picture, or of half of it, hardly exceed it


def bounding_box(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "4"]:
    """(x0, y0, x1, y1) of the points."""
    return np.concatenate([points.min(axis=0), points.max(axis=0)]).astype(np.float32)


def box_fault(box: Sequence[float], height: int, width: int, what: str = "the box spans") -> str:
    """Why a box (x0, y0, x1, y1) in pixels cannot hold a face; "" if it can.

    A face at the edge may reach beyond the picture. The bounds are SMALLEST_FACE, LARGEST_FACE and
    LEAST_INSIDE.

    Args:
      box: any four numbers.
      height, width: of the picture.
      what: how the answer begins.
    """
    box = np.asarray(box, np.float64)
    if not np.isfinite(box).all():
        return f"{what} {box.tolist()}, which are not all numbers"
    if is_normalised(box):
        return f"{what} {box.min():.3g}..{box.max():.3g}: normalised? give pixels"
    with np.errstate(over="ignore"):
        size, shown = box[2:] - box[:2], box.round(1).tolist()
    if size.min() < SMALLEST_FACE:
        why = f"its smaller side is {size.min():.3g} pixels, a face's {SMALLEST_FACE} at least"
    elif size.max() > LARGEST_FACE * max(height, width):
        why = f"it is more than {LARGEST_FACE:g} times as large as the picture"
    elif (inside := _share_inside(box, height, width)) < LEAST_INSIDE:
        why = f"{100 * inside:.0f} % of it is inside, of a face {100 * LEAST_INSIDE:.0f} % at least"
    else:
        return ""
    return f"{what} {shown}, no face in {width} x {height} pixels: {why}"


def is_normalised(coordinates: Sequence[float]) -> bool:
    """Whether coordinates are so small that they must be fractions of the picture, not pixels."""
    return float(np.abs(coordinates).max()) <= _NORMALISED


def _share_inside(box: Float[np.ndarray, "4"], height: int, width: int) -> float:
    low, high = np.maximum(box[:2], 0), np.minimum(box[2:], (width, height))
    return float(np.prod(np.maximum(high - low, 0)) / np.prod(box[2:] - box[:2]))


def crop_extent(box: Float[np.ndarray, "4"], scale: float) -> float:
    """Side in pixels of the square crop about a face box: scale x mean of width and height."""
    return float(scale * (box[2] - box[0] + box[3] - box[1]) / 2)


def crop_matrix(box: Float[np.ndarray, "4"], scale: float, size: int) -> Float[np.ndarray, "3 3"]:
    """The similarity that takes the square crop about a box to an image of `size` pixels.

    The crop is `crop_extent(box, scale)` wide and centred on the box; its outer edges map to 0 and
    `size` (not size - 1: coordinates are continuous, see above).

    Raises:
      UserError: the box is empty or not finite.
    """
    extent = crop_extent(box, scale)
    if not np.isfinite(extent) or extent <= 0:
        raise UserError(f"face box {np.asarray(box).tolist()} is empty; expected x0 < x1, y0 < y1")
    zoom = size / extent
    centre_x, centre_y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    return np.array(
        [
            [zoom, 0, size / 2 - zoom * centre_x],
            [0, zoom, size / 2 - zoom * centre_y],
            [0, 0, 1],
        ],
        np.float32,
    )


def transform_points(
    matrix: Float[np.ndarray, "3 3"], points: Float[np.ndarray, "N 2"]
) -> Float[np.ndarray, "N 2"]:
    """Applies a similarity to pixel coordinates."""
    return (points @ matrix[:2, :2].T + matrix[:2, 2]).astype(np.float32)


def to_ndc(points: Float[np.ndarray, "N 2"], size: int) -> Float[np.ndarray, "N 2"]:
    """Pixels of a square image to [-1, 1]."""
    return (2 * points / size - 1).astype(np.float32)


def to_photograph(
    points: Float[np.ndarray, "N D"], matrix: Float[np.ndarray, "3 3"], size: int
) -> Float[np.ndarray, "N 2"]:
    """Image coordinates of a crop as pixels of its photograph.

    Args:
      points: [N, >=2] as `render.project` returns them, x and y in [-1, 1] over the crop.
      matrix: from pixels of the photograph to pixels of the crop.
      size: side of the crop in pixels.
    """
    inverse = np.linalg.inv(np.asarray(matrix, np.float64))
    return transform_points(inverse, (np.asarray(points, np.float64)[:, :2] + 1) * size / 2)


def cut(
    image: UInt8[np.ndarray, "H W 3"], matrix: Float[np.ndarray, "3 3"], size: int
) -> UInt8[np.ndarray, "S S 3"]:
    """Resamples an image bilinearly under a similarity; black where it has no pixels.

    An image that shrinks twofold or more is averaged over whole blocks of pixels first.
    """
    shrink = max(1, int(1 / np.sqrt(abs(np.linalg.det(matrix[:2, :2]))) + 1e-6))
    inverse = np.linalg.inv(matrix.astype(np.float64))
    image, corner = _needed(image, inverse, size, shrink)
    if not image.size:
        return np.zeros((size, size, 3), np.uint8)
    source = Image.fromarray(image)
    inverse[:2, 2] -= corner
    if shrink > 1:
        source = source.reduce(shrink)
        inverse[:2] /= shrink
    cropped = source.transform(
        (size, size),
        Image.Transform.AFFINE,
        data=inverse[:2].ravel().tolist(),
        resample=Image.Resampling.BILINEAR,
    )
    return np.asarray(cropped)


def _needed(
    image: UInt8[np.ndarray, "H W 3"], inverse: Float[np.ndarray, "3 3"], size: int, shrink: int
) -> tuple[UInt8[np.ndarray, "h w 3"], Int[np.ndarray, "2"]]:
    """The part of an image that a crop shows, and where its corner is.

    It is cut where blocks of `shrink` pixels meet, so that their means are those of the whole.
    """
    square = size * np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    shown = transform_points(inverse, square).astype(np.float64)
    whole = np.array(image.shape[1::-1])
    margin = 2 * shrink + 1  # of pixels that are mixed into those at the edge
    low = np.clip((shown.min(axis=0) - margin) // shrink * shrink, 0, whole).astype(int)
    high = np.clip(np.ceil(shown.max(axis=0)) + margin, low, whole).astype(int)
    return image[low[1] : high[1], low[0] : high[0]], low


def convex_hull(points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "K 2"]:
    """Corners of the convex hull in order of angle (Andrew's monotone chain)."""
    ordered = np.unique(points, axis=0)
    lower, upper = _half_hull(ordered), _half_hull(ordered[::-1])
    return np.array(lower[:-1] + upper[:-1] if len(ordered) > 1 else lower)


def _half_hull(ordered: np.ndarray) -> list[np.ndarray]:
    chain: list[np.ndarray] = []
    for point in ordered:
        while len(chain) > 1 and _turn(chain[-2], chain[-1], point) <= 0:
            chain.pop()
        chain.append(point)
    return chain


def _turn(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> float:
    """Twice the signed area of the triangle."""
    return (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])


def hull_mask(
    points: Float[np.ndarray, "N 2"], height: int, width: int
) -> UInt8[np.ndarray, "H W"]:
    """1 outside the convex hull of the points, 0 inside and on its border.

    As in SMIRK, corners are the whole pixels the points fall in and the border is filled too.
    """
    corners = convex_hull(np.floor(points[:, :2]).astype(np.int64))
    mask = Image.new("L", (width, height), 1)
    if len(corners) > 1:
        ImageDraw.Draw(mask).polygon([tuple(map(int, c)) for c in corners], fill=0, outline=0)
    return np.asarray(mask)
