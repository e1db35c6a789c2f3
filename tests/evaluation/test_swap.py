"""The swap test on synthesisers that are known to follow their geometry, or to ignore it."""

from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from ml_collections import ConfigDict

from fields_jax.evaluation import swap
from fields_jax.evaluation.reconstructions import Measurer
from fields_jax.flame.model import flame
from fields_jax.flame.procedural import procedural_head
from fields_jax.render import interpolate, project, rasterize, shaded_face
from fields_jax.types import FieldsOutput, FlameCoefficients

pytestmark = pytest.mark.usefixtures("unchecked")  # models here are doubles

N, SIZE = 5, 64


@pytest.fixture(scope="module")
def small():
    """The procedural head with a few components, and the coefficients of five faces."""
    head = procedural_head()
    head = head.replace(
        expression_basis=head.expression_basis[..., :6], shape_basis=head.shape_basis[..., :4]
    )
    rng = np.random.default_rng(1)
    draw = lambda *size: rng.normal(size=(N, *size)).astype(np.float32)  # noqa: E731
    coefficients = FlameCoefficients(
        shape=0.5 * draw(4),
        expression=2 * draw(6),
        jaw=np.abs(draw(3)) * np.float32([0.15, 0, 0]),
        eyelid=rng.uniform(size=(N, 2)).astype(np.float32),
        pose=0.1 * draw(3),
        camera=np.tile(np.float32([8, 0, 0]), (N, 1)),
    )
    return head, coefficients


class Painter:
    """Knows every face that it may be asked for by its geometry map, and reads what it painted.

    Attributes:
      share: how much of a change of the geometry it follows, in what it reads and as a mixture of
        paintings; 0 ignores it, 1 follows it.
    """

    def __init__(self, head, coefficients, share):
        self.head, self.share = head, share
        own = coefficients
        other = jax.tree.map(lambda column: column[swap.partners(N)], own)
        swapped = swap.with_movement(own, other)
        both = jax.tree.map(lambda *columns: jnp.concatenate(columns), own, swapped)
        self.faces = both
        vertices = flame(head, both).vertices
        self.maps = shaded_face(head, vertices, both.camera, SIZE)[0]
        self.paintings = self._painted(vertices, both.camera)

    def _painted(self, vertices, camera):
        """Every point of the skin in a colour of its own, smooth over the face."""
        skin = project(vertices[:, self.head.face_vertices], camera)
        place = self.head.template[self.head.face_vertices]
        paint = jnp.tile(0.5 + 0.5 * jnp.sin(120 * place)[None], (2 * N, 1, 1))
        triangles = self.head.face_triangles
        return interpolate(rasterize(skin, triangles, SIZE), skin, triangles, paint)

    def apply(self, variables, image, *rest, method=None):
        if method == "synthesize":
            masked, tokens = rest
            wanted = self._nearest(image, self.maps)
            own = jnp.round(tokens[:, 0, 0]).astype(int)
            paintings = (self.paintings[own], self.paintings[wanted])
            made = (1 - self.share) * paintings[0] + self.share * paintings[1]
            return jnp.where(masked > 0, masked, made)
        before, after = self._between(image)
        return FieldsOutput(
            jax.tree.map(
                lambda c: (1 - self.share) * c[before] + self.share * c[after], self.faces
            ),
            *[None] * 4,
        )

    def _between(self, image):
        """The faces whose mixture the picture is."""
        own = jnp.arange(len(image)) % N
        mixed = (1 - self.share) * self.paintings[own][:, None] + self.share * self.paintings[None]
        hidden = (image > 0)[:, None]
        return own, jnp.argmin(jnp.sum(hidden * (image[:, None] - mixed) ** 2, (2, 3, 4)), axis=1)

    @staticmethod
    def _nearest(pictures, known):
        return jnp.argmin(jnp.sum((pictures[:, None] - known[None]) ** 2, (2, 3, 4)), axis=1)


def measured(small, share):
    head, coefficients = small
    config = ConfigDict(dict(evaluation=dict(batch_size=N), model=dict(synthesizer="teaser")))
    config.losses = ConfigDict(dict(dilation=0.05, perceptual_weights=""))
    model = Painter(head, coefficients, share)
    inference = SimpleNamespace(config=config, model=model, variables={})
    tokens = np.tile(np.arange(N, dtype=np.float32)[:, None, None], (1, 4, 2))
    none = np.zeros(N, np.float32)
    prediction = FieldsOutput(coefficients, tokens, np.zeros((N, 8)), none, none)
    batch = {
        "image": np.full((N, SIZE, SIZE, 3), 90, np.uint8),
        "face_mask": np.ones((N, SIZE, SIZE), np.uint8),
    }
    return Measurer(inference, head).measure(prediction, [batch])[0]


def shares(columns):
    return {
        name: swap.share(columns[f"swap.{name}"], columns[f"swap.{name}_given"])
        for name in swap.SHARES
    }


def test_a_synthesiser_that_ignores_its_geometry_gets_exactly_nothing(small):
    columns = measured(small, 0.0)
    assert (columns["swap.paint_given"] > 1).all() and (columns["swap.reading_given"] > 0.1).all()
    assert shares(columns) == {"paint": 0, "reading": 0}


def test_a_synthesiser_that_follows_its_geometry_gets_all(small):
    found = shares(measured(small, 1.0))
    assert found["reading"] == pytest.approx(1, abs=1e-5)
    assert found["paint"] == pytest.approx(1, abs=0.03)  # samples of pixels stand for the paint


def test_half_a_follower_gets_half(small):
    found = shares(measured(small, 0.5))
    assert found["paint"] == pytest.approx(0.5, abs=0.02)


def test_examples_swap_with_others():
    for count in (1, 2, 7, 24):
        found = swap.partners(count)
        assert sorted(found) == list(range(count))
        assert count == 1 or (found != np.arange(count)).all()
    # At a fixed distance from its partner an example might always meet its own emotion.
    assert len(set((swap.partners(24) - np.arange(24)).tolist())) > 5
    assert np.isnan(swap.share(np.zeros(1), np.zeros(1)))
