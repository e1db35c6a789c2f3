r"""Writes a trained model for use elsewhere.

    python -m fields_jax.export --workdir=runs/stage2 --out=exported
    python -m fields_jax.export --workdir=DIR --out=OUT --ema --head=HEAD.npz --platforms=cpu,cuda

OUT holds `model.stablehlo`, a program of jax.export for any batch size and every named platform,
with parameters and head inside: images [B, S, S, 3] in [0, 1] to {coefficients, vertices in
metres, logits, valence, arousal}. It needs jax and flatbuffers, which jax.export reads by and does
not install (`pip install jax flatbuffers`):

    exported = jax.export.deserialize(open("OUT/model.stablehlo", "rb").read())
    faces = exported.call(images)

The program contains the head: with a licensed one, share it only as its licence allows. OUT is a
workdir too, with the networks as a checkpoint, for `fields_jax.evaluate` and `--config.init_from`.
Before OUT appears, a fresh process reads both on the CPU: the networks must have the checksums they
had here, and the program must give the same outputs. `cpu` is always among the platforms for that;
the program is not run on the others.

    python -m fields_jax.export --workdir=runs/stage2 --weights=FOLDER --ema

FOLDER holds the encoders and the emotion head alone, as float16 in a file of numbers, and a card
to complete: a few MB that every command takes as --workdir. `embedded` names those that fields_jax
brings along. --spread=FILE adds the networks' errors, as `python -m benchmarks.refine` measures
them, which `reconstruct --refine` takes as its prior.
"""

from __future__ import annotations

from absl import flags

from fields_jax.cli import run
from fields_jax.errors import UserError

PLATFORMS = ("cpu", "cuda", "rocm", "tpu")


def define_flags() -> None:
    """The flags of the command; see the module's docstring."""
    flags.DEFINE_string("workdir", "", "folder of a run or converted checkpoint, or embedded")
    flags.DEFINE_string("out", "", "folder to make")
    flags.DEFINE_string("weights", "", "folder to make instead, of the networks as float16 alone")
    flags.DEFINE_string("head", "", "head .npz (default: the one the model was trained with)")
    flags.DEFINE_string("spread", "", "errors of the networks to write with the weights")
    flags.DEFINE_bool("ema", False, "take the mean of the parameters (config.ema)")
    flags.DEFINE_list(
        "platforms",
        ["cpu", "cuda", "tpu"],
        "what the program shall run on; cpu is always added, the only one it is checked on",
    )


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    if not chosen.workdir:
        raise UserError("--workdir is missing; see --help")
    if bool(chosen.out) == bool(chosen.weights):
        raise UserError("name one of --out and --weights; see --help")
    if chosen.weights:
        _write_weights(chosen)
        return
    unknown = sorted(set(chosen.platforms) - set(PLATFORMS))
    if unknown:
        raise UserError(f"unknown platforms {unknown}; known: {', '.join(PLATFORMS)}")
    from fields_jax.outputs.program import export_workdir

    report = export_workdir(
        chosen.workdir, chosen.out, head=chosen.head, ema=chosen.ema, platforms=chosen.platforms
    )
    for name, error in report["largest_difference"].items():
        print(f"{name:>24}  {error:.1e}")
    same = f"on the CPU the same as {chosen.workdir} at step {report['step']}"
    print(f"done: {chosen.out}, {same}")


def _write_weights(chosen: flags.FlagValues) -> None:
    from fields_jax.report.packing import pack_workdir
    from fields_jax.workdir.packed import CARD, LARGEST_PACKAGED

    report = pack_workdir(chosen.workdir, chosen.weights, ema=chosen.ema, spread=chosen.spread)
    for name, share in report["largest_difference"].items():
        print(f"{name:>24}  {share:.1e}")
    if report["bytes"] > LARGEST_PACKAGED:
        print(f"more than the {LARGEST_PACKAGED / 1e6:.0f} MB that the package takes")
    size = f"{report['bytes'] / 1e6:.1f} MB, step {report['step']}"
    print(f"done: {chosen.weights}, {size}; complete its {CARD}")


if __name__ == "__main__":
    define_flags()
    run(main)
