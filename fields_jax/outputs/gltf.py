"""Binary glTF 2.0 (GLB): arrays and JSON objects gathered into one file, after Khronos' spec.

Knows nothing of faces. Written by hand: the format is one JSON text and one block of bytes, and
packages for it are either readers with a scene graph of their own or plain classes of the JSON's
objects, which still leave accessors, alignment and sparse storage to the caller.

    document = Document("me 1.0")
    points = document.accessor(vertices, target=VERTICES, bounds=True)
    mesh = document.add("meshes", primitives=[{"attributes": {"POSITION": points}}])
    node = document.add("nodes", mesh=mesh)
    document.add("scenes", nodes=[node])
    content = document.pack(scene=0)
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

VERTICES, INDICES = 34962, 34963  # what a buffer view is bound as: ARRAY_BUFFER, ELEMENT_...
_COMPONENTS = {"uint8": 5121, "uint16": 5123, "uint32": 5125, "float32": 5126}
_KINDS = {(): "SCALAR", (2,): "VEC2", (3,): "VEC3", (4,): "VEC4", (4, 4): "MAT4"}
_MAGIC, _VERSION = b"glTF", 2
_CHUNKS = {b"JSON": b" ", b"BIN\0": b"\0"}  # and what each is filled up with
_ALIGNMENT = 4  # bytes; of chunks, and of the start of every view


class Channel(NamedTuple):
    """One property of one node over time.

    Attributes:
      node: its index.
      path: "translation", "rotation" (quaternions x, y, z, w), "scale" or "weights".
      values: [T, K] a row for each time; of "weights" as many columns as the mesh has targets.
    """

    node: int
    path: str
    values: Float[np.ndarray, "T K"]


class Document:
    """A file in the making; every method returns the index of what it adds."""

    def __init__(self, generator: str) -> None:
        """Begins an empty file.

        Args:
          generator: the program that writes it.
        """
        self._asset: dict[str, Any] = {"version": "2.0", "generator": generator}
        self._lists: dict[str, list[dict[str, Any]]] = {}
        self._binary = bytearray()

    def add(self, of: str, **properties: Any) -> int:
        """An object of one of the top-level lists: "nodes", "meshes", "materials" and so on.

        Args:
          of: the list.
          properties: JSON, as the specification names them; those that are None are left out.
        """
        entries = self._lists.setdefault(of, [])
        entries.append({name: value for name, value in properties.items() if value is not None})
        return len(entries) - 1

    def view(self, content: bytes, target: int | None = None) -> int:
        """Bytes in the binary chunk, such as a whole picture file.

        Args:
          content: at least one byte.
          target: VERTICES, INDICES or None.
        """
        self._binary += b"\0" * (-len(self._binary) % _ALIGNMENT)
        start = len(self._binary)
        self._binary += content
        place = dict(buffer=0, byteOffset=start, byteLength=len(content), target=target)
        return self.add("bufferViews", **place)

    def accessor(
        self, values: Shaped[np.ndarray, "N ..."], target: int | None = None, bounds: bool = False
    ) -> int:
        """An array of numbers.

        Args:
          values: [N], [N, 2..4] or [N, 4, 4] of uint8, uint16, uint32 or float32; the rows of uint8
            and uint16 must fill whole multiples of 4 bytes where they are vertices.
          target: VERTICES, INDICES or None.
          bounds: whether to store least and greatest values, as positions and times need.

        Raises:
          ValueError: another shape or type.
        """
        described = _described(values, bounds)
        if values.shape[1:] == (4, 4):
            values = values.swapaxes(1, 2)  # columns first
        view = self.view(np.ascontiguousarray(values).tobytes(), target)
        return self.add("accessors", bufferView=view, **described)

    def displacements(self, values: Float[np.ndarray, "N 3"]) -> int:
        """A morph target's accessor: rows of zeros are not stored where that makes it smaller.

        Args:
          values: [N, 3] float32.
        """
        rows = np.flatnonzero(values.any(axis=1))
        rows = rows if len(rows) else np.zeros(1, np.int64)  # at least one must be named
        indices = smallest_indices(rows, len(values))
        if indices.nbytes + 12 * len(rows) >= values.nbytes:
            return self.accessor(values, VERTICES, bounds=True)
        component = _COMPONENTS[indices.dtype.name]
        sparse = {
            "count": len(rows),
            "indices": {"bufferView": self.view(indices.tobytes()), "componentType": component},
            "values": {"bufferView": self.view(values[rows].tobytes())},
        }
        return self.add("accessors", sparse=sparse, **_described(values, bounds=True))

    def image(self, content: bytes, mime: str) -> int:
        """A picture inside the file.

        Args:
          content: of a JPEG or PNG file.
          mime: "image/jpeg" or "image/png".
        """
        return self.add("images", bufferView=self.view(content), mimeType=mime)

    def animation(
        self, name: str, times: Float[np.ndarray, " T"], channels: Sequence[Channel]
    ) -> int:
        """A clip, linear between its times.

        Args:
          name: of the clip.
          times: [T] seconds from 0, increasing.
          channels: what moves.

        Raises:
          ValueError: no times, or times that do not increase.
        """
        times = np.asarray(times, np.float32)
        if not len(times) or times[0] < 0 or not (np.diff(times) > 0).all():
            raise ValueError(f"an animation of {len(times)} times that do not increase from 0 on")
        clock = self.accessor(times, bounds=True)
        samplers, paths = [], []
        for channel in channels:
            values = np.asarray(channel.values, np.float32)
            if channel.path == "weights":
                values = values.ravel()
            output = self.accessor(values)
            paths.append(
                {
                    "sampler": len(samplers),
                    "target": {"node": channel.node, "path": channel.path},
                }
            )
            samplers.append({"input": clock, "output": output, "interpolation": "LINEAR"})
        return self.add("animations", name=name, samplers=samplers, channels=paths)

    def pack(
        self, scene: int, extensions: Sequence[str] = (), facts: Mapping[str, Any] | None = None
    ) -> bytes:
        """The file.

        Args:
          scene: index of the scene that is shown.
          extensions: names of those that are used; a reader may do without them.
          facts: JSON, kept as the asset's `extras`.
        """
        asset = self._asset | ({"extras": dict(facts)} if facts else {})
        described: dict[str, Any] = {"asset": asset, "scene": scene, **self._lists}
        if extensions:
            described["extensionsUsed"] = list(extensions)
        if self._binary:
            described["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(described, separators=(",", ":"), allow_nan=False).encode()
        chunks = [_chunk(b"JSON", text)]
        if self._binary:
            chunks.append(_chunk(b"BIN\0", bytes(self._binary)))
        length = 12 + sum(map(len, chunks))
        return struct.pack("<4sII", _MAGIC, _VERSION, length) + b"".join(chunks)


def smallest_indices(values: Shaped[np.ndarray, "*N"], count: int) -> Shaped[np.ndarray, "*N"]:
    """Whole numbers below `count` in 2 bytes where these suffice, else in 4.

    The largest number of a type is no index: it means that a strip begins anew.
    """
    return np.asarray(values, "<u2" if count < 2**16 else "<u4")


def quaternions(axis_angle: Float[np.ndarray, "*N 3"]) -> Float[np.ndarray, "*N 4"]:
    """Unit quaternions (x, y, z, w) of axis-angle vectors in radians."""
    turns = np.asarray(axis_angle, np.float64)
    half = np.linalg.norm(turns, axis=-1, keepdims=True) / 2
    # sin(a / 2) / a is 1 / 2 at 0.
    return np.concatenate([turns * np.sinc(half / np.pi) / 2, np.cos(half)], axis=-1)


def continuous(turns: Float[np.ndarray, "T 4"]) -> Float[np.ndarray, "T 4"]:
    """The same rotations, each quaternion of the sign nearer to the one before it."""
    flips = np.sign(np.sum(turns[1:] * turns[:-1], axis=1))
    return turns * np.cumprod(np.concatenate([[1.0], np.where(flips < 0, -1.0, 1.0)]))[:, None]


def _described(values: np.ndarray, bounds: bool) -> dict[str, Any]:
    component, kind = _COMPONENTS.get(values.dtype.name), _KINDS.get(values.shape[1:])
    if component is None or kind is None or not len(values):
        raise ValueError(f"glTF has no accessor for {values.dtype} {list(values.shape)}")
    described: dict[str, Any] = dict(componentType=component, count=len(values), type=kind)
    if bounds:
        least, most = (np.atleast_1d(f(values, axis=0)) for f in (np.min, np.max))
        described |= {"min": least.tolist(), "max": most.tolist()}
    return described


def _chunk(kind: bytes, content: bytes) -> bytes:
    content += _CHUNKS[kind] * (-len(content) % _ALIGNMENT)
    return struct.pack("<I4s", len(content), kind) + content
