"""BP4D-Spontaneous and BP4D+ as TFDS data sets."""

from __future__ import annotations

from typing import Any, ClassVar

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.bp4d import annotations, layout
from data_pipelines.building.photo_builder import Catalogue, PhotographBuilder
from data_pipelines.building.photographs import Sample
from fields_jax.errors import UserError
from fields_jax.flame.io import resolve_head

_DESCRIPTION = """
Frames of 3D sequences of spontaneous expressions. With FLAME fits of the scans they carry
coefficients; they have no class, valence or arousal. Splits have different subjects: `test` is one
of three folds, by default the third (of BP4D-Spontaneous the folds of action-unit papers, of BP4D+
every third subject).
"""

_INSTRUCTIONS = """
BP4D is given under a signed agreement by Binghamton University (Lijun Yin). Unpack it, zip files
of BP4D+ beside themselves, and name its folder by --source:
  2D+3D/F001/T1/0000.jpg ...   or  RawData/2D+3D/F001/T1/0000.jpg ...
  2DFeatures/F001_T1.mat       tracked points; frames without them are left out
  AUCoding/AU_OCC/F001_T1.csv  only for --coded_only
`python -m data_pipelines.landmarks FOLDER` puts mediapipe's points beside the frames: they add the
105 landmarks and the exact outline of the face. --fits=DIR names FLAME fits, DIR/F001_T1.npz.
"""

_CITATION = """
@article{zhang2014bp4d,
  title = {{BP4D-Spontaneous}: A High-Resolution Spontaneous 3D Dynamic Facial Expression Database},
  author = {Zhang, Xing and Yin, Lijun and Cohn, Jeffrey F. and Canavan, Shaun and Reale, Michael
    and Horowitz, Andy and Liu, Peng and Girard, Jeffrey M.},
  journal = {Image and Vision Computing},
  volume = {32},
  number = {10},
  pages = {692--706},
  year = {2014},
}
@inproceedings{zhang2016bp4dplus,
  title = {Multimodal Spontaneous Emotion Corpus for Human Behavior Analysis},
  author = {Zhang, Zheng and Girard, Jeffrey M. and Wu, Yue and Zhang, Xing and Liu, Peng and
    Ciftci, Umur and Canavan, Shaun and Reale, Michael and Horowitz, Andrew and Yang, Huiyuan and
    Cohn, Jeffrey F. and Ji, Qiang and Yin, Lijun},
  booktitle = {CVPR},
  year = {2016},
}
"""

_TASKS = {"spontaneous": 8, "plus": 10}


