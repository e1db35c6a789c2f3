"""Scenes of several heads, or of none, for a finder of faces: composed from cut-outs.

A scene has heads of any size and turn, before and behind each other and beyond the edges, among
things that are no faces: heads turned away, heads whose eyes, nose and mouth are wiped out, upside
down or in disorder, discs and limbs of the colour of skin, and all that `scenes.backdrop` paints.
Pictures are coded as `canvas.coded` does until they are developed, and composed by pillow, at some
milliseconds each: they are made while the finder learns.
"""

from __future__ import annotations

import io
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image, ImageChops, ImageDraw, ImageFilter

from data_pipelines.synthetic import scenes
from data_pipelines.synthetic.canvas import LINEAR, coded
from data_pipelines.synthetic.cutouts import Cutouts
from data_pipelines.synthetic.spoiling import spoilt
from data_pipelines.synthetic.views import tint

PAD = 128  # grey level of what a picture is filled up with
# Shares of the scenes, or of the heads, with each thing (ours).
_EMPTY, _NO_FACE, _STRIPS, _LIT = 0.25, 0.3, 0.35, 0.35
_SECOND, _CLUTTER, _THINGS, _BEFORE = 0.5, 0.5, 0.75, 0.3
_DRESSED, _TURNED = 0.8, 0.35
# And of the pictures that are grey, blurred, small, packed.
_GREY, _BLURRED, _SMALL, _PACKED = 0.15, 0.4, 0.25, 0.6
_GAMMA = 1 / 2.2
_MIDDLE = 0.18  # linear grey about which contrast turns
_MOST = 6  # heads
_SMALLEST, _LARGEST = 0.07, 0.95  # of the picture: the side of a face
_STEEPEST = 65.0  # degrees by which a face may be turned in the picture
_LEGIBLE = 0.22  # of the picture: smaller faces may look like those whose parts are spoilt
_SURE, _UNSURE = 0.45, 0.12  # of a face's box: seen so much it counts, seen less it is no face


class Crowd(NamedTuple):
    """A scene.

    Attributes:
      picture: [S, S, 3].
      boxes: [F, 4] of its faces, (x0, y0, x1, y1) in pixels from chin to hairline.
      unsure: [U, 4] of faces of which too little is seen to call them faces or not.
    """

    picture: UInt8[np.ndarray, "S S 3"]
    boxes: Float[np.ndarray, "F 4"]
    unsure: Float[np.ndarray, "U 4"]


class _Place(NamedTuple):
    """Where a head of the cut-outs goes: [2, 3] from its pixels to those of the scene."""

    matrix: Float[np.ndarray, "2 3"]
    box: Float[np.ndarray, "4"]

    @property
    def side(self) -> float:
        """The mean of the box's sides."""
        return float((self.box[2:] - self.box[:2]).mean())


class _Face(NamedTuple):
    """A face that has been placed: its box, where nothing is before it, whether it is whole."""

    box: Float[np.ndarray, "4"]
    clear: Image.Image
    whole: bool = True


def backdrops(count: int, seed: int, size: int = 256) -> UInt8[np.ndarray, "N S S 3"]:
    """What is behind the scenes, coded as `canvas.coded` does."""
    made = (scenes.backdrop(np.random.default_rng((seed, 7, n)), size) for n in range(count))
    return np.stack([coded(picture) for picture in made])


