"""Every key of a training config, with its reference value and the sizes for two CPU cores.

Weights and constants marked "ours" are our choice: of FIELDS (arXiv 2511.21245) only the abstract
is public. The others are SMIRK's and TEASER's published ones.
"""

from ml_collections import ConfigDict

VARIANTS = ("synthetic", "full")


def base_config(variant: str) -> ConfigDict:
    """The keys both stages share, at reference size or sized for two CPU cores.

    Args:
      variant: "full" (224 px, reference networks, licensed data) or "synthetic".
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown config argument {variant!r}; known: {', '.join(VARIANTS)}")
    full = variant == "full"
    return ConfigDict(
        dict(
            variant=variant,
            stage=0,
            seed=0,
            image_size=224 if full else 64,  # a multiple of 32
            batch_size=32,  # over all devices
            parallel="pmap",  # or "shard_map"; same gradients
            head="",  # FLAME .npz made by `fields_jax.convert`; empty: the procedural head
            init_from="",  # a workdir or a converted checkpoint to start from
            model=model_config(full),
            cycle=dict(
                region_scale=1.0,  # scale on all perturbations of REFERENCE 6.6; 1 is SMIRK's
            ),
        )
    )


def model_config(full: bool) -> dict:
    """Widths and depths of the networks."""
    return dict(
        dtype="float32",  # or "bfloat16"; parameters stay float32
        n_shape=300,
        n_expression=50,
        encoder_width=1.0 if full else 0.5,  # channel multiplier of the MobileNetV3 backbones
        encoder_depth=1.0 if full else 0.5,  # multiplier of the repeated blocks of a stage
        synthesizer="teaser",
        synthesizer_width=32 if full else 12,  # channels of its first block
        residual_blocks=5 if full else 1,
        token_dim=256 if full else 64,
        adain_hidden=128 if full else 32,
        emotion_hidden=(512, 512) if full else (128, 128),  # ours
        emotion_detach_shape=False,  # ours: True keeps the emotion loss away from identity
    )
