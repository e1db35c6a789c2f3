r"""Reconstructs the faces of photographs with a trained model.

    python -m fields_jax.reconstruct --out=faces photographs
    python -m fields_jax.reconstruct --workdir=runs/stage2 --out=OUT --box=40,30,200,220 A.jpg
    python -m fields_jax.reconstruct --refine --out=faces photographs
    python -m fields_jax.reconstruct --expression_from=faces/anna --out=smiling photographs
    python -m fields_jax.reconstruct --export=vhap --out=sets --clip frames
    python -m fields_jax.reconstruct --out=faces talk.mp4

Without --workdir the small model in the package is taken; its MODEL_CARD.md says what it cannot do.

Takes pictures, folders, patterns and videos; with --clip folders are clips too (docs/clips.md).
A face is where --box says, or where a landmark file beside the picture says (NAME.npy of
mediapipe's 478 points, or 68 points; NAME.jpg.npy where NAME.png is there too), or where the face
detector finds one (`make landmarks` installs it) or, without it, the small network in the package.
OUT/NAME holds params.npz, mesh.obj, mesh.ply, texture.jpg, head.glb, overlay.png, geometry.png,
emotion.json and confidence.json (NAME_0, NAME_1, ... for several faces; docs/outputs.md says what
is in them); OUT/index.html and OUT/summary.csv show all of them. With --refine a landmark fit
follows the networks' reading, which is its start and its prior, where a face has landmarks.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from absl import flags

from fields_jax import clip_commands, export_commands, expression_commands, photo_commands
from fields_jax.cli import run

if TYPE_CHECKING:
    from fields_jax.reconstruction import Model

_LEAD = (
    "What the networks say of each picture, drawn where they see it: head and emotion are readings "
    "by a trained model, not facts about a person."
)


def define_flags() -> None:
    """The command's flags."""
    photo_commands.define_flags()
    flags.DEFINE_string("box", "", "x0,y0,x1,y1 of the face in pixels, in every picture named")
    flags.DEFINE_bool("refine", False, "fit the landmarks, starting at the networks' reading")
    flags.DEFINE_string(
        "workdir", "", "folder of a training run or of a converted checkpoint (default: embedded)"
    )


def main(argv: list[str]) -> int:
    """The command; status 2 where no face could be made."""
    chosen = flags.FLAGS
    named = photo_commands.read_arguments(argv, chosen.box)
    from fields_jax.painting import can_paint, paint
    from fields_jax.reconstruction import load
    from fields_jax.workdir.packed import EMBEDDED

    source = chosen.workdir or EMBEDDED
    model = load(source, head=chosen.head or None)
    _say(model, source)
    put = expression_commands.chosen(model.head, model.reconstruct, named)
    exports = export_commands.Exports(model.head, model.size, model.about)
    gallery = photo_commands.open_gallery(model.head, model.size, model.about)
    gallery.warm_up(model.inference.config.model.n_expression)
    batch, plain, worse, other = 0, 0, 0, False
    page = gallery, "Reconstructed faces", _LEAD
    with photo_commands.kept(*page):
        for faces in photo_commands.batches(named, gallery, model.crop_scale, model.finder):
            batch = batch or len(faces)  # one face by itself is not filled up
            read = model.read(faces, batch, chosen.refine)
            left = [result.residual_before for result in read if result.refined is False]
            plain, worse = plain + left.count(None), worse + len(left) - left.count(None)
            results = put(read, batch)
            if (other := results[0].worn is not None) and can_paint(model.inference):
                results = paint(model.inference, model.head, faces, results, batch)
            for face, result in zip(faces, results, strict=True):
                exports.add_face(gallery, gallery.add(face, result), face, result)
        if named.clips:
            if chosen.refine:
                print("--refine is for photographs: clips keep the networks' reading")
            from fields_jax.clip_readers import NetworkReader
            from fields_jax.clips.making import Maker
            from fields_jax.finder import packaged

            finder = packaged()
            reader = NetworkReader(model, chosen.batch_size, finder)
            maker = Maker(model.head, reader, clip_commands.settings(), model.about)
            clip_commands.make(named.clips, maker, gallery, finder, box=named.box)
            exports.add_clips(gallery, named.clips)
    if plain:
        print(f"{plain} faces have no landmarks to refine by: theirs is the networks' reading")
    if worse:
        print(
            f"{worse} faces have landmarks that a fit missed by more than the networks' reading, "
            "which is kept: see whether the landmarks are theirs"
        )
    if other and not can_paint(model.inference):
        print(f"{source} has no trained synthesiser: no expression.png is written")
    if not model.reads_emotion:
        print(f"{source} has no trained emotion head: no emotion.json is written")
    exports.say()
    return photo_commands.conclude(*page)


def _say(model: Model, source: str) -> None:
    """What a user should know of the model before its faces."""
    from fields_jax.workdir.packed import CARD, EMBEDDED, PACKAGED

    meta = model.inference.meta
    if source == EMBEDDED:
        made = f"made {meta['made']} by fields_jax {meta['version']}, step {meta['step']}"
        print(f"model: embedded, {made}, {model.size} px; what it cannot do: {PACKAGED / CARD}")
    if "source" in meta and model.head.name == "procedural":
        print(
            f"{source} was converted from {meta['source']['name']}, which knows FLAME: on the "
            "procedural head its coefficients are other faces; name FLAME with --head=HEAD.npz"
        )


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
