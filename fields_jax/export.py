r"""Writes a trained model for use elsewhere.

    python -m fields_jax.export --workdir=runs/stage2 --out=exported
    python -m fields_jax.export --workdir=DIR --out=OUT --ema --head=HEAD.npz --platforms=cpu,cuda

OUT holds `model.stablehlo`, a program of jax.export for any batch size and every named platform,
with parameters and head inside: images [B, S, S, 3] in [0, 1] to {coefficients, vertices in
metres, logits, valence, arousal}. It needs jax alone:

    exported = jax.export.deserialize(open("OUT/model.stablehlo", "rb").read())
    faces = exported.call(images)

and it holds the head: of a licensed one, hand it on as its licence allows. OUT is a workdir too,
with the networks as a checkpoint, for `fields_jax.evaluate` and `--config.init_from`. Both are read
again in a fresh process and compared with the model before the command says done.
"""

from __future__ import annotations

import functools
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import jax
import numpy as np
from absl import flags
from etils import epath
from jax import export

from fields_jax.cli import UserError, run
from fields_jax.flame import flame
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import FieldsModel
from fields_jax.training import checkpoint
from fields_jax.training.checkpoint import Inference, load_inference
from fields_jax.types import FlameModel

PROGRAM = "model.stablehlo"
REPORT = "export.json"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
# Largest difference from the model, as a share of the largest value: two programs compiled apart.
TOLERANCE = 1e-4
_BATCHES = (1, 3)


def define_flags() -> None:
    """The flags of the command; see the module's docstring."""
    flags.DEFINE_string("workdir", "", "folder of a training run or a converted checkpoint")
    flags.DEFINE_string("out", "", "folder to make")
    flags.DEFINE_string("head", "", "head .npz (default: the one the model was trained with)")
    flags.DEFINE_bool("ema", False, "take the mean of the parameters (config.ema)")
    flags.DEFINE_list("platforms", ["cpu", "cuda", "tpu"], "what the program shall run on")


def main(argv: list[str]) -> None:
    """The command."""
    chosen = flags.FLAGS
    if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; see --help")
    for name in ("workdir", "out"):
        if not chosen[name].value:
            raise UserError(f"--{name} is missing; see --help")
    unknown = sorted(set(chosen.platforms) - set(PLATFORMS))
    if unknown or not chosen.platforms:
        raise UserError(f"unknown platforms {unknown}; known: {', '.join(PLATFORMS)}")
    report = export_workdir(
        chosen.workdir, chosen.out, head=chosen.head, ema=chosen.ema, platforms=chosen.platforms
    )
    for name, error in report["largest_difference"].items():
        print(f"{name:>24}  {error:.1e}")
    print(f"done: {chosen.out}, the same as {chosen.workdir} at step {report['step']}")


def export_workdir(
    workdir: str, out: str, *, head: str = "", ema: bool = False, platforms: list[str]
) -> dict[str, Any]:
    """Writes OUT and checks it in a fresh process.

    Returns:
      What OUT/export.json holds.

    Raises:
      UserError: OUT is not empty, the workdir or the head do not fit, or what was written does not
        give what the model gives.
    """
    target = epath.Path(out)
    if target.exists() and any(target.iterdir()):
        raise UserError(f"{out} is not empty; name another folder with --out")
    inference = load_inference(workdir, ema=ema)
    path = head or inference.config.head
    model = resolve_head(path)
    checkpoint.check_head(inference, model)
    meta = inference.meta | dict(
        step=0, trained_steps=inference.step, ema=ema, head=_identity(model)
    )
    checkpoint.write_networks(out, inference.variables, meta)
    checkpoint.claim_workdir(out, inference.config)
    (target / PROGRAM).write_bytes(make_program(inference, model, platforms))
    report = dict(
        step=inference.step,
        ema=ema,
        platforms=list(platforms),
        head=_identity(model),
        data=inference.meta.get("data"),
        jax=jax.__version__,
        largest_difference=_check_in_fresh_process(inference, model, out, path),
    )
    (target / REPORT).write_text(json.dumps(report, indent=1))
    return report


