"""Dense correspondence of two heads of unlike topology, in numpy.

One head is carried onto the other: by the similarity that fits the landmarks, then by a smooth
displacement that brings landmarks to landmarks and each surface to the closest points of the other,
in rounds in which the stiffness falls (after Allen, Curless and Popovic 2003; Amberg, Romdhani and
Vetter 2007). Then each vertex of either is matched with the other where the two now lie on each
other. Both directions come of one displacement, so that there and back leads home.

Skin is matched with skin alone, eyeballs with eyeballs, teeth with teeth. Eyeballs are carried by
the spheres that fit them, all other parts by the skin about them.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from scipy.spatial import KDTree

from fields_jax.errors import UserError
from fields_jax.geometry.closest_points import closest_points
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.geometry.spheres import fit_sphere
from fields_jax.landmark_schemes import CONTOUR_68
from fields_jax.registration.matching import Match, Oriented, at, match, oriented, unit_normals
from fields_jax.registration.plate import Pulls, displaced, plate, pulls

SKIN, EYES = 0, 1  # rows of types.PARTS
_MM = 1e3  # per metre; all below the interface is in millimetres
_NEIGHBOURS = 6  # vertices of the skin that a vertex of another part moves with
_CERTAIN = 0.5, 2.0  # distances that halve the confidence about, at open edges and elsewhere
_TRIED, _TRIED_LAST = 10, 40  # triangles looked at for each point in rounds, and in the end


@dataclasses.dataclass(frozen=True)
class Surface:
    """A head at rest.

    Attributes:
      vertices: [V, 3] metres; x to the subject's left, y up, z out of the face.
      faces: [F, 3] counter-clockwise seen from outside.
      landmarks: [L, 3] metres, on the skin; the same points in the same order on both heads.
      parts: [F] rows of `types.PARTS`, or None where all is skin.
      corners: [L, 3] vertices that each landmark lies between and `weights` [L, 3] of theirs; None
        for the closest point of the skin, which between closed lips may be on the wrong one.
    """

    vertices: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]
    landmarks: Float[np.ndarray, "L 3"]
    parts: Int[np.ndarray, " F"] | None = None
    corners: Int[np.ndarray, "L 3"] | None = None
    weights: Float[np.ndarray, "L 3"] | None = None


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to register. Lengths in millimetres, found by trial on three heads.

    Attributes:
      lengths: details of the displacement finer than this are smoothed away; one for each level.
      rounds: of matching and solving at each level.
      reach: matches further than this count less than half, at the first and at the last level.
      turn: the distance that normals at a right angle count as.
      landmark: how strongly each landmark pulls, as an area of skin in squared lengths of the
        level: a plate on springs yields to a point by its force over 8 squared lengths.
      contour: the same of the 17 points along the jaw, as a share: heads differ in where on the
        jaw they have them.
    """

    lengths: tuple[float, ...] = (60.0, 30.0, 16.0, 9.0, 5.0, 3.0)
    rounds: int = 4
    reach: tuple[float, float] = (12.0, 4.0)
    turn: float = 5.0
    landmark: float = 60.0
    contour: float = 0.1


@dataclasses.dataclass(frozen=True)
class Correspondence:
    """Where each vertex of a source lies on a target.

    Attributes:
      face_index: [V] row of the target's faces.
      barycentric: [V, 3] weights of its corners.
      confidence: [V] in [0, 1]: 1 where the surfaces lay on each other, 0 for parts that the target
        lacks.
    """

    face_index: Int[np.ndarray, " V"]
    barycentric: Float[np.ndarray, "V 3"]
    confidence: Float[np.ndarray, " V"]


def carry(
    correspondence: Correspondence,
    target_faces: Int[np.ndarray, "F 3"],
    values: Float[np.ndarray, "T ..."],
) -> Float[np.ndarray, "V ..."]:
    """Values of the target's vertices at the places of the source's vertices."""
    place = correspondence.face_index, correspondence.barycentric
    return at(np.asarray(values), np.asarray(target_faces), *place)


def register(source: Surface, target: Surface, settings: Settings | None = None) -> Correspondence:
    """Where each vertex of the source lies on the target.

    Raises:
      UserError: heads whose landmarks differ in number, or without skin.
    """
    return register_both(source, target, settings)[0]


