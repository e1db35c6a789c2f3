"""What a clone of ICT-FaceKit holds: the neutral mesh and the shapes, as displacements.

ICT Face Model Light, (c) 2020 USC Institute for Creative Technologies, MIT licence
(github.com/ICT-VGL/ICT-FaceKit): a mesh of 26,719 vertices in centimetres, y up, z out of the face,
`_L` on the subject's left; 100 identity modes, each as the neutral plus one standard deviation, and
53 expressions, each as the neutral plus one unit.
"""

from __future__ import annotations

import dataclasses
import hashlib
from typing import NamedTuple

import numpy as np
from etils import epath
from jaxtyping import Float, Int

from fields_jax.convert.obj import PolygonMesh, read_mesh, read_vertices, triangulated
from fields_jax.errors import MissingFile, UserError, quoted
from fields_jax.files import read_json
from fields_jax.types import PARTS

METRES = 0.01  # per centimetre
IDENTITIES = 100
NEUTRAL = "generic_neutral_mesh"
_INDICES = "vertex_indices.json"
_FOLDER = "FaceXModel"
_FARTHEST = 100.0  # centimetres from the origin, of any vertex
_REMEDY = "name the folder of a clone of github.com/ICT-VGL/ICT-FaceKit, or fetch it anew"


class Piece(NamedTuple):
    """A range of vertices."""

    name: str
    part: str
    start: int
    stop: int


@dataclasses.dataclass(frozen=True)
class Layout:
    """What the vertices of a model are.

    Attributes:
      pieces: ranges that follow each other and cover all vertices; a face of several belongs to the
        last.
      jaw_right, jaw_left: [8] vertices on the edge of the jaw, from before the ear to beside the
        chin: where contour landmarks 0 to 7, and 16 to 9, lie on a head seen from that side.
    """

    pieces: tuple[Piece, ...]
    jaw_right: tuple[int, ...]
    jaw_left: tuple[int, ...]

    def rows(self, *names: str) -> Int[np.ndarray, " N"]:
        """Vertices of pieces."""
        return np.concatenate([np.arange(p.start, p.stop) for p in self.pieces if p.name in names])

    def eyeball(self, side: str) -> Int[np.ndarray, " N"]:
        """Vertices of the "left" or "right" eyeball."""
        return self.rows(f"{side}_sclera", f"{side}_iris")

    @property
    def size(self) -> int:
        return self.pieces[-1].stop


# Vertex ranges and jaw lines: ICT-FaceKit's description of its topology and of its landmarks.
LAYOUT = Layout(
    pieces=(
        Piece("face", "skin", 0, 9409),
        Piece("head_and_neck", "skin", 9409, 11248),
        Piece("mouth_socket", "gums", 11248, 13294),
        Piece("left_eye_socket", "skin", 13294, 13678),
        Piece("right_eye_socket", "skin", 13678, 14062),
        Piece("gums_and_tongue", "gums", 14062, 17039),
        Piece("upper_teeth", "teeth", 17039, 19247),
        Piece("lower_teeth", "teeth", 19247, 21451),
        Piece("left_sclera", "eyes", 21451, 22221),
        Piece("left_iris", "eyes", 22221, 23021),
        Piece("right_sclera", "eyes", 23021, 23791),
        Piece("right_iris", "eyes", 23791, 24591),
        Piece("lacrimal_fluid", "other", 24591, 24999),
        Piece("eye_blend", "other", 24999, 25047),
        Piece("eye_occlusion", "other", 25047, 25351),
        Piece("eyelashes", "lashes", 25351, 26719),
    ),
    jaw_right=(1278, 1272, 12, 1834, 243, 781, 2199, 1447),
    jaw_left=(3496, 3490, 2253, 4036, 2484, 3022, 4390, 3661),
)


def _both(*names: str) -> tuple[str, ...]:
    return tuple(name + side for name in names for side in ("_L", "_R"))


# Expressions that nothing but they can make, then those that lids, eyeballs or the jaw's joint make
# too: a prefix of the components is enough for fits and networks.
OWN = (
    *_both("browDown", "browInnerUp", "browOuterUp", "cheekPuff", "cheekSquint", "eyeSquint"),
    *_both("eyeWide"),
    *("jawForward", "jawLeft", "jawRight", "mouthClose"),
    *_both("mouthDimple", "mouthFrown"),
    *("mouthFunnel", "mouthLeft"),
    *_both("mouthLowerDown", "mouthPress"),
    *("mouthPucker", "mouthRight", "mouthRollLower", "mouthRollUpper"),
    *("mouthShrugLower", "mouthShrugUpper"),
    *_both("mouthSmile", "mouthStretch", "mouthUpperUp", "noseSneer"),
)
TWICE = (*_both("eyeBlink", "eyeLookDown", "eyeLookIn", "eyeLookOut", "eyeLookUp"), "jawOpen")
EXPRESSIONS = (*OWN, *TWICE)


