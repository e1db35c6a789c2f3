r"""Reconstructs the faces of photographs with a trained model.

    python -m fields_jax.reconstruct --workdir=runs/stage2 --out=faces photographs
    python -m fields_jax.reconstruct --workdir=DIR --out=OUT --box=40,30,200,220 A.jpg

Takes pictures, folders and patterns. A face is where --box says, or where a landmark file beside
the picture says (NAME.npy of mediapipe's 478 points, or 68 points; NAME.jpg.npy where NAME.png is
there too), or where the face detector finds one (`make landmarks` installs it) or, without it, the
small network in the package. OUT/NAME holds params.npz, mesh.obj, mesh.ply,
overlay.png, geometry.png and emotion.json (NAME_0, NAME_1, ... for several faces); OUT/index.html
and OUT/summary.csv show all of them.
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
    from fields_jax.outputs.bundle import Result
    from fields_jax.types import FieldsOutput, FlameModel
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
    for faces in photo_commands.batches(named, gallery, config.data.eval_crop_scale):
        results, readings = read_faces(
            networks, head, [face.crop(config.image_size) for face in faces], chosen.batch_size
        )
        for face, result, reading in zip(faces, results, readings, strict=True):
            emotion = reading | {"weights": meta["weights"]} if read else None
            gallery.add(face, dataclasses.replace(result, emotion=emotion))
    if not read:
        print(f"{chosen.workdir} has no trained emotion head: no emotion.json is written")
    return photo_commands.conclude(gallery, "Reconstructed faces", _LEAD)


def read_faces(
    networks: Callable[[np.ndarray], FieldsOutput],
    head: FlameModel,
    crops: Sequence[UInt8[np.ndarray, "S S 3"]],
    batch_size: int,
) -> tuple[list[Result], list[dict[str, Any]]]:
    """Heads and emotions of face crops.

    Args:
      networks: the model, for images [batch_size, S, S, 3] uint8.
      head: the model of the face.
      crops: at most `batch_size` crops.
      batch_size: crops are filled up to this number, so that one program is compiled.

    Returns:
      For each crop the posed head and the emotion that the emotion head reads.
    """
    import jax

    from fields_jax.outputs.bundle import pose_heads

    count = len(crops)
    filled = np.stack([*crops, *[crops[-1]] * (batch_size - count)])
    output = jax.tree.map(lambda column: np.asarray(column)[:count], networks(filled))
    results = pose_heads(head, output.coefficients, batch_size)
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
