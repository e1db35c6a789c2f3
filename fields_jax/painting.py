"""The synthesiser's picture of faces that wear another expression."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, UInt8

from fields_jax.kept import kept_program
from fields_jax.outputs.bundle import Result
from fields_jax.photos.crops import hull_mask, transform_points
from fields_jax.photos.faces import Face
from fields_jax.photos.points import seen
from fields_jax.render import Masking, make_masking, sample_keys, synthesizer_input
from fields_jax.render.draw import to_uint8
from fields_jax.types import FlameModel
from fields_jax.workdir.inference import Inference

_FEWEST = 68  # landmarks whose hull is a face


def can_paint(inference: Inference) -> bool:
    """Whether the synthesiser, and the token encoder where it needs one, are trained."""
    needed = {"synthesizer"} | ({"token_encoder"} if inference.model.token_guided else set())
    return needed <= set(inference.meta["trained"])


def paint(
    inference: Inference,
    head: FlameModel,
    found: Sequence[Face],
    results: Sequence[Result],
    batch_size: int,
) -> list[Result]:
    """The results with the synthesiser's pictures of them.

    The face is taken out of the crop where the photograph shows it and where the other expression
    will be; what it looks like is in the tokens of the crop.

    Args:
      inference: with a trained synthesiser, see `can_paint`.
      head: of the faces.
      found: at most `batch_size` faces.
      results: of them, each `worn`.
      batch_size: they are filled up to this number, so that one program is compiled.
    """
    size = inference.config.image_size
    crops = np.stack([face.crop(size) for face in found])
    masks = np.stack([_mask(*pair, size) for pair in zip(found, results, strict=True)])
    before = np.stack([result.worn.reading.vertices for result in results])
    after = np.stack([result.vertices for result in results])
    cameras = np.stack([result.coefficients["camera"] for result in results])
    rows = np.minimum(np.arange(batch_size), len(found) - 1)
    batch = (each[rows] for each in (crops, masks, after, before, cameras))
    static = (inference.model, make_masking(inference.config))
    made = kept_program(_paint, inference.variables, head, *batch, static=static)
    pictures = to_uint8(np.asarray(made))[: len(found)]
    return [
        dataclasses.replace(result, painted=picture)
        for result, picture in zip(results, pictures, strict=True)
    ]


def _mask(face: Face, result: Result, size: int) -> UInt8[np.ndarray, "S S"]:
    """1 outside the hull of the landmarks, or of those that were read where none are known."""
    if face.points is not None and len(face.points) >= _FEWEST:
        points = transform_points(face.matrix(size), face.points[seen(face.points)])
    else:
        points = (np.asarray(result.worn.reading.landmarks_ndc)[:, :2] + 1) * size / 2
    return hull_mask(points, size, size)


def _paint(
    variables: Any,
    head: FlameModel,
    crops: UInt8[Array, "B S S 3"],
    masks: UInt8[Array, "B S S"],
    vertices: Float[Array, "B V 3"],
    before: Float[Array, "B V 3"],
    cameras: Float[Array, "B 3"],
    model: Any,
    masking: Masking,
) -> Float[Array, "B S S 3"]:
    image, mask = crops.astype(vertices.dtype) / 255, masks.astype(vertices.dtype)
    # One key for all, so that a face's picture is the same beside any others.
    keys = sample_keys(jax.random.key(0), jnp.zeros(len(crops), int))
    geometry, masked = synthesizer_input(
        masking, head, vertices, cameras, image, mask, keys, seen=before
    )
    tokens = model.apply(variables, image, method="encode_tokens")
    return model.apply(variables, geometry, masked, tokens, method="synthesize")
