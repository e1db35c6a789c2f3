"""Converts published files into what the commands take.

    python -m fields_jax.convert flame generic_model.pkl HEAD.npz
    python -m fields_jax.convert embeddings DIR HEAD.npz
    python -m fields_jax.convert ict ICT-FaceKit HEAD.npz
    python -m fields_jax.convert gnm GNM HEAD.npz
    python -m fields_jax.convert arkit ICT-FaceKit HEAD.npz
    python -m fields_jax.convert teaser TEASER.pt DIR
    python -m fields_jax.convert smirk SMIRK_em1.pt DIR
    python -m fields_jax.convert vgg16 vgg16.pth DIR
    python -m fields_jax.convert emotion_resnet50 CHECKPOINT DIR

`flame` writes a head for --head and `embeddings` completes it with landmark tables, eyelids, masks
and texture coordinates. `ict` writes a whole head from a clone of ICT-FaceKit, whose licence is
MIT's; --parts=skin,eyes,teeth,gums,lashes,other says what of it. `gnm` writes one from Google's GNM
head (Apache-2.0): a clone, or gnm_head.npz with head_sparse_68.txt beside it. `arkit` adds ARKit's
52 shapes to any head; its source is a clone of ICT-FaceKit, or a head that has them, such as one of
`ict`. `teaser` and `smirk` write a folder for --config.init_from and --workdir (`smirk` with
--config.model.synthesizer=smirk), `vgg16` one for --config.losses.perceptual_weights,
`emotion_resnet50` (EMOCA's) one for --config.losses.emotion_feature_weights. Nothing in the sources
is run; torch and chumpy are not needed.
"""

from __future__ import annotations

import sys

from absl import flags

from fields_jax.cli import run
from fields_jax.errors import UserError

NETWORKS = ("teaser", "smirk", "vgg16", "emotion_resnet50")
KINDS = ("flame", "embeddings", "ict", "gnm", "arkit", *NETWORKS)


def define_flags() -> None:
    """The flags of the command."""
    flags.DEFINE_string("flame_version", "", "version of FLAME (default: told by the file's name)")
    flags.DEFINE_string("parts", "", "of ICT's model, with commas (default: skin,eyes,teeth,gums)")


def main(argv: list[str]) -> None:
    """The command."""
    if len(argv) != 4 or argv[1] not in KINDS:
        raise UserError(f"usage: convert {{{'|'.join(KINDS)}}} SOURCE TARGET; see --help")
    from fields_jax.convert import flame, networks
    from fields_jax.flame.io import load_flame

    _, kind, source, target = argv
    if flags.FLAGS.parts and kind != "ict":
        raise UserError(f"--parts is for `convert ict`, not `convert {kind}`")
    if kind == "flame":
        version = flame.convert_model(source, target, flags.FLAGS.flame_version)
        print(f"written: {target} (FLAME {version}); complete it with")
        print(f"    python -m fields_jax.convert embeddings DIR {target}")
    elif kind == "embeddings":
        for file in flame.convert_embeddings(source, target):
            print(f"read: {file}")
        head = load_flame(target)
        print(f"written: {target} (FLAME {head.version}, sha256 {head.sha256[:12]})")
    elif kind == "ict":
        from fields_jax.convert.ict import convert_ict

        head = convert_ict(source, target, flags.FLAGS.parts)
        print(f"written: {target} ({head})")
    elif kind == "gnm":
        from fields_jax.convert.gnm import convert_gnm

        print(f"written: {target} (GNM {convert_gnm(source, target)})")
    elif kind == "arkit":
        from fields_jax.convert.arkit import convert_arkit

        print(f"written: {target} ({convert_arkit(source, target)})")
    else:
        convert = getattr(networks, f"convert_{kind}")
        print(f"written: {target}, {convert(source, target)} entries used")


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
