"""Fits the head to the landmarks of photographs, without a network.

    python -m fields_jax.fit --out=faces photographs
    python -m fields_jax.fit --head=HEAD.npz --out=OUT A.jpg B.jpg

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

import dataclasses
import sys

from absl import flags

from fields_jax import clip_commands, photo_commands
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
    from fields_jax.fitting.photographs import CROP_SCALE, CROP_SIZE, fit_faces, unfit
    from fields_jax.flame.io import resolve_head
    from fields_jax.outputs.bundle import judged, pose_heads

    head = resolve_head(chosen.head)
    finder = packaged()
    gallery = photo_commands.open_gallery(head, CROP_SIZE, photo_commands.describe(head))
    for batch in photo_commands.batches(named, gallery, CROP_SCALE, marked=True):
        faces = []
        for face in batch:
            if reason := unfit(face):
                gallery.refuse(Unusable(face.path, reason))
            else:
                faces.append(face)
        if not faces:
            continue
        fit = fit_faces(head, faces)
        results = pose_heads(head, fit.coefficients, chosen.batch_size)
        for face, result, residual in zip(faces, results, fit.residual, strict=True):
            result = dataclasses.replace(result, residual=float(residual))
            gallery.add(face, judged(face, result, CROP_SIZE, finder))
    if named.clips:
        from fields_jax.clip_readers import LandmarkReader
        from fields_jax.clips.making import Maker

        reader = LandmarkReader(head, chosen.batch_size, finder)
        about = photo_commands.describe(head)
        maker = Maker(head, reader, clip_commands.settings(), about)
        clip_commands.make(named.clips, maker, gallery, finder, marked=True)
    return photo_commands.conclude(gallery, "Fitted faces", _LEAD)


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
