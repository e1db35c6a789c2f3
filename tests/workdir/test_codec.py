"""Trees as one vector per type."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from fields_jax.workdir import codec


def a_tree() -> dict:
    return {
        "moments": [jnp.arange(6.0).reshape(2, 3), jnp.full((), 7.0), jnp.zeros((0, 4))],
        "count": jnp.asarray(3, jnp.int32),
        "half": {"a": jnp.arange(4, dtype=jnp.bfloat16), "none": None},
    }


def test_a_tree_comes_back_bit_for_bit() -> None:
    tree = a_tree()
    packed = codec.pack(tree)
    assert {name: x.shape for name, x in packed.items()} == {
        "float32": (7,),
        "int32": (1,),
        "bfloat16": (4,),
    }
    back = codec.unpack(packed, tree)
    assert jax.tree.structure(back) == jax.tree.structure(tree)
    for found, expected in zip(jax.tree.leaves(back), jax.tree.leaves(tree), strict=True):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected)


def test_room_is_made_for_exactly_what_is_packed() -> None:
    shapes = jax.eval_shape(a_tree)
    room, packed = codec.empty(shapes), codec.pack(a_tree())
    assert {name: (x.shape, x.dtype) for name, x in room.items()} == {
        name: (x.shape, x.dtype) for name, x in packed.items()
    }


def test_arrays_go_where_the_target_says() -> None:
    mesh = Mesh(np.asarray(jax.devices()), ("batch",))
    sharding = NamedSharding(mesh, PartitionSpec())
    like = jax.ShapeDtypeStruct((2, 2), jnp.float32, sharding=sharding)
    back = codec.unpack({"float32": np.arange(4, dtype=np.float32)}, [like])
    assert back[0].sharding == sharding
    np.testing.assert_array_equal(back[0], [[0, 1], [2, 3]])


@pytest.mark.parametrize("packed", [{}, {"float32": np.zeros(3, np.float32)}])
def test_too_little_is_refused(packed: dict) -> None:
    with pytest.raises((KeyError, ValueError)):
        codec.unpack(packed, [np.zeros((2, 2), np.float32)])
