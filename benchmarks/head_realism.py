"""How human a head is: random people of another head fitted with it, and their movements explained.

    python -m benchmarks.head_realism --reference=ICT.npz --json OUT
    python -m benchmarks.head_realism --reference=ICT.npz --head=OTHER.npz --people=200 --frames=53

The reference, made by `python -m fields_jax.convert ict`, gives people with standard normal shape
coefficients. Each is scanned at rest and with some of ARKit's shapes at weight 1, and fitted as the
scans of a subject are: the identity first, then every frame. `movements` is by correspondence of
the two heads at rest: the share of a shape's motion over the face mask that the best non-negative
amounts of the head's own named movements explain. Half a minute for a person of eight frames on
two cores, half an hour for all 53.
"""

from __future__ import annotations

import json
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from absl import flags
from jaxtyping import Float, Int
from scipy.optimize import nnls
from scipy.spatial.transform import Rotation

from benchmarks.results import save
from fields_jax import arkit
from fields_jax.cli import run
from fields_jax.errors import UserError
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import Scan, SequenceFit
from fields_jax.flame import flame
from fields_jax.flame.io import load_flame, resolve_head
from fields_jax.geometry.closest_points import closest_points
from fields_jax.geometry.normals import summed_normals
from fields_jax.geometry.similarity import rigid_motion
from fields_jax.landmark_schemes import CONTOUR_68, INNER_68
from fields_jax.registration.heads import SURE, correspond, head_surface
from fields_jax.registration.surfaces import carry
from fields_jax.render.rasterize import rasterize
from fields_jax.types import PARTS, FlameCoefficients, FlameModel

_MM = 1e3
_VIEWS = [(yaw, pitch) for yaw in (-45, -20, 0, 20, 45) for pitch in (-12, 0, 20)]  # degrees
_FACING = 0.25  # least cosine between a triangle's normal and a view that scans it
_JAW_ANGLES = (0.1, 0.2, 0.3, 0.4, 0.5)  # radians that are tried for the opening of the jaw
_SHOWN_MM = 0.2  # root mean square of a shape's motion over the face that skin shows


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("json", "", "file for the results")
    flags.DEFINE_string("reference", "", "head .npz with ARKit's shapes that the people come from")
    flags.DEFINE_string("head", "", "head .npz (default: the procedural one)")
    flags.DEFINE_integer("people", 24, "that are fitted", 1)
    flags.DEFINE_integer("frames", 8, "of ARKit's shapes, drawn anew for each person", 0, 51)
    flags.DEFINE_integer("seed", 0, "of the people")


