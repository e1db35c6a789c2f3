"""TensorBoard's event files, written by the calling thread.

tensorboardX's own writer uses another thread: on a full disk that one dies with a traceback, and
the training waits for it for ever.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np


class Events:
    """One new event file in a folder."""

    def __init__(self, folder: Path, *, first_step: int) -> None:
        """Opens the file.

        Args:
          folder: of the event files; it is made.
          first_step: TensorBoard drops this and later steps of the folder's older files.
        """
        # tensorboardX makes the messages without tensorflow.
        from tensorboardX.proto.event_pb2 import Event, SessionLog

        self._event = Event
        folder.mkdir(parents=True, exist_ok=True)
        self._file = _open_new(folder / f"events.out.tfevents.{time.time():.0f}")
        start = SessionLog(status=SessionLog.START)
        version = "brain.Event:2"
        self._write(
            [
                Event(wall_time=time.time(), file_version=version),
                Event(wall_time=time.time(), step=first_step, session_log=start),
            ]
        )

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One number for each name."""
        from tensorboardX.summary import scalar

        self._add(step, (scalar(name, value) for name, value in values.items()))

    def text(self, step: int, name: str, message: str) -> None:
        """A text."""
        from tensorboardX.summary import text

        self._add(step, [text(name, message)])

    def image(self, step: int, name: str, picture: np.ndarray) -> None:
        """An [H, W, 3] uint8 picture."""
        from tensorboardX.summary import image

        self._add(step, [image(name, picture, dataformats="HWC")])

    def close(self) -> None:
        """Closes the file; nothing is pending, since every call writes at once."""
        os.close(self._file)

    def _add(self, step: int, summaries: Iterable) -> None:
        now = time.time()
        self._write(self._event(wall_time=now, step=step, summary=each) for each in summaries)

    def _write(self, events: Iterable) -> None:
        left = memoryview(b"".join(_record(event.SerializeToString()) for event in events))
        while left:  # a disk that is nearly full takes a part
            left = left[os.write(self._file, left) :]


def _open_new(base: Path) -> int:
    """A file that was not there, named after the second and this machine."""
    for count in itertools.count():
        path = base.with_name(f"{base.name}.{socket.gethostname()}{f'.{count}' if count else ''}")
        try:
            return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        except FileExistsError:  # a start in the same second
            continue
    raise AssertionError


def _record(content: bytes) -> bytes:
    """A message as TFRecord frames it: length, checksum, content, checksum."""
    from tensorboardX.record_writer import masked_crc32c

    length = struct.pack("<Q", len(content))
    checks = (struct.pack("<I", masked_crc32c(part)) for part in (length, content))
    return length + next(checks) + content + next(checks)
