"""Forms for kinds of devices: all of them in a program for any, one in a program for one."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from fields_jax.platforms import default_platform, per_platform, traced_for


def sine(x):
    """Forms that do not agree, to tell which of them ran."""
    return per_platform(x, cpu=jnp.sin, tpu=jnp.tan, default=jnp.cos)


def primitives(platform=None):
    if platform is None:
        return str(jax.make_jaxpr(sine)(1.0))
    with traced_for(platform):
        return str(jax.make_jaxpr(sine)(1.0))


def test_a_program_for_any_platform_holds_every_form_and_runs_its_own():
    assert all(name in primitives() for name in ("sin", "tan", "cos"))
    np.testing.assert_allclose(jax.jit(sine)(1.0), np.sin(1), rtol=1e-6)


def test_a_program_for_one_platform_holds_its_form_alone():
    for platform, held in {"cpu": "sin", "tpu": "tan", "gpu": "cos"}.items():
        text = primitives(platform)
        assert [name for name in ("sin", "tan", "cos") if name in text] == [held]


def test_what_was_traced_for_one_platform_is_not_taken_for_others():
    program = jax.jit(sine)
    with traced_for("tpu"):
        np.testing.assert_allclose(program(1.0), np.tan(1), rtol=1e-6)
    np.testing.assert_allclose(program(1.0), np.sin(1), rtol=1e-6)


def test_a_form_takes_gradients_as_it_does_by_itself():
    with traced_for("cpu"):
        np.testing.assert_allclose(jax.grad(sine)(1.0), np.cos(1), rtol=1e-6)


@pytest.mark.parametrize("name", ["cuda", "gpu"])
def test_gpus_have_no_form_of_their_own(name):
    """JAX's two names for them would pick different forms in and outside `traced_for`."""
    with pytest.raises(ValueError, match=f"no forms for {name}, only for cpu and tpu"):
        per_platform(1.0, default=jnp.sin, **{name: jnp.cos})


def test_the_platform_is_that_of_the_device_chosen():
    assert default_platform() == "cpu"
    with jax.default_device("tpu"):  # a name, of a device that need not be there
        assert default_platform() == "tpu"
    with jax.default_device(jax.devices("cpu")[0]):
        assert default_platform() == "cpu"