def main(_: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if not chosen.reference:
        raise UserError("name the head that the people come from: --reference=ICT.npz")
    reference, head = load_flame(chosen.reference), resolve_head(chosen.head)
    if reference.arkit_basis is None:
        raise UserError(f"{chosen.reference} has no ARKit shapes; convert it with `convert ict`")
    report = {
        "head": f"{head.name} {head.version}",
        "reference": reference.name,
        "movements": movements(head, reference),
        "people": measure(head, reference, chosen.people, chosen.frames, chosen.seed),
    }
    print(json.dumps(report, indent=2))
    save(chosen.json, report)


class Person(NamedTuple):
    """Someone of the reference head.

    Attributes:
      frames: [T, V, 3] metres, the first at rest.
      names: of the frames.
    """

    frames: Float[np.ndarray, "T V 3"]
    names: tuple[str, ...]


def measure(head: FlameModel, reference: FlameModel, people: int, frames: int, seed: int) -> dict:
    """Fits people and their expressions; medians over people, ready for JSON.

    Args:
      head: what is fitted.
      reference: where the people come from; with `arkit_basis`.
      people: how many.
      frames: of ARKit's shapes, for each person.
      seed: of the people and of their shapes.
    """
    settings = dict(n_shape=min(300, head.shape_basis.shape[-1]))
    fitter = ScanFitter(head, n_expression=min(50, head.expression_basis.shape[-1]), **settings)
    scanned = _scanned(reference)
    rows, refused, accepted = [], {}, []
    for number in range(people):
        person = draw_person(reference, np.random.default_rng((seed, number)), frames)
        scans = [
            _scan(reference, points, scanned, name, row)
            for row, (points, name) in enumerate(zip(person.frames, person.names, strict=True))
        ]
        shape = fitter.identity(scans[:1])
        fit = fitter.fit(scans, shape)
        rows.append(_row(head, reference, fit, person))
        accepted += fit.accepted.tolist()
        for name, reason in zip(person.names, fit.reasons, strict=True):
            if reason:
                refused.setdefault(name, []).append(reason)
        print(f"{number + 1}/{people} {'; '.join(f'{k} {v:.2f}' for k, v in rows[-1].items())}")
    table = {name: [row[name] for row in rows] for name in rows[0]}
    return {
        "count": people,
        "accepted": round(float(np.mean(accepted)), 3),
        "refused": refused,
        "median": {name: round(float(np.median(values)), 3) for name, values in table.items()},
        "worst": {name: round(float(np.max(values)), 3) for name, values in table.items()},
    }


def draw_person(reference: FlameModel, rng: np.random.Generator, frames: int) -> Person:
    """A random person at rest and with some of ARKit's shapes at weight 1.

    A closing mouth is that of an open jaw, as ARKit defines it; eyes that look do not count.
    """
    basis = np.asarray(reference.shape_basis, np.float64)
    rest = np.asarray(reference.template) + basis @ rng.normal(size=basis.shape[-1])
    names = [n for n in arkit.NAMES if not n.startswith("eyeLook") and n != "tongueOut"]
    names = [names[k] for k in rng.permutation(len(names))[:frames]]
    motion = [_shape(reference, name) for name in names]
    return Person(np.stack([rest, *(rest + move for move in motion)]), ("rest", *names))


def _shape(reference: FlameModel, name: str) -> Float[np.ndarray, "V 3"]:
    together = (name, "jawOpen") if name == "mouthClose" else (name,)
    columns = [arkit.NAMES.index(one) for one in together]
    return np.asarray(reference.arkit_basis, np.float64)[..., columns].sum(-1)


def _scanned(reference: FlameModel) -> np.ndarray:
    """Vertices of the skin that a scanner in front of the face sees."""
    points, faces = np.asarray(reference.template, np.float64), np.asarray(reference.faces)
    middle = points[np.asarray(reference.face_vertices)].mean(axis=0)
    size = np.abs(points - middle).max() * 1.1
    seen = np.zeros(len(points), bool)
    for view in _VIEWS:
        turned = (points - middle) @ Rotation.from_euler("yx", view, degrees=True).as_matrix().T
        corners = turned[faces]
        normal = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-18)
        picture = jnp.asarray((turned / size * [1, -1, -1])[None], jnp.float32)
        index = np.unique(rasterize(picture, jnp.asarray(faces), 1024).face_index)
        index = index[index >= 0]
        seen[faces[index[normal[index, 2] > _FACING]]] = True
    skin = np.zeros(len(points), bool)
    skin[faces[np.asarray(reference.face_parts) == PARTS.index("skin")]] = True
    return np.flatnonzero(seen & skin)


def _landmarks(head: FlameModel, points: np.ndarray) -> Float[np.ndarray, "68 3"]:
    places = head.static_68
    corners = points[np.asarray(head.faces)[np.asarray(places.face_index)]]
    return np.einsum("lc,lcd->ld", np.asarray(places.barycentric), corners)


def _scan(reference: FlameModel, points, scanned, name: str, number: int) -> Scan:
    """One frame as a scan; every frame is a sequence of its own."""
    normals = np.asarray(summed_normals(points, np.asarray(reference.faces)))
    inner = _landmarks(reference, points)[INNER_68]
    return Scan(points[scanned], inner, None, normals[scanned], number, name)


def _row(head: FlameModel, reference: FlameModel, fit: SequenceFit, person: Person) -> dict:
    """What is measured of one person."""
    rest = jax.tree.map(lambda values: jnp.asarray(values[:1]), fit.coefficients)
    posed = jax.jit(flame)(head, rest)
    turn = Rotation.from_rotvec(fit.rotation[0]).as_matrix()
    vertices, marks = (
        np.asarray(points[0], np.float64) @ turn.T + fit.translation[0]
        for points in (posed.vertices, posed.landmarks_68_static)
    )
    off = np.linalg.norm(marks - _landmarks(reference, person.frames[0]), axis=1) * _MM
    row = {
        "surface_median_mm": np.median(fit.median_mm[0]),
        "surface_p95_mm": fit.p95_mm[0],
        "landmarks_inner_mm": off[INNER_68].mean(),
        "landmarks_contour_mm": off[CONTOUR_68].mean(),
        "largest_coefficient": np.abs(fit.coefficients.shape[0]).max(),
        "coefficients_rms": np.sqrt(np.mean(fit.coefficients.shape[0] ** 2)),
    }
    skin = np.asarray(reference.faces)[np.asarray(reference.face_parts) == PARTS.index("skin")]
    for name, index in face_regions(head).items():
        found = closest_points(person.frames[0], skin, vertices[index])
        row[f"{name}_p95_mm"] = np.percentile(found.distance, 95) * _MM
    moved = fit.p95_mm[1:]
    row["expressions_p95_mm"] = np.median(moved) if len(moved) else np.nan
    return {name: float(value) for name, value in row.items()}


