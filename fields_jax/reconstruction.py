"""Faces of pictures by a trained model, from Python: no flags, nothing printed, no threads.

    import fields_jax

    model = fields_jax.load()  # the model in the package; or load("runs/stage2")
    for face in model.reconstruct(["anna.jpg", "ben.png"]):
        print(face.name, face.params.jaw, face.emotion["valence"])
        face.write(f"faces/{face.name}")

`fields_jax.reconstruct` is the same as a command, with a page of all faces.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from etils import epath
from jaxtyping import Float, Int, UInt8
from PIL import Image

from fields_jax import __version__, finder
from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError
from fields_jax.files import is_remote, write_whole
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import predict
from fields_jax.networks import Networks, shares
from fields_jax.outputs.bundle import Bundle, Result, judged, pose_heads
from fields_jax.outputs.glb import Frames, glb
from fields_jax.outputs.writers import write_bundle
from fields_jax.photos import faces, given, points
from fields_jax.photos.crops import to_photograph
from fields_jax.photos.detector import Detector, find_python
from fields_jax.photos.files import Photograph, Unusable, read_photograph
from fields_jax.types import FlameCoefficients, FlameModel
from fields_jax.workdir.inference import Inference, check_encoders, check_head, load_inference
from fields_jax.workdir.packed import EMBEDDED

if TYPE_CHECKING:
    from fields_jax.fitting.refine import Refined

Picture = str | os.PathLike | Image.Image | UInt8[np.ndarray, "H W 3"]

_NOTE = (
    "what the emotion head of the network reads from expression and shape; not a fact about how "
    "anybody feels"
)
_PREDICTED = ("shape", "expression", "jaw", "eyelid", "pose", "camera")
_BATCH = 8  # faces that are worked on at once


@dataclasses.dataclass(frozen=True)
class Face3D:
    """One face of a picture.

    Attributes:
      picture: row of the picture in the list that was given.
      name: of the picture's file without suffix, or picture_ROW; with _0, _1 ... where the picture
        shows several faces.
      origin: how the face was found, in a few words.
      params: the coefficients and the camera of the crop, numpy arrays without a batch dimension.
      emotion: "emotion" (the likeliest of eight), "probabilities" by name, "valence" and "arousal"
        in [-1, 1], and a "note"; a reading by a trained model, no fact about a person. None from a
        model without a trained emotion head.
      vertices: [V, 3] metres, posed, before the camera; x to the subject's left, y up, z out of the
        face.
      landmarks_68: [68, 2] in pixels of the upright picture; pixel (row i, column j) covers
        [j, j+1) x [i, i+1).
      bundle: everything known of the face, as the writers of `fields_jax.outputs` take it.
    """

    picture: int
    name: str
    origin: str
    params: FlameCoefficients
    emotion: Mapping[str, Any] | None
    vertices: Float[np.ndarray, "V 3"]
    landmarks_68: Float[np.ndarray, "68 2"]
    bundle: Bundle = dataclasses.field(repr=False)

    @property
    def triangles(self) -> Int[np.ndarray, "F 3"]:
        """[F, 3] rows of `vertices`, counter-clockwise seen from outside."""
        return np.asarray(self.bundle.head.faces)

    def write(self, folder: str | os.PathLike) -> list[str]:
        """Writes the files that docs/outputs.md describes.

        Args:
          folder: made where it is absent.

        Returns:
          Names of the files written.

        Raises:
          OSError: a file cannot be written.
        """
        return write_bundle(epath.Path(folder), self.bundle)

    def glb(
        self, path: str | os.PathLike, *, morphs: str = "", frames: Frames | None = None
    ) -> None:
        """Writes the head with texture, joints and morph targets; arguments as `outputs.glb.glb`.

        Raises:
          UserError: the head has no such morph targets.
          OSError: the file cannot be written.
        """
        write_whole(epath.Path(path), glb(self.bundle, morphs, frames))


class Model:
    """A trained model with its head; made by `load`.

    Attributes:
      inference: the networks, their config and the meta item of their checkpoint.
      head: that its coefficients are of.
      networks: what reads crops.
      about: JSON: version of fields_jax, head and weights; recorded in every output.
    """

    def __init__(self, inference: Inference, head: FlameModel, source: str) -> None:
        """Binds networks and head.

        Args:
          inference: of `workdir.inference.load_inference`.
          head: the head.
          source: where the networks are from, for messages and outputs.

        Raises:
          UserError: an encoder is not trained, or the networks learnt with another head.
        """
        check_head(inference.meta, head)
        check_encoders(inference, source)
        self.inference, self.head = inference, head
        self.networks = Networks(inference, head, source)
        self._finder: faces.Finder | None = None
        self.about = {
            "version": __version__,
            "head": {key: getattr(head, key) for key in ("name", "version", "sha256")},
            "weights": _weights(inference, source),
        }

    @property
    def reads_emotion(self) -> bool:
        """Whether the emotion head is trained."""
        return "emotion_head" in self.inference.meta["trained"]

    @property
    def size(self) -> int:
        """Side in pixels of the crops that the networks read."""
        return self.networks.size

    @property
    def crop_scale(self) -> float:
        """Side of the crops in face boxes."""
        return self.inference.config.data.eval_crop_scale

    def reconstruct(
        self,
        images: Picture | Sequence[Picture],
        *,
        boxes: Any = None,
        landmarks: Any = None,
        refine: bool = False,
    ) -> list[Face3D]:
        """The faces of pictures.

        A face is where its box says, or else its landmarks. Without either it is, for a file, where
        the landmark file beside it says (see `fields_jax.reconstruct`); else where the face
        detector finds one (`make landmarks` installs it; it runs as a child process of this call),
        or without it the network in the package.

        Args:
          images: a path, a pillow image or an [H, W, 3] uint8 array of RGB; or a list of them.
          boxes: (x0, y0, x1, y1) from chin to hairline in pixels; of a list of images a list with
            a box or None for each.
          landmarks: [N, 2] or [N, 3] in pixels, mediapipe's 478 or the 68 points, or [F, N, 2] of
            several faces; of a list of images a list with one or None for each.
          refine: fit the landmarks of faces that have any, starting at the networks' reading; the
            emotion stays what the networks read.

        Returns:
          The faces, in the order of the pictures.

        Raises:
          UserError: a picture, box or set of landmarks cannot be used, or a picture shows no face;
            the message names it. Nothing is returned for the others then.
        """
        single = isinstance(images, str | os.PathLike | Image.Image | np.ndarray)
        pictures = [images] if single else list(images)
        placed = [
            given.per_picture(values, single, len(pictures), name)
            for values, name in ((boxes, "boxes"), (landmarks, "landmarks"))
        ]
        found: list[tuple[int, faces.Face]] = []
        with _detector() as search:
            for row, (picture, box, marks) in enumerate(zip(pictures, *placed, strict=True)):
                found += [(row, face) for face in self._find(row, picture, box, marks, search)]
        batch = min(_BATCH, len(found))
        results: list[Result] = []
        for start in range(0, len(found), _BATCH):
            part = [face for _, face in found[start : start + _BATCH]]
            results += self.read(part, batch, refine)
        return [
            self._face(row, face, result)
            for (row, face), result in zip(found, results, strict=True)
        ]

    def read(
        self, found: Sequence[faces.Face], batch_size: int, refine: bool = False
    ) -> list[Result]:
        """What the networks say of faces that have been found.

        Args:
          found: at most `batch_size` faces.
          batch_size: crops are filled up to this number, so that one program is compiled.
          refine: see `reconstruct`.
        """
        (coefficients, *emotion), _, wavers = self.networks.examine(found, batch_size)
        refined = self._refined(found, coefficients, batch_size) if refine else None
        if refined:
            coefficients = refined.coefficients
        results = pose_heads(self.head, coefficients, batch_size)
        if refined:
            results = [
                dataclasses.replace(result, refined=done, residual=after, residual_before=before)
                for result, (done, before, after) in zip(results, refined.notes(), strict=True)
            ]
        if self._finder is None:
            self._finder = finder.packaged()
        results = [
            judged(face, result, self.size, self._finder, **wavers.of(row))
            for row, (face, result) in enumerate(zip(found, results, strict=True))
        ]
        if not self.reads_emotion:
            return results
        return [
            dataclasses.replace(result, emotion=self._emotion(*(column[row] for column in emotion)))
            for row, result in enumerate(results)
        ]

    def _refined(
        self, found: Sequence[faces.Face], coefficients: FlameCoefficients, batch_size: int
    ) -> Refined:
        from fields_jax.fitting.refine import SPREAD, Refiner

        networks = partial(predict, self.networks.model, self.networks.variables)
        stored = self.inference.meta.get(SPREAD)
        return Refiner(networks, self.head, self.size, batch_size, stored).refine(
            found, coefficients
        )

    def _find(
        self, row: int, picture: Picture, box: Any, marks: Any, look: faces.Finder
    ) -> Iterator[faces.Face]:
        named = isinstance(picture, str | os.PathLike)
        path = epath.Path(picture if named else f"picture_{row}")
        photograph = Photograph(path, path.stem if named else path.name)
        options = dict(scale=self.crop_scale, box=given.as_box(box, path), finder=look)
        if named and marks is None:
            search = faces.find_faces(photograph, **options)
        else:
            image = read_photograph(path) if named else given.as_pixels(picture, path)
            if box is None and marks is not None:
                search = faces.marked_faces(
                    photograph,
                    image,
                    points.as_faces(marks, f"the landmarks of {path}"),
                    scale=self.crop_scale,
                    origin="landmarks given",
                )
            else:
                search = faces.faces_in(photograph, image, **options)
        for face in search:
            if isinstance(face, Unusable):
                raise UserError(f"{face.path}: {face.reason}")
            yield face

    def _face(self, row: int, face: faces.Face, result: Result) -> Face3D:
        bundle = Bundle(face, self.head, result, self.size, self.about)
        params = FlameCoefficients(**result.coefficients)
        marks = to_photograph(result.landmarks_ndc, bundle.matrix, self.size)
        known = result.emotion, result.vertices, marks, bundle
        return Face3D(row, face.name, face.origin, params, *known)

    def _emotion(self, logits: np.ndarray, valence: float, arousal: float) -> dict[str, Any]:
        """The emotion of a face, ready for JSON."""
        likely = shares(logits)
        return {
            "note": _NOTE,
            "emotion": EMOTIONS[int(likely.argmax())],
            "probabilities": dict(zip(EMOTIONS, likely.tolist(), strict=True)),
            "valence": float(valence),
            "arousal": float(arousal),
            "weights": self.about["weights"],
        }


def load(path: str | os.PathLike | None = None, *, head: str | os.PathLike | None = None) -> Model:
    """A trained model.

    Args:
      path: folder of a training run, of a converted checkpoint or of packed networks; None: the
        model in the package.
      head: head .npz; None: the one that the model was trained with, or the procedural one.

    Raises:
      UserError: there is no such model, it is damaged, or it does not fit the head.
    """
    if isinstance(path, os.PathLike) and not is_remote(path):
        path = os.path.abspath(path)  # a folder, never the word
    source = EMBEDDED if path is None else str(path)
    inference = load_inference(source)
    chosen = resolve_head(str(head) if head is not None else inference.config.head)
    return Model(inference, chosen, source)


def _weights(inference: Inference, source: str) -> dict[str, Any]:
    """Where the networks come from."""
    meta = inference.meta
    known = {key: meta[key] for key in ("git", "source", "made", "sha256") if key in meta}
    return {"workdir": source, "step": inference.step, "trained": list(meta["trained"])} | known


@contextlib.contextmanager
def _detector() -> Iterator[faces.Finder]:
    """The network in the package, or the face detector where it is installed.

    The detector's process starts when it is first asked.
    """
    python = find_python()
    if python is None:
        yield finder.packaged()
        return
    with contextlib.ExitStack() as stack:
        running: list[Detector] = []

        def detect(image: np.ndarray) -> Sequence[faces.Detection]:
            if not running:
                running.append(stack.enter_context(Detector(python)))
            return running[0].detect(image)

        yield faces.Finder("face detector", detect)
