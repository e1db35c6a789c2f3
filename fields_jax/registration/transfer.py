"""Codes of one head as codes of another: the same face, by least squares over the same points.

First the identity: the other head's shape, and the motion between the two heads' frames, such that
its neutral face lies on that of the codes. Then, of that identity, the jaw, lids and expression
whose movement away from the neutral face is the same. Neutral codes so stay neutral, and what the
registration of the heads is wrong by does not come out as an expression.
"""

from __future__ import annotations

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int
from scipy.spatial.transform import Rotation

from fields_jax.errors import UserError
from fields_jax.fitting.parameters import Layout, prior
from fields_jax.fitting.rig import point_rig
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.landmark_schemes import INNER_68
from fields_jax.registration.heads import SURE, Pair, correspond, same_vertices
from fields_jax.registration.transfer_solvers import (
    SLITS,
    Face,
    Identity,
    Points,
    identity_products,
    movement_products,
    solve_identities,
    solve_movements,
)
from fields_jax.types import PARTS, FlameCoefficients, FlameModel, LandmarkEmbedding

_LEAST = 0.1  # confidence of points that count at all
# What the eyeballs, which must stay under the lids, weigh beside the face; and which of their
# vertices are taken, every fourth.
_EYES, _EVERY_EYE = 0.08, 4
_SLIT = 30.0  # points that each difference across a slit counts as
_NOISE, _NOISE_SAME = 1.0, 0.05  # millimetres


@dataclasses.dataclass(frozen=True)
class Settings:
    """How to transfer.

    Attributes:
      clip: the faces are of one person, who gets one shape: that of the mean shape code.
      n_shape, n_expression: how many of the other head's components are used; None for all.
      noise_mm: standard deviation of the points that are to agree, against which the other head's
        priors are weighed; None: 1 for registered heads, found by trial, and 0.05 for heads of the
        same triangles.
      independent: how many points the face's vertices, whose errors are alike, count as.
      batch_size: faces solved at once.
    """

    clip: bool = False
    n_shape: int | None = None
    n_expression: int | None = None
    noise_mm: float | None = None
    independent: float = 300.0
    batch_size: int = 16


class Transferred(NamedTuple):
    """Faces of the other head.

    Attributes:
      coefficients: with pose and camera such that the projected face stays where it was.
      error_mm: [B, 2] distance of the points of the two faces: mean and 95th percentile.
    """

    coefficients: FlameCoefficients
    error_mm: Float[np.ndarray, "B 2"]


def transfer(
    codes: FlameCoefficients,
    a: FlameModel,
    b: FlameModel,
    pair: Pair | None = None,
    settings: Settings | None = None,
) -> Transferred:
    """The same faces on another head.

    Args:
      codes: of head `a`, B faces; shape and expression may be shorter than its bases.
      a: the head of the codes.
      b: the other head.
      pair: their correspondence; None: they are registered here, which takes a minute.
      settings: None for the defaults.

    Raises:
      UserError: codes that are not finite or longer than the head's, or heads that cannot be
        registered.
    """
    settings = settings or Settings()
    count = len(codes.expression)
    people = np.zeros(count, np.int64) if settings.clip else np.arange(count)
    counts = Layout(codes.expression.shape[-1], codes.shape.shape[-1])
    _check_finite(codes)
    return Transfer(a, b, counts, pair or correspond(a, b), settings)(codes, people)


