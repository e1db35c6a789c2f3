"""A trained model as one program of jax.export, checked: what `fields_jax.export` writes."""

from __future__ import annotations

import functools
import json
import os
import subprocess
import sys
from typing import Any

import jax
import numpy as np
from etils import epath
from jax import export

from fields_jax.disk import make_way, writing
from fields_jax.errors import UserError
from fields_jax.files import read_bytes, whole_folder, write_whole
from fields_jax.flame import flame
from fields_jax.flame.io import resolve_head
from fields_jax.models.fields import FieldsModel
from fields_jax.types import FlameModel
from fields_jax.workdir import packed, store
from fields_jax.workdir.config import claim_workdir
from fields_jax.workdir.inference import Inference, check_head, load_inference

PROGRAM = "model.stablehlo"
REPORT = "export.json"
CHECKED_ON = "cpu"  # every host has one, and this process may hold the accelerator
# Largest difference from the model, as a fraction of the largest value: the two programs are
# compiled separately.
TOLERANCE = 1e-4
_BATCHES = (1, 3)


def export_workdir(
    workdir: str, out: str, *, head: str = "", ema: bool = False, platforms: list[str]
) -> dict[str, Any]:
    """Writes a folder beside OUT, checks it in a fresh process and gives it its name.

    Args:
      workdir: of a training run or a converted checkpoint.
      out: a folder that is not there or empty; it appears when all is well, local or gs://.
      head: path of a head; empty: that of the run's config.
      ema: take the mean of the parameters (config.ema).
      platforms: as jax.export names them; `CHECKED_ON` is added.

    Returns:
      What OUT/export.json holds.

    Raises:
      UserError: OUT is taken, the workdir and the head do not fit, or the exported program does not
        give the model's outputs.
    """
    target = epath.Path(out)
    make_way(target, "--out")
    inference = load_inference(workdir, ema=ema)
    path = head or inference.config.head
    face = resolve_head(path)
    check_head(inference.meta, face)
    meta = inference.meta | dict(step=0, trained_steps=inference.step, ema=ema, head=face.identity)
    config = inference.config.copy_and_resolve_references()
    config.ema = 0  # OUT holds one set of parameters, without a running mean beside it
    platforms = list(dict.fromkeys([CHECKED_ON, *platforms]))
    with writing(target, instead="another --out"), whole_folder(target) as beside:
        if packed.is_packed(workdir):  # without all networks there is no checkpoint
            packed.write_packed(beside, config, inference.variables, meta)
        else:
            store.write_networks(str(beside), inference.variables, meta)
            claim_workdir(str(beside), config)
        write_whole(beside / PROGRAM, make_program(inference, face, platforms))
        report = dict(
            step=inference.step,
            ema=ema,
            platforms=platforms,
            checked_on=CHECKED_ON,
            head=face.identity,
            data=inference.meta.get("data"),
            jax=jax.__version__,
            largest_difference=_check_in_fresh_process(beside, path),
        )
        write_whole(beside / REPORT, json.dumps(report, indent=1))
    return report


def predict(model: FieldsModel, head: FlameModel, variables: Any, image: jax.Array) -> dict:
    """Coefficients, vertices and emotion of images [B, S, S, 3] in [0, 1]."""
    output = model.apply(variables, image)
    found = output.coefficients
    names = ("shape", "expression", "jaw", "eyelid", "pose", "camera")
    return dict(
        coefficients={name: getattr(found, name) for name in names},
        vertices=flame(head, found).vertices,
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


def check(folder: str, head: str) -> dict[str, float]:
    """Differences of a folder's program from the networks beside it: what the fresh process runs.

    `load_inference` compares the networks' checksums with those taken before they were written.

    Args:
      folder: what was written.
      head: path of the head.

    Returns:
      {output's name: largest difference / largest value}.
    """
    inference, face = load_inference(folder), resolve_head(head)
    networks = jax.jit(functools.partial(predict, inference.model, face, inference.variables))
    stored = read_bytes(epath.Path(folder) / PROGRAM)
    program = jax.jit(export.deserialize(bytearray(stored)).call)
    size, rng = inference.config.image_size, np.random.default_rng(0)
    errors: dict[str, list[float]] = {}
    for batch in _BATCHES:
        image = rng.random((batch, size, size, 3), dtype=np.float32)
        found = _flat(program(image))
        for name, expected in _flat(networks(image)).items():
            error = np.abs(found[name] - expected).max() / max(np.abs(expected).max(), 1e-6)
            errors.setdefault(name, []).append(error)
    # Unlike Python's, NumPy's maximum of anything and NaN is NaN.
    return {name: float(np.max(of_batches)) for name, of_batches in errors.items()}


def _check_in_fresh_process(folder: epath.Path, head: str) -> dict[str, float]:
    """The result of `check` on the CPU, whichever devices this process has.

    Raises:
      UserError: it cannot read the folder or finds the program to differ.
    """
    code = (
        "import sys, json; from fields_jax.outputs import program; print(json.dumps(program.check("
    )
    arguments = [sys.executable, "-c", code + "*sys.argv[1:])))", str(folder), head]
    environment = os.environ | {"JAX_PLATFORMS": CHECKED_ON}
    result = subprocess.run(arguments, capture_output=True, text=True, env=environment)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no output"])[-1]
        raise UserError(f"what was written cannot be read ({reason}); not exported, run it again")
    errors = json.loads(result.stdout.splitlines()[-1])
    # A NaN is not within the tolerance either.
    wrong = [f"{name} by {error:.1e}" for name, error in errors.items() if not error <= TOLERANCE]
    if wrong:
        raise UserError(
            f"the program differs from the model ({', '.join(wrong)}); not exported, "
            "try another version of jax"
        )
    return errors


def _flat(outputs: dict) -> dict[str, np.ndarray]:
    """{"coefficients/jaw": ..., "vertices": ...}."""
    leaves = jax.tree_util.tree_leaves_with_path(outputs)
    return {"/".join(key.key for key in path): np.asarray(leaf) for path, leaf in leaves}