def register_both(
    source: Surface, target: Surface, settings: Settings | None = None
) -> tuple[Correspondence, Correspondence]:
    """The same for both directions, of one displacement; see `register`."""
    settings = settings or Settings()
    pair = [_checked(source), _checked(target)]
    if len(source.landmarks) != len(target.landmarks):
        counts = f"{len(source.landmarks)} and {len(target.landmarks)}"
        raise UserError(f"heads with {counts} landmarks: registration needs the same points")
    # The head with fewer vertices is the one that moves, whichever is the source.
    order = [0, 1] if _key(pair[0]) <= _key(pair[1]) else [1, 0]
    moving, fixed = (pair[i] for i in order)
    moving = _aligned(moving, fixed)
    moved = _carried_parts(moving, fixed, _deformed_skin(moving, fixed, settings))
    found = [None, None]
    moved = dataclasses.replace(moving, vertices=moved)
    found[order[0]] = _correspondence(moved, fixed, settings.turn)
    found[order[1]] = _correspondence(fixed, moved, settings.turn)
    return found[0], found[1]


def _key(surface: Surface) -> tuple[int, bytes]:
    return len(surface.vertices), surface.vertices.tobytes()


def _checked(surface: Surface) -> Surface:
    """The surface in float64 and millimetres, with all that it may leave out."""
    faces = np.asarray(surface.faces).astype(np.int64)
    parts = np.zeros(len(faces), int) if surface.parts is None else np.asarray(surface.parts)
    vertices = _MM * np.asarray(surface.vertices, np.float64)
    landmarks = _MM * np.asarray(surface.landmarks, np.float64)
    if not (parts == SKIN).any():
        raise UserError("a head without skin cannot be registered")
    if not (np.isfinite(vertices).all() and np.isfinite(landmarks).all()):
        raise UserError("a head whose vertices or landmarks are not finite cannot be registered")
    if surface.corners is None:
        skin = faces[parts == SKIN]
        closest = closest_points(vertices, skin, landmarks)
        corners, weights = skin[closest.face], closest.barycentric
    else:
        corners, weights = np.asarray(surface.corners), np.asarray(surface.weights, np.float64)
    return Surface(vertices, faces, landmarks, parts, corners, weights)


def _aligned(moving: Surface, fixed: Surface) -> Surface:
    """The moving head in the fixed one's place, pose and size."""
    inner = _inner(len(fixed.landmarks))
    a, b = moving.landmarks[inner], fixed.landmarks[inner]
    rotation, _, scale = rigid_motion(a, b)

    def placed(points):
        return scale * (points - a.mean(0)) @ rotation.T + b.mean(0)

    return dataclasses.replace(
        moving, vertices=placed(moving.vertices), landmarks=placed(moving.landmarks)
    )


def _inner(count: int) -> np.ndarray:
    """Landmarks that are points of anatomy: of the 68 all but the contour."""
    inner = np.ones(count, bool)
    if count == 68:
        inner[CONTOUR_68] = False
    return inner


def _deformed_skin(
    moving: Surface, fixed: Surface, settings: Settings
) -> tuple[Int[np.ndarray, " K"], Float[np.ndarray, "K 3"]]:
    """The moving head's vertices of skin, and where on the fixed one's they come to lie."""
    skin, target = _part(moving, SKIN), _part(fixed, SKIN).mesh
    rest, corners = skin.mesh, skin.row_of(moving.corners)
    tables = plate(rest.vertices, rest.faces)
    share = np.where(_inner(len(moving.landmarks)), 1.0, settings.contour)
    gap = fixed.landmarks - (moving.weights[..., None] * rest.vertices[corners]).sum(1)
    moved = np.zeros_like(rest.vertices)
    levels = len(settings.lengths)
    for level, length in enumerate(settings.lengths):
        reach = np.geomspace(*settings.reach, levels)[level]
        area = settings.landmark * length**2 * share
        landmarks = pulls(corners, moving.weights, area, gap, len(rest.vertices))
        if level == 0:
            nothing = np.zeros(len(rest.vertices))
            moved = displaced(tables, nothing, moved, [landmarks], length)
        for _ in range(settings.rounds):
            onward, backward = _drawn(rest, target, moved, settings.turn, reach)
            moved = displaced(tables, *onward, [landmarks, backward], length)
    return skin.vertices, rest.vertices + moved


def _drawn(
    rest: Oriented, target: Oriented, moved: Float[np.ndarray, "K 3"], turn: float, reach: float
) -> tuple[tuple[np.ndarray, np.ndarray], Pulls]:
    """What draws the moving skin to the closest points: from its vertices, and to the target's."""
    now = rest.vertices + moved
    normals = unit_normals(now, rest.faces)
    there = match(target, now, normals, turn, _TRIED)
    back = match(
        rest._replace(vertices=now, normals=normals), target.vertices, target.normals, turn, _TRIED
    )
    corners = rest.faces[back.face]
    displacement = at(moved, rest.faces, back.face, back.barycentric) - back.offset
    area = plate_area(target) * _trust(back, reach)
    backward = pulls(corners, back.barycentric, area, displacement, len(now))
    return (_trust(there, reach), moved + there.offset), backward