class Transfer:
    """From one head to another, with the tables made once for any number of faces."""

    def __init__(
        self,
        a: FlameModel,
        b: FlameModel,
        counts: Layout,
        pair: Pair,
        settings: Settings | None = None,
    ):
        """Makes the tables.

        Args:
          a: the head of the codes.
          b: the other head.
          counts: expression and shape components of the codes.
          pair: the correspondence of the heads.
          settings: None for the defaults; `clip` does not matter here.

        Raises:
          UserError: more components than the heads have.
        """
        settings = settings or Settings()
        asked = (settings.n_expression, settings.n_shape)
        self._layout = Layout(
            *(
                basis.shape[-1] if count is None else count
                for count, basis in zip(asked, (b.expression_basis, b.shape_basis), strict=True)
            )
        )
        self._batch_size = settings.batch_size
        necks = tuple(head.joint("neck") is not None for head in (a, b))
        self._skulls = _joints(a, counts), _joints(b, self._layout), necks
        self._points, self._sure = _points(counts, a, b, pair, self._layout, settings)
        moving = _with_slits(self._points, counts, a, b, self._layout)
        self._prior = prior(b, self._layout, jnp.float32)
        self._points, self._moving, self._prior = jax.device_put(
            (self._points, moving, self._prior)
        )
        self._of_identities = identity_products(self._points, self._layout)
        self._of_movements = movement_products(self._moving, self._layout)

    def __call__(self, codes: FlameCoefficients, people: Int[np.ndarray, " B"]) -> Transferred:
        """The faces on the other head.

        Args:
          codes: of B faces, with as many components as the tables are for.
          people: whose face each is; faces of one person get one shape, that of their mean code.

        Raises:
          UserError: codes that are not finite.
        """
        _check_finite(codes)
        shapes = np.asarray(codes.shape, np.float32)
        names, person = np.unique(people, return_inverse=True)
        means = np.stack([shapes[person == row].mean(0) for row in range(len(names))])
        found = _in_batches(
            lambda *of: solve_identities(
                self._points, self._of_identities, self._prior, self._layout, *of
            ),
            (means, _starts(self._points, means)),
            self._batch_size,
        )
        identities = jax.tree.map(lambda leaf: leaf[person], found)
        rest = (np.asarray(getattr(codes, name)) for name in ("expression", "jaw", "eyelid"))
        moved = _in_batches(
            lambda *of: solve_movements(
                self._moving, self._of_movements, self._prior, self._layout, *of
            ),
            (Face(means[person], *rest), identities),
            self._batch_size,
        )
        coefficients = FlameCoefficients(
            shape=identities.shape,
            expression=moved.expression,
            jaw=moved.jaw,
            eyelid=moved.eyelid,
            pose=codes.pose,
            camera=codes.camera,
            neck=codes.neck,
            eyes=codes.eyes,
        )
        distance = 1e3 * moved.distance[:, self._sure]
        error = np.stack([distance.mean(1), np.percentile(distance, 95, axis=1)], axis=1)
        return Transferred(_placed(codes, coefficients, *self._skulls, identities), error)


def _check_finite(codes: FlameCoefficients) -> None:
    for name, value in vars(codes).items():
        if value is not None and not np.isfinite(value).all():
            raise UserError(f"{name} of the codes to transfer holds numbers that are not finite")


def _points(
    counts: Layout,
    a: FlameModel,
    b: FlameModel,
    pair: Pair,
    layout: Layout,
    settings: Settings,
) -> tuple[Points, np.ndarray]:
    """Vertices of b's face and eyeballs, where they are on a, and the sure ones of the face."""
    face, there = np.asarray(b.face_vertices), pair.backward
    balls = np.asarray(b.faces)[np.asarray(b.face_parts) == PARTS.index("eyes")]
    balls = np.setdiff1d(balls, face)[::_EVERY_EYE]
    if not (there.confidence[face] > SURE).any():
        raise UserError(f"no point of the face of head {b.name} is known on head {a.name}")
    rows, weight = [], []
    for group, share in ((face, 1.0), (balls, _EYES)):
        group = group[there.confidence[group] > _LEAST]
        confidence = there.confidence[group]
        rows.append(group)
        weight.append(share * settings.independent * confidence / max(confidence.sum(), 1e-9))
    rows, sure = np.concatenate(rows), len(rows[0])
    sure = (there.confidence[rows] > SURE) & (np.arange(len(rows)) < sure)
    same = same_vertices(np.asarray(b.faces), len(b.template))
    on_a, on_b = (
        LandmarkEmbedding(
            face_index=on.face_index[rows], barycentric=on.barycentric[rows].astype(np.float32)
        )
        for on in (there, same)
    )
    noise_mm = settings.noise_mm
    if noise_mm is None:
        noise_mm = _NOISE_SAME if pair.forward is pair.backward else _NOISE
    points = Points(
        a=point_rig(a, on_a, *counts),
        b=point_rig(b, on_b, *layout),
        weight=np.concatenate(weight).astype(np.float32),
        noise=np.float32(1e-3 * noise_mm),
    )
    return points, sure


def _with_slits(
    points: Points, counts: Layout, a: FlameModel, b: FlameModel, layout: Layout
) -> Points:
    """The points, and the differences across the slits of eyes and mouth as further ones."""
    upper, lower = np.array(SLITS).T - INNER_68.start
    rigs = []
    for rig, head, used in ((points.a, a, counts), (points.b, b, layout)):
        inner = vars(point_rig(head, head.static_51, *used))
        rows = {
            name: np.concatenate([value, inner[name][upper] - inner[name][lower]])
            for name, value in vars(rig).items()
            if not name.startswith("joint_")
        }
        rigs.append(rig.replace(**rows))
    weight = np.concatenate([points.weight, np.full(len(SLITS), _SLIT, np.float32)])
    return points._replace(a=rigs[0], b=rigs[1], weight=weight)


