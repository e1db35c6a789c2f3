"""Faces of a picture, found by the small network that ships in the package.

It has learnt from generated pictures alone (`fields_jax.train_finder`). The whole picture is looked
at three times, at 96, at 160 and, where it has the pixels, at 320 of them, so that three programs
are compiled for pictures of any size.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Float, UInt8
from PIL import Image

from fields_jax.errors import UserError
from fields_jax.files import npz_bytes, parse_npz, read_bytes, read_json, write_whole
from fields_jax.geometry.boxes import overlap
from fields_jax.kept import kept_program
from fields_jax.models.finder import CHANNELS, STRIDE, FinderNet
from fields_jax.photos.crops import SMALLEST_FACE
from fields_jax.photos.faces import Detection, Finder

PACKAGED = Path(__file__).parent / "assets" / "finder"
WEIGHTS, ABOUT = "finder.npz", "finder.json"
FORMAT = 1
NAME = "found by the network"

SIDES = (96, 160, 320)  # pixels that a picture is brought to: for large, middling, small faces
PAD = 128  # grey level of what they are filled up with
_FINEST = 200  # pixels that a picture must have for the last of the sides to show more
_MOST = 50  # faces of a picture
_SAME = 0.3  # intersection over union from which on two boxes are one face's
_INSIDE = 0.65  # share of a box inside a better one from which on it is a part of that face
_LARGEST_FILE = 2**21  # bytes; the weights have 0.4 million


class Found(NamedTuple):
    """Faces of a picture, the surest first.

    Attributes:
      boxes: [F, 4] (x0, y0, x1, y1) in pixels, from chin to hairline.
      scores: [F] in [0, 1].
    """

    boxes: Float[np.ndarray, "F 4"]
    scores: Float[np.ndarray, " F"]


class Network:
    """The network and its weights.

    Attributes:
      variables: {"params", "batch_stats"}.
      about: what `finder.json` says: the recipe, the threshold, what was measured.
    """

    def __init__(self, variables: Mapping[str, Any], about: Mapping[str, Any]):
        """Takes weights; `about` holds "widths" of the network and "threshold" of the scores."""
        self.variables, self.about = variables, about
        self._widths = tuple(about["widths"])

    def look(self, image: UInt8[np.ndarray, "H W 3"], threshold: float | None = None) -> Found:
        """The faces of a picture.

        Args:
          image: of any size.
          threshold: least score; by default the one that was chosen with the weights.
        """
        least = self.about["threshold"] if threshold is None else threshold
        sides = SIDES if max(image.shape[:2]) > _FINEST else SIDES[:-1]
        picture = Image.fromarray(image)
        found = [self._at(picture, side, least) for side in sides]
        boxes, scores = (np.concatenate(column) for column in zip(*found, strict=True))
        kept = distinct(boxes, scores)[:_MOST]
        return Found(boxes[kept], scores[kept])

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        """The faces of a picture as `photos.faces` takes them, the largest first.

        Those that are too small to show anything are left out.
        """
        found = self.look(image)
        size = found.boxes[:, 2:] - found.boxes[:, :2]
        order = np.argsort(-size.prod(axis=1), kind="stable")
        return [
            Detection(None, float(found.scores[row]), found.boxes[row])
            for row in order
            if size[row].min() >= SMALLEST_FACE
        ]

    def _at(self, image: Image.Image, side: int, least: float) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores at one size of the picture."""
        framed, zoom, corner = letterbox(image, side)
        pixels = np.float32(framed[None]) / 255
        answer = kept_program(_answer, self.variables, pixels, static=(self._widths,))
        boxes, scores = read_answer(np.asarray(answer)[0], least)
        return (boxes - np.tile(corner, 2)) / zoom, scores


def _answer(variables: Mapping[str, Any], pixels: jax.Array, widths: tuple[int, ...]) -> jax.Array:
    return FinderNet(widths).apply(variables, pixels)