def predict(model: FieldsModel, head: FlameModel, variables: Any, image: jax.Array) -> dict:
    """Coefficients, vertices and emotion of images [B, S, S, 3] in [0, 1]."""
    output = model.apply(variables, image)
    face = output.coefficients
    names = ("shape", "expression", "jaw", "eyelid", "pose", "camera")
    return dict(
        coefficients={name: getattr(face, name) for name in names},
        vertices=flame(head, face).vertices,
        logits=output.logits,
        valence=output.valence,
        arousal=output.arousal,
    )


def make_program(inference: Inference, head: FlameModel, platforms: list[str]) -> bytes:
    """The serialized program; the batch size is symbolic, everything else is inside."""
    size = inference.config.image_size
    bound = functools.partial(predict, inference.model, head, inference.variables)
    shape = export.symbolic_shape(f"batch, {size}, {size}, 3")
    image = jax.ShapeDtypeStruct(shape, np.float32)
    return bytes(export.export(jax.jit(bound), platforms=platforms)(image).serialize())


def check(out: str, reference: str, head: str) -> dict[str, float]:
    """Differences of what OUT gives from stored outputs: what the fresh process runs.

    Args:
      out: an exported folder.
      reference: .npz of images and outputs, see `_reference`.
      head: path of the head.

    Returns:
      {"checkpoint/..." and "program/..." and output name: largest difference / largest value}.
    """
    inference, model = load_inference(out), resolve_head(head)
    bound = jax.jit(functools.partial(predict, inference.model, model, inference.variables))
    program = export.deserialize(bytearray((epath.Path(out) / PROGRAM).read_bytes()))
    stored = dict(np.load(reference))
    found = {"checkpoint": bound, "program": jax.jit(program.call)}
    errors: dict[str, float] = {}
    for batch in _BATCHES:
        for kind, call in found.items():
            for name, value in _flat(call(stored[f"{batch}/image"])).items():
                expected = stored[f"{batch}/{name}"]
                error = np.abs(value - expected).max() / max(np.abs(expected).max(), 1e-6)
                key = f"{kind}/{name}"
                errors[key] = float(max(errors.get(key, 0.0), error))
    return errors


def _check_in_fresh_process(
    inference: Inference, head: FlameModel, out: str, path: str
) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        reference = Path(folder) / "reference.npz"
        np.savez(reference, **_reference(inference, head))
        code = "import sys, json; from fields_jax import export; print(json.dumps(export.check("
        arguments = [sys.executable, "-c", code + "*sys.argv[1:])))", out, str(reference), path]
        result = subprocess.run(arguments, capture_output=True, text=True)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"{out} cannot be read again: {reason}")
    errors = json.loads(result.stdout.splitlines()[-1])
    worst = max(errors, key=errors.get)
    if not errors[worst] <= TOLERANCE:
        raise UserError(f"{out} differs from the model: {worst} by {errors[worst]:.1e}; not usable")
    return errors


def _reference(inference: Inference, head: FlameModel) -> dict[str, np.ndarray]:
    """Random images and what the model says of them."""
    size, rng = inference.config.image_size, np.random.default_rng(0)
    bound = jax.jit(functools.partial(predict, inference.model, head, inference.variables))
    stored = {}
    for batch in _BATCHES:
        image = rng.random((batch, size, size, 3), dtype=np.float32)
        stored |= {f"{batch}/{name}": value for name, value in _flat(bound(image)).items()}
        stored[f"{batch}/image"] = image
    return stored


def _flat(outputs: dict) -> dict[str, np.ndarray]:
    """{"coefficients/jaw": ..., "vertices": ...}."""
    leaves = jax.tree_util.tree_leaves_with_path(outputs)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}


def _identity(head: FlameModel) -> dict[str, str]:
    return dict(name=head.name, version=head.version, sha256=head.sha256)


if __name__ == "__main__":
    define_flags()
    run(main)