def crowd(
    rng: np.random.Generator, heads: Cutouts, walls: UInt8[np.ndarray, "M W W 3"], size: int
) -> Crowd:
    """Composes a scene of `size` pixels.

    Args:
      rng: generator; the scene is a function of it.
      heads: to choose from.
      walls: of `backdrops`.
      size: of the picture.
    """
    scene = _wall(rng, walls, size)
    if rng.random() < _SECOND:
        scene.paste(_wall(rng, walls, size), mask=_blotch(rng, size))
    if rng.random() < _CLUTTER:
        _clutter(rng, scene)
    if rng.random() < _THINGS:
        for _ in range(min(12, rng.geometric(0.25))):
            _thing(rng, scene, walls)
    faces: list[_Face] = []
    for index, place, spoil in _cast(rng, heads, size):
        layer, hidden = _layer(rng, heads, index, place.matrix, spoil, size)
        scene.paste(layer, mask=hidden)
        _hide(faces, hidden)
        if rng.random() < _DRESSED:
            _hide(faces, _dressed(rng, scene, heads, index, place, walls))
        if heads.shows[index] and not (spoil and place.side >= _LEGIBLE * size):
            faces.append(_Face(place.box, Image.new("L", (size, size), 255), not spoil))
    if rng.random() < _BEFORE:
        _hide(faces, _thing(rng, scene, walls))
    if rng.random() < _LIT:
        light = Image.fromarray(rng.integers(60, 256, (3, 3), np.uint8))
        light = light.resize((size, size), Image.Resampling.BICUBIC)
        scene = ImageChops.multiply(scene, light.convert("RGB"))
    picture = Image.new("RGB", (size, size), (PAD,) * 3)
    inside, strips = _strips(rng, size), Image.new("L", (size, size), 255)
    picture.paste(_developed(rng, scene).crop(inside), inside[:2])
    strips.paste(0, inside)
    _hide(faces, strips)
    seen = [(face, _seen(face)) for face in faces]
    sure = [face.box for face, share in seen if face.whole and share >= _SURE]
    unsure = [f.box for f, share in seen if share >= _UNSURE and not (f.whole and share >= _SURE)]
    boxes = (np.array(rows, np.float32).reshape(-1, 4) for rows in (sure, unsure))
    return Crowd(np.asarray(picture), *boxes)


def _cast(rng, heads, size):
    """The heads of a scene, the nearest last: number, place, and whether it is made no face."""
    if rng.random() < _EMPTY:
        return []
    count = min(_MOST, int(rng.geometric(0.5)))
    cast = []
    no_faces = rng.random() < _NO_FACE
    for number in range(count):
        index = int(rng.integers(len(heads.shows)))
        largest = _LARGEST if count == 1 else rng.uniform(0.15, 0.6)
        side = size * np.exp(rng.uniform(np.log(_SMALLEST), np.log(largest)))
        spoil = bool(heads.shows[index]) and no_faces and (number == 0 or rng.random() < 0.3)
        cast.append((index, _place(rng, heads, index, side, size), spoil))
    return sorted(cast, key=lambda one: one[1].box[2] - one[1].box[0])


def _place(rng, heads, index, side, size):
    """A turn, size and place of a head; at times mirrored."""
    across, up = len(heads.layers[0]), heads.up[index]
    angle = rng.uniform(-50, 50) if rng.random() < _TURNED else rng.normal(0, 8)
    mirror = rng.choice([-1, 1])
    lean = np.rad2deg(np.arctan2(mirror * up[0], -up[1]))
    angle = np.clip(angle, -_STEEPEST - lean, _STEEPEST - lean)
    cosine, sine = np.cos(np.deg2rad(angle)), np.sin(np.deg2rad(angle))
    turn = np.array([[cosine, -sine], [sine, cosine]]) @ np.diag([mirror, 1])
    outline = across * heads.outline[index] @ turn.T
    low, high = outline.min(axis=0), outline.max(axis=0)
    zoom = side / (high - low).mean()
    if side > 0.6 * size:
        middle = size / 2 + rng.normal(0, 0.12, 2) * size
    else:
        middle = rng.uniform(0, size, 2)
    shift = middle - zoom * (low + high) / 2
    box = np.concatenate([zoom * low + shift, zoom * high + shift])
    return _Place(np.concatenate([zoom * turn, shift[:, None]], axis=1), box)


def _layer(rng, heads, index, matrix, spoil, size):
    """A head where it goes in the scene, and what it hides."""
    picture = Image.fromarray(heads.layers[index])
    if spoil:
        picture = spoilt(rng, picture, heads.marks[index] * picture.width)
    inverse = np.linalg.inv(np.concatenate([matrix, [[0, 0, 1]]]))
    # One that shrinks is averaged over whole blocks first.
    shrink = int(1 / np.sqrt(abs(np.linalg.det(matrix[:, :2]))))
    if shrink > 1:
        picture = picture.reduce(shrink)
        inverse[:2] /= shrink
    placed = picture.transform(
        (size, size),
        Image.Transform.AFFINE,
        data=inverse[:2].ravel().tolist(),
        resample=Image.Resampling.BILINEAR,
    )
    plain = Image.frombytes("RGBa", placed.size, placed.tobytes()).convert("RGBA")
    gain = 2 ** rng.normal(0, 0.4) * tint(rng, 0.1)
    return _gained(plain.convert("RGB"), gain), plain.getchannel("A")


