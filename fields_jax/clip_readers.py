"""What reads the faces of clips: a trained model, or the fit of landmarks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fields_jax.clips.person import GAZE
from fields_jax.clips.reading import Reader
from fields_jax.clips.watching import Sighting
from fields_jax.fitting.gaze import GazeReader
from fields_jax.fitting.photographs import CROP_SCALE, CROP_SIZE, fit_faces, unfit
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.networks import shares
from fields_jax.outputs.confidence import Evidence, evidence, look_again
from fields_jax.outputs.wavering import posed_landmarks
from fields_jax.photos.crops import to_photograph
from fields_jax.photos.faces import Finder
from fields_jax.reconstruction import Model
from fields_jax.types import FlameCoefficients, FlameModel

_ASK_EVERY = 15  # readings of a face between those upside down


class _FaceReader(Reader):
    """What both readers share.

    Attributes:
      batch_size, size, scale: see `Reader`.
    """

    def __init__(self, head: FlameModel, batch_size: int, size: int, scale: float, finder: Finder):
        self.batch_size, self.size, self.scale = batch_size, size, scale
        self._finder, self._gaze = finder, GazeReader(head)

    def _columns(
        self, sighting: Sighting, coefficients: FlameCoefficients, row: int
    ) -> dict[str, Any]:
        """The coefficients of a face that are there; its gaze is NaN where no landmarks tell it."""
        fields = {f.name: getattr(coefficients, f.name) for f in dataclasses.fields(coefficients)}
        columns = {n: np.asarray(value)[row] for n, value in fields.items() if value is not None}
        eyes = None
        if all(np.isfinite(value).all() for value in columns.values()):
            eyes = self._gaze.of_face(sighting.face, row, coefficients, self.size)
        return columns | {GAZE: np.full(6, np.nan, np.float32) if eyes is None else eyes}

    def _evidence(
        self,
        sighting: Sighting,
        marks: np.ndarray,
        pose: np.ndarray,
        known: Mapping[str, float],
    ) -> dict[str, float]:
        """Columns by the names of `Evidence`."""
        face, again = sighting.face, sighting.again
        again = look_again(self._finder, face) if again is None else again
        points = to_photograph(marks, face.matrix(self.size), self.size)
        found = evidence(face, points, pose, **again, **known)
        told = {f.name: getattr(found, f.name) for f in dataclasses.fields(Evidence)}
        return told | {"marked": float(face.points is not None)}


class NetworkReader(_FaceReader):
    """Reads by a trained model; see `Reader`."""

    def __init__(self, model: Model, batch_size: int, finder: Finder):
        """Binds them.

        Args:
          model: what reads.
          batch_size: faces at once.
          finder: the network in the package, which looks a second time at faces that it has not
            found itself.
        """
        super().__init__(model.head, batch_size, model.size, model.crop_scale, finder)
        self._model = model
        self.begin()

    def begin(self) -> None:
        """See `Reader`."""
        self._since: dict[int, int] = {}
        self._upside: dict[int, float] = {}

    def __call__(self, sightings: Sequence[Sighting]) -> list[Mapping[str, Any] | str]:
        """See `Reader`."""
        faces = [sighting.face for sighting in sightings]
        # Who stands upright stays so: that is asked of a face now and then alone.
        counts = [self._since.get(sighting.track, _ASK_EVERY) for sighting in sightings]
        ask = max(counts) >= _ASK_EVERY
        said, points, wavers = self._model.networks.examine(faces, self.batch_size, upside=ask)
        rows = []
        for row, sighting in enumerate(sightings):
            columns = self._columns(sighting, said.coefficients, row)
            if self._model.reads_emotion:
                columns["probabilities"] = np.float32(shares(said.logits[row]))
                columns |= {"valence": said.valence[row], "arousal": said.arousal[row]}
            known = wavers.of(row)
            if ask:
                self._since[sighting.track] = 0
                self._upside[sighting.track] = known["upside"] / max(known["spread"], 1e-6)
            else:
                self._since[sighting.track] += 1
                known["upside"] = self._upside[sighting.track] * known["spread"]
            rows.append(columns | self._evidence(sighting, points[row], columns["pose"], known))
        return [_checked(columns) for columns in rows]


class LandmarkReader(_FaceReader):
    """Reads by the fit of landmarks; see `Reader`."""

    def __init__(self, head: FlameModel, batch_size: int, finder: Finder):
        """Binds them; see `NetworkReader`."""
        super().__init__(head, batch_size, CROP_SIZE, CROP_SCALE, finder)
        self._head, self._small = head, landmark_head(head)

    def __call__(self, sightings: Sequence[Sighting]) -> list[Mapping[str, Any] | str]:
        """See `Reader`."""
        answers: list[Mapping[str, Any] | str] = [unfit(each.face) for each in sightings]
        usable = [row for row, reason in enumerate(answers) if not reason]
        if not usable:
            return answers
        filled = [*usable, *[usable[-1]] * (self.batch_size - len(usable))]
        fit = fit_faces(self._head, [sightings[row].face for row in filled])
        points = posed_landmarks(self._small, fit.coefficients)
        for place, row in enumerate(usable):
            columns = self._columns(sightings[row], fit.coefficients, place)
            columns["residual"] = np.float32(fit.residual[place])
            known = {"residual": float(fit.residual[place])}
            known = self._evidence(sightings[row], points[place], columns["pose"], known)
            answers[row] = _checked(columns | known)
        return answers


def _checked(columns: Mapping[str, Any]) -> Mapping[str, Any] | str:
    """The columns, or the reason where the coefficients are not finite."""
    names = {field.name for field in dataclasses.fields(FlameCoefficients)} & set(columns) - {GAZE}
    finite = all(np.isfinite(columns[name]).all() for name in names)
    return columns if finite else "the result is not finite"
