"""Fits of all scans of a release, sequence by sequence: what `data_pipelines.fit_bp4d` does."""

from __future__ import annotations

import contextlib
import dataclasses
import time
from collections.abc import Iterator

import numpy as np
from etils import epath

from data_pipelines.bp4d import fit_files, fit_pictures, layout, scans
from fields_jax import batch
from fields_jax.disk import DiskError, writing
from fields_jax.errors import UserError
from fields_jax.fitting.scan import ScanFitter
from fields_jax.fitting.scan_types import Scan, SequenceFit
from fields_jax.flame.landmarks import embed
from fields_jax.progress import progress
from fields_jax.render.draw import save_png
from fields_jax.types import FlameModel

_IDENTITY_FRAMES = 24  # of a subject, spread over its sequences
_N_SHAPE = 100


@dataclasses.dataclass
class Run:
    """One run over a release.

    Attributes:
      source: folder of the release.
      out: of the fits.
      head: to fit.
      unit: of the meshes, metres.
      sheets: frames on a picture.
      all: sequences of the release; identities are found from all of a subject's.
    """

    source: epath.Path
    out: epath.Path
    head: FlameModel
    unit: float
    sheets: int
    all: list[layout.Sequence]

    def __post_init__(self) -> None:
        """Prepares the fitter."""
        count = min(_N_SHAPE, self.head.shape_basis.shape[-1])
        self._fitter = ScanFitter(self.head, n_shape=count, n_expression=batch.N_EXPRESSION)
        self._mean = _mean_51(self.head)
        self._failed: dict[str, str] = {}
        self._frames = self._accepted = 0
        self._identities: dict[str, np.ndarray] = {}

    def fit(self, wanted: list[layout.Sequence]) -> dict:
        """Fits the sequences that have no fit yet; returns the summary."""
        open_ = [s for s in wanted if not self._is_finished(s)]
        count = sum(len(scans.meshes(sequence)) for sequence in open_)
        started = time.perf_counter()
        for _ in progress(self._scans(open_), count, "scans"):
            pass
        seconds = time.perf_counter() - started
        with self._writing():
            reasons = fit_files.write_failures(self.out, self._failed)
        return {
            "sequences_fitted": len(open_) - len(self._failed),
            "sequences_skipped": len(wanted) - len(open_),
            "sequences_failed": len(self._failed),
            "frames": self._frames,
            "frames_accepted": self._accepted,
            "frames_rejected": reasons,
            "scans_per_second": round(self._frames / seconds, 3),
            "head": {"name": self.head.name, "sha256": self.head.sha256},
        }

    def _file(self, sequence: layout.Sequence) -> epath.Path:
        return self.out / f"{sequence.name}.npz"

    def _is_finished(self, sequence: layout.Sequence) -> bool:
        file = self._file(sequence)
        return file.exists() and fit_files.is_finished(file, self.head, self.unit)

    def _scans(self, sequences: list[layout.Sequence]) -> Iterator[int]:
        """Fits one sequence after the other; yields once for each of their scans."""
        for sequence in sequences:
            try:
                count = self._sequence(sequence)
            except DiskError:
                raise
            except UserError as error:
                self._failed[sequence.name] = str(error)
                count = len(scans.meshes(sequence))
            yield from range(count)

    def _sequence(self, sequence: layout.Sequence) -> int:
        """Fits a sequence and writes its files; returns how many scans it has.

        Raises:
          UserError: there is nothing to fit.
        """
        files = scans.meshes(sequence)
        if not files:
            raise UserError(f"{sequence.folder}: no meshes such as 0000.obj")
        shape = self._identity(sequence.subject)
        read, unreadable = self._read(sequence, files)
        fit = self._fitter.fit(list(read.values()), shape) if read else None
        with self._writing():
            file, frames = self._file(sequence), dict.fromkeys(read, "") | unreadable
            fit_files.write_sequence(file, self.head, self.unit, shape, fit, frames)
        self._frames += len(files)
        if fit is not None:
            self._accepted += int(fit.accepted.sum())
            self._draw(sequence, list(read.values()), fit)
        return len(files)

    def _read(
        self, sequence: layout.Sequence, files: list[tuple[int, epath.Path]]
    ) -> tuple[dict[int, Scan], dict[int, str]]:
        """Scans by number of the frame, and for other frames why they cannot be read."""
        known = scans.tracks(self.source, sequence)
        read, unreadable = {}, {}
        for number, file in files:
            try:
                read[number] = scans.read_scan(known, number, file, self._mean, self.unit)
            except UserError as error:
                unreadable[number] = " ".join([str(error), *known.problems])
        return read, unreadable

    def _identity(self, subject: str) -> np.ndarray:
        """The shape of a subject: found before, stored, or found now from all its sequences.

        A stored one is not taken before a frame has passed with it: it may be what was wrong.

        Raises:
          UserError: no frame can be fitted.
        """
        if subject in self._identities:
            return self._identities[subject]
        file = self.out / "identity" / f"{subject}.npz"
        own = [sequence for sequence in self.all if sequence.subject == subject]
        shape = None
        if any(self._is_finished(sequence) for sequence in own):
            shape = fit_files.read_identity(file, self.head, self.unit)
        if shape is None or len(shape) != self._fitter.layout.n_shape:
            share = max(1, _IDENTITY_FRAMES // len(own))
            chosen = []
            for sequence in own:
                files = scans.meshes(sequence)
                rows = np.unique(np.linspace(0, len(files) - 1, share).round().astype(int))
                read, _ = self._read(sequence, [files[row] for row in rows if files])
                chosen += read.values()
            if not chosen:
                raise UserError(f"{subject}: no frame with a readable mesh and landmarks")
            shape = self._fitter.identity(chosen)
            with self._writing():
                fit_files.write_identity(file, self.head, self.unit, shape)
        self._identities[subject] = shape
        return shape

    def _draw(self, sequence: layout.Sequence, read: list[Scan], fit: SequenceFit) -> None:
        if self.sheets:
            sheet = fit_pictures.picture(self.head, read, fit, self.sheets)
            with self._writing():
                save_png(self.out / "pictures" / f"{sequence.name}.png", sheet)

    def _writing(self) -> contextlib.AbstractContextManager[None]:
        then = "the same command then goes on where it was"
        return writing(self.out, instead="another --out", then=then)


def _mean_51(head: FlameModel) -> np.ndarray:
    """The 51 inner landmarks of the mean head, metres."""
    return np.asarray(embed(head.template[None], head.faces, head.static_51)[0])