def _dressed(rng, scene, heads, index, place, walls):
    """Paints shoulders below a neck; what they hide."""
    matrix, across = place.matrix, len(heads.layers[0])
    up = across * matrix[:, :2] @ heads.up[index]
    right = up[::-1] * (-1, 1)
    neck = across * matrix[:, :2] @ heads.neck[index] + matrix[:, 2]
    angle = np.linspace(0, 2 * np.pi, 32, endpoint=False)[:, None]
    wide, tall = rng.uniform(1.7, 3.4), rng.uniform(1.4, 4)
    shape = neck + wide * np.cos(angle) * right + (tall * (np.sin(angle) - 1) + 0.15) * up
    mask = _mask(scene.width, shape)
    cloth = heads.cloth[index] * rng.uniform(0.2, 1.2, 3)
    scene.paste(_stuff(rng, cloth, walls, scene.width), mask=mask)
    return mask


def _clutter(rng, scene):
    """Paints leaves, letters, bricks: many small shapes of a few colours in a part of the scene."""
    size, draw = scene.width, ImageDraw.Draw(scene)
    middle, spread = rng.uniform(0, size, 2), size * rng.uniform(0.1, 0.5)
    reach = size * np.exp(rng.uniform(np.log(0.012), np.log(0.08)))
    colours = coded(rng.uniform(0, 0.9, (4, 3)) ** 2).tolist()
    kind, turn = rng.integers(4), rng.uniform(0, np.pi)
    count = int(rng.integers(20, 160))
    places = middle + spread * rng.standard_normal((count, 2))
    if rng.random() < 0.4:  # in rows
        places = np.round(places / (2.2 * reach)) * 2.2 * reach
    turns = turn + rng.choice([0, 0.3, 3]) * rng.standard_normal(count)
    along = reach * np.stack([np.cos(turns), np.sin(turns)], 1) * rng.uniform(0.5, 1.5, (count, 1))
    aside = along[:, ::-1] * (-1, 1) * rng.uniform(0.2, 1)
    shades = rng.integers(len(colours), size=count)
    for place, a, b, shade in zip(places, along, aside, shades, strict=True):
        colour = tuple(colours[shade])
        if kind == 0:
            draw.line([*(place - a), *(place + a)], fill=colour, width=int(rng.integers(1, 4)))
            continue
        corners = [place + a, place + b, place - a, place - b]
        if kind == 1:
            corners = [place + a + b, place + a - b, place - a - b, place - a + b]
        draw.polygon(
            np.concatenate(corners).tolist(), fill=None if kind == 3 else colour, outline=colour
        )


def _thing(rng, scene, walls):
    """Paints something that is no face, a disc, a limb, a corner of anything; what it hides."""
    size = scene.width
    kind, middle = rng.integers(4), rng.uniform(0, size, 2)
    reach = size * np.exp(rng.uniform(np.log(0.03), np.log(0.3)))
    skin = np.array([0.75, 0.42, 0.28]) ** rng.uniform(0.7, 2.5) * rng.uniform(0.3, 1.1)
    colour = skin if rng.random() < 0.5 else rng.uniform(0, 0.9, 3)
    turn = rng.uniform(0, 2 * np.pi)
    along = reach * np.array([np.cos(turn), np.sin(turn)])
    aside = along[::-1] * (-1, 1)
    if kind == 3:  # fingers, or anything of rods
        rods = []
        for rod in range(rng.integers(1, 6)):
            start = middle + 0.35 * rod * aside
            rods.append(np.stack([start, start + along * rng.uniform(1, 3)]))
        mask = _mask(size, rods, line=reach * rng.uniform(0.1, 0.33))
    else:
        angle = np.linspace(0, 2 * np.pi, 24)[:, None]
        if kind == 0:
            angle = np.sort(rng.uniform(0, 2 * np.pi, int(rng.integers(3, 8))))[:, None]
        lean = rng.uniform(0.4, 1)
        mask = _mask(size, middle + np.cos(angle) * along + lean * np.sin(angle) * aside)
    scene.paste(_stuff(rng, colour, walls, size), mask=mask)
    return mask


