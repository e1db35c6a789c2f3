"""The networks that read faces: what they say of crops, and how much that wavers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax.errors import FlaxError
from jaxtyping import Array, Float, UInt8

from fields_jax.errors import UserError, first_line
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.kept import kept_program
from fields_jax.models.fields import predict
from fields_jax.outputs.steadying import steadied
from fields_jax.outputs.wavering import (
    CROPS,
    TURNED,
    UPRIGHT,
    Wavering,
    posed_landmarks,
    varied_crops,
    wavering,
)
from fields_jax.photos.faces import Face
from fields_jax.types import FlameCoefficients, FlameModel
from fields_jax.workdir.inference import Inference

_AT_ONCE = 4  # of the many crops of one face: half the time of one by one, on two cores
_PREDICTED = ("shape", "expression", "jaw", "eyelid", "pose", "camera")


class Said(NamedTuple):
    """What the networks say of F crops, numpy arrays.

    Attributes:
      coefficients: with the cameras of the crops.
      logits: [F, 8] of the emotions.
      valence, arousal: [F] in [-1, 1].
    """

    coefficients: FlameCoefficients
    logits: Float[np.ndarray, "F 8"]
    valence: Float[np.ndarray, " F"]
    arousal: Float[np.ndarray, " F"]


class Examined(NamedTuple):
    """What the networks say of F faces.

    Attributes:
      said: the mean over upright crops, in the plain ones; see `steadying.steadied`.
      landmarks: [F, 68, 3] of the heads, as `render.project` returns them.
      wavering: of the readings with the crops.
    """

    said: Said
    landmarks: Float[np.ndarray, "F 68 3"]
    wavering: Wavering


class Networks:
    """Trained networks without their token encoder.

    Attributes:
      model: the networks.
      variables: their parameters and statistics.
      size: side in pixels of the crops that they read.
    """

    def __init__(self, inference: Inference, head: FlameModel, source: str) -> None:
        """Binds them.

        Args:
          inference: of `workdir.inference.load_inference`.
          head: that the coefficients are of.
          source: where the networks are from, for messages.
        """
        # Coefficients and emotion need no tokens: their encoder is neither compiled nor run.
        self.model = inference.model.clone(token_guided=False)
        self.variables, self.size = inference.variables, inference.config.image_size
        self._small, self._source = landmark_head(head), source

    def say(self, crops: Sequence[UInt8[np.ndarray, "S S 3"]], batch_size: int) -> Said:
        """What the networks say of crops of `size` pixels.

        Args:
          crops: any number.
          batch_size: they are read so many at a time, the last filled up, so that one program is
            compiled.
        """
        parts = []
        for first in range(0, len(crops), batch_size):
            part = crops[first : first + batch_size]
            filled = np.stack([*part, *[part[-1]] * (batch_size - len(part))])
            parts.append(self._say(filled))
        found, *others = jax.tree.map(
            lambda *columns: np.concatenate(columns)[: len(crops)], *jax.device_get(parts)
        )
        return Said(FlameCoefficients(**found), *others)

    def landmarks(self, crops: Sequence[UInt8[np.ndarray, "S S 3"]]) -> Float[np.ndarray, "N 68 3"]:
        """Landmarks of what is read in crops of `size` pixels, as `render.project` returns them."""
        return posed_landmarks(self._small, self.say(crops, _AT_ONCE).coefficients)

    def examine(self, found: Sequence[Face], batch_size: int, *, upside: bool = True) -> Examined:
        """What the networks say of faces, and how far that depends on how they are cropped.

        Args:
          found: at most `batch_size` faces.
          batch_size: see `say`.
          upside: whether the crops are read upside down as well.
        """
        filled = [*found, *[found[-1]] * (batch_size - len(found))]
        each = CROPS + TURNED if upside else CROPS
        at_once = max(batch_size, _AT_ONCE)
        said = self.say(varied_crops(filled, self.size, upside=upside), at_once)
        marks = posed_landmarks(self._small, said.coefficients)

        def of_faces(column: np.ndarray) -> np.ndarray:
            return column.reshape(-1, each, *column.shape[1:])

        def landmarks(mean: FlameCoefficients) -> np.ndarray:
            # As many rows as above, so that one program is compiled.
            rows = jax.tree.map(lambda column: np.repeat(column, each, axis=0), mean)
            return posed_landmarks(self._small, rows)[::each]

        said, marks = jax.tree.map(of_faces, (said, marks))
        wavers = wavering(marks)
        readings, upright = jax.tree.map(lambda column: column[:, :UPRIGHT], (said, marks))
        mean, marks = steadied(readings.coefficients, upright, landmarks)
        emotion = (np.float32(column.mean(axis=1)) for column in readings[1:])
        examined = Examined(Said(mean, *emotion), marks, wavers)
        return jax.tree.map(lambda column: column[: len(found)], examined)

    def _say(self, images: UInt8[np.ndarray, "B S S 3"]) -> Any:
        try:
            return kept_program(_say, self.variables, images, static=(self.model,))
        except FlaxError as error:  # shapes or names: flax says which
            raise UserError(
                f"{self._source} holds other networks than its config says ({first_line(error)}); "
                "bring back a whole one"
            ) from error


def shares(logits: Float[np.ndarray, "8"]) -> Float[np.ndarray, "8"]:
    """Probabilities of the emotions."""
    found = np.exp(np.float64(logits - logits.max()))
    return found / found.sum()


def _say(variables: Any, image: UInt8[Array, "B S S 3"], model: Any) -> tuple:
    """Coefficients by name, class logits, valence and arousal."""
    output = predict(model, variables, image)
    found = output.coefficients
    coefficients = {name: getattr(found, name) for name in _PREDICTED}
    return coefficients, output.logits, output.valence, output.arousal
