"""Whether identity and expression leak into each other.

A person has one shape, so what a predicted shape changes between pictures of one person is
expression, pose or light read as identity. The other way round, an expression should not say whose
it is: how often the nearest of the persons' mean expressions is the right person's is compared with
chance and with the same for the true expressions, since people may also show different ones.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from fields_jax.types import FlameModel

Floats = Float[np.ndarray, " N"]
_LEAST_SPREAD = 1e-9  # of a coefficient, relative to the largest, that still counts


class ShapeSpread(NamedTuple):
    """Distances in mm over the face mask at rest, NaN where they are not defined.

    Attributes:
      within: [N] from an example's predicted face to the mean one of the same person.
      between: [N] from that person's mean face to the mean of all persons.
    """

    within: Floats
    between: Floats


def shape_spread(
    head: FlameModel, shape: Float[np.ndarray, "N S"], subject: Int[np.ndarray, " N"]
) -> ShapeSpread:
    """How much predicted shapes differ within and between persons.

    Only persons with two examples or more count, and `between` needs two such persons.

    Args:
      head: whose shape components they are.
      shape: [N, S] predicted; components beyond the head's own are left out.
      subject: [N] the person, -1 where not known.
    """
    basis = np.asarray(head.shape_basis, np.float64)[np.asarray(head.face_vertices)]
    basis = 1e3 * basis[..., : shape.shape[1]].reshape(3 * len(basis), -1)
    shape = np.asarray(shape, np.float64)[:, : basis.shape[1]]
    within, between = np.full((2, len(subject)), np.nan)
    people = _people(subject)
    if not people:
        return ShapeSpread(within, between)
    means = np.stack([shape[rows].mean(axis=0) for rows in people])
    middle = means.mean(axis=0)
    for rows, mean in zip(people, means, strict=True):
        within[rows] = _moved(basis, shape[rows] - mean)
        if len(people) > 1:
            between[rows] = _moved(basis, mean[None] - middle)
    return ShapeSpread(within, between)


def named_by(codes: Float[np.ndarray, "N K"], subject: Int[np.ndarray, " N"]) -> Floats:
    """Whether the nearest person's mean code is the right person's: [N] of 0 and 1, or NaN.

    Of persons that are equally near one is guessed, so shares between 0 and 1 occur too.

    Codes are divided by their standard deviations. An example's own code is left out of its
    person's mean, and all means are of equally many examples, one less than the person with the
    fewest has: those that follow, in order and around. So a code without any information is right
    at chance: a mean of more examples lies nearer to everything. Persons with one example do not
    count, and there must be two others or more.

    Args:
      codes: [N, K] such as predicted expressions.
      subject: [N] the person, -1 where not known.
    """
    right = np.full(len(subject), np.nan)
    people = _people(subject)
    if len(people) < 2:
        return right
    known = np.concatenate(people)
    codes = np.asarray(codes, np.float64)
    spread = codes[known].std(axis=0)
    told = spread > _LEAST_SPREAD * spread.max(initial=0.0)
    codes = codes[:, told] / spread[told]
    count = min(map(len, people)) - 1
    means = [_means_of_following(codes[rows], count) for rows in people]
    for person, rows in enumerate(people):
        places = np.arange(len(rows))
        others = np.stack([mean[places % len(mean)] for mean in means], axis=1)
        distance = np.linalg.norm(codes[rows, None] - others, axis=-1)
        nearest = np.isclose(distance, distance.min(axis=1, keepdims=True), rtol=1e-9, atol=0)
        right[rows] = nearest[:, person] / nearest.sum(axis=1)
    return right


def _means_of_following(codes: Float[np.ndarray, "M K"], count: int) -> Float[np.ndarray, "M K"]:
    """For each of M codes the mean of the `count` < M that follow it, the first after the last."""
    sums = np.cumsum(np.concatenate([codes, codes]), axis=0)
    return (sums[count : count + len(codes)] - sums[: len(codes)]) / count


def chance_of(subject: Int[np.ndarray, " N"]) -> Floats:
    """How often a guess names the person: [N] of 1 / persons, NaN as in `named_by`."""
    chance = np.full(len(subject), np.nan)
    people = _people(subject)
    if len(people) > 1:
        chance[np.concatenate(people)] = 1 / len(people)
    return chance


def _people(subject: Int[np.ndarray, " N"]) -> list[Int[np.ndarray, " M"]]:
    """Rows of each person with two examples or more."""
    subjects, counts = np.unique(subject[subject >= 0], return_counts=True)
    return [np.flatnonzero(subject == each) for each in subjects[counts > 1]]


def _moved(basis: Float[np.ndarray, "W S"], shape: Float[np.ndarray, "M S"]) -> Floats:
    """Mean distances in mm that differences of shapes move the face's vertices, whose x, y and z
    follow each other in the basis.
    """
    moved = (shape @ basis.T).reshape(len(shape), -1, 3)
    return np.linalg.norm(moved, axis=-1).mean(axis=1)
