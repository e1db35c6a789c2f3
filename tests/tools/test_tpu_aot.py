"""Compiles for absent TPUs, if libtpu is installed (extra `tpu`)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fields_jax.models.fields import build_model, variable_shapes
from fields_jax.render import antialias, interpolate, rasterize
from fields_jax.tools import aot_compile
from tests.support.heads import random_head
from tests.support.meshes import posed_spheres
from tests.support.tiny_training import tiny_config

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


@pytest.mark.parametrize(
    ("phase", "programs"),
    [
        ("A", ["reconstruction"]),
        pytest.param("B", ["reconstruction", "synthesizer", "encoders"], marks=pytest.mark.slow),
    ],
)
def test_the_training_step_compiles_for_four_chips_with_what_it_needs(mesh, phase, programs):
    """Gradients are what is reduced, and the state is donated."""
    config, head = tiny_config(batch_size=8, backbone="mobilenet_v3"), random_head()
    report = aot_compile.compile_programs(config, head, mesh.devices.ravel(), names=[phase])
    assert report["devices"] == 4 and report["batch_per_device"] == 2
    assert list(report["programs"]) == [f"{phase}/{name}" for name in programs]
    for name, program in report["programs"].items():
        assert 0 < program["memory_gib"] < 1 and program["gflops"] > 0, name
        assert program["shared_bytes"] > 0.9 * program["outputs_bytes"], name
    shapes = variable_shapes(build_model(config))["params"]
    trained = config.phases[phase].train
    gradients = sum(4 * x.size for name in trained for x in jax.tree.leaves(shapes[name]))
    reduced = 1e6 * report["programs"][f"{phase}/reconstruction"]["collective_mbytes"]
    assert gradients <= reduced < 1.5 * gradients