def face_regions(head: FlameModel) -> dict[str, Int[np.ndarray, " R"]]:
    """Vertices of the face mask by region, at rest, where they lie about the landmarks."""
    points = np.asarray(head.template, np.float64)
    marks = _landmarks(head, points)
    mask = np.asarray(head.face_vertices)
    inside = np.asarray(head.regions.get("mouth_interior", np.zeros(0, int)))
    mask = np.setdiff1d(mask, inside)
    x, y = np.abs(points[mask, 0]), points[mask, 1]
    eye, brow, base, lip, chin = (
        marks[rows, 1].mean() for rows in (slice(36, 48), slice(17, 27), 33, 57, 8)
    )
    side = marks[54, 0]
    wing, corner = marks[35, 0] * 1.5, marks[45, 0] * 1.15
    lids = (np.abs(y - eye) < (brow - eye) * 0.6) & (x > wing * 0.9) & (x < corner)
    nose = (y < eye) & (y > base) & (x < wing) & ~lids
    lips = (y <= base) & (y > lip - 0.1 * (base - chin)) & (x < side * 1.1)
    masks = {
        "forehead": y > brow + 0.25 * (brow - eye),
        "brows": (y > eye + 0.6 * (brow - eye)) & (y <= brow + 0.25 * (brow - eye)),
        "eyes": lids,
        "nose": nose,
        "lips": lips,
        "chin": (y <= lip - 0.1 * (base - chin)) & (x < side * 1.1),
    }
    rest = ~np.any(list(masks.values()), axis=0)
    return {name: mask[rows] for name, rows in {**masks, "cheeks": rest}.items()}


def movements(head: FlameModel, reference: FlameModel) -> dict:
    """The share of each ARKit shape's motion that a head's named movements explain.

    Returns:
      `share` by shape that skin shows, `mean`, `least`.
    """
    forward = correspond(head, reference).forward
    mask = np.asarray(head.face_vertices)
    mask = mask[forward.confidence[mask] > SURE]
    turn, _, _ = rigid_motion(head_surface(reference).landmarks, head_surface(head).landmarks)
    weight = np.sqrt(_areas(head)[mask] / _areas(head)[mask].sum())[:, None]
    own = own_movements(head)
    opened = [_with_jaw(head, angle) for angle in _JAW_ANGLES]
    fixed = np.stack([(weight * move[mask]).ravel() for move in own.values()], axis=1)
    shares = {}
    for name in arkit.NAMES:
        field = carry(forward, np.asarray(reference.faces), _shape(reference, name))
        target = (weight * (field[mask] @ turn.T)).ravel()
        if _MM * np.linalg.norm(target) < _SHOWN_MM:
            continue
        rests = []
        for jaw in opened:
            columns = np.column_stack([fixed, (weight * jaw[mask]).ravel()])
            size = np.maximum(np.linalg.norm(columns, axis=0), 1e-12)
            rests.append(nnls(columns / size, target)[1])
        shares[name] = round(1 - (min(rests) / np.linalg.norm(target)) ** 2, 3)
    values = list(shares.values())
    return {
        "mean": round(float(np.mean(values)), 3),
        "least": min(values),
        "share": shares,
    }


def own_movements(head: FlameModel) -> dict[str, Float[np.ndarray, "V 3"]]:
    """A head's named expression components and its eyelids, as displacements at rest.

    Those named aside, whose mirror image is their opposite, count in both ways.
    """
    basis = np.asarray(head.expression_basis, np.float64)
    moves = {name: basis[..., k] for k, name in enumerate(head.expression_names)}
    for name in [name for name in moves if "aside" in name]:
        moves[f"{name} back"] = -moves[name]
    lids = np.asarray(head.eyelid_basis, np.float64)
    return moves | {"eyelid left": lids[0], "eyelid right": lids[1]}


def _with_jaw(head: FlameModel, angle: float) -> Float[np.ndarray, "V 3"]:
    """Displacement by an opening jaw."""
    rest = FlameCoefficients(
        shape=np.zeros((2, 1)),
        expression=np.zeros((2, 1)),
        jaw=np.array([[0, 0, 0], [angle, 0, 0]]),
        eyelid=np.zeros((2, 2)),
        pose=np.zeros((2, 3)),
        camera=np.tile([1.0, 0, 0], (2, 1)),
    )
    rest = jax.tree.map(lambda values: jnp.asarray(values, jnp.float32), rest)
    posed = np.asarray(jax.jit(flame)(head, rest).vertices, np.float64)
    return posed[1] - posed[0]


def _areas(head: FlameModel) -> Float[np.ndarray, " V"]:
    """A third of the area of the triangles about each vertex."""
    points, faces = np.asarray(head.template, np.float64), np.asarray(head.faces)
    a, b, c = np.moveaxis(points[faces], 1, 0)
    area = np.linalg.norm(np.cross(b - a, c - a), axis=1) / 6
    return np.bincount(faces.ravel(), np.repeat(area, 3), len(points))


if __name__ == "__main__":
    define_flags()
    run(main)
