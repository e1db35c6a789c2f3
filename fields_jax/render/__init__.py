"""Camera, rasteriser, shading and masks."""

from fields_jax.render.antialias import antialias
from fields_jax.render.camera import project
from fields_jax.render.interpolate import interpolate
from fields_jax.render.mask import (
    Masking,
    make_masking,
    masked_image,
    sample_keys,
    synthesizer_input,
)
from fields_jax.render.rasterize import rasterize
from fields_jax.render.shade import five_light_shade, geometry_map

__all__ = [
    "Masking",
    "antialias",
    "five_light_shade",
    "geometry_map",
    "interpolate",
    "make_masking",
    "masked_image",
    "project",
    "rasterize",
    "sample_keys",
    "synthesizer_input",
]
