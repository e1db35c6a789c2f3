"""Where the faces of each frame are, and whose they are."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from fields_jax.clips.decode import Frame
from fields_jax.clips.smoothing import VECTORS, OneEuro, Strength
from fields_jax.clips.tracking import Tracker, alike
from fields_jax.errors import UserError
from fields_jax.geometry.boxes import overlap
from fields_jax.landmark_schemes import N_DETECTED
from fields_jax.photos import beside, crops
from fields_jax.photos.faces import Detection, Face, Finder, NotLookedAt, faces_in, marked_faces
from fields_jax.photos.files import Photograph, Unusable
from fields_jax.photos.listing import is_picture
from fields_jax.photos.points import load_faces

# All ours. Between looks at the whole frame the finder looks about the places where faces are
# expected: at squares so many boxes wide, brought to so many pixels.
_ABOUT, _SIDE = 2.2, 160
_SEARCH = 0.5  # seconds between looks at the whole frame
_SAME = 0.35  # of the smaller of two boxes: shared by one face found twice
# Of the crop's box. Places count in its sides, so that speed is in sides per second.
_STEADY = Strength(cutoff=1.5, slope=3.0)


class Sighting(NamedTuple):
    """A face of a frame.

    Attributes:
      track: number of the one it belongs to.
      frame: that it is seen in.
      face: with the crop's box steadied.
      again: what `confidence.look_again` would find, where the finder has looked so; else None.
    """

    track: int
    frame: Frame
    face: Face
    again: Mapping[str, float] | None = None


@dataclasses.dataclass
class Where:
    """What says where faces are: a box in every frame, files beside frames, or a finder.

    Attributes:
      scale: side of the crops relative to the mean of a face box's sides.
      finder: asked where no landmark file is beside a frame; None: such frames show no face.
      box: (x0, y0, x1, y1) of the one face, the same in every frame; or None.
      near: whether the finder may look at parts of a frame, brought to another size.
    """

    scale: float
    finder: Finder | None = None
    box: Sequence[float] | None = None
    near: bool = False


class Watcher:
    """Follows the faces of one clip.

    Attributes:
      refused: why frames show no usable face where there should be one, or were not looked at, by
        reason: how often.
    """

    def __init__(self, where: Where, name: str, bridge: float, *, steady: bool = True):
        """Starts before the first frame.

        Args:
          where: faces are.
          name: of the clip.
          bridge: see `Tracker`.
          steady: whether boxes are smoothed over time.
        """
        self._where, self._name, self._steady = where, name, steady
        self._tracker = Tracker(bridge)
        self._boxes: dict[int, _Box] = {}
        self._searched = -np.inf
        self.refused: dict[str, int] = {}

    def look(self, frame: Frame) -> list[Sighting]:
        """The faces of the next frame.

        Raises:
          DetectorError: the detector has failed.
        """
        photograph = Photograph(frame.path, self._name)
        faces = []
        for face in self._faces(photograph, frame):
            if isinstance(face, Unusable):
                self.refused[face.reason] = self.refused.get(face.reason, 0) + 1
            else:
                faces.append(face)
        boxes = [face.box for face in faces]
        numbers = self._tracker.assign(frame.time, boxes)
        found = []
        for number, face in zip(numbers, faces, strict=True):
            box = face.box
            if self._steady:
                face = dataclasses.replace(face, box=self._steadied(number, frame.time, box))
            again = None
            if self._where.near and face.score is not None:
                match = overlap(np.asarray(box)[None], np.asarray(face.box)[None]).union
                again = {"again": face.score, "match": float(match[0, 0])}
            found.append(Sighting(number, frame, face, again))
        living = {track.number for track in self._tracker.tracks}
        self._boxes = {n: kept for n, kept in self._boxes.items() if n in living}
        return found

    def _faces(self, photograph: Photograph, frame: Frame) -> Iterator[Face | Unusable]:
        where, image = self._where, frame.image
        if where.box is not None:
            yield from faces_in(photograph, image, scale=where.scale, box=where.box)
            return
        try:
            file = beside.landmark_file(frame.path).file if is_picture(frame.path.name) else None
            marks = None if file is None else load_faces(file, fewest=N_DETECTED)
        except UserError as error:
            yield Unusable(frame.path, str(error))
            return
        if marks is not None:
            origin = f"landmark file {file.name}"
            yield from marked_faces(photograph, image, marks, scale=where.scale, origin=origin)
        elif where.finder is not None:
            try:
                detections = self._detect(frame)
            except NotLookedAt as error:
                yield Unusable(frame.path, str(error))
                return
            if detections:  # none is no fault of a frame
                found = Finder(where.finder.name, lambda _: detections)
                yield from faces_in(photograph, image, scale=where.scale, finder=found)

    def _detect(self, frame: Frame) -> list[Detection]:
        """The faces of a frame, by looks at parts of it while all faces that are known are seen."""
        detect = self._where.finder.detect
        if not self._where.near:
            return list(detect(frame.image))
        self._tracker.expire(frame.time)
        tracks = self._tracker.tracks
        expected = [track.expected(frame.time) for track in tracks]
        near = [self._near(frame.image, box) for box in expected]
        known = _distinct([each for each in near if each is not None])
        lost = len(known) < len(tracks) or not tracks
        if not lost and frame.time - self._searched < _SEARCH:
            return known
        self._searched = frame.time
        # A face by the whole frame and by its surroundings has two boxes; the second is the one
        # that the next frames will have.
        more = [self._near(frame.image, each.box) or each for each in detect(frame.image)]
        return _distinct([*known, *more])

    def _near(self, image: np.ndarray, box: Float[np.ndarray, "4"]) -> Detection | None:
        """The face about a box, or None."""
        side = crops.crop_extent(box, _ABOUT)
        if not side >= 1:
            return None
        size = min(_SIDE, max(96, round(side)))
        matrix = crops.crop_matrix(box, _ABOUT, size)
        found = self._where.finder.detect(crops.cut(image, matrix, size))
        if not found:
            return None
        zoom, shift = matrix[0, 0], np.tile(matrix[:2, 2], 2)
        boxes = np.stack([(each.box - shift) / zoom for each in found])
        likeness = alike(boxes, np.asarray(box)[None])[:, 0]
        best = int(likeness.argmax())
        if likeness[best] <= 0:
            return None
        return Detection(None, found[best].score, boxes[best].astype(np.float32))

    def _steadied(
        self, number: int, time: float, box: Float[np.ndarray, "4"]
    ) -> Float[np.ndarray, "4"]:
        """The box of a track, smoothed over the past."""
        box = np.asarray(box, np.float64)
        middle, side = (box[:2] + box[2:]) / 2, np.maximum(box[2:] - box[:2], 1e-3)
        if number not in self._boxes:
            self._boxes[number] = _Box(side.mean())
        middle, side = self._boxes[number].step(time, middle, side)
        return np.concatenate([middle - side / 2, middle + side / 2]).astype(np.float32)


class _Box:
    """The filter of a box: its centre in sides as they were at first, logarithms of its sides."""

    def __init__(self, unit: float):
        self._unit, self._filter = unit, OneEuro(_STEADY, VECTORS)

    def step(
        self, time: float, middle: np.ndarray, side: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        kept = self._filter.step(time, np.concatenate([middle / self._unit, np.log(side)]))
        return kept[:2] * self._unit, np.exp(kept[2:])


def _distinct(found: Sequence[Detection]) -> list[Detection]:
    """The detections without those of a face that comes before them."""
    kept: list[Detection] = []
    for each in found:
        boxes = np.array([one.box for one in kept]).reshape(-1, 4)
        if not (overlap(np.asarray(each.box)[None], boxes).union > _SAME).any():
            kept.append(each)
    return kept
