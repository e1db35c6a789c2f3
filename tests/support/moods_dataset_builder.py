"""A data set of a few lines: a folder of photographs for each emotion; see docs/extending.md."""

from __future__ import annotations

from etils import epath

from data_pipelines.building.photo_builder import Catalogue, PhotographBuilder
from data_pipelines.building.photographs import Sample
from fields_jax.emotions import EMOTIONS


class Builder(PhotographBuilder):
    """Photographs with mediapipe's points beside them, in folders called after emotions."""

    def _info(self):
        return self._make_info(description="Photographs by emotion.", license="None: a test's.")

    def catalogue(self, folder: epath.Path) -> Catalogue:
        """See the base class."""
        found = Catalogue({"train": [], "test": []})
        for path in sorted(folder.glob("*/*.png")):
            name = f"{path.parent.name}/{path.name}"
            if path.parent.name in EMOTIONS:
                labels = {"emotion": EMOTIONS.index(path.parent.name)}
                found.splits["train"].append(Sample(name, str(path), labels=labels))
            else:
                found.reject("train", "no such emotion", name)
        return found
