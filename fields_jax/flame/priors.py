"""What a head's coefficients are likely to be, and what they may not exceed."""

from __future__ import annotations

import numpy as np

from fields_jax.types import CoefficientPrior, FlameModel

# Ranges of SMIRK's and TEASER's expression encoder: the jaw only opens, and hardly turns aside.
_JAW_RANGE = np.array([[0.0, 0.6], [-0.2, 0.2], [-0.2, 0.2]])
# Standard deviations, ours. Speech opens the jaw by 0.1 to 0.2 rad; turning it aside is rare. That
# of the lids makes a shut eye likelier than expression components that narrow it.
_JAW_DEVIATION = (0.2, 0.03, 0.03)
_EYELID_DEVIATION = 0.7
_UNBOUNDED = 1e30

GROUPS = ("shape", "expression", "jaw", "eyelid")


def standard_priors(n_shape: int, n_expression: int) -> dict[str, CoefficientPrior]:
    """FLAME's: standard normal shape and expression, a jaw that opens, lids between 0 and 1."""
    return {
        "shape": normal(n_shape),
        "expression": normal(n_expression),
        "jaw": _prior(np.zeros(3), _JAW_DEVIATION, *_JAW_RANGE.T),
        "eyelid": _prior(np.zeros(2), np.full(2, _EYELID_DEVIATION), np.zeros(2), np.ones(2)),
    }


def normal(count: int) -> CoefficientPrior:
    """Independent standard normal coefficients without bounds."""
    infinite = np.full(count, np.inf)
    return _prior(np.zeros(count), np.ones(count), -infinite, infinite)


def between(lower: np.ndarray, upper: np.ndarray, deviation: np.ndarray) -> CoefficientPrior:
    """Coefficients [K] that are 0 at rest and stay within bounds, such as blend shape weights."""
    return _prior(np.zeros(len(lower)), deviation, lower, upper)


def trimmed(
    priors: dict[str, CoefficientPrior], n_shape: int, n_expression: int
) -> dict[str, CoefficientPrior]:
    """The priors of the leading coefficients of shape and expression."""
    counts = {"shape": n_shape, "expression": n_expression}
    return {
        name: CoefficientPrior(
            **{field: values[: counts.get(name)] for field, values in vars(prior).items()}
        )
        for name, prior in priors.items()
    }


def is_standard(prior: CoefficientPrior) -> bool:
    """Whether it is a standard normal without bounds, as FLAME's shape and expression are."""
    mean, deviation, lower, upper = (np.asarray(values) for values in vars(prior).values())
    free = np.isneginf(lower) & np.isposinf(upper)
    return bool(((mean == 0) & (deviation == 1) & free).all())


def expression_bounds(head: FlameModel, count: int) -> tuple[tuple[float, float], ...]:
    """(lower, upper) of the leading expression coefficients; empty if none of them is bounded."""
    prior = head.priors["expression"]
    lower, upper = (np.asarray(side)[:count] for side in (prior.lower, prior.upper))
    if not (np.isfinite(lower) | np.isfinite(upper)).any():
        return ()
    # A config holds finite numbers only.
    lower, upper = np.maximum(lower, -_UNBOUNDED), np.minimum(upper, _UNBOUNDED)
    return tuple(zip(lower.tolist(), upper.tolist(), strict=True))


def _prior(*columns) -> CoefficientPrior:
    return CoefficientPrior(*(np.asarray(column, np.float32) for column in columns))
