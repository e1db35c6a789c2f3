"""nvdiffrast's rasteriser on our meshes, where it is installed."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import nvdiffrast.torch as drawing
import torch
from jaxtyping import Float, Int


def calls(
    vertices: Float[np.ndarray, "B V 3"],
    attributes: Float[np.ndarray, "B V C"],
    faces: Int[np.ndarray, "F 3"],
    size: int,
) -> dict[str, Callable[[], None]]:
    """Calls that block, under the names of `benchmarks.rasterize`.

    Args:
      vertices: as `project` returns them, depths in [-1, 1].
      attributes: to interpolate.
      faces: of all images.
      size: pixels along a side, a multiple of 8.
    """
    context = drawing.RasterizeCudaContext()
    points = np.concatenate([vertices, np.ones_like(vertices[..., :1])], axis=-1)
    points, values = (torch.from_numpy(x.copy()).cuda() for x in (points, attributes))
    triangles = torch.from_numpy(faces.astype(np.int32)).cuda()
    moving = [x.clone().requires_grad_() for x in (points, values)]

    def draw(points, values=None):
        found, _ = drawing.rasterize(context, points, triangles, (size, size))
        return found if values is None else drawing.interpolate(values, found, triangles)[0]

    def ids() -> None:
        with torch.no_grad():
            draw(points)
        torch.cuda.synchronize()

    def forward() -> None:
        with torch.no_grad():
            draw(points, values)
        torch.cuda.synchronize()

    def backward() -> None:
        for variable in moving:
            variable.grad = None
        draw(*moving).sum().backward()
        torch.cuda.synchronize()

    return {"ids": ids, "forward": forward, "forward+backward": backward}
