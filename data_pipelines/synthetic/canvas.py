"""Everything that is painted rather than modelled: walls, hair, clothes, occluders, the camera.

Pictures are [S, S, 3] of linear colour; shapes are placed in fractions of the picture's side.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw

from data_pipelines.synthetic.views import tint

_GAMMA = 1 / 2.2
_BRIGHTEST = 1.5  # linear colour that is coded as 255
# Linear colour of each code of `coded`.
LINEAR = (_BRIGHTEST * (np.arange(256) / 255) ** 2.2).astype(np.float32)
_GLASSES_SHARE, _OBJECT_SHARE = 0.12, 0.18  # of the pictures in the wild
_SATURATION = 0.45  # of random colours


def laboratory_wall(rng: np.random.Generator, size: int) -> Float[np.ndarray, "S S 3"]:
    """An even grey-blue wall."""
    return np.full((size, size, 3), rng.uniform(0.75, 1.0) * np.array([0.30, 0.34, 0.40]))


def wild_backdrop(rng: np.random.Generator, size: int) -> Float[np.ndarray, "S S 3"]:
    """A gradient, a texture or a jumble of shapes."""
    kind = rng.integers(3)
    if kind == 0:
        return _enlarge(_colours(rng, 4).reshape(2, 2, 3), size)
    if kind == 1:
        texture = sum(
            _enlarge(_colours(rng, cells**2).reshape(cells, cells, 3), size) / np.sqrt(cells)
            for cells in (3, 7, 16)
        )
        return texture / texture.max() * rng.uniform(0.2, 0.9) * tint(rng, 0.4)
    canvas = np.tile(_colours(rng, 1), (size, size, 1))
    for colour in _colours(rng, rng.integers(3, 9)):
        corner, extent = rng.uniform(-0.2, 1, 2), rng.uniform(0.1, 0.6, 2)
        canvas = _paint(canvas, [_blob(rng, corner, corner + extent)], colour)
    return canvas


def long_hair(
    rng: np.random.Generator, canvas: Float[np.ndarray, "S S 3"], colour: Float[np.ndarray, "3"]
) -> Float[np.ndarray, "S S 3"]:
    """Hair that hangs down behind the face."""
    left, right = rng.uniform(0.22, 0.28), rng.uniform(0.72, 0.78)
    return _paint(canvas, [("ellipse", (left, 0.1, right, rng.uniform(0.75, 0.95)))], colour)


def clothes(
    canvas: Float[np.ndarray, "S S 3"],
    neck: Float[np.ndarray, "2"],
    colour: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "S S 3"]:
    """Shoulders with a collar at the lower end of the neck, given in fractions of the picture."""
    x, y = neck[0], neck[1] - 0.04
    return _paint(canvas, [("ellipse", (x - 0.58, y, x + 0.58, y + 0.8))], colour)


def occlude(
    rng: np.random.Generator,
    canvas: Float[np.ndarray, "S S 3"],
    eyes: Float[np.ndarray, "2 2"],
) -> Float[np.ndarray, "S S 3"]:
    """Now and then glasses on the eyes, or something held before the rim of the face."""
    if rng.random() < _GLASSES_SHARE:
        canvas = _glasses(rng, canvas, eyes)
    if rng.random() < _OBJECT_SHARE:
        angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.26, 0.36)
        centre = 0.5 + reach * np.array([np.cos(angle), np.sin(angle)])
        half = rng.uniform(0.05, 0.14, 2)
        canvas = _paint(canvas, [_blob(rng, centre - half, centre + half)], _colours(rng, 1)[0])
    return canvas


def develop(
    rng: np.random.Generator, radiance: Float[np.ndarray, "S S 3"], noise: float, blur: float
) -> UInt8[np.ndarray, "S S 3"]:
    """The camera: blur, highlights that roll off, gamma, sensor noise, 8 bits.

    Args:
      rng: generator.
      radiance: linear colour, 1 is white.
      noise: standard deviation of the sensor noise, of a full scale of 1.
      blur: weight in [0, 1] of the mean of the four neighbours.
    """
    radiance = radiance.astype(np.float32)  # twice as fast
    if blur > 0:
        padded = np.pad(radiance, ((1, 1), (1, 1), (0, 0)), mode="edge")
        around = padded[:-2, 1:-1] + padded[2:, 1:-1] + padded[1:-1, :-2] + padded[1:-1, 2:]
        radiance = (radiance + blur * around) / (1 + 4 * blur)
    value = (1 - np.exp(-1.6 * np.maximum(radiance, 0))) ** _GAMMA
    value += np.float32(noise) * rng.standard_normal(value.shape, np.float32)
    return np.round(255 * np.clip(value, 0, 1)).astype(np.uint8)


def coded(radiance: Float[np.ndarray, "*N 3"]) -> UInt8[np.ndarray, "*N 3"]:
    """Linear colour in 8 bits, finer where it is dark; `LINEAR` gives it back."""
    value = np.clip(radiance / _BRIGHTEST, 0, 1) ** _GAMMA
    return np.round(255 * value).astype(np.uint8)


def _glasses(rng: np.random.Generator, canvas: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    apart = np.linalg.norm(eyes[1] - eyes[0])
    half = apart * np.array([0.42, rng.uniform(0.28, 0.4)])
    shape = "ellipse" if rng.random() < 0.5 else "rectangle"
    right, left = sorted(eyes.tolist())  # by x in the picture
    bridge = (right[0] + half[0], right[1], left[0] - half[0], left[1])
    shapes = [(shape, (*(eye - half), *(eye + half))) for eye in eyes]
    if bridge[0] < bridge[2]:
        shapes.append(("line", bridge))
    return _paint(canvas, shapes, rng.uniform(0.01, 0.15, 3), outline=int(rng.integers(1, 3)))


def _blob(rng: np.random.Generator, low: np.ndarray, high: np.ndarray) -> tuple[str, tuple]:
    return str(rng.choice(["ellipse", "rectangle"])), (*low, *high)


def _colours(rng: np.random.Generator, count: int) -> Float[np.ndarray, "N 3"]:
    """Random colours, not too vivid."""
    grey = rng.uniform(0.02, 0.8, (count, 1))
    return grey + _SATURATION * (rng.uniform(0.02, 0.9, (count, 3)) - grey)


def _enlarge(cells: Float[np.ndarray, "h w 3"], size: int) -> Float[np.ndarray, "S S 3"]:
    picture = Image.fromarray((cells * 255).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.BICUBIC)) / 255.0


def _paint(
    canvas: np.ndarray,
    shapes: list[tuple[str, tuple[float, ...]]],
    colour: np.ndarray,
    outline: int = 0,
) -> np.ndarray:
    """Draws shapes, given in fractions of the canvas, filled or as outlines of some pixels."""
    size, fine = canvas.shape[0], 2
    mask = Image.new("L", (size * fine, size * fine), 0)
    draw = ImageDraw.Draw(mask)
    for shape, box in shapes:
        box = [size * fine * value for value in box]
        if shape == "line":
            draw.line(box, fill=255, width=outline * fine)
        elif outline:
            getattr(draw, shape)(box, outline=255, width=outline * fine)
        else:
            getattr(draw, shape)(box, fill=255)
    alpha = np.asarray(mask.reduce(fine))[..., None] / 255.0
    return canvas + alpha * (colour - canvas)
