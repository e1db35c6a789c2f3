"""Pictures of a run: input with landmarks, render, masked image and reconstruction."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import jax
import jax.numpy as jnp
import numpy as np
from etils import epath

from fields_jax.render import draw, project
from fields_jax.synthesis import synthesize
from fields_jax.training.recipe import Assets, Recipe
from fields_jax.types import TrainState

_TRUE, _FOUND = (40, 220, 90), (255, 70, 60)


def make_painter(
    recipe: Recipe, workdir: str, *, count: int
) -> Callable[[TrainState, Mapping[str, np.ndarray], Assets, int], np.ndarray]:
    """A function that paints the first `count` examples of a batch in eval mode.

    It writes WORKDIR/images/<step>.png and returns the picture [H, W, 3] uint8. Columns: input
    with annotated (green) and predicted (red) landmarks, render, masked image, reconstruction.
    """
    folder = epath.Path(workdir) / "images"

    @jax.jit
    def look(params, batch_stats, image, face_mask, head):
        variables = {"params": params, "batch_stats": batch_stats}
        output = recipe.model.apply(variables, image)
        rows, masking = jnp.arange(len(image)), recipe.masking
        face, *pictures = synthesize(
            recipe.model, variables, head, output, image, face_mask, rows, masking=masking
        )
        points = project(face.landmarks_105, output.coefficients.camera)
        return points[..., :2], *pictures

    def paint(
        state: TrainState, batch: Mapping[str, np.ndarray], assets: Assets, step: int
    ) -> np.ndarray:
        image = jnp.asarray(batch["image"][:count], jnp.float32) / 255
        mask = jnp.asarray(batch["face_mask"][:count], jnp.float32)
        points, geometry, masked, reconstruction = jax.device_get(
            look(*jax.device_get((state.params, state.batch_stats)), image, mask, assets.head)
        )
        marked = draw.draw_points(np.asarray(image), batch["landmarks_105"][:count], _TRUE)
        marked = draw.draw_points(marked, points, _FOUND)
        picture = draw.grid(
            [np.asarray(image), marked, np.repeat(geometry, 3, -1), masked, reconstruction]
        )
        if jax.process_index() == 0:
            folder.mkdir(parents=True, exist_ok=True)
            draw.save_png(folder / f"{step:07d}.png", picture)
        return picture

    return paint
