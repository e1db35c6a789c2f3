"""Photographs of faces from anywhere: a folder, or a manifest of photographs and labels."""

from __future__ import annotations

from typing import Any, ClassVar

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.building.photo_builder import Catalogue, PhotographBuilder
from data_pipelines.building.photographs import Sample
from data_pipelines.faces import manifest
from data_pipelines.heads import in_words
from fields_jax.errors import MissingFile, UserError
from fields_jax.photos.finding import photographs_below
from fields_jax.photos.kinds import NAMES

_DESCRIPTION = """
Any photographs of faces, cropped to about twice the face, with landmarks and the hull of the face,
and the labels of a manifest if there is one. The licence of the prepared set is that of the
photographs.
"""

_INSTRUCTIONS = f"""
Put photographs ({NAMES};
folders may nest) into one folder and name it by --source.
`python -m data_pipelines.landmarks FOLDER` puts mediapipe's 478 points beside each, NAME.npy; files
of 68 points (.npy, .txt or .pts) are fine too. Of several faces in a photograph the first one, the
largest, is taken. --manifest=FILE names a .csv or .jsonl table with the columns
  {", ".join(manifest.COLUMNS)}
of which only `image`, a path below --source, is needed. `python -m data_pipelines.manifests`
writes manifests of RAF-DB, AFEW-VA, Aff-Wild2 and MEAD. --fitted adds the coefficients of the
landmark fit (`python -m fields_jax.fit`), of the head --head, as labels.
"""

_CITATION = """
@article{kartynnik2019realtime,
  title = {Real-time Facial Surface Geometry from Monocular Video on Mobile {GPUs}},
  author = {Kartynnik, Yury and Ablavatski, Artsiom and Grishchenko, Ivan and Grundmann, Matthias},
  journal = {arXiv:1907.06724},
  year = {2019},
}
"""


class Builder(PhotographBuilder):
    """Photographs of a folder or a manifest; see `PhotographBuilder` for the other arguments."""

    VERSION = tfds.core.Version("1.2.0")
    RELEASE_NOTES: ClassVar = {
        "1.2.0": "Says whether the 68 landmarks are annotated; else mediapipe's nearest stand in.",
        "1.1.0": "Manifests with labels, files of 68 points, several faces in a photograph.",
        "1.0.0": "First release.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS

    def __init__(
        self,
        *,
        manifest: str = "",
        test_share: float = 0.0,
        fitted: bool = False,
        head: str = "",
        **kwargs: Any,
    ):
        """Takes the arguments of `PhotographBuilder` and these.

        Args:
          manifest: path of the table; "": every photograph of the folder.
          test_share: share of the subjects, or of the photographs where no subject is known, that
            goes to `test`, chosen by name; not for rows with a split.
          fitted: whether the landmark fit labels the photographs with coefficients.
          head: .npz of the head that is fitted; "": the procedural one.
          **kwargs: see `PhotographBuilder`.

        Raises:
          UserError: no such head, or a head that nothing is fitted with.
        """
        if head and not fitted:
            raise UserError(f"--head={head} is for labels of a landmark fit: add --fitted")
        if fitted:
            from data_pipelines.building.fitted import Teacher

            self.teacher = Teacher(head)
        super().__init__(**kwargs)
        self._manifest, self._test_share = manifest, test_share

    @property
    def options(self) -> dict[str, Any]:
        """See the base class."""
        own = dict(manifest=self._manifest, test_share=self._test_share)
        fitted = in_words(self.teacher.head) if self.teacher else False
        return super().options | own | dict(fitted=fitted)

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            description=_DESCRIPTION, citation=_CITATION, license="That of the photographs."
        )

    def catalogue(self, folder: epath.Path) -> Catalogue:
        """See the base class."""
        if self._manifest:
            return manifest.catalogue(epath.Path(self._manifest), folder, self._test_share)
        found = Catalogue({"train": [], "test": []})
        for path, _, reason in photographs_below(folder):
            # Bytes of names that are not UTF-8 are escaped, since keys are hashed as texts.
            name = path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()
            split = manifest.SPLITS[manifest.in_test(name, self._test_share)]
            if reason:
                found.reject(split, reason.partition(";")[0], f"{path}: {reason}")
            else:
                found.splits[split].append(Sample(name, str(path)))
        if not any(found.splits.values()) and not found.rejects:
            raise MissingFile(
                f"{folder}: no photographs ({NAMES}); "
                "put them there with their points, NAME.jpg and NAME.npy"
            )
        return found
