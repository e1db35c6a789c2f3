"""Fits the head to the landmarks of photographs, without a network.

    python -m fields_jax.fit --out=faces photographs
    python -m fields_jax.fit --head=HEAD.npz --out=OUT A.jpg B.jpg
    python -m fields_jax.fit --neutral --out=calm photographs
    python -m fields_jax.fit --export=metrical-tracker --out=sets --clip frames

Takes pictures, folders and patterns; videos and, with --clip, folders of frames are clips
(docs/clips.md). Landmarks are read from a file beside the picture (NAME.npy of mediapipe's 478
points, or 68 points; NAME.jpg.npy where NAME.png is there too) or found by the face detector
(`make landmarks` installs it). Points that are 0, 0 or -1, -1 are unseen and not fitted.
OUT/NAME holds params.npz, mesh.obj, mesh.ply, texture.jpg, head.glb, overlay.png, geometry.png and
confidence.json (NAME_0, NAME_1, ... for several faces; docs/outputs.md says what is in them);
OUT/index.html and OUT/summary.csv show all of them. The residual is the mean distance of fitted
from given landmarks as a fraction of the inter-ocular distance.
"""

from __future__ import annotations

import sys
import types
from typing import Any

from absl import flags

from fields_jax import clip_commands, export_commands, expression_commands, photo_commands
from fields_jax.cli import run
from fields_jax.photos.files import Unusable

_LEAD = (
    "The head fitted to the landmarks of each picture. Landmarks say little of depth, cheeks and "
    "forehead: there the mean head shows."
)


def define_flags() -> None:
    """The command's flags."""
    photo_commands.define_flags()


def main(argv: list[str]) -> int:
    """The command; status 2 where no face could be fitted."""
    chosen = flags.FLAGS
    named = photo_commands.read_arguments(argv)
    from fields_jax.finder import packaged
    from fields_jax.fitting.photographs import CROP_SCALE, CROP_SIZE, unfit
    from fields_jax.flame.io import resolve_head
    from fields_jax.landmark_fit import Fitter

    fitter = Fitter(resolve_head(chosen.head))
    put = expression_commands.chosen(fitter.head, fitter.fit, named)
    exports = export_commands.Exports(fitter.head, CROP_SIZE, fitter.about)
    gallery = photo_commands.open_gallery(fitter.head, CROP_SIZE, fitter.about)
    batch = 0
    page = gallery, "Fitted faces", _LEAD
    with photo_commands.kept(*page):
        for found in photo_commands.batches(named, gallery, CROP_SCALE):
            faces = []
            for face in found:
                if reason := unfit(face):
                    gallery.refuse(Unusable(face.path, reason))
                else:
                    faces.append(face)
            if not faces:
                continue
            batch = batch or len(faces)  # one face by itself is not filled up
            for first in range(0, len(faces), batch):
                part = faces[first : first + batch]
                results = put(fitter.read(part, batch), batch)
                for face, result in zip(part, results, strict=True):
                    exports.add_face(gallery, gallery.add(face, result), face, result)
        if named.clips:
            from fields_jax.clip_readers import LandmarkReader
            from fields_jax.clips.making import Maker

            finder = packaged()
            reader = LandmarkReader(fitter.head, chosen.batch_size, finder)
            maker = Maker(fitter.head, reader, clip_commands.settings(), fitter.about)
            clip_commands.make(named.clips, maker, gallery, finder, marked=True)
            exports.add_clips(gallery, named.clips)
    exports.say()
    return photo_commands.conclude(*page)


class _Fit(types.ModuleType):
    """This module is callable: once it is imported, its name in the package is `fields_jax.fit`,
    which goes on being the function.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        from fields_jax import landmark_fit

        return landmark_fit.fit(*arguments, **options)


sys.modules[__name__].__class__ = _Fit

if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
