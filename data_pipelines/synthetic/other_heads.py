"""Any head made ready to be rendered: skin, brows and hair of the procedural head, carried over."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, Int

from data_pipelines.synthetic.surface import (
    MOUTH_OPENNESS,
    NOISES,
    SKY_SCALE,
    TEETH_OPENNESS,
    Surface,
    plane_waves,
    sky_openness,
)
from data_pipelines.synthetic.teeth import SHORT, Bite, with_teeth
from fields_jax.flame.procedural import procedural_head
from fields_jax.registration.heads import head_surface
from fields_jax.registration.surfaces import Correspondence, carry
from fields_jax.types import PARTS, FlameModel

_ON_SKIN = ("lips", "brows", "lashes", "lids", "blush", "beard")
_DOUBTED, _SURE = 0.1, 0.4  # confidence up to which skin is plain, from which it is as carried
_BALD = 0.03  # metres from the scalp that plain skin is at least
_GUMS_OPENNESS = 0.25  # of gums and tongue when the mouth is open
_MOUTH_DEPTH = 0.02  # metres by which the light in an open mouth falls to 1 / e
_AROUND = 1.05  # width of the views of a large head, in diagonals of its box
# Where clothes begin, below the chin, in heights of the eyes above it, as on the procedural head;
# and the height of the slice of the neck that is looked at there, metres.
_COLLAR_BELOW, _SLICE = 0.55, 0.012
_CHIN_68, _EYES_68 = 8, slice(36, 48)


def furnished(head: FlameModel, bite: Bite = SHORT) -> FlameModel:
    """The head with what the pictures need: teeth, and where its neck meets the clothes.

    A head without teeth gets strips of them if it has a mouth interior and a jaw. The vertices
    about the neck are the region "boundary", which on heads with shoulders would be too low.
    """
    if not has_part(head, "teeth") and "mouth_interior" in head.regions and head.joint("jaw"):
        head, _ = with_teeth(head, bite)
    height, landmarks = np.asarray(head.template)[:, 1], head_surface(head).landmarks[:, 1]
    below = _COLLAR_BELOW * (landmarks[_EYES_68].mean() - landmarks[_CHIN_68])
    level = max(landmarks[_CHIN_68] - below, height.min())
    neck = np.flatnonzero(abs(height - level) < _SLICE).astype(np.int32)
    return head.replace(regions=head.regions | {"boundary": neck})


def has_part(head: FlameModel, part: str) -> bool:
    """Whether any triangle of the head is of that row of `types.PARTS`."""
    return bool((np.asarray(head.face_parts) == PARTS.index(part)).any())


def carried(head: FlameModel, found: Correspondence, known: Surface) -> Surface:
    """The surface of a head, its skin as that of the procedural head at the same places.

    Where the correspondence is not sure, skin is plain. Eyes, teeth, gums and lashes are those that
    the head says it has, and light reaches it as its own shape lets it.

    Args:
      head: furnished.
      found: where its vertices lie on the procedural head; it may leave out appended ones.
      known: surface of the procedural head.
    """
    points, faces = np.asarray(head.template, np.float64), np.asarray(head.faces)
    parts = {name: _of_part(head, name) for name in PARTS}
    mouth = np.zeros(len(points))
    mouth[np.asarray(head.regions.get("mouth_interior", []), np.int64)] = 1
    for name in ("teeth", "gums"):
        parts[name] = parts[name] * (1 - mouth)
    skin = parts["skin"] * (1 - mouth)
    trust = np.clip((found.confidence - _DOUBTED) / (_SURE - _DOUBTED), 0, 1)
    sure = skin * np.pad(trust, (0, len(points) - len(trust)))

    procedural = procedural_head()
    count = len(procedural.template)

    def over(values):
        there = carry(found, procedural.faces, values[:count])
        return np.concatenate([there, np.zeros((len(points) - len(there), *there.shape[1:]))])

    weight = {name: over(known.weight[name]) * sure for name in _ON_SKIN}
    weight["lashes"] = np.maximum(weight["lashes"], parts["lashes"])
    places = over(known.points)
    return Surface(
        points=points,
        weight=weight
        | {"eyeballs": parts["eyes"], "mouth": mouth}
        | {name: parts[name] for name in ("gums", "teeth")},
        scalp_distance=_scalp_distance(over(known.scalp_distance), sure),
        openness=_openness(head, mouth, parts),
        eye_direction=_eye_directions(head, points, np.unique(faces[_rows(head, "eyes")])),
        waves={kind: plane_waves(places * stretch, w) for kind, (w, stretch) in NOISES.items()},
    )


def _rows(head: FlameModel, part: str) -> Int[np.ndarray, " G"]:
    return np.flatnonzero(np.asarray(head.face_parts) == PARTS.index(part))


def _of_part(head: FlameModel, part: str) -> Float[np.ndarray, " V"]:
    """1 for the vertices of a part."""
    inside = np.zeros(len(head.template))
    inside[np.asarray(head.faces)[_rows(head, part)]] = 1
    return inside


def _scalp_distance(
    there: Float[np.ndarray, " V"], sure: Float[np.ndarray, " V"]
) -> Float[np.ndarray, " V"]:
    """Metres from the border of the scalp; where it is not sure, far enough for no hair."""
    return np.where(sure > 0, there + (1 - sure) * np.maximum(_BALD - there, 0), 1.0)


def _openness(
    head: FlameModel, mouth: Float[np.ndarray, " V"], parts: dict[str, Float[np.ndarray, " V"]]
) -> Float[np.ndarray, " V"]:
    """The sky that the head sees; inside the mouth, as if that were open."""
    template = np.asarray(head.template)
    diagonal = np.linalg.norm(np.ptp(template, axis=0))
    openness = sky_openness(head, min(SKY_SCALE, float(2 / (_AROUND * diagonal))))
    for part, open_ in (("teeth", TEETH_OPENNESS), ("gums", _GUMS_OPENNESS)):
        rows = parts[part] > 0
        if rows.any():
            depth = template[rows, 2].max() - template[rows, 2]
            openness[rows] = open_ * np.exp(-depth / _MOUTH_DEPTH)
    return openness + MOUTH_OPENNESS * mouth


def _eye_directions(
    head: FlameModel, points: Float[np.ndarray, "V 3"], eyes: Int[np.ndarray, " N"]
) -> Float[np.ndarray, "V 3"]:
    """From the joint that each eyeball turns about, or from the middle of its box without one."""
    direction = np.zeros_like(points)
    joints = np.asarray(head.joint_regressor, np.float64) @ points
    on_left = points[eyes, 0] > points[eyes, 0].mean()
    for role, ball in (("left_eye", eyes[on_left]), ("right_eye", eyes[~on_left])):
        if not len(ball):
            continue
        row = head.joint(role)
        box = 0.5 * (points[ball].min(axis=0) + points[ball].max(axis=0))
        offset = points[ball] - (box if row is None else joints[row])
        direction[ball] = offset / np.linalg.norm(offset, axis=1, keepdims=True)
    return direction
