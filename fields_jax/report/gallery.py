"""All faces of a run of `reconstruct` or `fit`: folders, summary.csv and index.html."""

from __future__ import annotations

import csv
import dataclasses
import datetime
import io
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from etils import epath

from fields_jax import pages
from fields_jax.errors import UserError, first_line, printable
from fields_jax.files import read_bytes, write_whole
from fields_jax.outputs.bundle import Bundle, Result, load_params
from fields_jax.outputs.confidence import said_of
from fields_jax.outputs.morphs import choose_morphs
from fields_jax.outputs.warming import warm_up
from fields_jax.outputs.writers import write_bundle
from fields_jax.photos.faces import Face
from fields_jax.photos.files import Unusable
from fields_jax.photos.names import OF_A_FACE, OF_A_PAGE, OF_A_RUN, unique_name
from fields_jax.report import cards
from fields_jax.types import FlameModel

if TYPE_CHECKING:
    from fields_jax.clips.making import Written

COLUMNS = (
    *("face", "status", "image", "found", "residual", "refined", "residual_before"),
    *("emotion", "probability", "valence", "arousal", "verdict", "reason"),
)
_PAGE, _TABLE = OF_A_RUN


class Gallery:
    """Collects faces and unusable files, and writes them below one folder.

    Attributes:
      faces: folders written so far, by name.
      persons: folders of the persons of clips.
      unusable: files and faces without a result.
    """

    def __init__(
        self,
        out: epath.PathLike,
        head: FlameModel,
        size: int,
        meta: Mapping[str, Any],
        morphs: str = "",
    ):
        """Makes the folder if it is absent; what an earlier run wrote there is overwritten.

        Args:
          out: the folder.
          head: the head of all faces.
          size: side in pixels of the crops that the cameras belong to.
          meta: of `outputs.bundle.Bundle`.
          morphs: of `outputs.bundle.Bundle`.

        Raises:
          UserError: the head has no such morph targets, or the folder holds a page or a table that
            no run of these commands wrote.
        """
        self._morphs = choose_morphs(head, morphs)
        self._out = epath.Path(out)
        _refuse_others(self._out)
        self._out.mkdir(parents=True, exist_ok=True)
        self._head, self._size, self._meta = head, size, dict(meta)
        self._rows: list[dict[str, Any]] = []
        self._cards: list[dict[str, Any]] = []
        self._names: set[str] = set()
        self.faces: list[str] = []
        self.persons: list[str] = []
        self._clips: list[dict[str, Any]] = []
        self.unusable: list[Unusable] = []

    def warm_up(self, n_expression: int) -> None:
        """Begins to compile what its faces need, which have so many expression components."""
        warm_up(self._head, self._morphs, n_expression)

    def add(self, face: Face, result: Result) -> str:
        """Writes the folder of one face.

        A result that is not finite, or a folder that cannot be written, is listed as unusable.

        Returns:
          Name of the folder below `out`; "" where the face is unusable.
        """
        if not result.is_finite():
            self.refuse(Unusable(epath.Path(face.path), f"{face.name}: the result is not finite"))
            return ""
        name = unique_name(face.name, self._names)
        try:
            while _is_of_others(self._out / name):
                name = unique_name(face.name, self._names)
            face = dataclasses.replace(face, name=name)
            folder = self._out / name
            bundle = Bundle(face, self._head, result, self._size, self._meta, self._morphs)
            written = write_bundle(folder, bundle)
            solid = cards.write_page_files(folder, bundle, written)
        except OSError as error:
            reason = f"{self._out / name} cannot be written: {error.strerror or first_line(error)}"
            self.refuse(Unusable(epath.Path(face.path), reason))
            return ""
        self.faces.append(name)
        path, origin = printable(face.path), printable(face.origin)
        row = {"face": name, "status": "ok", "image": path, "found": origin}
        notes = [origin]
        if result.residual is not None:
            row["residual"] = f"{result.residual:.4f}"
            notes.append(f"landmarks missed by {100 * result.residual:.1f} % of the eye distance")
        if result.refined is not None:
            row["refined"] = "yes" if result.refined else "no"
        if result.residual_before is not None:
            row["residual_before"] = f"{result.residual_before:.4f}"
            before = f"by {100 * result.residual_before:.1f} %"
            kept = f"a fit would miss the landmarks by more than the reading, {before}: not refined"
            notes.append(f"{before} before the fit" if result.refined else kept)
        reading = ""
        if result.emotion is not None:
            emotion, axes = result.emotion["emotion"], ("valence", "arousal")
            probability = result.emotion["probabilities"][emotion]
            row |= {"emotion": emotion, "probability": f"{probability:.3f}"}
            row |= {axis: f"{result.emotion[axis]:.3f}" for axis in axes}
            said = ", ".join(f"{axis} {result.emotion[axis]:+.2f}" for axis in axes)
            reading = f"read as {emotion} ({100 * probability:.0f} %), {said}"
        if result.verdict is not None:
            row["verdict"] = result.verdict.verdict
            row["reason"] = "; ".join(result.verdict.reasons)
            notes.append(said_of(result.verdict))
        self._rows.append(row)
        self._cards.append(cards.card(bundle, (notes, reading), written, solid))
        return name

    @property
    def out(self) -> epath.Path:
        """The folder."""
        return self._out

    def add_clip(self, name: str, path: str, person: Written) -> None:
        """Lists a person of a clip, whose files are written.

        Args:
          name: of its folder below `out`.
          path: of the clip.
          person: what was written.
        """
        self.persons.append(name)
        row = {"face": name, "status": "ok", "image": printable(path)}
        self._rows.append(row | dict(person.summary))
        link = urllib.parse.quote(name)
        film = next((file for file in person.files if file.endswith(".mp4")), "")
        files = [file for file in person.files if file != film]
        card = {"name": name, "link": link, "notes": list(person.notes), "files": files}
        self._clips.append(card | {"film": film})

    def link_folder(self, name: str, folder: str) -> None:
        """Links a folder among the files of a face or person.

        Args:
          name: as in `faces` or `persons`.
          folder: below that of the face, with files in it.
        """
        lists = ((self._cards, "links"), (self._clips, "files"))
        listed = next(card[key] for cards, key in lists for card in cards if card["name"] == name)
        listed.append(f"{folder}/")

    def refuse(self, unusable: Unusable) -> None:
        """Lists a file or face as unusable."""
        self.unusable.append(unusable)
        path, reason = printable(unusable.path), printable(unusable.reason)
        self._rows.append({"face": "", "status": "unusable", "image": path, "reason": reason})

    def close(self, title: str, lead: str) -> None:
        """Writes summary.csv and index.html."""
        text = io.StringIO()
        writer = csv.DictWriter(text, COLUMNS, restval="", lineterminator="\n")
        writer.writeheader()
        writer.writerows(self._rows)
        write_whole(self._out / _TABLE, text.getvalue())
        page = pages.render(
            "fields_jax.report",
            "gallery.html",
            title=title,
            lead=lead,
            facts=_facts(self._meta),
            faces=self._cards,
            clips=self._clips,
            unusable=[(printable(path), printable(reason)) for path, reason in self.unusable],
            version=self._meta["version"],
            date=datetime.datetime.now(tz=datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        )
        write_whole(self._out / _PAGE, page)


def _refuse_others(out: epath.Path) -> None:
    """Refuses a folder whose page or table is not of a run of these commands, told by its table."""
    there = next((out / name for name in OF_A_RUN if (out / name).exists()), None)
    if there is None:
        return
    table = out / _TABLE
    if not (table.exists() and read_bytes(table).startswith(",".join(COLUMNS[:2]).encode())):
        raise UserError(
            f"{there} is of no earlier run and would be overwritten: move it or name another --out"
        )


def _is_of_others(folder: epath.Path) -> bool:
    """Whether a folder holds files called as those of a face that no run of these commands wrote.

    As where --out is the folder of the photographs. Ours have a params.npz, which is written first.
    """
    if not folder.is_dir():
        return False
    names = {path.name.casefold() for path in folder.iterdir()}
    if not names.intersection((*OF_A_FACE, *OF_A_PAGE)):
        return False
    try:
        load_params(folder / OF_A_FACE[0])
    except UserError:
        return True
    return False


def _facts(meta: Mapping[str, Any]) -> list[tuple[str, str]]:
    head, weights = meta["head"], meta.get("weights")
    known = [("Head", f"{head['name']} {head['version']}, {head['sha256'][:12]}")]
    if weights:
        known.append(("Weights", f"{weights['workdir']}, step {weights['step']}"))
        known.append(("Networks trained", ", ".join(weights["trained"])))
    return [(name, printable(value)) for name, value in known]
