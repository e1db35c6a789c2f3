"""What a training step is bound to: its constant arrays and its static choices."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct
from jaxtyping import Array, Float

from fields_jax.batch import FITTED_FLAGS
from fields_jax.losses import registry
from fields_jax.losses.cycle import CycleSettings
from fields_jax.losses.evidence import LossSettings
from fields_jax.models.fields import FieldsModel
from fields_jax.render import Masking
from fields_jax.types import FlameModel

PyTree = Any
TURNS = ("synthesizer", "encoders")  # who learns in a cycle step, in this order


@struct.dataclass
class Assets:
    """Constant arrays of a run, an argument of the step rather than constants of its program.

    Attributes:
      head: the FLAME model.
      landmark_head: `head` cut down to what its landmarks depend on; see `flame.landmark_head`.
      gram, shape_gram: [E, E] and [S, S] metrics of the expression and shape components, mm^2.
      templates: [M, E] expressions for the cycle, or None: it then draws from the batch.
      perceptual: variables of the perceptual network, or None.
      emotion_features: variables of the emotion-feature network, or None.
    """

    head: FlameModel
    landmark_head: FlameModel
    gram: Float[Array, "E E"]
    shape_gram: Float[Array, "S S"]
    templates: Float[Array, "M E"] | None
    perceptual: PyTree | None
    emotion_features: PyTree | None


@dataclasses.dataclass(frozen=True)
class Phase:
    """A stretch of training with one set of trained networks and one set of weights."""

    name: str
    start: int  # first iteration, counted from the start of the run
    steps: int
    train: tuple[str, ...]
    cycle: bool
    weights: Mapping[str, float]
    rates: Mapping[str, float] = dataclasses.field(default_factory=dict)  # factors, by network

    @property
    def end(self) -> int:
        """The first iteration after it."""
        return self.start + self.steps

    def learners(self, turn: str | None = None) -> tuple[str, ...]:
        """Networks that learn in a turn of the cycle, or (None) in the reconstruction step."""
        if turn is None:
            return self.train
        readers = ("expression_encoder", "token_encoder")
        return (turn,) if turn == "synthesizer" else tuple(n for n in readers if n in self.train)

    def terms(self, turn: str | None = None) -> dict[str, float]:
        """Weights of the terms in a turn of the cycle, or (None) in the reconstruction step."""
        cycle = registry.needing("cycle")
        found = {name: w for name, w in self.weights.items() if (name in cycle) == bool(turn)}
        if turn == "encoders":  # the shape encoder does not learn then
            found.pop("cycle_shape", None)
        return found

    @property
    def learns_coefficients(self) -> bool:
        """Whether a loss compares with coefficients that the examples carry."""
        return any(registry.TERMS[name].over in FITTED_FLAGS for name in self.weights)


@dataclasses.dataclass(frozen=True)
class Recipe:
    """Static collaborators of the step, bound before it is mapped.

    Attributes:
      model: the networks.
      optimizer: {network: transformation}.
      settings: choices of the losses that are not weights.
      cycle: sizes of the cycle's perturbation.
      schedule: keyword arguments of `schedule_factor` except start and length.
      shake: draw the weights of the valence and arousal terms afresh each step (EmoNet).
      masking: how the masked image is made.
      synthesizer_clip: largest norm of the synthesiser's gradient in its cycle turn.
      perceptual: apply function of the perceptual network, or None.
      emotion_features: apply function of the emotion-feature network, or None.
      clip: largest global norm of the gradients of an update; 0 for none.
      ema: decay of the running mean of the parameters; 0 for none.
      accumulate: micro-batches that a device takes one after the other for each update.
      max_bad_steps: non-finite steps in a row after which a run is over and no step moves it.
    """

    model: FieldsModel
    optimizer: Mapping[str, optax.GradientTransformation]
    settings: LossSettings
    cycle: CycleSettings
    schedule: Mapping[str, float]
    shake: bool
    masking: Masking
    synthesizer_clip: float
    perceptual: Callable | None
    emotion_features: Callable | None
    clip: float = 0.0
    ema: float = 0.0
    accumulate: int = 1
    max_bad_steps: int = 0


@dataclasses.dataclass(frozen=True)
class Context:
    """What a program of the step is bound to before it is mapped.

    Attributes:
      recipe: of the run.
      phase: the current one.
      axis_name: the mapped axis.
      turn: who learns in a cycle step, one of `TURNS`; None in the reconstruction step.
    """

    recipe: Recipe
    phase: Phase
    axis_name: str
    turn: str | None = None

    def total(self, values: Float[Array, " B"]) -> Float[Array, ""]:
        """The sum over the examples of every device."""
        return jax.lax.psum(jnp.sum(values), self.axis_name)

    def mean(self, tree: PyTree) -> PyTree:
        """The mean over all devices; one device's tree needs no copying into a collective."""
        if jax.lax.axis_size(self.axis_name) == 1:
            return tree
        return jax.lax.pmean(tree, self.axis_name)