class Builder(PhotographBuilder):
    """BP4D; see `PhotographBuilder` for the other arguments."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {
        "1.1.0": "Says whether the 68 landmarks are annotated.",
        "1.0.0": "First release.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="spontaneous", description="41 subjects, 8 tasks."),
        tfds.core.BuilderConfig(name="plus", description="BP4D+: 140 subjects, 10 tasks."),
    ]

    def __init__(
        self,
        *,
        fits: str = "",
        head: str = "",
        test_fold: int = 3,
        every: int = 1,
        coded_only: bool = False,
        **kwargs: Any,
    ):
        """Takes the arguments of `PhotographBuilder` and these.

        Args:
          fits: folder of FLAME fits, one .npz per sequence; "": none.
          head: .npz of the head they belong to; "": the procedural head.
          test_fold: which of the folds 1, 2 and 3 is `test`; 0: none.
          every: take each n-th frame of a sequence.
          coded_only: leave out frames whose action units are not coded.
          **kwargs: see `PhotographBuilder`.

        Raises:
          UserError: no such fold, or no such head.
        """
        if fits:
            self.exact_head = resolve_head(head).identity
        super().__init__(**kwargs)
        if not 0 <= test_fold <= len(layout.FOLDS) or every < 1:
            raise UserError(
                f"test_fold must be 1, 2, 3 or 0 for none and every 1 or more, "
                f"not {test_fold} and {every}"
            )
        self._fits, self._head = fits, head
        self._test_fold, self._every, self._coded_only = test_fold, every, coded_only

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        return super().options | dict(
            fits=self._fits,
            head=self._head,
            test_fold=self._test_fold,
            every=self._every,
            coded_only=self._coded_only,
        )

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="https://www.cs.binghamton.edu/~lijun/Research/3DFE/3DFE_Analysis.html",
            license="Binghamton University's: for research only, not to be passed on.",
        )

    def catalogue(self, folder: epath.Path) -> Catalogue:
        """See the base class.

        Raises:
          OtherHead: a fit belongs to another head.
        """
        sequences, rejects = layout.sequences(folder, _TASKS[self.builder_config.name])
        found = Catalogue({"train": [], "test": []})
        for reason, detail in rejects:
            found.reject("train", reason, detail)
        sha256 = resolve_head(self._head).sha256 if self._fits else ""
        for sequence in sequences:
            split = "test" if self._fold(sequence.subject) == self._test_fold else "train"
            self._add(sequence, folder, sha256, split, found)
        return found

    def _fold(self, subject: str) -> int:
        """1, 2 or 3."""
        known = [i for i, fold in enumerate(layout.FOLDS, start=1) if subject in fold]
        if self.builder_config.name == "spontaneous" and known:
            return known[0]
        return 1 + _subject_number(subject) % len(layout.FOLDS)

    def _add(
        self,
        sequence: layout.Sequence,
        folder: epath.Path,
        sha256: str,
        split: str,
        found: Catalogue,
    ) -> None:
        """Adds the frames of a sequence to the catalogue."""

        def given(read: Any, file: epath.Path | None, reason: str, *arguments: Any) -> Any:
            """The content of a file; {} if it is absent or damaged."""
            if file is None:
                return {}
            try:
                return read(file, *arguments)
            except annotations.OtherHead:
                raise
            except UserError as error:
                found.reject(split, reason, str(error))
                return {}

        features = layout.find_beside(folder, f"2DFeatures/{sequence.name}.mat")
        tracked = given(annotations.read_tracked_points, features, "2D features unreadable")
        coded = None
        if self._coded_only:
            table = layout.find_beside(folder, *_code_files(sequence.name))
            coded = given(annotations.read_coded_frames, table, "action units unreadable")
        fits = {}
        if self._fits:
            file = epath.Path(self._fits) / f"{sequence.name}.npz"
            if file.exists():
                fits = given(annotations.read_fit, file, "fit unreadable", sha256)
            else:
                found.reject(split, "sequence without fit", str(file))
        for number, picture in list(sequence.frames())[:: self._every]:
            key = f"{sequence.subject}/{sequence.task}/{picture.stem}"
            if number in tracked and tracked[number] is None:
                found.reject(split, "tracking lost", key)
            elif coded is not None and number not in coded:
                found.reject(split, "action units not coded", key)
            else:
                labels = {"subject": _subject_number(sequence.subject), **fits.get(number, {})}
                sample = Sample(key, str(picture), tracked.get(number), labels=labels)
                found.splits[split].append(sample)


def config_of(folder: epath.Path) -> str:
    """Which release a folder holds: BP4D+ comes in a folder RawData or has tasks beyond T8."""
    if (folder / "RawData").is_dir():
        return "plus"
    sequences, _ = layout.sequences(folder, _TASKS["plus"])
    return "plus" if any(s.task in ("T9", "T10") for s in sequences) else "spontaneous"


def _subject_number(subject: str) -> int:
    """F001 is 1, M001 is 1001."""
    return int(subject[1:]) + (1000 if subject[0] == "M" else 0)


def _code_files(name: str) -> tuple[str, ...]:
    return tuple(f"{base}/{name}.csv" for base in ("AUCoding/AU_OCC", "AUCoding", "AU_OCC"))
