"""Does a synthesiser paint the geometry that it is given, or a face that it knows otherwise?

A synthesiser that also sees appearance tokens can paint a likeness whatever the mesh says, and then
hides a wrong mesh from every loss on images ("decoder masking"). The swap test (ours) gives it the
expression, jaw and eyelids of another example and leaves all else as it was: identity, pose,
camera, tokens and the masked image to the last pixel. Two shares of the change are measured, both
slopes through the origin: 0 of a synthesiser that ignores its geometry, whatever it paints, 1 of
one that follows.

Paint: along `carried - before`, where `carried` is the first painting taken along by the mesh, each
pixel of the changed face showing what its point of the mesh showed before. It asks no network.
Reading: along the given change of the face in mm, that change which the model's own encoders read
in the two paintings. It also falls short of 1 where encoders understate what they see, and cannot
be trusted alone, because the cycle of training lets synthesiser and encoders agree on signs that
nobody else would see.
"""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Bool, Float

from fields_jax.evaluation.geometry import face_at_rest
from fields_jax.render import interpolate
from fields_jax.types import FlameCoefficients, FlameModel, Fragments

SHARES = ("paint", "reading")  # what is measured, as the module's docstring says
MOVEMENT = ("expression", "jaw", "eyelid")  # the coefficients that are swapped


def partners(count: int) -> np.ndarray:
    """[N] the example whose expression each gets: every one once, none its own if N > 1.

    One circle through all in an order of chance, the same each time: neighbours of a set are often
    of one person, and examples at a fixed distance of one emotion.
    """
    order = np.random.default_rng(0).permutation(count)
    found = np.empty(count, int)
    found[order] = np.roll(order, -1)
    return found


def with_movement(own: FlameCoefficients, other: FlameCoefficients) -> FlameCoefficients:
    """The coefficients with expression, jaw and eyelids of others."""
    return own.replace(**{name: getattr(other, name) for name in MOVEMENT})


def carried_paint(
    head: FlameModel,
    painted: Float[Array, "B H W C"],
    before: Float[Array, "B V 3"],
    after: Float[Array, "B V 3"],
    fragments: Fragments,
) -> tuple[Float[Array, "B H W C"], Bool[Array, "B H W"]]:
    """A painting taken along by the mesh from one face to another.

    Args:
      head: the head.
      painted: of the first face.
      before: [B, V, 3] the head of that face as `project` returns it.
      after: [B, V, 3] the changed one.
      fragments: of the changed one, as `render.shaded_face` returns them.

    Returns:
      The changed face in the colours that its points had, and where the mesh shows it; elsewhere,
      or where a point had been outside the picture, there is none.
    """
    rows = head.face_vertices
    place = interpolate(fragments, after[:, rows], head.face_triangles, before[:, rows, :2])
    inside = jnp.all(jnp.abs(place) <= 1, axis=-1) & (fragments.face_index >= 0)
    return jax.vmap(_sampled)(painted, place), inside


def paint_followed(
    before: Float[Array, "B H W C"],
    after: Float[Array, "B H W C"],
    carried: Float[Array, "B H W C"],
    counts: Float[Array, "B H W"],
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Products [B] whose quotient, over any examples, is the share of the paint that followed.

    Args:
      before, after: paintings of the first and of the changed face.
      carried: see `carried_paint`.
      counts: [B, H, W] 1 where pixels count.

    Returns:
      (after - before) . (carried - before) and |carried - before|^2.
    """
    given = (carried - before) * counts[..., None]
    return jnp.sum((after - before) * given, axis=(1, 2, 3)), jnp.sum(given**2, axis=(1, 2, 3))


def reading_followed(
    head: FlameModel,
    faces: tuple[FlameCoefficients, FlameCoefficients],
    read: tuple[FlameCoefficients, FlameCoefficients],
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Products [B] in mm^2 whose quotient, over any examples, is the share that is read back.

    Args:
      head: the head.
      faces: the given coefficients before and after the swap.
      read: those that the encoders read in the two paintings; their identity does not count.

    Returns:
      read . given and |given|^2 of the mean over the vertices of the face.
    """
    shape = faces[0].shape
    given, found = (
        face_at_rest(head, shape, after) - face_at_rest(head, shape, before)
        for before, after in (faces, read)
    )
    return tuple(jnp.mean(jnp.sum(each * given, -1), -1) for each in (found, given))


def share(products: Float[np.ndarray, " N"], squares: Float[np.ndarray, " N"]) -> float:
    """The quotient of the sums; NaN where nothing was to change."""
    total = float(np.sum(squares))
    return float(np.sum(products)) / total if total > 0 else float("nan")


def _sampled(image: Float[Array, "H W C"], place: Float[Array, "H W 2"]) -> Float[Array, "H W C"]:
    """Bilinear samples of an image at image coordinates, its edges repeated."""
    height, width = image.shape[:2]
    pixels = (place[..., 1] + 1) * height / 2 - 0.5, (place[..., 0] + 1) * width / 2 - 0.5
    sample = partial(map_coordinates, coordinates=pixels, order=1, mode="nearest")
    return jax.vmap(sample, -1, -1)(image)
