"""What a finder of faces learns: targets on its grid, and the loss of its answers.

The heat map and its focal loss are those of Zhou et al. 2019, "Objects as Points", equation 1.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

_SPREAD = 0.13  # of a face's side: the deviation of its heat
_NEAR = 0.45  # heat from which on a cell learns the box
_BOX_WEIGHT = 1.0  # of the boxes beside the heat (ours)


class Targets(NamedTuple):
    """What is wanted of the cells of pictures.

    Attributes:
      heat: [B, h, w] 1 where a face's centre is, less around it.
      weight: [B, h, w] 0 where nobody can say whether there is a face, else 1.
      box: [B, h, w, 4] channels 1 to 4 of the answer, of the face whose heat is the greatest.
    """

    heat: Float[Array, "B h w"]
    weight: Float[Array, "B h w"]
    box: Float[Array, "B h w 4"]


def make_targets(
    boxes: Float[np.ndarray, "F 4"], unsure: Float[np.ndarray, "U 4"], cells: int, stride: int
) -> Targets:
    """Targets of one square picture, without the leading axis.

    Args:
      boxes: of the faces, (x0, y0, x1, y1) in pixels.
      unsure: of faces that are neither to be found nor to be passed over.
      cells: along a side.
      stride: pixels of a cell.
    """
    heat = np.zeros((cells, cells), np.float32)
    weight, box = np.ones_like(heat), np.zeros((cells, cells, 4), np.float32)
    centres = np.arange(cells) + 0.5
    for x0, y0, x1, y1 in boxes / stride:
        x, y, width, height = (x0 + x1) / 2, (y0 + y1) / 2, x1 - x0, y1 - y0
        # The cell of the centre is 1; of a face beyond the edge, the nearest cell.
        at = [min(max(int(place), 0), cells - 1) + 0.5 for place in (x, y)]
        down = np.exp(-0.5 * ((centres - at[1]) / (_SPREAD * height)) ** 2)
        across = np.exp(-0.5 * ((centres - at[0]) / (_SPREAD * width)) ** 2)
        own = down[:, None] * across
        nearer = own > heat
        heat = np.where(nearer, own, heat)
        offset = np.broadcast_arrays(x - centres, (y - centres)[:, None])
        sides = np.broadcast_to(np.log([width, height]), (cells, cells, 2))
        box[nearer] = np.concatenate([np.stack(offset, -1), sides], axis=-1)[nearer]
    for x0, y0, x1, y1 in unsure / stride:
        rows = (centres > y0 - 0.5) & (centres < y1 + 0.5)
        weight[np.ix_(rows, (centres > x0 - 0.5) & (centres < x1 + 0.5))] = 0
    weight[heat > _NEAR] = 1
    return Targets(heat.astype(np.float32), weight, box)


def finding_loss(
    answer: Float[Array, "B h w 5"], targets: Targets
) -> tuple[Float[Array, ""], dict[str, Float[Array, ""]]]:
    """The loss of a batch, per face, and its parts: that of the heat and that of the boxes."""
    logit, heat = answer[..., 0], targets.heat
    is_face, sure = (heat > 0.999) * 1.0, targets.weight
    shown = jax.nn.sigmoid(logit)
    hit = (1 - shown) ** 2 * jax.nn.log_sigmoid(logit)
    miss = (1 - heat) ** 4 * shown**2 * jax.nn.log_sigmoid(-logit)
    faces = jnp.maximum(is_face.sum(), 1.0)
    heat_loss = -jnp.sum(sure * (is_face * hit + (1 - is_face) * miss)) / faces
    near = heat * (heat > _NEAR)
    missed = jnp.abs(answer[..., 1:] - targets.box)
    # A centre that is off by a share of the face's side counts as a side off by that share.
    share = jnp.exp(-targets.box[..., 2:])
    missed = missed * jnp.concatenate([share, jnp.ones_like(share)], axis=-1)
    box_loss = jnp.sum(near[..., None] * missed) / jnp.maximum(near.sum(), 1.0)
    total = heat_loss + _BOX_WEIGHT * box_loss
    return total, {"loss": total, "heat": heat_loss, "box": box_loss}
