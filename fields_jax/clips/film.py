"""A clip beside its reconstruction: the frame, the face laid over it, the head by itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from fields_jax.clips.decode import Frame
from fields_jax.clips.person import Person
from fields_jax.outputs.bundle import PICTURE, Result
from fields_jax.outputs.overlays import paste_face
from fields_jax.render.draw import to_uint8
from fields_jax.types import FlameModel

# Codecs in the order of preference; PyAV's wheels have all of them.
_CODECS = (("libx264", {"crf": "20", "preset": "veryfast"}), ("mpeg4", {"qscale": "3"}))
_TICKS = 90_000  # of the film's clock, per second
_WIDEST = 2 * PICTURE  # of a frame in the film; its height is PICTURE at most
_BAR, _AMBER = 4, (230, 150, 20)  # pixels and colour of the line over interpolated frames


class Film:
    """An MP4 that is being written; use it in a `with` statement.

    Attributes:
      codec: of its pictures.
    """

    def __init__(self, path: Path, rate: float):
        """Opens the file; pictures are added by `add`.

        Args:
          path: of the file, on a disk.
          rate: frames per second, about.
        """
        import av

        self.codec, options = next(each for each in _CODECS if each[0] in av.codecs_available)
        self._container = av.open(str(path), "w", format="mp4", options={"movflags": "+faststart"})
        self._stream = self._container.add_stream(
            self.codec, rate=Fraction(rate).limit_denominator(1001), options=dict(options)
        )
        self._stream.time_base = self._stream.codec_context.time_base = Fraction(1, _TICKS)
        self._sized = False

    def add(self, picture: UInt8[np.ndarray, "H W 3"], time: float) -> None:
        """Adds a picture, of the same even size each, to be shown at a time in seconds."""
        import av

        if not self._sized:
            self._stream.height, self._stream.width = picture.shape[:2]
            self._stream.pix_fmt, self._sized = "yuv420p", True
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")
        frame.pts, frame.time_base = round(time * _TICKS), Fraction(1, _TICKS)
        self._container.mux(self._stream.encode(frame))

    def __enter__(self) -> Film:
        return self

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        try:
            if error is None and self._sized:
                self._container.mux(self._stream.encode())
        finally:
            self._container.close()


def panels(
    frame: Frame, result: Result, person: Person, head: FlameModel
) -> UInt8[np.ndarray, "H W 3"]:
    """The three pictures of a frame beside each other.

    Args:
      frame: of the clip.
      result: the head of the frame, posed and drawn.
      person: that it is of.
      head: of the result.
    """
    row = int(np.searchsorted(person.frames, frame.index))
    height, width = frame.image.shape[:2]
    zoom = min(PICTURE / height, _WIDEST / width)
    size = tuple(max(2, 2 * round(zoom * length / 2)) for length in (width, height))
    small = np.asarray(
        Image.fromarray(frame.image).resize(size, Image.Resampling.BILINEAR, reducing_gap=3.0)
    )
    back = np.diag([width / size[0], height / size[1], 1.0])
    matrix = (person.matrices[row] @ back).astype(np.float32)
    camera = result.coefficients["camera"]
    over = paste_face(small, head, result.vertices, camera, matrix, person.size)
    picture = np.zeros((PICTURE, 2 * size[0] + PICTURE, 3), np.uint8)
    top = (PICTURE - size[1]) // 2
    for index, panel in enumerate((small, over)):
        picture[top : top + size[1], index * size[0] : (index + 1) * size[0]] = panel
    picture[:, 2 * size[0] :] = to_uint8(np.repeat(result.geometry, 3, axis=-1))
    if not person.seen[row]:
        picture[:_BAR] = _AMBER
    return picture


def covered(persons: Sequence[Person], frame: Frame) -> Iterator[tuple[int, int]]:
    """Persons that a frame belongs to, and its row in each."""
    for number, person in enumerate(persons):
        row = int(np.searchsorted(person.frames, frame.index))
        if row < len(person.frames) and person.frames[row] == frame.index:
            yield number, row
