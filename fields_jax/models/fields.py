"""The assembly: encoders, synthesiser and emotion head as one module built from the config."""

from __future__ import annotations

import math
from collections.abc import Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax.extend.random import define_prng_impl
from jaxtyping import Array, Float, UInt8
from ml_collections import ConfigDict

from fields_jax.errors import UserError
from fields_jax.models.backbones import BACKBONES
from fields_jax.models.emotion import EmotionHead
from fields_jax.models.encoders import ExpressionEncoder, PoseEncoder, ShapeEncoder, TokenEncoder
from fields_jax.models.synthesizer import Synthesizer
from fields_jax.types import FieldsOutput, FlameCoefficients

NETWORKS = (
    "pose_encoder",
    "shape_encoder",
    "expression_encoder",
    "token_encoder",
    "synthesizer",
    "emotion_head",
)
# float64 is for checks, under jax_enable_x64.
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16, "float64": jnp.float64}
SYNTHESIZERS = ("teaser", "smirk")


class FieldsModel(nn.Module):
    """All networks; each method runs, and needs the parameters of, only those it is about.

    Methods take `train`, a collection of names of `NETWORKS`: these use the statistics of the batch
    and, with `mutable=["batch_stats"]`, update their running ones. All others run in eval mode.
    Attributes have the names and meanings of `config.model`; defaults are the reference's. Without
    `token_guided` (SMIRK) there is no token encoder and tokens are None.
    """

    image_size: int = 224
    n_shape: int = 300
    n_expression: int = 50
    encoder_width: float = 1.0
    encoder_depth: float = 1.0
    synthesizer_width: int = 32
    residual_blocks: int = 5
    token_dim: int = 256
    adain_hidden: int = 128
    emotion_hidden: tuple[int, ...] = (512, 512)
    emotion_detach_shape: bool = False
    token_guided: bool = True
    dtype: Any = jnp.float32
    axis_name: str | None = None
    remat: bool = False
    backbone: str = "mobilenet_v3"
    expression_bounds: tuple[tuple[float, float], ...] = ()
    face_centre: tuple[float, ...] = ()

    def setup(self) -> None:
        common = dict(dtype=self.dtype, axis_name=self.axis_name, remat=self.remat)
        encoder = dict(
            width=self.encoder_width, depth=self.encoder_depth, backbone=self.backbone, **common
        )
        self.pose_encoder = PoseEncoder(face_centre=self.face_centre, **encoder)
        self.shape_encoder = ShapeEncoder(n_shape=self.n_shape, **encoder)
        self.expression_encoder = ExpressionEncoder(
            n_expression=self.n_expression, bounds=self.expression_bounds, **encoder
        )
        if self.token_guided:
            self.token_encoder = TokenEncoder(token_dim=self.token_dim, **encoder)
        self.synthesizer = Synthesizer(
            self.synthesizer_width,
            self.residual_blocks,
            self.adain_hidden,
            self.token_guided,
            **common,
        )
        self.emotion_head = EmotionHead(self.emotion_hidden, self.emotion_detach_shape)

    def __call__(self, image: Float[Array, "B H W 3"], train: Collection[str] = ()) -> FieldsOutput:
        """Outputs of the encoders and the emotion head for images in [0, 1].

        Raises:
          ValueError: images of another size, or an unknown name in `train`.
        """
        shape, expression, eyelid, jaw = self.encode_face(image, train)
        pose, camera = self.pose_encoder(image, "pose_encoder" in train)
        tokens = self.encode_tokens(image, train)
        logits, valence, arousal = self.read_emotion(expression, shape)
        coefficients = FlameCoefficients(
            shape=shape, expression=expression, jaw=jaw, eyelid=eyelid, pose=pose, camera=camera
        )
        return FieldsOutput(coefficients, tokens, logits, valence, arousal)

    def encode_face(
        self, image: Float[Array, "B H W 3"], train: Collection[str] = ()
    ) -> tuple[Float[Array, "B S"], Float[Array, "B E"], Float[Array, "B 2"], Float[Array, "B 3"]]:
        """Shape, expression, eyelid and jaw; runs the shape and expression encoders only."""
        self._check(image, train)
        shape = self.shape_encoder(image, "shape_encoder" in train)
        return shape, *self.expression_encoder(image, "expression_encoder" in train)

    def encode_tokens(
        self, image: Float[Array, "B H W 3"], train: Collection[str] = ()
    ) -> Float[Array, "B 4 D"] | None:
        """Appearance tokens, coarsest first; None from networks without."""
        self._check(image, train)
        if not self.token_guided:
            return None
        return self.token_encoder(image, "token_encoder" in train)

    def synthesize(
        self,
        geometry: Float[Array, "B H W 1"],
        masked: Float[Array, "B H W 3"],
        tokens: Float[Array, "B 4 D"] | None,
        train: Collection[str] = (),
    ) -> Float[Array, "B H W 3"]:
        """An image in [0, 1] from a geometry map, a masked image and tokens."""
        self._check(masked, train)
        return self.synthesizer(geometry, masked, tokens, "synthesizer" in train)

    def read_emotion(
        self, expression: Float[Array, "B E"], shape: Float[Array, "B S"]
    ) -> tuple[Float[Array, "B 8"], Float[Array, " B"], Float[Array, " B"]]:
        """Class logits, valence and arousal."""
        return self.emotion_head(expression, shape)

    def run_all(self, image: Float[Array, "B H W 3"]) -> None:
        """Runs every network once: what `init_variables` initialises."""
        tokens = self(image).tokens
        self.synthesize(image[..., :1], image, tokens)

    def _check(self, image: Array, train: Collection[str]) -> None:
        expected = (self.image_size, self.image_size, 3)
        if image.shape[1:] != expected:
            raise ValueError(
                f"images of shape {image.shape}; this model reads [B, %d, %d, %d]: "
                "resize them or set config.image_size" % expected
            )
        unknown = sorted(set(train) - set(NETWORKS))
        if unknown:
            known = ", ".join(NETWORKS)
            raise ValueError(f"unknown network {unknown[0]!r} in train; known: {known}")


