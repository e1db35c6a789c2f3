"""Folders like a clone of ICT-FaceKit, of the procedural head's vertices: small, and known inside.

Its vertices come in the order that the model's description gives, its unit is the centimetre, the
lower teeth turn by a known angle about a known axis.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from fields_jax.convert.ict_clone import EXPRESSIONS, IDENTITIES, NEUTRAL, Layout, Piece
from fields_jax.flame.procedural import procedural_head
from fields_jax.types import FlameModel

TRAVEL = 0.4  # radians
HINGE = np.array([0.0, 0.005, -0.012])  # metres
_CM = 100.0
_FACE_FROM = -0.04  # metres; the face is what lies before this
# A box of teeth: corners, and quads that are counter-clockwise seen from outside.
_BOX = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)])
_QUADS = np.array(
    [[0, 1, 3, 2], [4, 6, 7, 5], [0, 4, 5, 1], [2, 3, 7, 6], [0, 2, 6, 4], [1, 5, 7, 3]]
)


class SmallClone:
    """The model that the folder holds.

    Attributes:
      head: the procedural head.
      order: the head's vertex that each of the model's leading vertices is.
      layout: of the model.
      neutral: [V, 3] metres.
      shapes: {name: [V, 3]} displacements, metres.
      polygons: [P, 4] vertices, -1 for the fourth corner of a triangle.
      landmarks_68: [68] vertices.
    """

    def __init__(self) -> None:
        self.head = head = procedural_head()
        template = np.asarray(head.template, np.float64)
        named = {name: np.asarray(rows) for name, rows in head.regions.items()}
        inside = [named[name] for name in ("mouth_interior", "left_eyeball", "right_eyeball")]
        skin = np.setdiff1d(np.arange(len(template)), np.concatenate(inside))
        front = template[skin, 2] > _FACE_FROM
        groups = [skin[front], skin[~front], *inside]
        self.order = np.concatenate(groups)
        names = ("face", "head_and_neck", "mouth_socket", "left_sclera", "right_sclera")
        parts = ("skin", "skin", "gums", "eyes", "eyes")
        sizes = [*map(len, groups), 8, 8, 4]
        ends = np.cumsum(sizes)
        names, parts = (
            (*names, "upper_teeth", "lower_teeth", "eyelashes"),
            (*parts, "teeth", "teeth", "lashes"),
        )
        pieces = tuple(
            Piece(name, part, int(end - size), int(end))
            for name, part, end, size in zip(names, parts, ends, sizes, strict=True)
        )
        mouth = template[named["mouth_interior"]].mean(0)
        boxes = [mouth + _BOX * [0.02, 0.004, 0.004] + [0, y, 0] for y in (0.006, -0.006)]
        lash = template[named["left_eyeball"]].max(0) + _BOX[:4] * 0.003
        self.neutral = np.concatenate([template[self.order], *boxes, lash])
        self.polygons = self._polygons(ends)
        self.landmarks_68 = self._vertices(head.static_68.face_index, head.static_68.barycentric)
        turned = [self._contour_row(yaw) for yaw in (39, -39)]  # the right, then the left jaw seen
        self.layout = Layout(
            pieces, tuple(turned[0][:8].tolist()), tuple(turned[1][:8:-1].tolist())
        )
        self.shapes = self._shapes()

    def _polygons(self, ends: np.ndarray) -> np.ndarray:
        """The head's triangles, some pairs of them as quads, and the boxes."""
        new = np.argsort(self.order)[np.asarray(self.head.faces)]
        polygons = np.concatenate([new, np.full((len(new), 1), -1)], axis=1)
        taken, kept = np.zeros(len(new), bool), []
        for i in range(0, len(new) - 1, 7):  # where neighbours in the list share an edge
            a, b = new[i], new[i + 1]
            if a[0] == b[0] and a[2] == b[1]:
                kept.append([*a, b[2]])
                taken[[i, i + 1]] = True
        boxes = [_QUADS + end - 8 for end in ends[-3:-1]]
        lash = np.array([[0, 1, 3, 2]]) + ends[-1] - 4
        assert kept
        return np.concatenate([polygons[~taken], np.array(kept), *boxes, lash])

    def _vertices(self, face, weight) -> np.ndarray:
        """The heaviest corner of points of the head, as vertices of the model."""
        corners = np.asarray(self.head.faces)[np.asarray(face)]
        heaviest = np.asarray(weight).argmax(-1)
        chosen = np.take_along_axis(corners, heaviest[..., None], axis=-1)[..., 0]
        return np.argsort(self.order)[chosen]

    def _contour_row(self, yaw: int) -> np.ndarray:
        row, table = (yaw if yaw >= 0 else 39 - yaw), self.head.contour
        return self._vertices(table.face_index[row], table.barycentric[row])

    def _shapes(self) -> dict[str, np.ndarray]:
        rng = np.random.default_rng(0)
        names = [f"identity{i:03d}" for i in range(IDENTITIES)] + list(EXPRESSIONS)
        shapes = {}
        for name in names:
            wave, phase, way = rng.normal(0, 30, 3), rng.uniform(0, 6), rng.normal(0, 0.002, 3)
            shapes[name] = np.sin(self.neutral @ wave + phase)[:, None] * way
        # The eyeballs move with nothing but identities, as in the real model.
        balls = np.concatenate([self.layout.eyeball(side) for side in ("left", "right")])
        for name in EXPRESSIONS:
            shapes[name][balls] = 0
        cosine, sine = np.cos(TRAVEL), np.sin(TRAVEL)
        turn = np.array([[1, 0, 0], [0, cosine, -sine], [0, sine, cosine]]) - np.eye(3)
        weight = np.zeros(len(self.neutral))
        weight[: len(self.order)] = np.asarray(self.head.skin_weights)[self.order, 2]
        weight[self.layout.rows("lower_teeth")] = 1
        shapes["jawOpen"] = weight[:, None] * ((self.neutral - HINGE) @ turn.T)
        shapes["jawOpen"] += 0.2 * weight[:, None] * (1 - weight[:, None]) * shapes["mouthFunnel"]
        return shapes

    def write(self, folder: Path) -> Path:
        """Writes the clone; returns the folder."""
        place = folder / "FaceXModel"
        place.mkdir(parents=True)
        corners = [
            " ".join(f"{v + 1}/{v + 1}" for v in row if v >= 0) for row in self.polygons.tolist()
        ]
        uv = 0.5 + 0.4 * self.neutral[:, :2] / np.abs(self.neutral[:, :2]).max()
        tail = "vt %.6f %.6f\n" * len(uv) % tuple(uv.ravel().tolist())
        tail += "usemtl M_Face\n" + "".join(f"f {row}\n" for row in corners[:-13])
        tail += "usemtl M_Teeth\n" + "".join(f"f {row}\n" for row in corners[-13:])
        self._mesh(place / f"{NEUTRAL}.obj", self.neutral, tail)
        for name, moved in self.shapes.items():
            self._mesh(place / f"{name}.obj", self.neutral + moved, tail)
        indices = {
            "expressions": sorted(EXPRESSIONS),
            "idx_to_landmark_verts": self.landmarks_68.tolist(),
        }
        (place / "vertex_indices.json").write_text(json.dumps(indices))
        return folder

    @staticmethod
    def _mesh(path: Path, vertices: np.ndarray, tail: str) -> None:
        head = "v %.7f %.7f %.7f\n" * len(vertices) % tuple((_CM * vertices).ravel().tolist())
        path.write_text(f"mtllib a.mtl\n{head}{tail}")


def points_of(head: FlameModel, name: str) -> np.ndarray:
    """A table's landmarks at rest, metres."""
    table = getattr(head, name)
    corners = np.asarray(head.template)[np.asarray(head.faces)[np.asarray(table.face_index)]]
    return (corners * np.asarray(table.barycentric)[..., None]).sum(-2)