@dataclasses.dataclass(frozen=True)
class Clone:
    """The face model, in metres.

    Attributes:
      layout: what its vertices are.
      neutral: [V, 3].
      identity: [V, 3, 100] displacement for one standard deviation.
      expression: {name: [V, 3]} displacement at weight 1, of `EXPRESSIONS`.
      faces, uv_faces: [F, 3] triangles.
      face_parts, materials: [F] rows of `PARTS` and of `mesh.material_names`.
      mesh: the neutral's file.
      landmarks_68: [68] vertices.
      sha256: of all vertices and faces.
    """

    layout: Layout
    neutral: Float[np.ndarray, "V 3"]
    identity: Float[np.ndarray, "V 3 I"]
    expression: dict[str, Float[np.ndarray, "V 3"]]
    faces: Int[np.ndarray, "F 3"]
    uv_faces: Int[np.ndarray, "F 3"]
    face_parts: Int[np.ndarray, " F"]
    materials: Int[np.ndarray, " F"]
    mesh: PolygonMesh
    landmarks_68: Int[np.ndarray, "68"]
    sha256: str


def read_clone(folder: epath.PathLike, layout: Layout = LAYOUT) -> Clone:
    """Reads a clone, or its folder FaceXModel.

    Raises:
      MissingFile: a file is absent, by name.
      UserError: a file is damaged, cut short or of another model, by name.
    """
    place = epath.Path(folder)
    place = place / _FOLDER if (place / _FOLDER).exists() else place
    shapes = [f"identity{number:03d}" for number in range(IDENTITIES)] + list(EXPRESSIONS)
    for name in (_INDICES, *(f"{shape}.obj" for shape in (NEUTRAL, *shapes))):
        if not (place / name).exists():
            raise MissingFile(f"{place} has no {name}: {_REMEDY}")
    landmarks = _landmarks(place / _INDICES, layout)
    mesh = read_mesh(place / f"{NEUTRAL}.obj")
    if len(mesh.vertices) != layout.size:
        raise UserError(
            f"{place / NEUTRAL}.obj has {len(mesh.vertices)} vertices, ICT's face model has "
            f"{layout.size}: {_REMEDY}"
        )
    _check_reach(place / f"{NEUTRAL}.obj", mesh.vertices)
    digest = hashlib.sha256(np.ascontiguousarray(mesh.polygons))
    digest.update(mesh.vertices)
    moved = {}
    for name in shapes:
        vertices = read_vertices(place / f"{name}.obj", mesh, NEUTRAL)
        _check_reach(place / f"{name}.obj", vertices)
        digest.update(vertices)
        moved[name] = (METRES * (vertices - mesh.vertices)).astype(np.float32)
    faces, uv_faces, origin = triangulated(mesh)
    return Clone(
        layout=layout,
        neutral=METRES * mesh.vertices,
        identity=np.stack([moved[name] for name in shapes[:IDENTITIES]], axis=-1),
        expression={name: moved[name] for name in EXPRESSIONS},
        faces=faces,
        uv_faces=uv_faces,
        face_parts=_parts(layout)[faces.max(axis=1)],
        materials=mesh.materials[origin],
        mesh=mesh,
        landmarks_68=landmarks,
        sha256=digest.hexdigest(),
    )


def _landmarks(path: epath.Path, layout: Layout) -> Int[np.ndarray, "68"]:
    """The published landmarks, once the file's expressions are those that we know."""
    found = read_json(path)
    names, rows = found.get("expressions"), found.get("idx_to_landmark_verts")
    if not isinstance(names, list) or sorted(map(str, names)) != sorted(EXPRESSIONS):
        raise UserError(
            f"{path}: 'expressions' is not the list of the {len(EXPRESSIONS)} that this version "
            f"knows: {_REMEDY}"
        )
    whole = isinstance(rows, list) and all(
        isinstance(row, int) and 0 <= row < layout.size for row in rows
    )
    if not whole or len(rows) != 68:
        raise UserError(
            f"{path}: 'idx_to_landmark_verts' is {quoted(rows)}, expected 68 vertices: {_REMEDY}"
        )
    return np.array(rows)


def _parts(layout: Layout) -> Int[np.ndarray, " V"]:
    """The part of each vertex."""
    return np.repeat(
        [PARTS.index(piece.part) for piece in layout.pieces],
        [piece.stop - piece.start for piece in layout.pieces],
    )


def _check_reach(path: epath.Path, vertices: Float[np.ndarray, "V 3"]) -> None:
    if (farthest := np.abs(vertices).max()) > _FARTHEST:
        raise UserError(f"{path} has a vertex {farthest:.4g} cm from the origin, no head's")
