"""From coefficients to a posed head, its geometry map, and the image that the synthesiser makes.

Plain functions, to be called inside compiled ones: unused results are not computed.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
from jaxtyping import Array, Float, Int

from fields_jax.flame import flame
from fields_jax.render import Masking, geometry_map, sample_keys, synthesizer_input
from fields_jax.types import FieldsOutput, FlameCoefficients, FlameModel, FlameOutput

PyTree = Any


class Drawn(NamedTuple):
    """A posed head and its geometry map.

    Attributes:
      face: in metres, before the camera.
      geometry: [B, S, S, 1] geometry map.
      mask: [B, S, S] where the head covers it.
    """

    face: FlameOutput
    geometry: Float[Array, "B S S 1"]
    mask: Float[Array, "B S S"]


class Synthesized(NamedTuple):
    """A posed head and the image that the synthesiser makes of it.

    Attributes:
      face: in metres, before the camera.
      geometry: [B, H, W, 1] geometry map.
      masked: [B, H, W, 3] the photograph with the face taken out.
      image: [B, H, W, 3] in [0, 1].
    """

    face: FlameOutput
    geometry: Float[Array, "B H W 1"]
    masked: Float[Array, "B H W 3"]
    image: Float[Array, "B H W 3"]


def draw_head(head: FlameModel, coefficients: FlameCoefficients, image_size: int) -> Drawn:
    """Poses a head and draws it as its camera sees it."""
    face = flame(head, coefficients)
    return Drawn(face, *geometry_map(head, face.vertices, coefficients.camera, image_size))


def synthesize(
    model: Any,
    variables: PyTree,
    head: FlameModel,
    output: FieldsOutput,
    image: Float[Array, "B H W 3"],
    face_mask: Float[Array, "B H W"],
    row: Int[Array, " B"],
    *,
    masking: Masking,
) -> Synthesized:
    """Synthesises the predicted faces, given the photographs with the face taken out.

    Args:
      model: FieldsModel, in eval mode.
      variables: its parameters and statistics.
      head: the model of the face.
      output: predictions for the images.
      image: [B, H, W, 3] in [0, 1].
      face_mask: [B, H, W], 1 outside the hull of the face.
      row: [B] place of each image in its set: what its random numbers depend on.
      masking: how the face is hidden from the synthesiser.
    """
    face = flame(head, output.coefficients)
    keys = sample_keys(jax.random.key(0), row)
    geometry, masked = synthesizer_input(
        masking, head, face.vertices, output.coefficients.camera, image, face_mask, keys
    )
    made = model.apply(variables, geometry, masked, output.tokens, method="synthesize")
    return Synthesized(face, geometry, masked, made)
