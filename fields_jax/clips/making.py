"""From a clip to the files of its persons."""

from __future__ import annotations

import contextlib
import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from etils import epath

from fields_jax.clips import animation, files, film, measures
from fields_jax.clips.decode import Frame, FrameFolder, Source
from fields_jax.clips.motion import eye_distances, landmarks, steadied
from fields_jax.clips.person import Person, runs, together
from fields_jax.clips.reading import ReadClip, Reader, Stages, read_clip
from fields_jax.clips.watching import Watcher, Where
from fields_jax.errors import UserError, first_line
from fields_jax.files import whole_file, write_whole
from fields_jax.flame.landmark_head import landmark_head
from fields_jax.outputs.bundle import pose_heads
from fields_jax.outputs.confidence import VERDICTS, Evidence, Verdict, judge
from fields_jax.photos.names import OF_A_CLIP
from fields_jax.progress import Progress
from fields_jax.registration.arkit import Tables, arkit_tables, arkit_weights
from fields_jax.types import FlameModel

FILM, GLB = "clip.mp4", "clip.glb"
NO_FILM = "no clip.mp4, which needs PyAV; pip install -e '.[video]'"
# How far a frame's shape counts for the person's identity, by its verdict.
_TRUST = np.array([1.0, 0.2, 0.02])
_BELIEVED = 0.3  # share of the frames read that must not fail, so that what was followed is a face
_EVIDENCE = tuple(field.name for field in dataclasses.fields(Evidence))


@dataclasses.dataclass(frozen=True)
class Settings:
    """How clips are worked on.

    Attributes:
      bridge: seconds; see `Tracker`.
      smooth: strength of the smoothing; 0 for none.
      film: whether the MP4 is made, which takes PyAV.
      morphs: of clip.glb, see `outputs.morphs.choose_morphs`.
    """

    bridge: float = 0.5
    smooth: float = 1.0
    film: bool = True
    morphs: str = ""


class Written(NamedTuple):
    """A person whose files are written.

    Attributes:
      name: of the folder below the clip's.
      files: names of the files.
      notes: what is to be known of the person, a few words each.
      summary: columns for a table of all persons.
    """

    name: str
    files: list[str]
    notes: list[str]
    summary: dict[str, str]


