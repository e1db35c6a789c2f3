"""FLAME as pure functions: coefficients to vertices and landmarks."""

from fields_jax.flame.model import flame

__all__ = ["flame"]
