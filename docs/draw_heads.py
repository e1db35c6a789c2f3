"""Draws docs/head_views.png, head_people.png, head_expressions.png: `python docs/draw_heads.py`."""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from PIL import Image, ImageDraw

from fields_jax.flame import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.geometry.normals import vertex_normals
from fields_jax.geometry.rotations import rotation_vector
from fields_jax.render import five_light_shade, interpolate, project, rasterize
from fields_jax.types import FlameCoefficients

FOLDER = Path(__file__).parent
BACKGROUND = 40
FINE = 3  # pixels drawn for one shown, along each axis
HEAD = procedural_head()
# Name, movements with their standard deviations, jaw opening in radians, closure of the lids.
FACES = (
    ("neutral", {}, 0, 0),
    *((name, {name: 3.0}, 0, 0) for name in ("lip_corner_up", "lip_corner_down", "lip_pucker")),
    *((name, {name: 3.0}, 0, 0) for name in ("lip_press", "upper_lip_raise", "lower_lip_down")),
    *((name, {name: 3.0}, 0, 0) for name in ("nose_wrinkle", "brow_inner_up", "brow_down")),
    ("lid_raise", {"lid_raise": 3.0}, 0, 0),
    ("eyelids 1", {}, 0, 1),
    ("jaw 0.3", {}, 0.3, 0),
    ("cheek_puff", {"cheek_puff": 3.0}, 0, 0),
    ("left corner only", {"lip_corner_up_left": 3.0}, 0, 0),
    ("smile, jaw 0.15", {"lip_corner_up": 2.5, "cheek_raise": 1.5}, 0.15, 0),
)


def rest(count: int = 1) -> FlameCoefficients:
    """Neutral mean faces seen from the front, by a camera that shows 30 cm."""
    return FlameCoefficients(
        shape=np.zeros((count, 300), np.float32),
        expression=np.zeros((count, 50), np.float32),
        jaw=np.zeros((count, 3), np.float32),
        eyelid=np.zeros((count, 2), np.float32),
        pose=np.zeros((count, 3), np.float32),
        camera=np.tile(np.float32([6.6, 0, 0.015]), (count, 1)),
    )


@jax.jit
def shaded(coefficients: FlameCoefficients) -> jax.Array:
    """[B, 240 FINE, 240 FINE] grey faces."""
    vertices = flame(HEAD, coefficients).vertices
    points = project(vertices, coefficients.camera)
    fragments = rasterize(points, HEAD.faces, 240 * FINE, cull=True)
    normals = vertex_normals(vertices, HEAD.faces)
    drawn = interpolate(fragments, points, HEAD.faces, normals)
    drawn = drawn / jnp.maximum(jnp.linalg.norm(drawn, axis=-1, keepdims=True), 1e-6)
    seen = fragments.face_index >= 0
    return jnp.where(seen, 255 * five_light_shade(drawn), BACKGROUND)


def pictures(coefficients: FlameCoefficients) -> list[Image.Image]:
    """One picture of 240 pixels for each face."""
    count = len(coefficients.pose)
    rows = [jax.tree.map(lambda x, i=i: x[i : i + 1], coefficients) for i in range(count)]
    fine = [Image.fromarray(np.uint8(np.clip(shaded(row)[0], 0, 255))) for row in rows]
    return [image.reduce(FINE) for image in fine]


def sheet(images: list[Image.Image], columns: int, names: tuple[str, ...] = ()) -> Image.Image:
    """The pictures in rows, each with its name."""
    width, height = images[0].size
    whole = Image.new("L", (columns * width, -(-len(images) // columns) * height))
    draw = ImageDraw.Draw(whole)
    for index, image in enumerate(images):
        corner = index % columns * width, index // columns * height
        whole.paste(image, corner)
        if names:
            draw.text((corner[0] + 5, corner[1] + 4), names[index], fill=255)
    return whole


def views() -> Image.Image:
    """The mean face from the front, three quarters and the side."""
    faces = rest(3)
    faces.pose[:] = [rotation_vector(degrees, 0, 0) for degrees in (0, -45, -90)]
    return sheet(pictures(faces), 3)


def people() -> Image.Image:
    """Twelve random members of the population, as the embedded faces draw them."""
    faces = rest(12)
    faces.shape[:] = np.clip(np.random.default_rng(0).standard_normal((12, 300)), -2.5, 2.5)
    return sheet(pictures(faces), 6)


def expressions() -> Image.Image:
    """Named movements, one by one, and two compositions."""
    faces = rest(len(FACES))
    for row, (_, movements, jaw, lids) in enumerate(FACES):
        faces.jaw[row, 0], faces.eyelid[row] = jaw, lids
        for name, amount in movements.items():
            for sided in (name, f"{name}_left", f"{name}_right"):
                if sided in HEAD.expression_names:
                    faces.expression[row, HEAD.expression_names.index(sided)] = amount
    return sheet(pictures(faces), 4, tuple(name for name, *_ in FACES))


if __name__ == "__main__":
    for name, image in {
        "head_views": views(),
        "head_people": people(),
        "head_expressions": expressions(),
    }.items():
        image.save(FOLDER / f"{name}.png", optimize=True)
