"""AffectNet as a TFDS data set."""

from __future__ import annotations

from typing import ClassVar

import tensorflow_datasets as tfds
from etils import epath

from data_pipelines.affectnet import eight_class, full
from data_pipelines.building.photo_builder import Catalogue, PhotographBuilder
from fields_jax.errors import MissingFile

_DESCRIPTION = """
Faces found with emotional words on the internet, annotated by people: one of eight expressions,
valence and arousal in [-1, 1], and 68 landmarks. Images without an expression (classes 8, 9 and 10)
are left out; where valence or arousal is -2, both are. AffectNet's validation set is `test`.
"""

_INSTRUCTIONS = """
AffectNet is given to researchers on request: http://mohammadmahoor.com/affectnet. Unpack it and
name its folder by --source. Config `full` wants
  Manually_Annotated/{training,validation}.csv
  Manually_Annotated/Manually_Annotated_Images/<folder>/<image>
and config `eight_class`
  {train_set,val_set}/images/N.jpg
  {train_set,val_set}/annotations/N_{exp,val,aro,lnd}.npy
A landmark file of mediapipe's points beside an image (`python -m data_pipelines.landmarks FOLDER`)
adds the 105 landmarks and the exact outline of the face.
"""

_CITATION = """
@article{mollahosseini2019affectnet,
  title = {{AffectNet}: A Database for Facial Expression, Valence, and Arousal Computing in the Wild},
  author = {Mollahosseini, Ali and Hasani, Behzad and Mahoor, Mohammad H.},
  journal = {IEEE Transactions on Affective Computing},
  volume = {10},
  number = {1},
  pages = {18--31},
  year = {2019},
}
"""  # noqa: E501


class Builder(PhotographBuilder):
    """AffectNet; see `PhotographBuilder` for its arguments."""

    VERSION = tfds.core.Version("1.1.0")
    RELEASE_NOTES: ClassVar = {
        "1.1.0": "Says whether the 68 landmarks are annotated.",
        "1.0.0": "First release.",
    }
    MANUAL_DOWNLOAD_INSTRUCTIONS = _INSTRUCTIONS
    BUILDER_CONFIGS: ClassVar = [
        tfds.core.BuilderConfig(name="full", description="The manually annotated photographs."),
        tfds.core.BuilderConfig(name="eight_class", description="The release of 291,650 crops."),
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        return self._make_info(
            description=_DESCRIPTION,
            citation=_CITATION,
            homepage="http://mohammadmahoor.com/affectnet",
            license="AffectNet's: for research only, not to be passed on.",
        )

    def catalogue(self, folder: epath.Path) -> Catalogue:
        """See the base class."""
        return LAYOUTS[self.builder_config.name](folder)


LAYOUTS = {"full": full.catalogue, "eight_class": eight_class.catalogue}


def config_of(folder: epath.Path) -> str:
    """Which release a folder holds.

    Raises:
      MissingFile: neither.
    """
    if (folder / eight_class.FOLDERS["train"]).is_dir():
        return "eight_class"
    if (folder / full.FOLDER).is_dir() or (folder / full.TABLES["train"]).exists():
        return "full"
    raise MissingFile(
        f"{folder}: neither {full.FOLDER} nor {eight_class.FOLDERS['train']} is in it; "
        "name the folder that AffectNet was unpacked into"
    )
