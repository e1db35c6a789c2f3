"""Faces of pictures by a trained model, from Python: no flags, nothing printed, no threads.

    import fields_jax

    model = fields_jax.load()  # the model in the package; or load("runs/stage2")
    for face in model.reconstruct(["anna.jpg", "ben.png"]):
        print(face.name, face.params.jaw, face.emotion["valence"])
        face.write(f"faces/{face.name}")

`fields_jax.reconstruct` is the same as a command, with a page of all faces.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from fields_jax import __version__, confirming, finder
from fields_jax.emotions import EMOTIONS
from fields_jax.face3d import Face3D, Picture, find_given, read_faces
from fields_jax.files import is_remote
from fields_jax.fitting.gaze import GazeReader
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import predict
from fields_jax.networks import Networks, shares
from fields_jax.outputs.bundle import Result, judged, pose_heads
from fields_jax.photos import faces
from fields_jax.types import FlameCoefficients, FlameModel
from fields_jax.workdir.inference import Inference, check_encoders, check_head, load_inference
from fields_jax.workdir.packed import EMBEDDED

if TYPE_CHECKING:
    from fields_jax.fitting.refine import Refined

_NOTE = (
    "what the emotion head of the network reads from expression and shape; not a fact about how "
    "anybody feels"
)


class Model:
    """A trained model with its head; made by `load`.

    Attributes:
      inference: the networks, their config and the meta item of their checkpoint.
      head: that its coefficients are of.
      networks: what reads crops.
      finder: what finds faces where no detector of landmarks is installed.
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
        own = (self.networks, self.crop_scale) if source == EMBEDDED else ()
        self.finder = confirming.packaged(*own)
        self._again: faces.Finder | None = None
        self._gaze = GazeReader(head)
        self.about = {
            "version": __version__,
            "head": head.identity,
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
        or without it the finder in the package.

        Args:
          images: a path, a pillow image or an [H, W, 3] uint8 array of RGB; or a list of them.
          boxes: (x0, y0, x1, y1) from chin to hairline in pixels; of a list of images a list with
            a box or None for each.
          landmarks: [N, 2] or [N, 3] in pixels, mediapipe's 478, the 68 points, WFLW's 98 or a
            detector's 5, or [F, N, 2] of several faces; of a list of images a list with one or
            None for each.
          refine: fit the landmarks of faces that have any, starting at the networks' reading; the
            emotion stays what the networks read.

        Returns:
          The faces, in the order of the pictures.

        Raises:
          UserError: a picture, box or set of landmarks cannot be used, or a picture shows no face;
            the message names it. Nothing is returned for the others then.
        """
        return list(self.iterate(images, boxes=boxes, landmarks=landmarks, refine=refine))

    def iterate(
        self,
        images: Picture | Sequence[Picture],
        *,
        boxes: Any = None,
        landmarks: Any = None,
        refine: bool = False,
    ) -> Iterator[Face3D]:
        """As `reconstruct`, for long lists: a picture is read when its faces are asked for.

        Memory holds the pictures of a few faces and of those that the caller keeps.
        """
        found = find_given(
            images, scale=self.crop_scale, boxes=boxes, landmarks=landmarks, finder=self.finder
        )
        read = partial(self.read, refine=refine)
        return read_faces(found, read, self.head, self.size, self.about)

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
        coefficients, looking = self._gaze.looking(found, coefficients, self.size)
        results = pose_heads(self.head, coefficients, batch_size, looking)
        if refined:
            results = [
                dataclasses.replace(result, refined=done, residual=after, residual_before=before)
                for result, (done, before, after) in zip(results, refined.notes(), strict=True)
            ]
        if self._again is None:
            self._again = finder.packaged()
        results = [
            judged(face, result, self.size, self._again, **wavers.of(row))
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