class Maker:
    """Makes the files of clips with one head."""

    def __init__(
        self, head: FlameModel, read: Reader, settings: Settings, about: Mapping[str, Any]
    ):
        """Binds what all clips share.

        Args:
          head: of the coefficients.
          read: what reads faces.
          settings: of the work.
          about: JSON: program, head and weights; recorded in every output.
        """
        self._head, self._read, self._settings, self._about = head, read, settings, about
        self._small = landmark_head(head)
        self._tables: Tables | None = None

    @property
    def scale(self) -> float:
        """Side of the crops that are read, in face boxes."""
        return self._read.scale

    def make(self, source: Source, where: Where, folder: epath.Path) -> Iterator[Written]:
        """Writes the persons of a clip, each as soon as it is complete but for the film.

        Args:
          source: the clip.
          where: its faces are.
          folder: of the clip; a person's files go to person_0, person_1 ... below it.

        Raises:
          UserError: the clip cannot be used, or shows no face.
          OSError: a file cannot be written.
        """
        stages, settings = Stages(), self._settings
        watcher = Watcher(where, source.name, settings.bridge, steady=settings.smooth > 0)
        found = read_clip(source, watcher, self._read, stages)
        told = _told(source, found, settings)
        clips = []
        for person in found.persons:
            with stages.stage("smooth"):
                clip = self._clip(person, told)
                marked = np.nanmax(person.readings["marked"]) > 0  # NaN where interpolated
                if where.box is not None or marked or _is_face(clip):
                    clips.append(clip)
        if not clips:
            raise UserError(f"{source.path}: no face found in {found.frames} frames")
        told |= {"persons": len(clips), "passers": found.passers + len(found.persons) - len(clips)}
        clips = [clip._replace(about={**clip.about, **told}) for clip in clips]
        folders = [folder / f"person_{number}" for number in range(len(clips))]
        written = [
            self._write(place, clip, stages) for place, clip in zip(folders, clips, strict=True)
        ]
        with stages.stage("animate"):
            best = animation.best_frames([clip.person for clip in clips], source.frames())
            for clip, place, names, frame in zip(clips, folders, written, best, strict=True):
                write_whole(
                    place / GLB, animation.animated(clip, self._head, frame, settings.morphs)
                )
                names.append(GLB)
        if settings.film and importlib.util.find_spec("av") is None:
            told["film"] = {"left out": NO_FILM}
        elif settings.film:
            told["film"] = self._film(source, [clip.person for clip in clips], folders, stages)
            for each in written if "codec" in told["film"] else ():
                each.append(FILM)
        _forget(folder, written)
        told["frames_per_second"] = _rates(stages, found.frames)
        for number, (place, clip, names) in enumerate(zip(folders, clips, written, strict=True)):
            about = {**clip.about, **told}
            write_whole(place / "clip.json", files.facts(clip._replace(about=about)))
            names.append("clip.json")
            yield Written(f"person_{number}", names, _notes(about), _summary(about))

    def _clip(self, person: Person, told: Mapping[str, Any]) -> files.Clip:
        """The person judged, with one identity, smoothed and measured."""
        judged = verdicts(person)
        person = dataclasses.replace(
            person,
            readings={
                **{n: v for n, v in person.readings.items() if _is_told(n, v)},
                "expected_error": np.array([each.error for each in judged], np.float32),
            },
        )
        ranks = np.array([VERDICTS.index(each.verdict) for each in judged])
        weights = np.where(person.seen, _TRUST[ranks], 1e-6)
        after = steadied(person, self._head, self._settings.smooth, weights)
        points = [landmarks(each, self._small) for each in (person, after)]
        measured = _measured(*points, person.seen)
        shapes = None
        if self._head.arkit_basis is not None:
            if self._tables is None:
                count = after.coefficients["expression"].shape[-1]
                self._tables = arkit_tables(self._head, count)
            shapes = tuple(arkit_weights(self._head, after.flame(), self._tables))
        counts = {name: int((ranks == row).sum()) for row, name in enumerate(VERDICTS)}
        about = {
            **self._about,
            **told,
            "frames_of_person": len(person.times),
            "interpolated": int((~person.seen).sum()),
            "lost": runs(person.seen),
            "verdicts": counts,
            **measured,
        }
        reasons = ["; ".join(each.reasons) for each in judged]
        rate = float(told["rate"])
        return files.Clip(after, points[1][..., :2], ranks, reasons, shapes, rate, about)

    def _write(self, folder: epath.Path, clip: files.Clip, stages: Stages) -> list[str]:
        written = []
        with stages.stage("write"):
            for name, make in WRITERS.items():
                content = make(clip)
                if content is not None:
                    write_whole(folder / name, content)
                    written.append(name)
        return written

    def _film(
        self,
        source: Source,
        persons: Sequence[Person],
        folders: Sequence[epath.Path],
        stages: Stages,
    ) -> dict[str, str]:
        """Writes the films of all persons in one pass over the clip; a failure costs only them.

        Returns:
          Their codec, or why they are left out.
        """
        import av

        size = self._read.batch_size
        line = Progress(source.length, "frames drawn", of=source.name)
        try:
            with contextlib.ExitStack() as stack:
                paths = [stack.enter_context(whole_file(folder / FILM)) for folder in folders]
                films = [stack.enter_context(film.Film(path, source.rate)) for path in paths]
                for number, picture, time in self._panels(source, persons, size, stages, line):
                    with stages.stage("encode"):
                        films[number].add(picture, time)
        except (av.FFmpegError, OSError) as error:
            return {"left out": f"no {FILM}, which failed: {first_line(error)}"}
        return {"codec": films[0].codec}

    def _panels(
        self,
        source: Source,
        persons: Sequence[Person],
        size: int,
        stages: Stages,
        line: Progress,
    ) -> Iterator[tuple[int, np.ndarray, float]]:
        """(person, picture, seconds since the person came) of every frame in turn."""
        flames = together(persons)
        cells = _cells(persons, stages.timed("decode", source.frames()), line)
        while batch := list(itertools.islice(cells, size)):
            known = [
                jax.tree.map(lambda column, row=row: column[row], flames[number])
                for number, row, _ in batch
            ]
            with stages.stage("draw"):
                stacked = jax.tree.map(lambda *rows: np.stack(rows), *known)
                results = pose_heads(self._head, stacked, size)
                pictures = [
                    film.panels(frame, result, persons[number], self._head)
                    for (number, _, frame), result in zip(batch, results, strict=True)
                ]
            for (number, row, _), picture in zip(batch, pictures, strict=True):
                times = persons[number].times
                yield number, picture, float(times[row] - times[0])


