"""A held-out face as a head that turns in the page."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np

from fields_jax import __version__
from fields_jax.outputs.bundle import Bundle, pose_heads
from fields_jax.outputs.glb import glb
from fields_jax.photos.faces import Face
from fields_jax.report.cards import pack
from fields_jax.report.figures import data_uri
from fields_jax.report.runs import Run
from fields_jax.types import FlameModel


def turning_head(run: Run, head: FlameModel) -> dict[str, Any]:
    """The first of the examples that were kept whole, as the viewer of a page takes it.

    Args:
      run: whose prediction it is.
      head: that the run was trained with.

    Returns:
      JSON: "head" (a packed GLB), "picture" (a data URI), "width" and "height" of the picture in
      pixels, and "window" ([left, top, side] of the face in it: all of it).
    """
    name, picture = str(run.example("id")[0]), np.asarray(run.example("image")[0])
    coefficients = jax.tree.map(lambda column: np.asarray(column)[:1], run.predicted())
    (result,) = pose_heads(head, coefficients, 1)
    side = len(picture)
    box = np.array([0, 0, side, side], np.float32)  # the picture is the crop
    face = Face(name, name, picture, None, box, 1.0, "an example of the evaluation")
    weights = {"workdir": run.workdir, "step": run.scores["step"]}
    meta = {"version": __version__, "head": head.identity, "weights": weights}
    content = glb(Bundle(face, head, result, side, meta))
    shown = {"width": side, "height": side, "window": [0, 0, side]}
    return {"head": pack(content), "picture": data_uri(picture), **shown}
