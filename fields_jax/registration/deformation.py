"""ARKit's shapes of one head given to another: deformation transfer, in numpy.

The source's shapes are carried to the other head's mesh, where they are S_0 at rest and S_k. Not
their displacements are copied, which belong to another face, but how each triangle is turned,
stretched and sheared: Q with Q [a, b, n] = [a', b', n'] of two edges and a normal of constant
length (Sumner and Popovic 2004). The displacements d of the other head h are those that come
nearest to this, in the form of a membrane's energy (Botsch, Sumner, Pauly and Gross 2006),

    sum_t c_t sum_ij w_ij |d_j - d_i - (Q_t - I)(h_j - h_i)|^2  +  sum_v m_v p_v |d_v - s_v|^2,

with w the cotangent weights, c the confidence in the correspondence, and a weak pull p to the
source's displacement s brought to the other head's size, so that lips which are far apart along the
mesh still meet. Vertices that no shape moves hold. The matrix is the same for all shapes.

Eyeballs turn about the head's own joints, lids clear them; teeth and other parts that hang on no
skin keep their form and follow jaw or skin. What a head has joints or lids of its own for is left
to these: jawOpen is the turn of its jaw that comes nearest to the source's shape, eyeBlink its
closed lids.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sparse
from jaxtyping import Float, Int
from scipy.sparse.csgraph import connected_components
from scipy.sparse.linalg import splu
from scipy.spatial import KDTree
from scipy.spatial.transform import Rotation

from fields_jax import arkit
from fields_jax.errors import UserError
from fields_jax.flame.eyes import eyeballs
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.registration.eyes import EYE_JOINTS, clear_eyes, eye_turns
from fields_jax.registration.movement import jaw_opened, jaw_travel, movable
from fields_jax.registration.surfaces import Correspondence, carry
from fields_jax.types import PARTS, FlameModel

# Lengths in metres, found by trial on three heads.
_STILL = 5e-5  # what moves less in all shapes holds
_PULL = 0.03  # details of the displacement larger than about this keep to the source's
_HELD = 1e4  # how much more strongly vertices that hold are pulled
_UNSURE = 0.02  # what a triangle without confidence counts
# Edges and heights below this share of the head's own are too short to tell how a triangle turns.
_SLIVER = 0.1
_COTANGENTS = 0.05, 5.0
_JAW_SHAPES = ("jawForward", "jawRight", "jawLeft", "jawOpen")
_OF_THE_JAW = 0.5  # skinning weight of the jaw from which rigid parts go with it
_NEIGHBOURS = 6


def with_arkit(
    head: FlameModel,
    source: FlameModel,
    correspondence: Correspondence,
    *,
    own: bool = True,
) -> FlameModel:
    """The head with the source's ARKit shapes; tongueOut is 0 where neither has a tongue.

    Args:
      head: any; shapes that it has are replaced.
      source: with `arkit_basis`.
      correspondence: where each vertex of the head lies on the source.
      own: jawOpen and eyeBlink are those of the head's own jaw and lids, where it has them.

    Raises:
      UserError: the source has no shapes, or the correspondence is of other heads or unsure of the
        whole face.
    """
    if source.arkit_basis is None:
        raise UserError(f"head {source.name} has no ARKit shapes to give to another")
    if len(correspondence.face_index) != len(head.template):
        raise UserError(
            f"a correspondence of {len(correspondence.face_index)} vertices for head {head.name}, "
            f"which has {len(head.template)}"
        )
    placed = _placed(head, source, correspondence)
    moved = np.zeros((len(head.template), 3, len(arkit.NAMES)))
    skin = _with_skin(head)
    moved[skin] = _transferred(placed, np.asarray(head.faces), skin)
    loose = np.setdiff1d(np.arange(len(moved)), skin)
    _move_loose(head, source, placed, moved, loose)
    _turn_eyes(head, source, placed, moved)
    if own:
        _keep_own(head, moved)
    clear_eyes(head, moved)
    return head.replace(arkit_basis=moved.astype(np.float32))


class _Placed(NamedTuple):
    """Source and head in one topology, and one size and pose.

    Attributes:
      own: [V, 3] the head at rest, metres.
      rest: [V, 3] the source there.
      moved: [V, 3, 52] its displacements.
      confidence: [V].
      rotation, scale: from the source's frame to the head's.
    """

    own: Float[np.ndarray, "V 3"]
    rest: Float[np.ndarray, "V 3"]
    moved: Float[np.ndarray, "V 3 52"]
    confidence: Float[np.ndarray, " V"]
    rotation: Float[np.ndarray, "3 3"]
    scale: float


def _placed(head: FlameModel, source: FlameModel, correspondence: Correspondence) -> _Placed:
    faces = np.asarray(source.faces)
    own = np.asarray(head.template, np.float64)
    rest = carry(correspondence, faces, np.asarray(source.template, np.float64))
    moved = carry(correspondence, faces, np.asarray(source.arkit_basis, np.float64))
    face = np.asarray(head.face_vertices)
    sure = face[correspondence.confidence[face] > 0.5]
    if len(sure) < 3:
        raise UserError(f"no point of the face of head {head.name} is known on head {source.name}")
    rotation, _, scale = rigid_motion(rest[sure], own[sure])
    middle = rest[sure].mean(0)
    rest = scale * (rest - middle) @ rotation.T + own[sure].mean(0)
    moved = scale * np.einsum("kl,vlc->vkc", rotation, moved)
    return _Placed(own, rest, moved, correspondence.confidence, rotation, scale)


def _with_skin(head: FlameModel) -> Int[np.ndarray, " N"]:
    """Vertices that hang together with the skin, eyeballs left out."""
    faces, parts = np.asarray(head.faces), np.asarray(head.face_parts)
    faces = faces[parts != PARTS.index("eyes")]
    count = len(head.template)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = sparse.coo_array((np.ones(len(edges)), edges.T), shape=(count, count))
    _, piece = connected_components(graph, directed=False)
    skin = np.asarray(head.faces)[parts == PARTS.index("skin")]
    balls = np.concatenate(eyeballs(head))
    return np.setdiff1d(np.flatnonzero(np.isin(piece, piece[skin])), balls)


def _transferred(
    placed: _Placed, faces: Int[np.ndarray, "F 3"], rows: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "N 3 52"]:
    """Displacements of the vertices that hang together with the skin."""
    faces = np.searchsorted(rows, faces[np.isin(faces, rows).all(1)])
    own, rest, moved, confidence = (
        array[rows] for array in (placed.own, placed.rest, placed.moved, placed.confidence)
    )
    shapes = moved.shape[-1]
    corners, area = own[faces], _areas(own, faces)
    scale = np.sqrt(area.mean())
    strain = _strains(rest[faces], moved[faces], corners)
    weight = _UNSURE + (1 - _UNSURE) * confidence[faces].min(1)
    edges, wanted, stiffness = [], [], []
    for k in range(3):
        i, j = (k + 1) % 3, (k + 2) % 3
        edges.append(faces[:, [i, j]])
        wanted.append(np.einsum("fklc,fl->fkc", strain, corners[:, j] - corners[:, i]))
        stiffness.append(weight * _cotangents(corners, k) / 2)
    edges, wanted, stiffness = (np.concatenate(parts) for parts in (edges, wanted, stiffness))
    row = np.arange(len(edges))
    ends = (np.concatenate([row, row]), np.concatenate([edges[:, 1], edges[:, 0]]))
    signs = np.repeat([1.0, -1.0], len(edges))
    along = sparse.csr_array((signs, ends), shape=(len(edges), len(rows)))
    drawn = along.T @ sparse.diags_array(stiffness)
    mass = np.bincount(faces.ravel(), np.repeat(area / 3, 3), len(rows)) + 1e-9 * scale**2
    still = np.linalg.norm(moved, axis=1).max(-1) < _STILL
    pull = mass / _PULL**2 * np.where(still, _HELD, confidence + 1e-6)
    matrix = drawn @ along + sparse.diags_array(pull)
    right = drawn @ wanted.reshape(len(edges), -1)
    right += pull[:, None] * np.where(still[:, None, None], 0, moved).reshape(len(rows), -1)
    # Symmetric and positive: pivoting would only make the factors larger.
    factors = splu(
        matrix.tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    )
    solved = factors.solve(right).reshape(len(rows), 3, shapes)
    return solved * moved.any((0, 1))  # a shape that moves nothing still moves nothing


def _areas(vertices: Float[np.ndarray, "V 3"], faces: Int[np.ndarray, "F 3"]) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def _strains(
    rest: Float[np.ndarray, "F 3 3"],
    moved: Float[np.ndarray, "F 3 3 52"],
    own: Float[np.ndarray, "F 3 3"],
) -> Float[np.ndarray, "F 3 3 52"]:
    """Q - I of each triangle and shape.

    Args:
      rest: corners [F, corner, xyz] of the source's triangles.
      moved: their displacements.
      own: corners of the head's triangles, which say what is too small.
    """
    frame = _frames(rest)
    least = _SLIVER * np.linalg.norm(_frames(own)[..., 2], axis=1, keepdims=True)
    # [a, b, n]^-1, but for directions in which the triangle is too short to tell.
    left, size, right = np.linalg.svd(frame)
    inverse = np.einsum("fki,fk,flk->fil", right, size**3 / (size**4 + least**4), left)
    change = np.stack(
        [
            _frames(rest + moved[..., shape]) - frame if moved[..., shape].any() else 0 * frame
            for shape in range(moved.shape[-1])
        ],
        axis=-1,
    )
    return np.einsum("fkic,fil->fklc", change, inverse)


def _frames(corners: Float[np.ndarray, "F 3 3"]) -> Float[np.ndarray, "F 3 3"]:
    """Columns: two edges, and a normal as long as the root of the edges' parallelogram."""
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    normal = np.cross(one, two)
    length = np.linalg.norm(normal, axis=1, keepdims=True)
    return np.stack([one, two, normal / np.sqrt(np.maximum(length, 1e-30))], axis=-1)


