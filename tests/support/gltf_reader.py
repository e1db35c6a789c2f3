"""A reader of GLB files in numpy that shares no code with the writer: meshes, skins, clips."""

from __future__ import annotations

import json
import struct
from typing import Any

import numpy as np

_TYPES = {5121: "<u1", 5123: "<u2", 5125: "<u4", 5126: "<f4"}
_WIDTHS = {"SCALAR": 1, "VEC2": 2, "VEC3": 3, "VEC4": 4, "MAT4": 16}


class Glb:
    """What a file holds.

    Attributes:
      json: its JSON.
      binary: its binary chunk.
    """

    def __init__(self, content: bytes) -> None:
        """Splits the chunks; raises where lengths are not what the header says."""
        magic, version, length = struct.unpack_from("<4sII", content)
        assert (magic, version, length) == (b"glTF", 2, len(content))
        place, chunks = 12, {}
        while place < length:
            size, kind = struct.unpack_from("<I4s", content, place)
            assert size % 4 == 0
            chunks[kind] = content[place + 8 : place + 8 + size]
            place += 8 + size
        self.json: dict[str, Any] = json.loads(chunks[b"JSON"])
        self.binary = chunks.get(b"BIN\0", b"")

    def view(self, index: int) -> bytes:
        """The bytes of a buffer view."""
        view = self.json["bufferViews"][index]
        start = view.get("byteOffset", 0)
        return self.binary[start : start + view["byteLength"]]

    def array(self, index: int) -> np.ndarray:
        """The numbers of an accessor: [N, K], or [N] of scalars."""
        accessor = self.json["accessors"][index]
        count, width = accessor["count"], _WIDTHS[accessor["type"]]
        kind = np.dtype(_TYPES[accessor["componentType"]])
        values = np.zeros((count, width), kind)
        if "bufferView" in accessor:
            stored = np.frombuffer(self.view(accessor["bufferView"]), kind, count * width)
            values = stored.reshape(count, width).copy()
        if sparse := accessor.get("sparse"):
            indices = sparse["indices"]
            rows = np.frombuffer(
                self.view(indices["bufferView"]), _TYPES[indices["componentType"]], sparse["count"]
            )
            stored = np.frombuffer(
                self.view(sparse["values"]["bufferView"]), kind, sparse["count"] * width
            )
            assert (np.diff(rows.astype(int)) > 0).all()
            values[rows] = stored.reshape(-1, width)
        if "min" in accessor:
            assert np.array_equal(np.float32(accessor["min"]), values.min(axis=0))
            assert np.array_equal(np.float32(accessor["max"]), values.max(axis=0))
        return values[:, 0] if width == 1 else values

    def node(self, name: str) -> int:
        """The index of the node of that name."""
        (found,) = (row for row, node in enumerate(self.json["nodes"]) if node.get("name") == name)
        return found

    @property
    def mesh(self) -> dict[str, Any]:
        """The only mesh."""
        (mesh,) = self.json["meshes"]
        return mesh

    @property
    def triangles(self) -> np.ndarray:
        """[F, 3] of all materials, in their order."""
        return np.concatenate(
            [self.array(each["indices"]).reshape(-1, 3) for each in self.mesh["primitives"]]
        )

    def attribute(self, name: str) -> np.ndarray:
        """An attribute, which all materials share."""
        (index,) = {each["attributes"][name] for each in self.mesh["primitives"]}
        return self.array(index)

    def vertices(
        self,
        weights: np.ndarray | None = None,
        rotations: dict[str, np.ndarray] | None = None,
        nodes: dict[int, dict[str, np.ndarray]] | None = None,
    ) -> np.ndarray:
        """[N, 3] morphed, then skinned by the joints' places in the scene.

        Args:
          weights: of the targets; None for the file's own.
          rotations: quaternions by the names of nodes, in place of the file's.
          nodes: properties of nodes by index, in place of the file's: a moment of a clip.
        """
        mesh = self.mesh
        weights = mesh["weights"] if weights is None else weights
        points = self.attribute("POSITION").astype(np.float64)
        targets = mesh["primitives"][0]["targets"]
        assert all(each["targets"] == targets for each in mesh["primitives"])
        for weight, target in zip(weights, targets, strict=True):
            if weight:
                points += weight * self.array(target["POSITION"])
        changed = {self.node(name): {"rotation": q} for name, q in (rotations or {}).items()}
        for index, properties in (nodes or {}).items():
            changed[index] = changed.get(index, {}) | properties
        world = self._world(changed)
        (skin,) = self.json["skins"]
        inverse = self.array(skin["inverseBindMatrices"]).reshape(-1, 4, 4).swapaxes(1, 2)
        motions = np.stack([world[joint] for joint in skin["joints"]]) @ inverse
        joints, shares = self.attribute("JOINTS_0"), self.attribute("WEIGHTS_0")
        blended = np.einsum("nk,nkij->nij", shares.astype(np.float64), motions[joints])
        return np.einsum("nij,nj->ni", blended[:, :3, :3], points) + blended[:, :3, 3]

    def moment(self, row: int) -> tuple[np.ndarray, dict[int, dict[str, np.ndarray]]]:
        """Weights, and properties of nodes by index, at a time of the only clip."""
        (clip,) = self.json["animations"]
        weights, nodes = np.zeros(0), {}
        for channel in clip["channels"]:
            sampler, target = clip["samplers"][channel["sampler"]], channel["target"]
            times = self.array(sampler["input"])
            values = self.array(sampler["output"]).reshape(len(times), -1)[row]
            if target["path"] == "weights":
                weights = values
            else:
                nodes.setdefault(target["node"], {})[target["path"]] = values
        return weights, nodes

    def _world(self, changed: dict[int, dict[str, Any]]) -> dict[int, np.ndarray]:
        """Matrices from each node's space to the scene's."""
        nodes, world = self.json["nodes"], {}

        def visit(index: int, parent: np.ndarray) -> None:
            node = nodes[index] | changed.get(index, {})
            world[index] = parent @ local_matrix(node)
            for child in node.get("children", []):
                visit(child, world[index])

        for root in self.json["scenes"][self.json["scene"]]["nodes"]:
            visit(root, np.eye(4))
        return world

    def place(self, name: str) -> np.ndarray:
        """[4, 4] from a node's space to the scene's."""
        return self._world({})[self.node(name)]


def local_matrix(node: dict[str, Any]) -> np.ndarray:
    """[4, 4] of a node's translation and rotation."""
    matrix = np.eye(4)
    x, y, z, w = np.asarray(node.get("rotation", (0, 0, 0, 1)), np.float64)
    matrix[:3, :3] = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
        [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
        [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
    ]
    matrix[:3, 3] = node.get("translation", (0, 0, 0))
    return matrix
