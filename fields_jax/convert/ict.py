"""ICT-FaceKit's face model as a head of ours.

ICT Face Model Light, (c) 2020 USC Institute for Creative Technologies, MIT licence: the one full
head with eyes, teeth and named expressions that may be used for any purpose. See `ict_rig` for the
joints that it gets.
"""

from __future__ import annotations

import dataclasses
import hashlib

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from fields_jax import arkit
from fields_jax.convert.contour import Face, Points, at_vertices, contour
from fields_jax.convert.ict_clone import EXPRESSIONS, LAYOUT, TWICE, Clone, Layout, read_clone
from fields_jax.convert.ict_rig import PARENTS, Rig, make_rig
from fields_jax.convert.registered_tables import (
    rim,
    storage_type,
    surface,
    tables_by_registration,
)
from fields_jax.convert.texture_atlas import atlas
from fields_jax.disk import writing
from fields_jax.errors import UserError, quoted
from fields_jax.flame.io import check_arrays, write_arrays
from fields_jax.flame.priors import between, standard_priors
from fields_jax.flame.procedural import procedural_head
from fields_jax.landmark_schemes import CONTOUR_68, INNER_68
from fields_jax.types import JOINTS, PARTS, LandmarkEmbedding

NAME, VERSION = "ICT-FaceKit", "Light"
# Left out unless asked for: the shells about the eyes, which hide them when drawn opaque, and the
# lashes, which are ribbons that only a texture makes lashes of.
DEFAULT_PARTS = ("skin", "eyes", "teeth", "gums")
_CONVERSION = 1  # changes with what this module makes of the same clone
_NECK, _JAW, _FIRST_EYE = 1, 2, 3
_CHIN = 8  # of the 68 landmarks
# Standard deviations of expression weights between 0 and 1, of the jaw's angle, ours. mouthClose
# undoes the parting of the lips by jawOpen, so that by itself it drives the lower lip up into the
# nose: rare, and in small amounts.
_WEIGHT, _JAW_DEVIATION = 0.5, (0.15, 0.03, 0.03)
_RARE = {"mouthClose": 0.1}
# How far an eye turns in ARKit's eyeLook movements, radians; ICT's shapes of these names move the
# lids alone. Ours: the lids in eyeLookDown turn by 23 degrees about the eye.
_GAZE_UP_DOWN, _GAZE_IN_OUT = np.radians(25.0), np.radians(30.0)


@dataclasses.dataclass(frozen=True)
class Converted:
    """What was written.

    Attributes:
      parts: of `types.PARTS`.
      vertices, faces: their numbers.
      travel: the jaw's angle that is jawOpen at weight 1, radians.
      sha256: of the head.
    """

    parts: tuple[str, ...]
    vertices: int
    faces: int
    travel: float
    sha256: str

    def __str__(self) -> str:
        return (
            f"{NAME} {VERSION}, {', '.join(self.parts)}: {self.vertices} vertices, {self.faces} "
            f"triangles; jawOpen turns the jaw by {self.travel:.3f} rad; sha256 {self.sha256[:12]}"
        )


def convert_ict(source: str, target: str, parts: str = "", layout: Layout = LAYOUT) -> Converted:
    """Writes a head from a clone of ICT-FaceKit.

    Args:
      source: the clone, or its folder FaceXModel.
      target: the .npz to write.
      parts: names out of `types.PARTS` with commas, skin among them; empty for `DEFAULT_PARTS`.
      layout: what the vertices are, for models of the same making with another mesh.

    Raises:
      MissingFile: a file of the clone is absent, by name.
      UserError: a file is damaged or of another model, or parts that do not exist; `target` is then
        untouched.
    """
    kept = _parts(parts)
    clone = read_clone(source, layout)
    rig = make_rig(clone)
    arrays, meta = head_arrays(clone, rig, kept)
    check_arrays(target, arrays, meta)
    with writing(target, instead="another target"):
        write_arrays(target, arrays, meta)
    counts = (len(arrays[name]) for name in ("template", "faces"))
    return Converted(kept, *counts, rig.travel, meta["sha256"])


def _parts(named: str) -> tuple[str, ...]:
    if not named:
        return DEFAULT_PARTS
    asked = [part.strip() for part in named.split(",")]
    for part in asked:
        if part not in PARTS:
            raise UserError(f"--parts names {quoted(part)}: choose among {', '.join(PARTS)}")
    if "skin" not in asked:
        raise UserError("--parts names no skin: a head needs it")
    return tuple(part for part in PARTS if part in asked)