def _cotangents(corners: Float[np.ndarray, "F 3 3"], k: int) -> Float[np.ndarray, " F"]:
    """Of the angle at a corner."""
    one, two = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
    doubled = np.linalg.norm(np.cross(one, two), axis=1)
    return np.clip((one * two).sum(1) / np.maximum(doubled, 1e-30), *_COTANGENTS)


def _move_loose(
    head: FlameModel,
    source: FlameModel,
    placed: _Placed,
    moved: Float[np.ndarray, "V 3 52"],
    loose: Int[np.ndarray, " L"],
) -> None:
    """Parts that hang on no skin: teeth and gums go with the jaw, others with the skin nearby."""
    if not len(loose):
        return
    rigid = np.isin(loose, _vertices_of(head, "teeth", "gums"))
    soft = np.setdiff1d(loose[~rigid], np.concatenate(eyeballs(head)))
    skin = _vertices_of(head, "skin")
    if len(soft):
        distance, near = KDTree(placed.own[skin]).query(placed.own[soft], _NEIGHBOURS)
        weight = 1 / np.maximum(distance, 1e-6) ** 2
        weight /= weight.sum(1, keepdims=True)
        moved[soft] = np.einsum("vn,vnkc->vkc", weight, moved[skin[near]])
    jaw = head.joint("jaw")
    if jaw is None or not rigid.any():
        return
    weights = np.asarray(head.skin_weights)[:, jaw]
    rows = loose[rigid]
    # The jaw's motion is told by the source's lower teeth, or where it has none, by the chin.
    source_jaw, teeth = source.joint("jaw"), _vertices_of(source, "teeth")
    if source_jaw is not None:
        teeth = teeth[np.asarray(source.skin_weights)[teeth, source_jaw] > _OF_THE_JAW]
    known = source_jaw is not None and len(teeth) >= 3
    chin = skin[weights[skin] > 0.9 * weights[skin].max()]
    for name in _JAW_SHAPES:
        column = arkit.NAMES.index(name)
        if known:
            rest = np.asarray(source.template, np.float64)[teeth]
            there = rest + np.asarray(source.arkit_basis, np.float64)[teeth, :, column]
            rest, there = (placed.scale * points @ placed.rotation.T for points in (rest, there))
        else:
            rest = placed.own[chin]
            there = rest + moved[chin, :, column]
        turn, _, _ = rigid_motion(rest, there)
        # About the middle of what told the motion; where that lies on the head, chin and teeth do.
        centre = placed.own[rows[weights[rows] > _OF_THE_JAW]] if known else rest
        if not len(centre):
            continue
        centre, shift = centre.mean(0), (there - rest).mean(0)
        turned = (placed.own[rows] - centre) @ (turn - np.eye(3)).T + shift
        moved[rows, :, column] = weights[rows, None] * turned


