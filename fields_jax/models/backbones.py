"""The backbones of the encoders by name, and what each must be able to do."""

from __future__ import annotations

from typing import Any, Protocol

from flax import linen as nn

from fields_jax.models.mobilenet import MobileNetV3
from fields_jax.models.residual import ResidualNetwork


class Backbone(Protocol):
    """Makes a module that maps (image [B, H, W, 3], train) to five features, NHWC.

    Their strides are 2, 4, 8, 16 and 32; any channel counts will do. The coefficients are read from
    the means of the last one, the tokens from the last four.
    """

    def __call__(
        self,
        variant: str,
        width: float,
        depth: float,
        dtype: Any,
        axis_name: str | None,
        remat: bool,
        *,
        name: str,
    ) -> nn.Module:
        """Makes the module.

        Args:
          variant: "small" for the encoders of pose and tokens, "large" for shape and expression.
          width, depth: `config.model.encoder_width` and `encoder_depth`, multipliers of the
            backbone's own size.
          dtype: of the computation; parameters are float32.
          axis_name: mapped axis over which training synchronises batch statistics, or None.
          remat: compute blocks again in the gradient, see `layers.rematerialized`.
          name: of the submodule; learning-rate rules find the backbone by it.
        """


# Names that config.model.backbone may have.
BACKBONES: dict[str, Backbone] = {"mobilenet_v3": MobileNetV3, "residual": ResidualNetwork}
