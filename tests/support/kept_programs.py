"""Which programs are kept between processes."""

from __future__ import annotations

from fields_jax import kept


def kept_names() -> set[str]:
    """Programs that `kept.kept_program` has compiled, as JAX's log names them."""
    return {f"jit({program.__name__})" for program in kept._programs.values()}
