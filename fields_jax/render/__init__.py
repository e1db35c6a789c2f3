"""Camera, rasteriser, shading and masks."""

from fields_jax.render.antialias import antialias
from fields_jax.render.camera import project
from fields_jax.render.interpolate import interpolate
from fields_jax.render.mask import masked_image
from fields_jax.render.rasterize import rasterize
from fields_jax.render.shade import five_light_shade, geometry_map, vertex_normals

__all__ = [
    "antialias",
    "five_light_shade",
    "geometry_map",
    "interpolate",
    "masked_image",
    "project",
    "rasterize",
    "vertex_normals",
]
