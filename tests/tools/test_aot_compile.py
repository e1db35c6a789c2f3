"""Compiles for absent TPUs and GPUs, where their compilers are installed (extras tpu and cuda)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fields_jax.errors import UserError
from fields_jax.models.fields import build_model, variable_shapes
from fields_jax.render import antialias, interpolate, rasterize
from fields_jax.tools import aot_compile
from fields_jax.tools.targets import GPUS, find_devices
from tests.support.heads import random_head
from tests.support.meshes import posed_spheres
from tests.support.tiny_training import tiny_config

COMPILERS = {"v5e:2x2": ("libtpu", "tpu"), "h100:4": ("jax_cuda12_plugin", "cuda")}


@pytest.fixture(scope="module", params=COMPILERS)
def mesh(request) -> Mesh:
    """Four chips of a kind."""
    package, extra = COMPILERS[request.param]
    pytest.importorskip(package, reason=f"pip install fields_jax[{extra}]")
    return Mesh(np.array(find_devices(request.param)), ("data",))


@pytest.mark.parametrize("topology", ["v5e:banana", "h99:8", "h100:8:2"])
def test_unknown_topologies_are_refused_with_those_that_are_known(topology):
    with pytest.raises(UserError, match=rf"{topology}.*h100:8 \({', '.join(GPUS)}\) or cpu"):
        find_devices(topology)


def test_devices_of_this_host_are_a_topology():
    assert find_devices("cpu") == jax.devices("cpu")


@pytest.mark.aot
@pytest.mark.parametrize("kind", GPUS)
def test_every_gpu_is_one_that_the_compiler_takes(kind):
    pytest.importorskip("jax_cuda12_plugin", reason="pip install fields_jax[cuda]")
    first, second = find_devices(f"{kind}:2")
    assert first.device_kind == second.device_kind == GPUS[kind].kind
    sharding = jax.sharding.SingleDeviceSharding(first)
    numbers = jax.ShapeDtypeStruct((64, 64), jnp.float32, sharding=sharding)
    compiled = jax.jit(lambda x: jnp.tanh(x @ x)).lower(numbers).compile()
    assert compiled.memory_analysis().output_size_in_bytes == 4 * 64 * 64


@pytest.mark.aot
def test_rasteriser_and_its_gradients_compile(mesh):
    """Sharded over four chips; on TPUs, which scatter pixels one by one, by sorting."""
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
    sorts = " sort(" in index.lower(vertices).compile().as_text()
    assert sorts == (mesh.devices[0].platform == "tpu")


@pytest.mark.aot
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
