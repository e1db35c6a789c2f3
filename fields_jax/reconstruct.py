r"""Reconstructs the faces of photographs with a trained model.

    python -m fields_jax.reconstruct --workdir=runs/stage2 --out=faces photographs
    python -m fields_jax.reconstruct --workdir=DIR --out=OUT --box=40,30,200,220 A.jpg

Takes pictures, folders and patterns. A face is where --box says, or where a landmark file beside
the picture says (NAME.npy of mediapipe's 478 points, or 68 points; NAME.jpg.npy where NAME.png is
there too), or where the face detector finds one (`make landmarks` installs it); without any of
these the whole picture is taken for the crop. OUT/NAME holds params.npz, mesh.obj, mesh.ply,
overlay.png, geometry.png and emotion.json (NAME_0, NAME_1, ... for several faces); OUT/index.html
and OUT/summary.csv show all of them.

With --refine a landmark fit follows for faces with landmarks (a face detector's five points will
do): it starts at the networks' reading and leaves it only as far as the landmarks ask. summary.csv
and params.npz say which faces were refined and how far their landmarks were before and after.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from absl import flags
from jaxtyping import UInt8

from fields_jax import photo_commands
from fields_jax.cli import run
from fields_jax.compile_cache import keep_programs_in
from fields_jax.emotions import EMOTIONS
from fields_jax.errors import UserError

if TYPE_CHECKING:
    from fields_jax.fitting.refine import Refined
    from fields_jax.outputs.bundle import Result
    from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel
    from fields_jax.workdir.inference import Inference

_LEAD = (
    "What the networks say of each picture, drawn where they see it: head and emotion are readings "
    "by a trained model, not facts about a person."
)
_NOTE = (
    "what the emotion head of the network reads from expression and shape; not a fact about how "
    "anybody feels"
)
_ENCODERS = ("pose_encoder", "shape_encoder", "expression_encoder")


def define_flags() -> None:
    """The command's flags."""
    photo_commands.define_flags()
    flags.DEFINE_string("box", "", "x0,y0,x1,y1 of the face in pixels, in every picture named")
    flags.DEFINE_bool("refine", False, "fit the landmarks, starting at the networks' reading")
    flags.DEFINE_string("workdir", "", "folder of a training run or of a converted checkpoint")


def main(argv: list[str]) -> int:
    """The command; status 2 where no face could be made."""
    chosen = flags.FLAGS
    if not chosen.workdir:
        raise UserError("--workdir is missing: name the folder of a training run")
    named = photo_commands.read_arguments(argv, chosen.box)
    from fields_jax.flame.io import resolve_head
    from fields_jax.models.fields import predict
    from fields_jax.workdir.inference import check_head, load_inference

    inference = load_inference(chosen.workdir)
    config = inference.config
    if cache := config.get("compilation_cache"):
        keep_programs_in(cache)
    head = resolve_head(chosen.head or config.head)
    check_head(inference.meta, head)
    _check_trained(inference, chosen.workdir)
    if "source" in inference.meta and head.name == "procedural":
        print(
            f"{chosen.workdir} was converted from {inference.meta['source']['name']}, which knows "
            "FLAME: on the procedural head its coefficients are other faces; name FLAME with "
            "--head=HEAD.npz"
        )
    meta = photo_commands.describe(head) | {"weights": describe_weights(inference, chosen.workdir)}
    gallery = photo_commands.open_gallery(head, config.image_size, meta)
    read = "emotion_head" in inference.meta["trained"]
    networks = partial(predict, inference.model, inference.variables)
    refiner, plain = None, 0
    if chosen.refine:
        from fields_jax.fitting.refine import SPREAD, Refiner

        size, stored = (config.image_size, chosen.batch_size), inference.meta.get(SPREAD)
        refiner = Refiner(networks, head, *size, stored)
    for faces in photo_commands.batches(named, gallery, config.data.eval_crop_scale):
        crops = [face.crop(config.image_size) for face in faces]
        change = refiner and partial(refiner.refine, faces)
        results, readings = read_faces(networks, head, crops, chosen.batch_size, change)
        plain += sum(result.refined is False for result in results)
        for face, result, reading in zip(faces, results, readings, strict=True):
            emotion = reading | {"weights": meta["weights"]} if read else None
            gallery.add(face, dataclasses.replace(result, emotion=emotion))
    if plain:
        print(f"{plain} faces have no landmarks to refine by: theirs is the networks' reading")
    if not read:
        print(f"{chosen.workdir} has no trained emotion head: no emotion.json is written")
    return photo_commands.conclude(gallery, "Reconstructed faces", _LEAD)


def read_faces(
    networks: Callable[[np.ndarray], FieldsOutput],
    head: FlameModel,
    crops: Sequence[UInt8[np.ndarray, "S S 3"]],
    batch_size: int,
    refine: Callable[[FlameCoefficients], Refined] | None = None,
) -> tuple[list[Result], list[dict[str, Any]]]:
    """Heads and emotions of face crops.

    Args:
      networks: the model, for images [batch_size, S, S, 3] uint8.
      head: the model of the face.
      crops: at most `batch_size` crops.
      batch_size: crops are filled up to this number, so that one program is compiled.
      refine: changes the coefficients before the heads are posed; not the emotions, which stay what
        the networks read.

    Returns:
      For each crop the posed head and the emotion that the emotion head reads.
    """
    import jax

    from fields_jax.outputs.bundle import pose_heads

    count = len(crops)
    filled = np.stack([*crops, *[crops[-1]] * (batch_size - count)])
    output = jax.tree.map(lambda column: np.asarray(column)[:count], networks(filled))
    if refine is None:
        results = pose_heads(head, output.coefficients, batch_size)
    else:
        refined = refine(output.coefficients)
        results = pose_heads(head, refined.coefficients, batch_size)
        results = [
            dataclasses.replace(result, refined=done, residual=after, residual_before=before)
            for result, (done, before, after) in zip(results, refined.notes(), strict=True)
        ]
    probabilities = np.asarray(jax.nn.softmax(output.logits, axis=-1), np.float64)
    readings = [
        {
            "note": _NOTE,
            "emotion": EMOTIONS[int(probabilities[row].argmax())],
            "probabilities": dict(zip(EMOTIONS, probabilities[row].tolist(), strict=True)),
            "valence": float(output.valence[row]),
            "arousal": float(output.arousal[row]),
        }
        for row in range(count)
    ]
    return results, readings


def describe_weights(inference: Inference, workdir: str) -> dict[str, Any]:
    """Where the networks come from, for params.npz, emotion.json and the page."""
    known = {key: inference.meta[key] for key in ("git", "source") if key in inference.meta}
    trained = list(inference.meta["trained"])
    return {"workdir": str(workdir), "step": inference.step, "trained": trained} | known


def _check_trained(inference: Inference, workdir: str) -> None:
    missing = [name for name in _ENCODERS if name not in inference.meta["trained"]]
    if missing:
        raise UserError(
            f"{workdir} holds no trained {missing[0]}: reconstruction needs {', '.join(_ENCODERS)}"
        )


if __name__ == "__main__":
    define_flags()
    sys.exit(run(main))
