"""The procedural head with ARKit's shapes for expressions: another head with the same surface."""

from __future__ import annotations

import numpy as np

from fields_jax import arkit
from fields_jax.flame.priors import between, normal, standard_priors
from fields_jax.flame.procedural import procedural_head
from fields_jax.types import FlameModel

SHAPES = 7


def arkit_head() -> FlameModel:
    """52 expression components in place of 100, and few identities, half as strong.

    Those that lids, eyes and jaw make are held still, and come last.
    """
    head = procedural_head()
    held = np.array(
        [name.startswith(("eyeBlink", "eyeLook")) or name == "jawOpen" for name in arkit.NAMES]
    )
    order = np.argsort(held, kind="stable")
    upper = 1 - held[order].astype(np.float32)
    priors = standard_priors(SHAPES, len(upper)) | {
        "expression": between(np.zeros_like(upper), upper, np.full_like(upper, 0.3)),
        "shape": normal(SHAPES).replace(deviation=np.full(SHAPES, 0.5, np.float32)),
    }
    return head.replace(
        shape_basis=head.shape_basis[..., :SHAPES],
        expression_basis=head.arkit_basis[..., order],
        expression_names=tuple(arkit.NAMES[row] for row in order),
        expression_templates=None,
        priors=priors,
        name="other",
        sha256="1" * 64,
    )
