"""Clips frame by frame, in constant memory: video files by PyAV, and folders of frames.

PyAV is FFmpeg's own libraries in one wheel: it gives the presentation time and the rotation of
every frame, which a pipe of raw frames from an `ffmpeg` program does not, and it encodes.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from etils import epath
from jaxtyping import UInt8

from fields_jax.errors import UserError, first_line
from fields_jax.files import is_remote
from fields_jax.photos.files import read_photograph
from fields_jax.photos.kinds import IMAGE_SUFFIXES, is_of_system
from fields_jax.photos.names import OF_A_FACE
from fields_jax.photos.pictures import LARGEST_PIXELS

NO_PYAV = "videos need PyAV; pip install -e '.[video]', or name a folder of frames with --clip"
_RATE = 30.0  # frames per second of a video that does not say
# A file whose header promises this share more frames and seconds than there are was cut short.
_MISSING = 0.05
_LEAST_GAP = 1e-3  # seconds between frames whose times are equal or a little out of order
_SQUEEZE = (0.25, 4.0)  # shapes of pixels, width over height, that are believed
_QUARTERS = {0: 0, 90: 1, 180: 2, 270: 3}  # turns against the clock by numpy's rot90


class Frame(NamedTuple):
    """One frame of a clip.

    Attributes:
      index: counted from 0.
      time: seconds since the first frame, by presentation times.
      image: [H, W, 3] upright.
      path: the picture it was read from; the video for frames of one.
    """

    index: int
    time: float
    image: UInt8[np.ndarray, "H W 3"]
    path: epath.Path


class Source(Protocol):
    """A clip that can be read from its beginning any number of times.

    Attributes:
      path: the video or the folder.
      name: of its results.
      length: number of frames as far as known beforehand, or 0.
      rate: frames per second, about.
      remark: after all frames were read: why there may be fewer than there should be, or "".
    """

    path: epath.Path
    name: str
    length: int
    rate: float
    remark: str

    def frames(self) -> Iterator[Frame]:
        """The frames in the order of their times."""
        ...


class Video:
    """A video file; see `Source`."""

    def __init__(self, path: epath.PathLike, name: str):
        """Reads the header.

        Raises:
          UserError: no PyAV, no such file, or no video in it; in one line that names the file.
        """
        self.path, self.name, self.remark = epath.Path(path), name, ""
        if importlib.util.find_spec("av") is None:
            raise UserError(f"{path}: {NO_PYAV}")
        with self._open() as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise UserError(f"{path}: its codec is not known here; convert it to H.264")
            width, height = stream.codec_context.width, stream.codec_context.height
            width = self._width(stream, width)
            if not 0 < width * height <= LARGEST_PIXELS:
                raise UserError(f"{path}: a video of {width} x {height} pixels is not read")
            rate = stream.average_rate or stream.guessed_rate
            self.rate = float(rate) if rate else _RATE
            self._seconds = self._duration(container, stream)
            self._said = stream.frames
            self.length = self._said or round(self._seconds * self.rate)

    def frames(self) -> Iterator[Frame]:
        """The frames, upright, by their presentation times; ends early where the file is damaged.

        Raises:
          UserError: not one frame can be decoded.
        """
        import av

        self.remark, last, start, index = "", 0.0, 0.0, 0
        with self._open() as container:
            stream = container.streams.video[0]
            stream.thread_type = "AUTO"
            decoded = container.decode(stream)
            while True:
                try:
                    frame = next(decoded, None)
                    if frame is None:
                        break
                    width = self._width(stream, frame.width)
                    image = frame.to_ndarray(format="rgb24", width=width)
                except (av.FFmpegError, ValueError) as error:
                    self.remark = f"damaged after {index} frames ({first_line(error)})"
                    break
                turns = _QUARTERS.get(round(frame.rotation / 90) * 90 % 360, 0)
                clock = np.nan if frame.time is None else float(frame.time)
                time, start = self._next(clock, start, last) if index else (0.0, clock)
                yield Frame(index, time, np.ascontiguousarray(np.rot90(image, turns)), self.path)
                last, index = time, index + 1
        if index == 0:
            raise UserError(f"{self.path}: {self.remark or 'there is not one frame in it'}")
        if not self.remark and self._is_short(index, last):
            self.remark = f"ends early: {index} of about {self.length} frames"

    def _next(self, clock: float, start: float, last: float) -> tuple[float, float]:
        """Seconds of a frame since the first, and where the clock stood then.

        A clock that starts again, as where recordings were joined, goes on one frame later.

        Args:
          clock: presentation time of the frame, or NaN.
          start: of the first frame, or NaN.
          last: seconds of the frame before.
        """
        gap = 1 / self.rate
        if not np.isfinite(clock):
            return last + gap, start
        if not np.isfinite(start) or clock - start < last - gap:
            start = clock - last - gap
        return max(clock - start, last + _LEAST_GAP), start

    @staticmethod
    def _width(stream: Any, width: int) -> int:
        """Pixels of a row as they are shown: stored ones need not be square."""
        shape = float(stream.sample_aspect_ratio or 1)
        return round(width * shape) if _SQUEEZE[0] <= shape <= _SQUEEZE[1] else width

    def _is_short(self, count: int, last: float) -> bool:
        """Whether frames are missing by every promise that the header makes."""
        end = last + 1 / self.rate
        told = self._said == 0 or count < (1 - _MISSING) * self._said
        return told and self._seconds > 0 and end < (1 - _MISSING) * self._seconds - 0.1

    def _open(self) -> Any:
        import av

        if not is_remote(self.path) and not os.path.isfile(self.path):
            raise UserError(f"{self.path}: no such file")
        try:
            given = self.path.open("rb") if is_remote(self.path) else str(self.path)
            container = av.open(given, metadata_errors="replace")
        except (av.FFmpegError, OSError, ValueError) as error:
            raise UserError(f"{self.path}: not a readable video ({_said(error)})") from error
        if not container.streams.video:
            container.close()
            raise UserError(f"{self.path}: there is no picture in it, only other tracks")
        return container

    @staticmethod
    def _duration(container: Any, stream: Any) -> float:
        if stream.duration and stream.time_base:
            return float(stream.duration * stream.time_base)
        return float(container.duration or 0) / 1e6


class FrameFolder:
    """The pictures of a folder as a clip, in the order of the numbers in their names."""

    def __init__(self, path: epath.PathLike, name: str, rate: float):
        """Lists the folder.

        Args:
          path: the folder; pictures below its own folders are not frames.
          name: of the results.
          rate: frames per second.

        Raises:
          UserError: no such folder, it cannot be opened, or there are no pictures in it.
        """
        self.path, self.name, self.rate, self.remark = epath.Path(path), name, rate, ""
        if not self.path.is_dir():
            raise UserError(f"{path}: --clip takes folders of frames and videos; this is no folder")
        try:
            found = [each for each in self.path.iterdir() if _is_frame(each)]
        except OSError as error:
            why = error.strerror or error
            raise UserError(f"{path}: this folder cannot be opened ({why})") from error
        if not found:
            raise UserError(f"{path}: no pictures in this folder, which --clip takes for frames")
        self._pictures = sorted(found, key=lambda each: _natural(each.name))
        self.length = len(self._pictures)

    def frames(self) -> Iterator[Frame]:
        """The frames, upright; a picture that cannot be read is left out and remarked on.

        Raises:
          UserError: not one of them can be read.
        """
        self.remark, bad = "", []
        for index, picture in enumerate(self._pictures):
            try:
                image = read_photograph(picture)
            except UserError as error:
                bad.append(str(error))
                continue
            yield Frame(index, index / self.rate, image, picture)
        if bad:
            self.remark = f"{len(bad)} frames left out, the first is {bad[0]}"
        if len(bad) == self.length:
            raise UserError(f"{self.path}: not one frame can be read; the first is {bad[0]}")


def _is_frame(path: epath.Path) -> bool:
    name = path.name
    hidden = name.startswith(".") or is_of_system(name) or name in OF_A_FACE
    return not hidden and path.suffix.lower() in IMAGE_SUFFIXES


def _natural(name: str) -> Sequence[tuple[int, int, str]]:
    """A key that sorts frame_2 before frame_10."""
    parts = re.split(r"(\d+)", name)
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part.casefold()) for part in parts]


def _said(error: Exception) -> str:
    return getattr(error, "strerror", None) or first_line(error)
