"""Small GLB files with all that a viewer must read: a ball that opens, blinks, nods and plays."""

from __future__ import annotations

import io
import json
import struct
from typing import Any

import numpy as np
from PIL import Image

FLOAT, SHORT, UBYTE, USHORT = 5126, 5122, 5121, 5123
_KINDS = {"f4": FLOAT, "i2": SHORT, "u1": UBYTE, "u2": USHORT}
_WIDTHS = {1: "SCALAR", 2: "VEC2", 3: "VEC3", 4: "VEC4", 16: "MAT4"}
MOVEMENTS = ("jawOpen", "eyeBlinkLeft", "eyeBlinkRight", "browInnerUp", "mouthSmileLeft")
WEIGHTS = (0.25, 0.0, 0.0, 0.0, 0.5)  # of the photograph
SECONDS = 2.0
JAW = 0.02  # metres from the root down to the joint of the jaw
TURNED = np.pi / 6  # radians to the subject's left, of the photograph's pose


class Writer:
    """Collects arrays in the binary chunk of a glTF document."""

    def __init__(self) -> None:
        """An empty document."""
        self.json: dict[str, Any] = {
            "asset": {"version": "2.0"},
            "accessors": [],
            "bufferViews": [],
        }
        self._binary = bytearray()

    def view(self, content: bytes, stride: int | None = None) -> int:
        self._binary += bytes(-len(self._binary) % 4)
        place = {"buffer": 0, "byteOffset": len(self._binary), "byteLength": len(content)}
        self.json["bufferViews"].append(place | ({} if stride is None else {"byteStride": stride}))
        self._binary += content
        return len(self.json["bufferViews"]) - 1

    def array(self, values: np.ndarray, *, normalized: bool = False, stride: int = 0) -> int:
        """An accessor of rows; `stride` bytes apart where that is not 0."""
        rows = values.reshape(len(values), -1)
        content = rows.tobytes()
        if stride:
            padding = np.full((len(rows), stride - len(content) // len(rows)), 0xAB, np.uint8)
            plain = rows.view(np.uint8).reshape(len(rows), -1)
            content = np.concatenate([plain, padding], axis=1).tobytes()
        about = self._about(rows, normalized) | {"bufferView": self.view(content, stride or None)}
        return self._accessor(about | _limits(rows))

    def sparse(self, values: np.ndarray) -> int:
        """An accessor of zeros but for the rows that are not."""
        rows = np.flatnonzero(values.any(axis=1)).astype("<u2")
        moved = {
            "count": len(rows),
            "indices": {"bufferView": self.view(rows.tobytes()), "componentType": USHORT},
            "values": {"bufferView": self.view(values[rows].tobytes())},
        }
        return self._accessor(self._about(values, False) | {"sparse": moved} | _limits(values))

    def glb(self) -> bytes:
        """The file."""
        self._binary += bytes(-len(self._binary) % 4)
        self.json["buffers"] = [{"byteLength": len(self._binary)}]
        text = json.dumps(self.json).encode()
        text += b" " * (-len(text) % 4)
        chunks = ((b"JSON", text), (b"BIN\0", bytes(self._binary)))
        body = b"".join(struct.pack("<I4s", len(data), name) + data for name, data in chunks)
        return struct.pack("<4sII", b"glTF", 2, 12 + len(body)) + body

    def _about(self, rows: np.ndarray, normalized: bool) -> dict[str, Any]:
        kind = {"componentType": _KINDS[rows.dtype.str[1:]], "type": _WIDTHS[rows.shape[1]]}
        return kind | {"count": len(rows)} | ({"normalized": True} if normalized else {})

    def _accessor(self, accessor: dict[str, Any]) -> int:
        self.json["accessors"].append(accessor)
        return len(self.json["accessors"]) - 1


def ball(*, clip: bool = False) -> bytes:
    """A textured ball of 0.1 m with two joints, five movements and, if wanted, a clip.

    Its positions are floats; one target is dense, one is of normalised shorts, the others are
    sparse; joints and their weights are interleaved with padding.
    """
    file = Writer()
    points, uv, triangles = sphere()
    shares = np.zeros((len(points), 4), "<f4")
    shares[:, 1] = jaw_share()
    shares[:, 0] = 1 - shares[:, 1]
    attributes = {
        "POSITION": file.array(points),
        "NORMAL": file.array(points / np.float32(0.1)),
        "TEXCOORD_0": file.array(uv),
        "JOINTS_0": file.array(np.tile(np.uint8([0, 1, 0, 0]), (len(points), 1)), stride=8),
        "WEIGHTS_0": file.array(shares, stride=20),
    }
    targets = [{"POSITION": number} for number in _targets(file, moves())]
    half = triangles[: len(triangles) // 2], triangles[len(triangles) // 2 :]
    primitives = [
        {
            "attributes": attributes,
            "targets": targets,
            "indices": file.array(part.astype("<u2").reshape(-1, 1)),
            "material": material,
        }
        for material, part in enumerate(half)
    ]
    names = {"targetNames": list(MOVEMENTS), "morphs": "arkit"}
    inverse = np.tile(np.eye(4, dtype="<f4").ravel(), (2, 1))
    inverse[1, 13] = JAW
    file.json |= {
        "extensionsUsed": ["KHR_mesh_quantization", "KHR_materials_unlit"],
        "extensionsRequired": ["KHR_mesh_quantization"],
        "scene": 0,
        "scenes": [{"nodes": [0, 1]}],
        "nodes": [
            {"name": "head", "mesh": 0, "skin": 0},
            {
                "name": "head_pose",
                "children": [2],
                "rotation": [0, np.sin(TURNED / 2), 0, np.cos(TURNED / 2)],
            },
            {"name": "root", "children": [3]},
            {"name": "jaw", "translation": [0, -JAW, 0]},
        ],
        "skins": [{"joints": [2, 3], "inverseBindMatrices": file.array(inverse)}],
        "meshes": [{"primitives": primitives, "weights": list(WEIGHTS), "extras": names}],
        "materials": [
            {
                "name": "skin",
                "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}},
                "extensions": {"KHR_materials_unlit": {}},
            },
            {"name": "back", "pbrMetallicRoughness": {"baseColorFactor": [0.1, 0.3, 0.8, 1]}},
        ],
        "textures": [{"source": 0}],
        "images": [{"mimeType": "image/png", "bufferView": file.view(_picture())}],
    }
    if clip:
        file.json["animations"] = [_nod(file)]
    return file.glb()


def _limits(rows: np.ndarray) -> dict[str, list[float]]:
    return {"min": rows.min(axis=0).tolist(), "max": rows.max(axis=0).tolist()}


def sphere() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points with a seam at the back, texture coordinates, and triangles, the front ones first."""
    rows, columns = 25, 49
    v, u = np.meshgrid(np.linspace(0, 1, rows), np.linspace(0, 1, columns), indexing="ij")
    polar, around = np.pi * v, 2 * np.pi * (u - 0.5)
    sphere = np.sin(polar) * np.sin(around), np.cos(polar), np.sin(polar) * np.cos(around)
    points = 0.1 * np.stack(sphere, axis=-1).reshape(-1, 3)
    a = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)).ravel()
    triangles = np.concatenate(
        [
            np.stack([a, a + columns, a + 1], axis=1),
            np.stack([a + 1, a + columns, a + columns + 1], axis=1),
        ]
    )
    order = np.argsort(-points[triangles].mean(axis=1)[:, 2], kind="stable")
    uv = np.stack([u, v], axis=-1).reshape(-1, 2)
    return points.astype("<f4"), uv.astype("<f4"), triangles[order]


def jaw_share() -> np.ndarray:
    """[V] how much each point follows the jaw's joint, which is JAW below the root: the chin."""
    points, _, _ = sphere()
    return np.clip(-points[:, 1] / 0.1, 0, 1) * _front(points)


def moves() -> np.ndarray:
    """[5, V, 3] metres: what each of MOVEMENTS does at weight 1."""
    points, _, _ = sphere()
    front = _front(points)
    x, y, _ = points.T / 0.1
    down, up, out = np.diag([1.0, 1.0, 1.0])[[1, 1, 2]] * [[-0.04], [0.03], [0.03]]
    fields = (
        np.clip(-y, 0, 1) * front,
        np.exp(-((x - 0.4) ** 2 + (y - 0.3) ** 2) / 0.05) * (front > 0),
        np.exp(-((x + 0.4) ** 2 + (y - 0.3) ** 2) / 0.05) * (front > 0),
        np.clip(y, 0, 1) * front,
        np.exp(-((x - 0.4) ** 2 + (y + 0.4) ** 2) / 0.05) * (front > 0),
    )
    moved = [np.outer(f, way) for f, way in zip(fields, (down, -out, -out, up, out), strict=True)]
    return np.where(np.abs(moved) > 1e-5, moved, 0).astype("<f4")


def _front(points: np.ndarray) -> np.ndarray:
    return np.clip(points[:, 2], 0, None) / 0.1  # the face looks along +z


def _targets(file: Writer, moved: np.ndarray) -> list[int]:
    """In the order of MOVEMENTS."""
    shorts = np.round(32767 * moved[3]).astype("<i2")  # 1 is a metre
    return [
        file.array(moved[0]),
        file.sparse(moved[1]),
        file.sparse(moved[2]),
        file.array(shorts, normalized=True, stride=8),  # rows begin at multiples of 4 bytes
        file.sparse(moved[4]),
    ]


def _nod(file: Writer) -> dict[str, Any]:
    """The mouth opens and shuts while the head turns and comes back."""
    times = np.linspace(0, SECONDS, 5, dtype="<f4")
    phase = np.sin(np.pi * times / SECONDS)
    weights = np.outer(phase, [1, 0, 0, 0, 0]).astype("<f4")
    turned = np.zeros((5, 4), "<f4")
    turned[:, 1], turned[:, 3] = np.sin(0.4 * phase), np.cos(0.4 * phase)
    key = file.array(times)
    outputs = {0: ("weights", weights.reshape(-1, 1)), 1: ("rotation", turned)}
    return {
        "name": "clip",
        "samplers": [{"input": key, "output": file.array(rows)} for _, rows in outputs.values()],
        "channels": [
            {"sampler": k, "target": {"node": node, "path": path}}
            for k, (node, (path, _)) in enumerate(outputs.items())
        ],
    }


def _picture() -> bytes:
    """A red and yellow board."""
    board = np.indices((64, 64)).sum(axis=0) // 8 % 2
    pixels = np.where(board[..., None], (220, 180, 60), (200, 60, 40)).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()
