"""The pose encoder's camera."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from fields_jax.flame import flame
from fields_jax.flame.model import face_centre
from fields_jax.flame.procedural import procedural_head
from fields_jax.models.encoders import PoseEncoder
from fields_jax.render import project
from fields_jax.types import FlameCoefficients


def test_a_camera_that_is_told_where_the_face_is_keeps_it_there_however_the_head_turns():
    """Against the whole head: only the place that the layer says moves the middle of the face."""
    head = procedural_head()
    encoder = PoseEncoder(width=0.25, depth=0.25, face_centre=face_centre(head))
    image = jax.random.uniform(jax.random.key(0), (1, 32, 32, 3))
    variables = encoder.init(jax.random.key(1), image)
    dense = variables["params"]["pose_cam_layers_0"]
    for turn in (np.zeros(3), np.array([0.3, -0.9, 0.2]), np.array([-0.5, 0.4, 0.6])):
        bias = jnp.asarray([*turn, 6.0, 0.02, -0.03], jnp.float32)
        told = {"kernel": jnp.zeros_like(dense["kernel"]), "bias": bias}
        changed = {**variables, "params": {**variables["params"], "pose_cam_layers_0": told}}
        pose, camera = encoder.apply(changed, image)
        np.testing.assert_allclose(pose[0], turn, atol=1e-6)
        still = FlameCoefficients(
            shape=jnp.zeros((1, 1)),
            expression=jnp.zeros((1, 1)),
            jaw=jnp.zeros((1, 3)),
            eyelid=jnp.zeros((1, 2)),
            pose=pose,
            camera=camera,
        )
        marker = jnp.asarray([head.face_vertices[0]])
        # A vertex put in the middle of the face, of the skull.
        middle = jnp.asarray(face_centre(head)[3:], jnp.float32)
        moved = head.replace(
            template=head.template.at[marker].set(middle[None]),
            pose_basis=0 * head.pose_basis,
            skin_weights=head.skin_weights.at[marker].set(jnp.eye(5)[:1]),
        )
        seen = project(flame(moved, still).vertices[:, marker], camera)[0, 0, :2]
        np.testing.assert_allclose(seen, [6.0 * 0.02, 6.0 * 0.03], atol=2e-3)
