"""Faces that the small finder proposes and the networks of the package confirm.

The finder takes other things for faces and frames faces loosely; the networks that read faces know
better. About a face the crop settles as it follows what is read in it, and how it is cropped then
hardly matters to the reading; about anything else it drifts and the readings differ. So faces are
found better, and framed as well as by landmarks, whatever model reads them afterwards.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, UInt8

from fields_jax import finder
from fields_jax.flame.io import resolve_head
from fields_jax.networks import Networks
from fields_jax.outputs.confidence import Evidence, evidence, expected_error
from fields_jax.photos import crops
from fields_jax.photos.faces import Detection, Face, Finder
from fields_jax.photos.points import face_box
from fields_jax.workdir.inference import load_inference
from fields_jax.workdir.packed import EMBEDDED

NAME = f"{finder.NAME}, confirmed by reading it"

# Log-odds of a face by those of the finder's score and the logarithm of the expected error of the
# reading, the constant last; fitted by `benchmarks.finding` as told in docs/photographs.md.
WEIGHTS = (2.9, -2.25, -3.3)
PROBABLE = 0.62  # probability from which on a place is taken for a face
_PROPOSED = 0.3  # least score of the finder; what it is less sure of is hardly ever confirmed
_STEPS = 3  # by which a crop follows what is read in it


class Weighed(NamedTuple):
    """Places that the finder proposes, as the networks see them.

    Attributes:
      boxes: [N, 4] (x0, y0, x1, y1) in pixels, about what the networks read there.
      scores: [N] of the finder.
      errors: [N] expected of the networks' readings, see `outputs.confidence.Verdict`.
    """

    boxes: Float[np.ndarray, "N 4"]
    scores: Float[np.ndarray, " N"]
    errors: Float[np.ndarray, " N"]


class Confirmer:
    """The finder and networks that check it.

    Attributes:
      networks: that read faces.
      scale: side of their crops in face boxes.
    """

    def __init__(self, proposer: finder.Network, networks: Networks, scale: float):
        """Binds them.

        Args:
          proposer: the finder.
          networks, scale: see the class.
        """
        self._proposer, self.networks, self.scale = proposer, networks, scale

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        """The faces of a picture, the largest first; their score is the probability of a face."""
        weighed = self.weigh(image)
        rows, sure = choose(weighed)
        boxes = weighed.boxes[rows]
        order = np.argsort(-np.prod(boxes[:, 2:] - boxes[:, :2], axis=1), kind="stable")
        return [Detection(None, float(sure[row]), boxes[row]) for row in order]

    def weigh(self, image: UInt8[np.ndarray, "H W 3"], least: float = _PROPOSED) -> Weighed:
        """All that the finder proposes with at least a score; see `Weighed`."""
        boxes, scores = self._proposer.look(image, least)
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1) >= crops.SMALLEST_FACE
        found = [Face("", "", image, None, box, self.scale, "") for box in boxes[large]]
        found = self._settled(found) if found else []
        errors = np.array([expected_error(self.evidence(face)) for face in found], np.float64)
        boxes = np.array([face.box for face in found], np.float32).reshape(-1, 4)
        return Weighed(boxes, scores[large], errors)

    def _settled(self, found: list[Face]) -> list[Face]:
        """The faces with boxes about what is read in them."""
        for _ in range(_STEPS):
            marks = self.networks.landmarks([face.crop(self.networks.size) for face in found])
            found = [self._followed(face, own) for face, own in zip(found, marks, strict=True)]
        return found

    def _followed(self, face: Face, marks: Float[np.ndarray, "68 3"]) -> Face:
        size = self.networks.size
        box = face_box(crops.to_photograph(marks, face.matrix(size), size))
        no_place = crops.box_fault(box, *face.image.shape[:2])
        return face if no_place else dataclasses.replace(face, box=box)

    def evidence(self, face: Face, *, upside: bool = False, **known: float) -> Evidence:
        """What speaks for and against the networks' reading of a face.

        Args:
          face: in its picture.
          upside: whether it is read upside down as well.
          known: other fields of `Evidence`.
        """
        said, points, wavers = self.networks.examine([face], 1, upside=upside)
        size = self.networks.size
        where = crops.to_photograph(points[0], face.matrix(size), size)
        return evidence(face, where, said.coefficients.pose[0], **wavers.of(0), **known)


def choose(weighed: Weighed) -> tuple[Int[np.ndarray, " F"], Float[np.ndarray, " F"]]:
    """Rows of the proposals that are taken for faces, the surest first, and how probable they are.

    Several proposals that have come to show one face are one.
    """
    chance = 1 / (1 + np.exp(-features(weighed.scores, weighed.errors) @ np.array(WEIGHTS)))
    rows = np.flatnonzero(chance >= PROBABLE)
    kept = rows[finder.distinct(weighed.boxes[rows], chance[rows])]
    return kept, chance[kept]


def features(
    scores: Float[np.ndarray, " N"], errors: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "N 3"]:
    """What the log-odds of a face are linear in."""
    odds = scores / np.maximum(1 - scores, 1e-6)
    return np.stack([np.log(odds), np.log(errors), np.ones_like(errors)], axis=-1)


def packaged(networks: Networks | None = None, scale: float = 0.0) -> Finder:
    """The finder in the package, confirmed by the networks in the package; loaded when first asked.

    Args:
      networks: those of the package, where they are loaded already.
      scale: of their crops in face boxes.
    """
    opened: list[Confirmer] = []

    def detect(image: UInt8[np.ndarray, "H W 3"]) -> list[Detection]:
        if not opened:
            opened.append(embedded() if networks is None else _confirmer(networks, scale))
        return opened[0].detect(image)

    return Finder(NAME, detect)


def embedded() -> Confirmer:
    """The finder and the networks in the package.

    Raises:
      UserError: files of the package are absent or damaged.
    """
    inference = load_inference(EMBEDDED)
    networks = Networks(inference, resolve_head(inference.config.head), EMBEDDED)
    return _confirmer(networks, inference.config.data.eval_crop_scale)


def _confirmer(networks: Networks, scale: float) -> Confirmer:
    return Confirmer(finder.read_network(finder.PACKAGED), networks, scale)
