"""All that is known about one face, and its params.npz: what it holds and how to read it."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath
from jaxtyping import Float, UInt8

from fields_jax.errors import UserError, printable, quoted
from fields_jax.files import parse_json, read_npz
from fields_jax.kept import kept_program
from fields_jax.outputs.confidence import Evidence, Verdict, evidence, judge, look_again
from fields_jax.outputs.texture import Texture, View, bake
from fields_jax.photos.crops import to_photograph
from fields_jax.photos.faces import Face, Finder
from fields_jax.render import project
from fields_jax.synthesis import draw_head
from fields_jax.types import FlameCoefficients, FlameModel

PARAMS = "params.npz"
PICTURE = 320  # pixels of the crop and of its geometry map in geometry.png
COEFFICIENTS = tuple(field.name for field in dataclasses.fields(FlameCoefficients))

CONVENTIONS = {
    "shape": "[S] identity, in standard deviations of the head's shape components",
    "expression": "[E] expression, in standard deviations of the head's expression components",
    "jaw": "[3] axis-angle, radians; positive x opens the mouth",
    "eyelid": "[2] left and right of the subject; 0 open, 1 shut",
    "pose": "[3] rotation of the head about its root, axis-angle, radians",
    "neck": "[3] axis-angle, radians; present only where it was fitted",
    "eyes": "[6] axis-angle of the left, then the right eye, radians; only where fitted",
    "camera": "[3] (s, tx, ty) of the crop: X = s (x + tx), Y = -s (y + ty), depth = -s z; X right "
    "and Y down in [-1, 1] over the crop; tx and ty in metres",
    "crop_matrix": "[3, 3] from pixels of the photograph to pixels of the crop, column vectors "
    "(x, y, 1); pixel (row i, column j) covers [j, j+1) x [i, i+1)",
    "crop_size": "side of the crop in pixels; crop pixel = (X + 1) crop_size / 2",
    "image_size": "[2] height and width of the upright photograph in pixels",
    "box": "[4] x0, y0, x1, y1 of the face in pixels of the photograph",
    "points": "[N, 2] landmarks the face was found or fitted by, pixels of the photograph",
    "vertices": "[V, 3] metres, posed, before the camera; x to the subject's left, y up, z out of "
    "the face",
    "vertices_image": "[V, 2] the vertices in pixels of the photograph",
    "landmarks_68": "[68, 3] metres, of the posed head; the contour follows the head's yaw",
    "landmarks_68_image": "[68, 2] in pixels of the photograph",
    "residual": "mean distance of fitted from given landmarks, share of the inter-ocular distance",
    "refined": "whether a landmark fit followed the networks' reading; present with --refine only",
    "residual_before": "the residual of the networks' reading; present where a fit was tried",
    "meta": "JSON: head, weights, photograph, how the face was found, version",
}


class Worn(NamedTuple):
    """That a face wears the expression of another.

    Attributes:
      reading: of the photograph, with its own expression.
      source: whose expression it is.
    """

    reading: Result
    source: str


@dataclasses.dataclass(frozen=True)
class Result:
    """The reconstruction of one face.

    Attributes:
      coefficients: by the names of FlameCoefficients, without those that are absent.
      vertices: [V, 3] metres, posed.
      landmarks_68: [68, 3] metres, posed.
      vertices_ndc: [V, 3] as `render.project` returns them.
      landmarks_ndc: [68, 3].
      geometry: [P, P, 1] geometry map of the crop, P = 320.
      emotion: as the network reads it, or None.
      residual: of a landmark fit, or None.
      refined: whether a landmark fit followed the networks' reading; None where none was wanted.
      residual_before: that of the networks' reading; None where no fit was tried.
      verdict: how far the reading is believed, or None where that was not asked.
      evidence: for the verdict, or None.
      worn: whose expression it has; None where it is the photograph's own.
      painted: [S, S, 3] the synthesiser's picture of the crop with that expression, or None.
    """

    coefficients: dict[str, np.ndarray]
    vertices: Float[np.ndarray, "V 3"]
    landmarks_68: Float[np.ndarray, "68 3"]
    vertices_ndc: Float[np.ndarray, "V 3"]
    landmarks_ndc: Float[np.ndarray, "68 3"]
    geometry: Float[np.ndarray, "P P 1"]
    emotion: Mapping[str, Any] | None = None
    residual: float | None = None
    refined: bool | None = None
    residual_before: float | None = None
    verdict: Verdict | None = None
    evidence: Evidence | None = None
    worn: Worn | None = None
    painted: UInt8[np.ndarray, "S S 3"] | None = None

    def is_finite(self) -> bool:
        """Whether every number is finite."""
        residual = () if self.residual is None else (np.float64(self.residual),)
        arrays = (*self.coefficients.values(), self.vertices_ndc, *residual)
        return all(np.isfinite(array).all() for array in arrays)


@dataclasses.dataclass(frozen=True)
class Bundle:
    """All that the files of one face are made of.

    Attributes:
      face: in its photograph.
      head: of the face.
      result: the reconstruction.
      size: side in pixels of the crop that the result's camera belongs to.
      meta: JSON: "version" of fields_jax, "head", and "weights" where networks were used.
      morphs: kind of morph targets of its GLB, see `outputs.morphs.choose_morphs`.
    """

    face: Face
    head: FlameModel
    result: Result
    size: int
    meta: Mapping[str, Any]
    morphs: str = ""

    @property
    def matrix(self) -> Float[np.ndarray, "3 3"]:
        """From pixels of the photograph to pixels of the crop."""
        return self.face.matrix(self.size)

    @property
    def view(self) -> View:
        """The head as its photograph shows it, as textures are baked from."""
        result = self.result if self.result.worn is None else self.result.worn.reading
        camera = np.asarray(result.coefficients["camera"])
        return View(self.face.image, result.vertices, camera, self.matrix, self.size)

    @functools.cached_property
    def texture(self) -> Texture | None:
        """The photograph as a texture of the head; made once."""
        return bake(self.head, [self.view])

    @property
    def about(self) -> dict[str, Any]:
        """JSON: `meta`, the photograph, how the face was found in it, and whose expression it has
        where that is not its own.
        """
        known = {"image": self.face.path, "face": self.face.name, "found": self.face.origin}
        if self.result.worn is not None:
            known["expression_from"] = self.result.worn.source
        return dict(self.meta) | {key: printable(value) for key, value in known.items()}

    @property
    def comment(self) -> str:
        """One line on the mesh and its origin, for file formats without other metadata."""
        head, weights = self.meta["head"], self.meta.get("weights")
        by = (
            f"weights {weights['workdir']} step {weights['step']}"
            if weights
            else "fitted to landmarks"
        )
        origin = f"head {head['name']} {head['version']} sha256 {head['sha256'][:12]}; {by}"
        version = self.meta["version"]
        return f"FLAME mesh in metres by fields_jax {version}; {printable(origin)}"


def pose_heads(
    head: FlameModel,
    coefficients: FlameCoefficients,
    batch_size: int,
    looking: Sequence[bool] | None = None,
) -> list[Result]:
    """Poses and draws at most `batch_size` heads; fewer are filled up, so that one program is
    compiled.

    Args:
      head: of all.
      coefficients: a row each.
      batch_size: see above.
      looking: whose gaze is known, as `fitting.gaze` says; the results of others have no `eyes`.
    """
    count = len(coefficients.camera)
    rows = np.minimum(np.arange(batch_size), count - 1)
    coefficients = jax.tree.map(lambda column: np.asarray(column)[rows], coefficients)
    present = {name: getattr(coefficients, name) for name in COEFFICIENTS}
    present = {name: value for name, value in present.items() if value is not None}
    columns = jax.device_get((present, *kept_program(_pose_heads, head, coefficients)))
    results = [
        Result(*jax.tree.map(lambda a, i=i: np.asarray(a[i]), columns)) for i in range(count)
    ]
    for result, looks in zip(results, looking or [], strict=bool(looking)):
        if not looks:
            result.coefficients.pop("eyes", None)
    return results


def _pose_heads(head: FlameModel, coefficients: FlameCoefficients) -> tuple[jax.Array, ...]:
    face, geometry, _ = draw_head(head, coefficients, PICTURE)
    points = face.vertices, face.landmarks_68
    return *points, *(project(each, coefficients.camera) for each in points), geometry


def judged(face: Face, result: Result, size: int, finder: Finder, **known: float) -> Result:
    """A result with the verdict on it.

    Args:
      face: in its photograph.
      result: of the face.
      size: side in pixels of the crop that the result's camera belongs to.
      finder: the network in the package, which looks at the face's surroundings again where
        something else says where the face is.
      known: fields of `Evidence` about the networks.
    """
    points = to_photograph(result.landmarks_ndc, face.matrix(size), size)
    if result.residual is not None:
        known["residual"] = result.residual
    pose = np.asarray(result.coefficients["pose"])
    by_networks = face.points is None and face.score is not None
    seen = {"found": face.score} if by_networks else look_again(finder, face)
    told = evidence(face, points, pose, **known, **seen)
    return dataclasses.replace(result, verdict=judge(told), evidence=told)


def params_within(folder: epath.Path) -> Iterator[epath.Path]:
    """The params.npz of a folder and of all folders in it, in the order of their names."""
    for path in sorted(folder.iterdir()):
        if path.is_dir():
            yield from params_within(path)
        elif path.name == PARAMS:
            yield path


def load_params(path: epath.PathLike) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The arrays of a params.npz and its meta.

    Raises:
      FileNotFoundError: there is no such file.
      UserError: it is damaged, or no params.npz.
    """
    arrays = read_npz(path)
    if missing := {"conventions", "meta"} - set(arrays):
        raise UserError(f"{path} is no params.npz of this program: no {min(missing)} in it")
    del arrays["conventions"]
    return arrays, parse_json(str(arrays.pop("meta")), f"{path}: meta")


def require_head(what: str, made: object, head: FlameModel, remedy: str) -> None:
    """Refuses what another head was made with: its coefficients mean nothing with this one.

    Args:
      what: at fault, such as a file.
      made: "head" of the meta that `load_params` gives, or `FlameModel.identity`.
      head: the head in use.
      remedy: what to do about it.

    Raises:
      UserError: the two heads differ.
    """
    known = made if isinstance(made, Mapping) else {}
    if known.get("sha256") != head.sha256:
        raise UserError(
            f"{printable(what)} is of head {quoted(known.get('name'))} with sha256 "
            f"{quoted(str(known.get('sha256'))[:12])}, not of {head.name} with "
            f"{head.sha256[:12]}: {remedy}"
        )
