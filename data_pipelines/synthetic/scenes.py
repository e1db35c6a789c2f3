"""What is before, behind and about a head in any photograph, painted in linear colour.

Shapes are placed in fractions of the picture's side, on the axes of the face: `Frame`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image, ImageDraw

from data_pipelines.synthetic import canvas
from data_pipelines.synthetic.appearance import Appearance
from data_pipelines.synthetic.camera import blurred
from data_pipelines.synthetic.views import tint
from fields_jax.landmark_schemes import EYE_PAIR_68

# Shares of the pictures with each thing before the face (ours).
_FRINGE, _LOCKS, _HAT, _GLASSES, _SHADED, _HAND, _OBJECT = 0.35, 0.45, 0.1, 0.16, 0.3, 0.12, 0.12
_ILLUMINATION = 0.35  # of the pictures: light that changes over the face
_FINE = 2  # shapes are drawn so many times finer


class Frame(NamedTuple):
    """Where the face is in the picture.

    Attributes:
      middle: [2] of the face box.
      right, up: [2] axes of the head in the picture, of the length of half a face box.
      marks: [68, 2] landmarks.
      coverage: [S, S] fraction of each pixel that the head covers.
    """

    middle: Float[np.ndarray, "2"]
    right: Float[np.ndarray, "2"]
    up: Float[np.ndarray, "2"]
    marks: Float[np.ndarray, "68 2"]
    coverage: Float[np.ndarray, "S S"]

    def at(self, points: Float[np.ndarray, "N 2"]) -> Float[np.ndarray, "N 2"]:
        """Places given along both axes from the middle, in the picture."""
        points = np.asarray(points)
        return self.middle + points[:, :1] * self.right + points[:, 1:] * self.up


def backdrop(rng: np.random.Generator, size: int) -> Float[np.ndarray, "S S 3"]:
    """What is behind: plain, shapes, stripes, lights out of focus, or rough at every scale."""
    kind = rng.integers(6)
    if kind <= 1:
        made = canvas.wild_backdrop(rng, size)
    elif kind == 2:
        made = np.tile(rng.uniform(0, 1, 3) ** 2, (size, size, 1))
    elif kind == 3:
        made = _rough(rng, size, rng.uniform(0.8, 1.8))
    elif kind == 4:
        made = _stripes(rng, size)
    else:
        made = _lights(rng, size)
    made = made * 2 ** rng.normal(-0.5, 1.2)
    if rng.random() < 0.4:
        made = blurred(made.astype(np.float32), *[rng.uniform(0.5, 6)] * 2)
    return np.clip(made, 0, 1.5)


def hair_behind(
    rng: np.random.Generator,
    scene: Float[np.ndarray, "S S 3"],
    frame: Frame,
    colour: Float[np.ndarray, "3"],
) -> Float[np.ndarray, "S S 3"]:
    """A mass of hair about the head, down to the ears, the chin or the shoulders."""
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    width, top, bottom = rng.uniform(0.95, 1.7), rng.uniform(1.5, 2.3), rng.uniform(0.2, 2.6)
    x = width * np.cos(angle)
    y = np.where(np.sin(angle) > 0, top, bottom) * np.sin(angle)
    rough = 1 + rng.uniform(0.02, 0.14) * rng.standard_normal(40)
    return _laid(
        scene, frame.at(np.stack([x * rough, y * rough], 1)), _hairy(rng, len(scene), colour)
    )


def before(
    rng: np.random.Generator,
    scene: Float[np.ndarray, "S S 3"],
    frame: Frame,
    look: Appearance,
    *,
    shadows: bool = True,
) -> Float[np.ndarray, "S S 3"]:
    """What hides parts of the face: hair, a hat, glasses, a hand, anything; and shadows.

    Without the shadows the scene is laid over, never multiplied.
    """
    colour = look.hair
    if colour is not None and rng.random() < _FRINGE:
        scene = _fringe(rng, scene, frame, colour)
    if colour is not None and rng.random() < _LOCKS:
        scene = _locks(rng, scene, frame, colour)
    if rng.random() < _HAT:
        scene = _hat(rng, scene, frame)
    if shadows and rng.random() < _ILLUMINATION:
        scene = _lit_unevenly(rng, scene)
    if shadows and rng.random() < _SHADED:
        scene = _shadow(rng, scene, frame)
    if rng.random() < _GLASSES:
        scene = _glasses(rng, scene, frame)
    if rng.random() < _HAND:
        scene = _hand(rng, scene, frame, look)
    if rng.random() < _OBJECT:
        scene = _object(rng, scene, frame)
    return scene


def _fringe(rng, scene, frame, colour):
    """Hair over the forehead, down to about the brows."""
    brows = frame.marks[17:27]
    low = rng.uniform(-0.08, 0.45) + 0.05 * rng.standard_normal(len(brows))
    parting = rng.uniform(0, len(brows))
    low += rng.choice([0, rng.uniform(0.1, 0.7)]) * np.exp(
        -(((np.arange(len(brows)) - parting) / 2) ** 2)
    )
    hem = brows + low[:, None] * frame.up
    sides = frame.at(
        [[1.15, 1.0], [1.05, 1.7], [0.5, 2.2], [-0.5, 2.2], [-1.05, 1.7], [-1.15, 1.0]]
    )
    return _laid(scene, np.concatenate([hem, sides]), _hairy(rng, len(scene), colour))


def _locks(rng, scene, frame, colour):
    """Hair down one side of the face or both."""
    for side, contour in ((-1, frame.marks[:7]), (1, frame.marks[16:9:-1])):
        if rng.random() < 0.3:
            continue
        inward = rng.uniform(-0.05, 0.22) * np.linspace(1, rng.uniform(0, 1.2), len(contour))
        reach = rng.integers(3, len(contour) + 1)
        inner = (contour - side * inward[:, None] * frame.right)[:reach]
        outer = inner[::-1] + side * rng.uniform(0.25, 0.7) * frame.right
        top = frame.at([[side * 0.9, 1.5], [side * 0.5, 1.2]])
        shape = np.concatenate([inner, outer, top])
        scene = _laid(scene, shape, _hairy(rng, len(scene), colour))
    return scene


def _hat(rng, scene, frame):
    low = rng.uniform(0.35, 0.75)
    wide, tall = rng.uniform(1.05, 1.5), rng.uniform(1.6, 2.4)
    slant = rng.normal(0, 0.08)
    shape = [(-wide, low - slant), (-0.95 * wide, tall), (0.95 * wide, tall), (wide, low + slant)]
    if rng.random() < 0.5:  # a brim
        shape += [(wide * 1.2, low + slant - 0.1), (-wide * 1.2, low - slant - 0.1)]
    texture = rng.uniform(0.01, 0.7, 3) * _rough(rng, len(scene), 1.2)[..., :1] * 1.5
    return _laid(scene, frame.at(shape), texture)


def _glasses(rng, scene, frame):
    """Frames of any kind; lenses clear, tinted, dark or mirroring."""
    eyes = np.stack([frame.marks[eye].mean(axis=0) for eye in EYE_PAIR_68])
    apart = max(np.linalg.norm(eyes[1] - eyes[0]), 0.35 * np.linalg.norm(frame.right))
    unit = np.linalg.norm(frame.right)
    across = (eyes[1] - eyes[0]) / max(np.linalg.norm(eyes[1] - eyes[0]), 1e-6)
    down = -frame.up / np.linalg.norm(frame.up)
    half_x, half_y = min(0.46 * apart, 0.3 * unit), unit * rng.uniform(0.14, 0.24)
    square, angle = rng.uniform(2, 6), np.linspace(0, 2 * np.pi, 28)
    lens = np.stack(
        [np.sign(f) * np.abs(f) ** (2 / square) for f in (np.cos(angle), np.sin(angle))], 1
    )
    outlines = [eye + lens[:, :1] * half_x * across + lens[:, 1:] * half_y * down for eye in eyes]
    colour, dark = rng.uniform(0, 0.25, 3) * rng.choice([0.2, 1]), rng.random()
    if dark < 0.2:
        for outline in outlines:
            scene = _laid(scene, outline, rng.uniform(0.0, 0.06, 3), rng.uniform(0.75, 1))
    elif dark < 0.5:
        for outline in outlines:
            scene = _laid(scene, outline, rng.uniform(0.2, 1, 3), rng.uniform(0.05, 0.4))
    lines = [np.concatenate([outline, outline[:1]]) for outline in outlines]
    lines.append(np.stack([eyes[0] + half_x * across, eyes[1] - half_x * across]))
    lines += [
        np.stack([eyes[0] - half_x * across, frame.marks[0]]),
        np.stack([eyes[1] + half_x * across, frame.marks[16]]),
    ]
    width = rng.uniform(0.004, 0.022)
    return _laid(scene, lines, colour, rng.uniform(0.6, 1), line=width)


def _hand(rng, scene, frame, look):
    """Fingers of the person's skin, from outside the face onto it."""
    skin = np.median(look.albedo[:: max(1, len(look.albedo) // 200)], axis=0)
    bright = scene[frame.coverage > 0.9].mean() if (frame.coverage > 0.9).any() else 0.3
    tone = skin / max(skin.mean(), 1e-3) * bright * rng.uniform(0.7, 1.3)
    angle = rng.uniform(np.pi * 0.9, np.pi * 2.1)  # from the side or from below
    tip = frame.at([rng.uniform(0.2, 0.9) * np.array([np.cos(angle), np.sin(angle)])])[0]
    root = tip + (frame.at([[np.cos(angle), np.sin(angle)]])[0] - frame.middle) * rng.uniform(
        0.8, 2
    )
    aside = (root - tip)[::-1] * (1, -1)
    aside = aside / np.linalg.norm(aside) * np.linalg.norm(frame.right)
    width = rng.uniform(0.07, 0.1) * 2 * np.linalg.norm(frame.right)
    for finger in range(rng.integers(1, 5)):
        shift = aside * finger * rng.uniform(0.2, 0.26) + rng.normal(0, 0.02, 2)
        line = np.stack([tip + shift + rng.normal(0, 0.03, 2), root + 0.5 * shift])
        scene = _laid(scene, [line], tone * 0.55, line=width * 1.15)
        scene = _laid(scene, [line], tone * rng.uniform(0.85, 1.15), line=width)
    return scene


def _object(rng, scene, frame):
    angle, reach = rng.uniform(0, 2 * np.pi), rng.uniform(0.5, 1.3)
    centre = frame.at([reach * np.array([np.cos(angle), np.sin(angle)])])[0]
    corners = rng.uniform(0, 2 * np.pi, rng.integers(3, 8))
    corners.sort()
    radius = rng.uniform(0.15, 0.6) * np.linalg.norm(frame.right)
    shape = centre + radius * np.stack([np.cos(corners), np.sin(corners)], 1)
    texture = _rough(rng, len(scene), 1.0) if rng.random() < 0.5 else rng.uniform(0, 0.9, 3)
    return _laid(scene, shape, texture)


def _shadow(rng, scene, frame):
    """A soft or hard edge of shadow that falls across the face."""
    direction = rng.uniform(0, 2 * np.pi)
    normal = np.array([np.cos(direction), np.sin(direction)])
    places = (np.stack(np.meshgrid(*[np.arange(len(scene)) / len(scene)] * 2), -1)) @ normal
    edge = frame.middle @ normal + rng.normal(0, 0.15)
    lit = 1 / (1 + np.exp(-np.clip((places - edge) / rng.uniform(0.004, 0.12), -30, 30)))
    dark = rng.uniform(0.15, 0.7)
    return scene * (dark + (1 - dark) * lit)[..., None]


def _lit_unevenly(rng, scene):
    size = len(scene)
    field = rng.uniform(0.1, 0.5) * _field(rng, size, int(rng.integers(2, 7)))
    return scene * np.exp(field)[..., None] * tint(rng, 0.1)


def _rough(rng: np.random.Generator, size: int, steepness: float) -> Float[np.ndarray, "S S 3"]:
    """Colours that vary at every scale, fine ones less by the scale to a power."""
    total = np.zeros((size, size, 3))
    own = rng.uniform(0.1, 0.9, 3)
    for cells in (2, 4, 8, 16, 32, 64):
        shared = _field(rng, size, cells)[..., None] * np.ones(3)
        coloured = np.stack([_field(rng, size, cells) for _ in range(3)], -1) if cells < 17 else 0
        total += (shared + 0.5 * coloured) * cells**-steepness
    total = total / max(total.std(), 1e-6)
    return np.clip(own * np.exp(0.7 * total), 0, 1.2) * 0.5


def _field(rng: np.random.Generator, size: int, cells: int) -> Float[np.ndarray, "S S"]:
    """A smooth random field of about unit variance."""
    values = rng.standard_normal((cells + 1, cells + 1)).astype(np.float32)
    return np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))


def _stripes(rng, size):
    direction, period = rng.uniform(0, np.pi), rng.uniform(0.02, 0.3)
    places = np.stack(np.meshgrid(*[np.arange(size) / size] * 2), -1)
    wave = np.sin(places @ [np.cos(direction), np.sin(direction)] * 2 * np.pi / period)
    if rng.random() < 0.5:
        wave = wave * np.sin(places @ [-np.sin(direction), np.cos(direction)] * 2 * np.pi / period)
    share = 1 / (1 + np.exp(-wave * rng.uniform(1, 20)))[..., None]
    return share * rng.uniform(0, 0.9, 3) + (1 - share) * rng.uniform(0, 0.9, 3)


def _lights(rng, size):
    made = _rough(rng, size, 1.6) * rng.uniform(0.05, 0.6)
    for _ in range(rng.integers(3, 14)):
        centre, radius = rng.uniform(0, 1, 2), rng.uniform(0.01, 0.1)
        angle = np.linspace(0, 2 * np.pi, 20)
        disc = centre + radius * np.stack([np.cos(angle), np.sin(angle)], 1)
        made = _laid(made, disc, rng.uniform(0.2, 1.4, 3), rng.uniform(0.3, 1))
    return made


def _hairy(rng, size, colour):
    """Hair: streaks of light and dark."""
    cells = rng.integers(size // 6, size // 2)
    values = rng.standard_normal((int(rng.integers(2, 6)), int(cells))).astype(np.float32)
    streaks = np.asarray(Image.fromarray(values).resize((size, size), Image.Resampling.BICUBIC))
    light = np.exp(rng.uniform(0.1, 0.5) * streaks + 0.3 * _field(rng, size, 3))
    return colour * light[..., None] * rng.uniform(0.4, 1.3)


def _laid(scene, shape, colour, share=1.0, line=0.0):
    """Fills a polygon [N, 2], or draws lines, in a colour [3] or a texture [S, S, 3]."""
    size = len(scene)
    mask = Image.new("L", (size * _FINE, size * _FINE), 0)
    draw = ImageDraw.Draw(mask)
    for points in shape if line else [shape]:
        flat = [float(value) for value in (np.asarray(points) * size * _FINE).ravel()]
        if line:
            width = max(1, round(line * size * _FINE))
            draw.line(flat, fill=255, width=width, joint="curve")
            for x, y in np.asarray(flat).reshape(-1, 2)[[0, -1]]:
                r = width / 2
                draw.ellipse((x - r, y - r, x + r, y + r), fill=255)
        else:
            draw.polygon(flat, fill=255)
    alpha = (share / 255.0) * np.asarray(mask.reduce(_FINE))[..., None]
    return scene + alpha * (colour - scene)
