"""Compiles for TPUs that are not there, wherever libtpu is installed (extra `tpu`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fields_jax.render import antialias, interpolate, rasterize
from tests.meshes import posed_spheres

pytestmark = pytest.mark.tpu_aot


@pytest.fixture(scope="module")
def mesh() -> Mesh:
    """Four chips of a v5e."""
    pytest.importorskip("libtpu", reason="pip install fields_jax[tpu]")
    devices = topologies.get_topology_desc("v5e:2x2", platform="tpu").devices
    return Mesh(np.array(devices), ("data",))


def test_rasteriser_and_its_gradients_compile_for_a_v5e(mesh):
    """Sharded over four chips; without scatters of single pixels, which a TPU does serially."""
    vertices, faces = posed_spheres(np.random.default_rng(0))
    size = 64

    def loss(vertices):
        fragments = rasterize(vertices, faces, size)
        image = interpolate(fragments, vertices, faces, jnp.sin(5 * vertices))
        return jnp.sum(antialias(image, fragments, vertices, faces) ** 2)

    spec = PartitionSpec("data")
    step = jax.shard_map(jax.grad(loss), mesh=mesh, in_specs=spec, out_specs=spec, check_vma=False)
    sharding = NamedSharding(mesh, spec)
    vertices = jax.ShapeDtypeStruct(vertices.shape, jnp.float32, sharding=sharding)
    compiled = jax.jit(step).lower(vertices).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 2**30

    index = jax.jit(lambda v: rasterize(v, faces, size).face_index, in_shardings=sharding)
    assert "sort" in index.lower(vertices).compile().as_text()
