"""Videos for tests, written by PyAV: plain, at uneven times, turned, cut short."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np

TICKS = 90_000
# The flags that both commands have, as they are where a test does not say; without films, which
# take long.
CLIP_FLAGS = {
    **{"clip": False, "rate": 30.0, "smooth": 1.0, "bridge": 0.5, "film": False},
    **{"expression_from": "", "neutral": False, "export": (), "focal": 10.0},
}
# What an MP4 stores in its track header for a picture to be turned clockwise by so many degrees.
_MATRICES = {
    0: (1, 0, 0, 0, 1, 0, 0, 0, 1),
    90: (0, 1, 0, -1, 0, 0, 0, 0, 1),
    180: (-1, 0, 0, 0, -1, 0, 0, 0, 1),
    270: (0, -1, 0, 1, 0, 0, 0, 0, 1),
}


def numbered(count: int, height: int = 48, width: int = 64) -> list[np.ndarray]:
    """Pictures whose brightness tells their number; the left upper quarter is red."""
    frames = []
    for index in range(count):
        picture = np.full((height, width, 3), 40 + 5 * index, np.uint8)
        picture[: height // 2, : width // 2] = (220, 20, 20)
        frames.append(picture)
    return frames


def write_video(
    path: Path,
    frames: Sequence[np.ndarray],
    times: Sequence[float] | None = None,
    *,
    rate: int = 30,
    options: dict[str, str] | None = None,
    shape: Fraction | None = None,
) -> Path:
    """A video of lossy pictures; `times` in seconds are its presentation times.

    A `shape` is that of its pixels, width over height.
    """
    import av

    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w", options=options or {}) as container:
        stream = container.add_stream("libx264", rate=rate, options={"crf": "12"})
        stream.height, stream.width = frames[0].shape[:2]
        stream.pix_fmt = "yuv420p"
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = shape
        stream.time_base = stream.codec_context.time_base = Fraction(1, TICKS)
        for index, picture in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            time = index / rate if times is None else times[index]
            frame.pts, frame.time_base = round(time * TICKS), Fraction(1, TICKS)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def turn(path: Path, degrees: int) -> None:
    """Makes players turn an MP4 clockwise, by the matrix in its track header (ISO 14496-12)."""
    content = bytearray(path.read_bytes())
    start = content.index(b"tkhd") + 4
    at = start + (52 if content[start] == 1 else 40)
    stored = bytearray()
    for place, value in enumerate(_MATRICES[degrees]):
        one = 1 << (30 if place % 3 == 2 else 16)
        stored += (value * one).to_bytes(4, "big", signed=True)
    content[at : at + 36] = stored
    path.write_bytes(content)
