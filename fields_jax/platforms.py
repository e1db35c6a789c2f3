"""Forms of one computation for the kinds of devices that want their own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import jax

# JAX keeps what it has traced under one value apart from what it has under another.
_only = jax.make_user_context(None)


def per_platform(*arguments: Any, default: Callable, **forms: Callable) -> Any:
    """What the form for the platform gives that the program is compiled for.

    The forms must agree. All of them are traced, and the compiler's user picks one, as
    `jax.lax.platform_dependent` has it, but within `traced_for`.

    Args:
      *arguments: of the forms: arrays, and trees of them.
      default: the form for platforms that are not named.
      **forms: by platform, "cpu" or "tpu"; GPUs, which have names of their own, take the default.

    Raises:
      ValueError: another platform.
    """
    if unknown := forms.keys() - {"cpu", "tpu"}:
        raise ValueError(f"no forms for {', '.join(sorted(unknown))}, only for cpu and tpu")
    if _only.value is None:
        return jax.lax.platform_dependent(*arguments, default=default, **forms)
    return forms.get(_only.value, default)(*arguments)


def traced_for(platform: str) -> AbstractContextManager[None]:
    """Within it programs are traced for one platform alone, and must be compiled for no other.

    Tracing a rasteriser, whose forms hold others' choices, takes a third of the time.

    Args:
      platform: as `jax.default_backend` names it.
    """
    return _only(platform)


def default_platform() -> str:
    """The platform that computes what names no device, as `jax.default_backend` names it."""
    chosen = jax.config.jax_default_device
    return getattr(chosen, "platform", chosen) or jax.default_backend()
