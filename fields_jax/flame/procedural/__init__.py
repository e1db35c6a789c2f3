"""The licence-free head, computed from analytic shapes."""

from fields_jax.flame.procedural.head import procedural_head

__all__ = ["procedural_head"]