def plate_area(mesh: Oriented) -> Float[np.ndarray, " V"]:
    """A third of the area of the triangles around each vertex."""
    a, b, c = (mesh.vertices[mesh.faces[:, k]] for k in range(3))
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2
    return np.bincount(mesh.faces.ravel(), np.repeat(area / 3, 3), len(mesh.vertices))


def _trust(found: Match, reach: float) -> Float[np.ndarray, " Q"]:
    """Weights of matches: less with distance (Geman and McClure's), none at open edges or where
    the normals are more than 60 degrees apart.
    """
    near = (1 + (found.offset**2).sum(1) / reach**2) ** -2
    return near * np.clip(2 * found.facing - 1, 0, 1) * ~found.border


class _Part(NamedTuple):
    """A part of a head: the rows of its vertices and faces, and the mesh they make."""

    vertices: Int[np.ndarray, " K"]
    faces: Int[np.ndarray, " G"]
    mesh: Oriented

    def row_of(self, vertices: Int[np.ndarray, "*N"]) -> Int[np.ndarray, "*N"]:
        """Vertices of the head as vertices of the part."""
        return np.searchsorted(self.vertices, vertices)


def _part(head: Surface, part: int, side: int = 0) -> _Part:
    """A part of a head, all of it or what lies on the subject's left (1) or right (-1)."""
    chosen = head.parts == part
    if side:
        middle = head.landmarks[:, 0].mean()
        chosen &= side * (head.vertices[head.faces].mean(1)[:, 0] - middle) > 0
    used = np.unique(head.faces[chosen])
    faces = np.searchsorted(used, head.faces[chosen])
    return _Part(used, np.flatnonzero(chosen), oriented(head.vertices[used], faces))


def _carried_parts(
    moving: Surface, fixed: Surface, skin: tuple[np.ndarray, np.ndarray]
) -> Float[np.ndarray, "V 3"]:
    """All vertices of the moving head where they belong on the fixed one."""
    rows, places = skin
    rest = moving.vertices
    moved = rest.copy()
    moved[rows] = places
    others = np.setdiff1d(np.arange(len(rest)), rows)
    if len(others):
        distance, near = KDTree(rest[rows]).query(rest[others], _NEIGHBOURS)
        weight = 1 / np.maximum(distance, 1e-6) ** 2
        weight /= weight.sum(1, keepdims=True)
        moved[others] += (weight[..., None] * (places - rest[rows])[near]).sum(1)
    for side in (1, -1):
        ball, other = (_part(head, EYES, side) for head in (moving, fixed))
        if len(ball.vertices) and len(other.vertices):
            (centre, radius), (to, size) = (fit_sphere(eye.mesh.vertices) for eye in (ball, other))
            moved[ball.vertices] = to + (ball.mesh.vertices - centre) * size / radius
    return moved


def _correspondence(placed: Surface, other: Surface, turn: float) -> Correspondence:
    """Matches of all vertices of a head that lies on another."""
    count = len(placed.vertices)
    face, barycentric = np.zeros(count, np.int32), np.tile([1.0, 0, 0], (count, 1))
    confidence, open_ = np.zeros(count), np.ones(count, bool)
    for part in np.unique(placed.parts):  # the skin first: vertices that it shares belong to it
        for side in (1, -1) if part == EYES else (0,):
            own, counterpart = _part(placed, part, side), _part(other, part, side)
            known = len(counterpart.faces) > 0
            if not known:
                counterpart = _part(other, SKIN)
            wanted = open_[own.vertices]
            rows = own.vertices[wanted]
            points, normals = own.mesh.vertices[wanted], own.mesh.normals[wanted]
            found = match(counterpart.mesh, points, normals, turn, _TRIED_LAST)
            face[rows] = counterpart.faces[found.face]
            barycentric[rows] = found.barycentric
            confidence[rows] = _confidence(found) if known else 0.0
            open_[rows] = False
    return Correspondence(face, barycentric, confidence)


def _confidence(found: Match) -> Float[np.ndarray, " Q"]:
    """1 for surfaces on each other, falling with distance and angle; faster beyond open edges."""
    reach = np.where(found.border, *_CERTAIN)
    near = (1 + (found.offset**2).sum(1) / reach**2) ** -2
    return near * np.clip(2 * found.facing - 1, 0, 1)
