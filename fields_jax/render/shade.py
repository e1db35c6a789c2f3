"""The geometry map: the face's normals under five fixed lights, as the synthesiser sees it."""

from __future__ import annotations

import chex
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from fields_jax.geometry.normals import vertex_normals
from fields_jax.render.camera import project
from fields_jax.render.interpolate import interpolate
from fields_jax.render.rasterize import rasterize
from fields_jax.types import FlameModel, Fragments

# Albedo and lights of DECA's shape renderer, which SMIRK and TEASER keep.
_ALBEDO = 180 / 255
_INTENSITY = 1.7
_LIGHTS = ((-1, 1, 1), (1, 1, 1), (-1, -1, 1), (1, -1, 1), (0, 0, 1))


def five_light_shade(normals: Float[Array, "*N 3"]) -> Float[Array, "*N"]:
    """Lambertian shade of a grey surface under five directional lights, about 0 to 0.79.

    The albedo times the mean over the lights of 1.7 max(n . l, 0); z points to the viewer.

    Args:
      normals: [..., 3]; their length scales the shade.
    """
    lights = jnp.array(_LIGHTS, normals.dtype)
    lights = lights / jnp.linalg.norm(lights, axis=1, keepdims=True)
    cosine = jnp.einsum("...c,lc->...l", normals, lights, precision=jax.lax.Precision.HIGHEST)
    return _ALBEDO * _INTENSITY * jnp.mean(jax.nn.relu(cosine), axis=-1)


def geometry_map(
    head: FlameModel,
    vertices: Float[Array, "B V 3"],
    camera: Float[Array, "B 3"],
    image_size: int | tuple[int, int],
) -> tuple[Float[Array, "B H W 1"], Float[Array, "B H W"]]:
    """The shaded face without eyeballs, ears and neck: the synthesiser's view of the geometry.

    Normals are those of the posed head before the camera. They are interpolated over each face but
    not made unit again, as in the reference. Gradients reach the vertices through normals and
    barycentric weights, and the camera through the latter; outlines and the mask have none.

    There is no near plane: the camera is weakly perspective, its depth -s z counts from the head's
    origin, not from a camera, and is negative for half of any head.

    Args:
      head: the head; its `face_vertices` and `face_triangles` choose what is drawn.
      vertices: [B, V, 3] metres, the whole head.
      camera: [B, 3] (scale, tx, ty).
      image_size: pixels, square, or (height, width).

    Returns:
      image [B, H, W, 1], 0 where the face is not, and mask [B, H, W], 1 where it is.
    """
    image, fragments = shaded_face(head, vertices, camera, image_size)
    return image, (fragments.face_index >= 0).astype(vertices.dtype)


def shaded_face(
    head: FlameModel,
    vertices: Float[Array, "B V 3"],
    camera: Float[Array, "B 3"],
    image_size: int | tuple[int, int],
) -> tuple[Float[Array, "B H W 1"], Fragments]:
    """`geometry_map`, with what each pixel shows of `head.face_triangles` in place of the mask."""
    chex.assert_shape(vertices, (None, None, 3))
    chex.assert_shape(camera, (vertices.shape[0], 3))
    skin = vertices[:, head.face_vertices]
    projected = project(skin, camera)
    fragments = rasterize(projected, head.face_triangles, image_size)
    normals = vertex_normals(skin, head.face_triangles)
    pixel_normals = interpolate(fragments, projected, head.face_triangles, normals)
    return five_light_shade(pixel_normals)[..., None], fragments