def _turn_eyes(
    head: FlameModel, source: FlameModel, placed: _Placed, moved: Float[np.ndarray, "V 3 52"]
) -> None:
    """Eyeballs turn as the source's do, in the head's frame and each about its own joint."""
    joints = np.asarray(head.joint_regressor, np.float64) @ np.asarray(head.template, np.float64)
    weights, own = np.asarray(head.skin_weights), np.asarray(head.template)
    turns = eye_turns(source) @ placed.rotation.T
    for side, rows in enumerate(eyeballs(head)):
        moved[rows] = 0
        for column in np.flatnonzero(turns[:, side].any(1)) if len(rows) else ():
            joint = head.joint(EYE_JOINTS[side])
            offset = own[rows] - joints[joint]
            turned = Rotation.from_rotvec(turns[column, side]).apply(offset) - offset
            moved[rows, :, column] = weights[rows, joint, None] * turned


def _keep_own(head: FlameModel, moved: Float[np.ndarray, "V 3 52"]) -> None:
    """The head's own jawOpen and eyeBlink in place of those of the source.

    jawOpen and mouthClose together remain what they were: closed lips.
    """
    for side, lid in zip(("Left", "Right"), np.asarray(head.eyelid_basis), strict=True):
        if lid.any():
            moved[..., arkit.NAMES.index(f"eyeBlink{side}")] = lid
    opened, closed = (moved[..., arkit.NAMES.index(name)] for name in ("jawOpen", "mouthClose"))
    points = movable(head, np.arange(len(moved)), 0)
    face = np.asarray(head.face_vertices)
    travel = jaw_travel(points[face], opened[face].astype(np.float32))
    if travel > 0:
        turned = np.asarray(jaw_opened(points, travel), np.float64)
        if closed.any():
            closed += opened - turned
        opened[:] = turned


def _vertices_of(head: FlameModel, *parts: str) -> Int[np.ndarray, " N"]:
    chosen = np.isin(np.asarray(head.face_parts), [PARTS.index(part) for part in parts])
    return np.unique(np.asarray(head.faces)[chosen])
