"""Camera, rasteriser, shading and masks."""

from fields_jax.render.antialias import antialias
from fields_jax.render.camera import project
from fields_jax.render.interpolate import interpolate
from fields_jax.render.mask import (
    Masking,
    around_face,
    make_masking,
    masked_image,
    sample_keys,
    synthesizer_input,
)
from fields_jax.render.rasterize import rasterize
from fields_jax.render.shade import five_light_shade, geometry_map, shaded_face

__all__ = [
    "Masking",
    "antialias",
    "around_face",
    "five_light_shade",
    "geometry_map",
    "interpolate",
    "make_masking",
    "masked_image",
    "project",
    "rasterize",
    "sample_keys",
    "shaded_face",
    "synthesizer_input",
]
