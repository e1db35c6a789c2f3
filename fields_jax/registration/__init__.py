"""Dense correspondence of two heads, and what it carries from one to the other."""

from fields_jax.registration.transfer import Transferred, transfer

__all__ = ["Transferred", "transfer"]