def build_model(config: ConfigDict, *, axis_name: str | None = None) -> FieldsModel:
    """The networks of a config.

    Args:
      config: as configs/common.py describes it; `image_size`, `model` and `remat` are read.
      axis_name: mapped axis over which training synchronises batch statistics.

    Raises:
      UserError: an image size that is no multiple of 32, an unknown dtype, backbone, synthesiser
        or key.
    """
    size, options = config.image_size, dict(config.model)
    if size < 32 or size % 32:
        raise UserError(f"config.image_size={size} is not a multiple of 32: set it to 64 or 224")
    synthesizer = options.pop("synthesizer")
    if synthesizer not in SYNTHESIZERS:
        raise UserError(
            f"unknown config.model.synthesizer {synthesizer!r}; known: {', '.join(SYNTHESIZERS)}"
        )
    dtype = options.pop("dtype")
    if dtype not in DTYPES:
        raise UserError(f"unknown config.model.dtype {dtype!r}; known: {', '.join(DTYPES)}")
    backbone = options.setdefault("backbone", FieldsModel.backbone)  # older configs lack it
    if backbone not in BACKBONES:
        known = ", ".join(BACKBONES)
        raise UserError(f"unknown config.model.backbone {backbone!r}; known: {known}")
    # Older configs lack both.
    aim, centre = options.pop("camera_aim", "origin"), tuple(options.pop("face_centre", ()))
    if aim == "face" and len(centre) != 6:
        raise UserError(
            f"config.model.face_centre has {len(centre)} numbers, not 6: leave it to the head"
        )
    unknown = sorted(options.keys() - FieldsModel.__dataclass_fields__.keys())
    if unknown:
        raise UserError(f"unknown key config.model.{unknown[0]}: remove it")
    options["emotion_hidden"] = tuple(options["emotion_hidden"])
    bounds = tuple(map(tuple, options.pop("expression_bounds", ())))  # older configs lack it
    if len(bounds) not in (0, options["n_expression"]):
        raise UserError(
            f"config.model.expression_bounds has {len(bounds)} pairs for "
            f"{options['n_expression']} expression coefficients: leave it to the head"
        )
    return FieldsModel(
        image_size=size,
        token_guided=synthesizer == "teaser",
        expression_bounds=bounds,
        face_centre=centre if aim == "face" else (),
        dtype=DTYPES[dtype],
        axis_name=axis_name,
        remat=bool(config.get("remat", False)),  # absent from the configs of converted networks
        **options,
    )


@partial(jax.jit, static_argnums=0)
def predict(model: FieldsModel, variables: dict, image: UInt8[Array, "B H W 3"]) -> FieldsOutput:
    """Outputs of the encoders and the emotion head for 8-bit images, in eval mode.

    One program is compiled for each model and number of images.
    """
    return model.apply(variables, image.astype(jnp.float32) / 255)


def init_variables(model: FieldsModel, rng: jax.Array) -> dict:
    """Fresh `params` and `batch_stats` of every network; equal keys give equal parameters."""
    return _compiled_init(model, rng)


def variable_shapes(model: FieldsModel) -> dict:
    """Shapes and dtypes of what `init_variables` makes, without making it."""
    key = jax.eval_shape(lambda: jax.random.key(0))  # making one would compile a program
    return _compiled_init.eval_shape(model, key)  # which traces it for both


def _init(model: FieldsModel, rng: jax.Array) -> dict:
    key = jax.random.wrap_key_data(jax.random.bits(rng, (2,), jnp.uint32), impl=_counter_hash)
    image = jax.ShapeDtypeStruct((1, model.image_size, model.image_size, 3), jnp.float32)
    # The forward pass is traced for its shapes alone.
    return model.lazy_init(key, image, method="run_all")


# The program runs once: without optimisation it compiles in a fraction of the time.
_compiled_init = jax.jit(
    _init, static_argnums=0, compiler_options={"xla_backend_optimization_level": 0}
)


def _hash(key: Array, start: Array, shape: tuple[int, ...]) -> Array:
    """Random words from counters: MurmurHash3's finaliser (Appleby 2011) for each key word."""
    words = jax.lax.iota(jnp.uint32, math.prod(shape)) + start
    for k in (0, 1):
        words += key[k]
        for shift, factor in ((16, 0x85EBCA6B), (13, 0xC2B2AE35), (16, 1)):
            words = (words ^ (words >> jnp.uint32(shift))) * jnp.uint32(factor)
    return words.reshape(shape)


# Random numbers for `_init` only, since it draws just 32-bit words. JAX's own generator, inlined
# hundreds of times, takes four times as long to compile: 26 s of CPU time against 6.
_counter_hash = define_prng_impl(
    key_shape=(2,),
    seed=lambda seed: _hash(jnp.zeros(2, jnp.uint32), 2 * seed.astype(jnp.uint32), (2,)),
    split=lambda key, shape: _hash(key, jnp.uint32(0), (*shape, 2)),
    random_bits=lambda key, width, shape: _hash(key, jnp.uint32(0), shape),
    fold_in=lambda key, data: _hash(key, 2 * data.astype(jnp.uint32), (2,)),
    name="counter_hash",
    tag="hash",
)