WRITERS: dict[str, Callable[[files.Clip], bytes | str | None]] = {
    "clip.npz": files.arrays,
    "clip.csv": files.table,
    "clip_livelink.csv": files.live_link_table,
}


def _forget(folder: epath.Path, written: Sequence[Sequence[str]]) -> None:
    """Removes what an earlier run wrote of persons and files that there are no more."""
    for number in itertools.count():
        place = folder / f"person_{number}"
        if number >= len(written) and not place.is_dir():
            return
        kept = ("clip.json", *written[number]) if number < len(written) else ()
        for name in set(OF_A_CLIP).difference(kept):
            (place / name).unlink(missing_ok=True)


def verdicts(person: Person) -> list[Verdict]:
    """The verdict on every frame; interpolated ones are suspect."""
    known = {name: person.readings[name] for name in _EVIDENCE if name in person.readings}
    found = []
    for row, seen in enumerate(person.seen):
        if seen:
            found.append(judge(Evidence(**{name: float(v[row]) for name, v in known.items()})))
        else:
            found.append(Verdict("suspect", ("interpolated: no face was found",), np.nan))
    return found


def _cells(
    persons: Sequence[Person], frames: Iterator[Frame], line: Progress
) -> Iterator[tuple[int, int, Frame]]:
    for frame in frames:
        for number, row in film.covered(persons, frame):
            yield number, row, frame
        line.step()


def _is_told(name: str, values: np.ndarray) -> bool:
    """Whether files hold a reading: of the evidence the residual alone, where there is one."""
    if name == "residual":
        return bool(np.isfinite(values).any())
    return name not in (*_EVIDENCE, "marked")


def _is_face(clip: files.Clip) -> bool:
    """Whether what a finder of boxes found is a face: some of its frames are believed."""
    believed = clip.verdicts[clip.person.seen] < VERDICTS.index("fail")
    return bool(believed.mean() > _BELIEVED)


def _measured(before: np.ndarray, after: np.ndarray, seen: np.ndarray) -> dict[str, Any]:
    """Jitter before and after smoothing, and the lag, for JSON."""
    units = [eye_distances(points) for points in (before, after)]
    flat = [points[..., :2] for points in (before, after)]
    trembles = [measures.jitter(p, u, seen) for p, u in zip(flat, units, strict=True)]
    moves = [points.reshape(len(points), -1) for points in flat]
    lag = measures.lag(*moves)
    return {
        "jitter_before": trembles[0],
        "jitter_after": trembles[1],
        "lag_frames": lag,
        "jitter_unit": "mean second difference of the 68 landmarks from frame to frame, in "
        "inter-ocular distances",
    }


def _told(source: Source, found: ReadClip, settings: Settings) -> dict[str, Any]:
    """What is told of a clip, for JSON."""
    # Frames that cannot be read change neither.
    rate = source.rate if isinstance(source, FrameFolder) else found.rate or source.rate
    return {
        "clip": str(source.path),
        "frames": found.frames,
        "seconds": round(found.seconds, 4),
        "rate": round(rate, 4),
        "remark": source.remark,
        "refused": found.refused,
        "smooth": settings.smooth,
        "bridge": settings.bridge,
    }


def _rates(stages: Stages, frames: int) -> dict[str, float]:
    """Frames per second of each stage, and of all together."""
    rates = {name: frames / max(spent, 1e-9) for name, spent in stages.seconds.items()}
    total = frames / max(sum(stages.seconds.values()), 1e-9)
    return {name: round(rate, 1) for name, rate in {**rates, "all": total}.items()}


def _notes(about: Mapping[str, Any]) -> list[str]:
    counts = about["verdicts"]
    notes = [
        f"{about['frames_of_person']} of {about['frames']} frames, {about['interpolated']} of them "
        "interpolated",
        ", ".join(f"{count} {name}" for name, count in counts.items()),
    ]
    if about["jitter_before"] is not None:
        before, after = 100 * about["jitter_before"], 100 * about["jitter_after"]
        notes.append(f"jitter {before:.2f} % of the eye distance, smoothed {after:.2f} %")
    left_out = about.get("film", {}).get("left out", "")
    return notes + [remark for remark in (about["remark"], left_out) if remark]


def _summary(about: Mapping[str, Any]) -> dict[str, str]:
    counts = about["verdicts"]
    worst = max(counts, key=lambda name: (counts[name], name == "ok"))
    return {"verdict": worst}