def packaged() -> Finder:
    """The finder that ships in the package.

    Raises:
      UserError: its files are absent or damaged.
    """
    return Finder(NAME, read_network(PACKAGED).detect)


def read_network(folder: epath.PathLike) -> Network:
    """A network from the folder that `write_network` has written.

    Raises:
      UserError: no such files, damaged ones, or of another format.
    """
    folder = epath.Path(folder)
    about = read_json(folder / ABOUT)
    if about.get("format") != FORMAT:
        raise UserError(f"{folder / ABOUT} is of format {about.get('format')}, not {FORMAT}")
    file = folder / WEIGHTS
    content = read_bytes(file, largest=_LARGEST_FILE)
    if hashlib.sha256(content).hexdigest() != about.get("sha256"):
        raise UserError(f"{file} is not the file that {ABOUT} describes; install fields_jax again")
    arrays = parse_npz(content, str(file), largest=4 * _LARGEST_FILE)
    flat = {name: np.asarray(array, np.float32) for name, array in arrays.items()}
    return Network(unflatten_dict(flat, sep="/"), about)


def write_network(
    folder: epath.PathLike, variables: Mapping[str, Any], about: Mapping[str, Any]
) -> None:
    """Writes weights in half precision, and what is to be known of them."""
    folder = epath.Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    flat = flatten_dict(dict(variables), sep="/")
    content = npz_bytes({name: np.float16(leaf) for name, leaf in flat.items()}, compressed=False)
    about = {"format": FORMAT, "sha256": hashlib.sha256(content).hexdigest(), **about}
    write_whole(folder / WEIGHTS, content)
    write_whole(folder / ABOUT, json.dumps(about, indent=2) + "\n")


def letterbox(
    image: Image.Image, side: int
) -> tuple[UInt8[np.ndarray, "S S 3"], float, Float[np.ndarray, "2"]]:
    """A picture brought to a square, its longer side filling it.

    Returns:
      The square, its pixels to one of the picture, and where the picture's corner is in it.
    """
    zoom = side / max(image.size)
    size = [max(1, round(zoom * length)) for length in image.size]
    corner = [(side - length) // 2 for length in size]
    square = Image.new("RGB", (side, side), (PAD,) * 3)
    smaller = image.resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    square.paste(smaller, tuple(corner))
    return np.asarray(square), zoom, np.array(corner, np.float32)


def read_answer(
    answer: Float[np.ndarray, "h w C"], least: float
) -> tuple[Float[np.ndarray, "F 4"], Float[np.ndarray, " F"]]:
    """Boxes in pixels and scores of the cells that are surer than their eight neighbours.

    Args:
      answer: of `FinderNet` for one picture.
      least: score.
    """
    assert answer.shape[-1] == CHANNELS, answer.shape
    score = 1 / (1 + np.exp(-np.clip(answer[..., 0], -30, 30)))
    padded = np.pad(score, 1)
    rows, columns = score.shape
    around = [padded[y : y + rows, x : x + columns] for y in range(3) for x in range(3)]
    y, x = np.nonzero((score >= np.max(around, axis=0)) & (score >= least))
    offset, size = answer[y, x, 1:3], np.exp(np.clip(answer[y, x, 3:5], -3, 6))
    middle = np.stack([x, y], axis=1) + 0.5 + offset
    boxes = STRIDE * np.concatenate([middle - size / 2, middle + size / 2], axis=1)
    return boxes.astype(np.float32), score[y, x].astype(np.float32)


def distinct(boxes: Float[np.ndarray, "F 4"], scores: Float[np.ndarray, " F"]) -> list[int]:
    """Rows of the boxes that show different faces, the surest first."""
    shared = overlap(boxes, boxes)
    same = (shared.union > _SAME) | (shared.smaller > _INSIDE)
    kept: list[int] = []
    for row in np.argsort(-scores, kind="stable"):
        if not same[row, kept].any():
            kept.append(int(row))
    return kept
