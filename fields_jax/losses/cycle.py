"""The expression cycle: perturbed expressions that the encoders must read back (SMIRK).

Every random number is keyed by the sample's index in the global batch, so that the perturbation
is the same on any number of devices.
"""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from fields_jax.types import CoefficientPrior, FlameCoefficients

GROUPS = 4  # random, permuted, template, zero


@dataclasses.dataclass(frozen=True)
class CycleSettings:
    """Sizes of the perturbation; `config.cycle` holds them with SMIRK's values as defaults."""

    noise: float
    limit: float
    jaw_noise: tuple[float, float, float]
    jaw_limit: float
    eyelid_noise: float


class Pool(NamedTuple):
    """Where perturbed expressions come from.

    Attributes:
      expressions: [G, E] of the global batch, G a multiple of 4.
      templates: [M, E] expressions people make.
      prior: of an expression; None: standard normal without bounds.
    """

    expressions: Float[Array, "G E"]
    templates: Float[Array, "M E"]
    prior: CoefficientPrior | None


def perturb(
    key: jax.Array,
    index: Int[Array, " B"],
    coefficients: FlameCoefficients,
    pool: Pool,
    settings: CycleSettings,
) -> FlameCoefficients:
    """Changes expression, jaw and eyelids; identity, pose and camera stay.

    Groups by (index + s) mod 4, s drawn from the key:
      0 random: clip(psi + m (1 + 2u) N, mean +- limit), m a coin per coefficient
      1 permuted: (0.25 + 1.25u) times another expression of the group, its own where it is alone
      2 template: (0.25 + 1.25u) times a template
      3 zero: neutral, jaw shut, eyelids at random
    all with u' noise N added, u and u' uniform per sample; then jaw and eyelids are jittered in
    groups 0 to 2. N and limit are in standard deviations of the head's prior, in whose bounds the
    expression ends.

    Args:
      key: of this step, the same on every device.
      index: [B] global index of each local sample.
      coefficients: what the encoders read; detached by the caller.
      pool: what it draws from.
      settings: sizes.
    """
    shift_key, roll_key, noise_key = jax.random.split(key, 3)
    shift = jax.random.randint(shift_key, (), 0, GROUPS)
    group = (index + shift) % GROUPS
    members = pool.expressions.shape[0] // GROUPS
    roll = jax.random.randint(roll_key, (), 1, max(members, 2))
    # Members of a group stand GROUPS apart; a cyclic roll pairs each with another one, if any.
    partner = pool.expressions[(index + GROUPS * roll) % pool.expressions.shape[0]]
    keys = jax.vmap(lambda i: jax.random.fold_in(noise_key, i))(index)
    expression, jaw, eyelid = jax.vmap(
        lambda k, g, one, other: _perturb_one(k, g, one, other, pool, settings)
    )(keys, group, coefficients, partner)
    return coefficients.replace(expression=expression, jaw=jaw, eyelid=eyelid)


def _perturb_one(key, group, coefficients, other, pool, settings):
    """Expression, jaw and eyelids of one sample; `other` is an expression of its group."""
    templates, prior = pool.templates, pool.prior
    psi, jaw, eyelid = coefficients.expression, coefficients.jaw, coefficients.eyelid
    keys = iter(jax.random.split(key, 12))
    uniform = lambda *shape, low=0.0, high=1.0: jax.random.uniform(  # noqa: E731
        next(keys), shape, minval=low, maxval=high
    )
    normal = lambda *shape: jax.random.normal(next(keys), shape)  # noqa: E731

    coin = jax.random.bernoulli(next(keys), 0.5, psi.shape)
    unit = 1.0 if prior is None else prior.deviation
    steps = lambda: normal(*psi.shape) * unit  # noqa: E731
    wild = psi + coin * (1 + 2 * uniform()) * steps()
    least, most = _limits(settings.limit, prior)
    scale = 0.25 + 1.25 * uniform()
    template = templates[jax.random.randint(next(keys), (), 0, templates.shape[0])]
    expression = jnp.stack(
        [
            jnp.clip(wild, least, most),
            scale * other,
            scale * template,
            jnp.zeros_like(psi),
        ]
    )[group]
    expression = expression + settings.noise * uniform() * steps()
    if prior is not None:
        expression = jnp.clip(expression, prior.lower, prior.upper)

    moved = jax.random.bernoulli(next(keys), 0.5)
    jaw = jaw + moved * jnp.asarray(settings.jaw_noise) * normal(3)
    jaw = jaw.at[0].set(jnp.clip(jaw[0], 0.0, settings.jaw_limit))
    lids = uniform(2, low=-settings.eyelid_noise, high=settings.eyelid_noise)
    lids = jnp.clip(eyelid + lids, 0.0, 1.0)
    zero = group == GROUPS - 1
    return expression, jnp.where(zero, 0.0, jaw), jnp.where(zero, uniform(2), lids)


def _limits(limit: float, prior: CoefficientPrior | None) -> tuple[Array | float, Array | float]:
    """The mean of an expression less and plus `limit` standard deviations."""
    if prior is None:
        return -limit, limit
    return prior.mean - limit * prior.deviation, prior.mean + limit * prior.deviation