def head_arrays(
    clone: Clone, rig: Rig, parts: tuple[str, ...]
) -> tuple[dict[str, np.ndarray], dict[str, object]]:
    """The arrays of a head file and its static fields."""
    kept = np.isin(clone.face_parts, [PARTS.index(part) for part in parts])
    used = np.unique(clone.faces[kept])
    joints = slice(None) if "eyes" in parts else slice(0, _FIRST_EYE)
    uv, uv_faces = atlas(clone.mesh, clone.materials[kept], clone.uv_faces[kept])
    materials, material_rows = np.unique(clone.materials[kept], return_inverse=True)
    arrays = {
        "template": clone.neutral[used],
        "shape_basis": clone.identity[used],
        "expression_basis": np.stack([clone.expression[n][used] for n in EXPRESSIONS], axis=-1),
        "pose_basis": rig.pose_basis[used][..., : 9 * (len(rig.joints[joints]) - 1)],
        "joint_regressor": rig.regressor[joints][:, used],
        "skin_weights": rig.skin_weights[used][:, joints],
        "eyelid_basis": np.stack([clone.expression[f"eyeBlink_{s}"][used] for s in "LR"]),
        "faces": np.searchsorted(used, clone.faces[kept]),
        "face_parts": clone.face_parts[kept],
        "materials": material_rows,
        "uv": uv,
        "uv_faces": uv_faces,
        "arkit_basis": arkit_basis(clone, rig)[used],
    }
    arrays |= _landmarks(clone, rig, np.cumsum(kept) - 1)
    arrays |= _priors(rig.travel)
    points = LandmarkEmbedding(*(arrays[f"static_68.{k}"] for k in ("face_index", "barycentric")))
    mesh = (arrays[name] for name in ("template", "faces", "face_parts"))
    tables = procedural_head()
    arrays |= tables_by_registration(tables, surface(*mesh, points))
    arrays |= _regions(clone, rig, used, arrays["faces"])
    made_of = (clone.sha256, parts, _CONVERSION, tables.version)
    meta = {
        "parents": PARENTS[joints],
        "joint_names": JOINTS[joints],
        "expression_names": EXPRESSIONS,
        "material_names": tuple(clone.mesh.material_names[row] for row in materials),
        "name": NAME,
        "version": VERSION,
        "sha256": hashlib.sha256(repr(made_of).encode()).hexdigest(),
    }
    return {name: storage_type(array) for name, array in arrays.items()}, meta


def arkit_basis(clone: Clone, rig: Rig) -> Float[np.ndarray, "V 3 52"]:
    """The neutral person's displacement by each of `arkit.NAMES` at weight 1.

    ICT's expressions are ARKit's, some of them in two halves. ICT's model has no tongueOut.
    """
    basis = np.zeros((*clone.neutral.shape, len(arkit.NAMES)), np.float32)
    for name, moved in clone.expression.items():
        basis[..., arkit.NAMES.index(arkit.own_name(name))] += moved
    for side, joint in (("left", _FIRST_EYE), ("right", _FIRST_EYE + 1)):
        rows = clone.layout.eyeball(side)
        outward = 1.0 if side == "left" else -1.0
        for name, axis_angle in (
            ("Up", (-_GAZE_UP_DOWN, 0, 0)),
            ("Down", (_GAZE_UP_DOWN, 0, 0)),
            ("In", (0, -outward * _GAZE_IN_OUT, 0)),
            ("Out", (0, outward * _GAZE_IN_OUT, 0)),
        ):
            offset = clone.neutral[rows] - rig.joints[joint]
            turned = Rotation.from_rotvec(axis_angle).apply(offset)
            column = arkit.NAMES.index(f"eyeLook{name}{side.capitalize()}")
            basis[rows, :, column] += turned - offset
    return basis


def _priors(travel: float) -> dict[str, np.ndarray]:
    """Weights between 0 and 1; what another coefficient makes too is held at 0.

    The jaw opens up to its travel. Aside it moves by jawLeft and jawRight, not by its joint.
    """
    upper = np.array([name not in TWICE for name in EXPRESSIONS], np.float32)
    deviation = np.array([_RARE.get(name, _WEIGHT) for name in EXPRESSIONS], np.float32)
    opening = np.array([travel, 0, 0], np.float32)
    told = {
        "expression": between(np.zeros_like(upper), upper, deviation),
        "jaw": between(np.zeros(3, np.float32), opening, np.array(_JAW_DEVIATION, np.float32)),
    }
    told = standard_priors(100, len(EXPRESSIONS)) | told
    return {
        f"priors.{name}.{key}": value
        for name, prior in told.items()
        for key, value in vars(prior).items()
    }


def _landmarks(clone: Clone, rig: Rig, rows: Int[np.ndarray, " F"]) -> dict[str, np.ndarray]:
    """The 68 landmarks and the contour; `rows` are those of the faces in the head."""
    fixed = at_vertices(clone.faces, clone.landmarks_68)
    layout = clone.layout
    jaw = np.array([*layout.jaw_right, clone.landmarks_68[_CHIN], *layout.jaw_left[::-1]])
    face = Face(
        vertices=clone.neutral,
        faces=clone.faces,
        skin=np.flatnonzero(np.isin(clone.faces, layout.rows("face")).all(axis=1)),
        frontal=Points(fixed.face[CONTOUR_68], fixed.weight[CONTOUR_68]),
        jaw=clone.neutral[jaw],
        axis=float(rig.joints[_JAW, 2]),
    )
    tables = {
        "static_68": fixed,
        "static_51": Points(fixed.face[INNER_68], fixed.weight[INNER_68]),
        "contour": contour(face),
    }
    return {
        key: value
        for name, points in tables.items()
        for key, value in (
            (f"{name}.face_index", rows[points.face]),
            (f"{name}.barycentric", points.weight),
        )
    }


def _regions(
    clone: Clone, rig: Rig, used: Int[np.ndarray, " N"], faces: Int[np.ndarray, "F 3"]
) -> dict[str, np.ndarray]:
    """Regions that the mesh tells by itself, in rows of the head."""
    layout = clone.layout
    pieces = {
        "left_eyeball": layout.eyeball("left"),
        "right_eyeball": layout.eyeball("right"),
        "mouth_interior": layout.rows("mouth_socket"),
    }
    found = {name: np.flatnonzero(np.isin(used, rows)) for name, rows in pieces.items()}
    below = np.flatnonzero(clone.neutral[used, 1] < rig.joints[_NECK, 1])
    found["boundary"] = rim(faces, below)
    return {f"regions.{name}": rows for name, rows in found.items() if len(rows)}