def _starts(points: Points, people: Float[np.ndarray, "B S"]) -> Float[np.ndarray, "B 6"]:
    """Turn and shift of b's mean face onto each neutral face of a."""
    basis = np.asarray(points.a.basis)
    basis = basis[..., basis.shape[-1] - people.shape[1] :]
    neutral = np.asarray(points.a.mean)[None] + np.tensordot(people, basis, axes=(1, 2))
    mean, rows = np.asarray(points.b.mean, np.float64), []
    for face in np.asarray(neutral, np.float64):
        rotation, shift, _ = rigid_motion(mean, face)
        rows.append(np.concatenate([Rotation.from_matrix(rotation).as_rotvec(), shift]))
    return np.array(rows, np.float32)


def _in_batches(solve: Any, arrays: Any, size: int) -> Any:
    """Solves rows in batches of few sizes, the last filled up: a program is compiled for each."""
    count = len(jax.tree.leaves(arrays)[0])
    size = min(size, 1 << (count - 1).bit_length())
    parts = []
    for start in range(0, count, size):
        rows = np.minimum(np.arange(start, start + size), count - 1)
        parts.append(jax.device_get(solve(*jax.tree.map(lambda leaf, r=rows: leaf[r], arrays))))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:count], *parts)


def _placed(
    codes: FlameCoefficients,
    moved: FlameCoefficients,
    a: _Joints,
    b: _Joints,
    necks: tuple[bool, bool],
    identities: Identity,
) -> FlameCoefficients:
    """The coefficients with pose, neck, eyes and camera that leave the projected skull in place.

    A point y of b's skull at rest is R y + t in the frame of a; there the skull of a moves it to
    S (R y + t) + c. So b's skull turns by S R, and the camera makes up for the shift between.
    `necks` says which of the two heads have one.
    """
    count = len(codes.pose)
    between = Rotation.from_rotvec(np.asarray(identities.turn, np.float64))
    rest = np.zeros((count, 3))
    root = Rotation.from_rotvec(np.asarray(codes.pose, np.float64))
    nod = Rotation.from_rotvec(rest if codes.neck is None else np.asarray(codes.neck, np.float64))
    if not necks[0]:
        nod = Rotation.from_rotvec(rest)
    # The neck of b, where it has one, does what that of a does.
    bent = between.inv() * nod * between if necks[1] else Rotation.from_rotvec(rest)
    turned = root * nod * between * bent.inv()
    place = _skull_shift(a, codes, root, nod)
    place += (root * nod).apply(np.asarray(identities.shift, np.float64))
    shift = place - _skull_shift(b, moved, turned, bent)
    camera = np.asarray(codes.camera, np.float64)
    camera = np.concatenate([camera[:, :1], camera[:, 1:] + shift[:, :2]], axis=1)
    eyes = None
    if codes.eyes is not None:
        pairs = np.asarray(codes.eyes, np.float64).reshape(count, 2, 3)
        eyes = np.stack([between.inv().apply(pairs[:, side]) for side in (0, 1)], axis=1)
        eyes = eyes.reshape(count, 6).astype(np.float32)
    return moved.replace(
        pose=turned.as_rotvec().astype(np.float32),
        camera=camera.astype(np.float32),
        neck=None if codes.neck is None else bent.as_rotvec().astype(np.float32),
        eyes=eyes,
    )


class _Joints(NamedTuple):
    """How root and neck of a head move with its coefficients, for as many as are used.

    Attributes:
      mean: [2, 3] at rest, metres.
      shape: [2, 3, S].
      expression: [2, 3, E].
    """

    mean: Float[np.ndarray, "2 3"]
    shape: Float[np.ndarray, "2 3 S"]
    expression: Float[np.ndarray, "2 3 E"]


def _joints(head: FlameModel, counts: Layout) -> _Joints:
    rows = [head.joint(role) or 0 for role in ("root", "neck")]
    regressor = np.asarray(head.joint_regressor, np.float64)[rows]
    return _Joints(
        regressor @ np.asarray(head.template, np.float64),
        np.tensordot(regressor, np.asarray(head.shape_basis)[..., : counts.n_shape], axes=1),
        np.tensordot(
            regressor, np.asarray(head.expression_basis)[..., : counts.n_expression], axes=1
        ),
    )


def _skull_shift(
    joints: _Joints, codes: FlameCoefficients, root: Rotation, neck: Rotation
) -> Float[np.ndarray, "B 3"]:
    """The translation of a skull that turns about the root, and about the neck joint before."""
    shape, expression = (
        np.asarray(getattr(codes, name), np.float64) for name in ("shape", "expression")
    )
    o, n = (
        mean[None] + shape @ by_shape.T + expression @ by_expression.T
        for mean, by_shape, by_expression in zip(*joints, strict=True)
    )
    return root.apply(n - neck.apply(n) - o) + o