def _wall(rng, walls, size):
    """A part of a backdrop, turned and coloured anew."""
    whole = walls[rng.integers(len(walls))]
    side = int(rng.integers(len(whole) // 3, len(whole) + 1))
    x, y = (int(value) for value in rng.integers(0, len(whole) - side + 1, 2))
    part = Image.fromarray(whole).resize(
        (size, size), Image.Resampling.BILINEAR, box=(x, y, x + side, y + side)
    )
    part = part.transpose(Image.Transpose(int(rng.integers(7))))
    return _gained(part, 2 ** rng.normal(0, 0.5) * tint(rng, 0.3))


def _stuff(rng, colour, walls, size):
    """A colour, one that changes softly, or a part of a backdrop."""
    kind = rng.integers(3)
    if kind == 0:
        return _wall(rng, walls, size)
    cells = colour * np.exp((0.5 if kind == 1 else 0.03) * rng.standard_normal((3, 3, 1)))
    return Image.fromarray(coded(cells)).resize((size, size), Image.Resampling.BICUBIC)


def _gained(picture, gain):
    """A coded picture times a linear factor for each colour."""
    factors = np.broadcast_to(gain, 3)[:, None] ** _GAMMA
    return picture.point(
        np.clip(np.arange(256) * factors, 0, 255).astype(np.uint8).ravel().tolist()
    )


def _blotch(rng, size):
    cells = int(rng.integers(2, 8))
    values = 128 + rng.uniform(100, 2500) * rng.standard_normal((cells, cells))
    field = Image.fromarray(values.astype(np.float32)).resize(
        (size, size), Image.Resampling.BICUBIC
    )
    return Image.fromarray(np.clip(np.asarray(field), 0, 255).astype(np.uint8))


def _developed(rng, scene):
    """What some camera makes of a scene: `camera.photographed` in tables of 8 bits."""
    radiance = LINEAR * np.float32(2 ** rng.normal(0, 0.6)) * tint(rng, 0.18)[:, None]
    radiance = _MIDDLE * (radiance / _MIDDLE) ** rng.uniform(0.75, 1.35)
    shoulder = rng.uniform(1.0, 2.2)
    value = (1 - np.exp(-shoulder * radiance)) / (1 - 0.3 * np.exp(-shoulder))
    table = np.round(255 * np.clip(value, 0, 1) ** _GAMMA).astype(int)
    picture = scene.point(table.ravel().tolist())
    if rng.random() < _BLURRED:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.5)))
    grey = picture.convert("L").convert("RGB")
    colourful = 0.0 if rng.random() < _GREY else rng.uniform(0.45, 1.4)
    picture = Image.blend(grey, picture, colourful)
    if rng.random() < 0.7:
        picture = _noisy(rng, picture)
    if rng.random() < _SMALL:
        small = round(picture.width * rng.uniform(0.35, 0.85))
        ways = (Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.BOX)
        there, back = (ways[index] for index in rng.integers(len(ways), size=2))
        picture = picture.resize((small, small), there).resize(picture.size, back)
    if rng.random() < _PACKED:
        stored = io.BytesIO()
        picture.save(stored, "JPEG", quality=int(rng.integers(18, 92)))
        picture = Image.open(stored).convert("RGB")
    return picture


def _noisy(rng, picture):
    """Noise of the sensor, grey or coloured; a tile of it is repeated, which nothing can tell."""
    tile, colours = -(-picture.width // 2), rng.choice([1, 3])
    level = 255 * (rng.uniform(0, 0.02) if rng.random() < 0.75 else rng.uniform(0.02, 0.06))
    noise = level * rng.standard_normal((tile, tile, colours), np.float32)
    noise = np.tile(noise, (2, 2, 1))[: picture.height, : picture.width]
    return Image.fromarray(np.clip(np.asarray(picture) + noise, 0, 255).astype(np.uint8))


def _mask(size, shape, line=0.0):
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    for points in shape if line else [shape]:
        flat = [float(value) for value in np.asarray(points).ravel()]
        if line:
            draw.line(flat, fill=255, width=max(1, round(line)))
        else:
            draw.polygon(flat, fill=255)
    return mask


def _strips(rng, size):
    """(x0, y0, x1, y1) that the picture fills, as one that is not square."""
    if rng.random() >= _STRIPS:
        return 0, 0, size, size
    strip = int(size * rng.uniform(0.02, 0.3))
    return (strip, 0, size - strip, size) if rng.random() < 0.5 else (0, strip, size, size - strip)


def _hide(faces, mask):
    for face in faces:
        face.clear.paste(0, mask=mask)


def _seen(face):
    """The share of a face's box that is in the picture and not hidden."""
    x0, y0, x1, y1 = np.clip(np.round(face.box), 0, face.clear.width).astype(int).tolist()
    shown = np.asarray(face.clear)[y0:y1, x0:x1].sum() / 255
    return float(shown / max(np.prod(face.box[2:] - face.box[:2]), 1e-6))
