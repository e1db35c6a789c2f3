"""A small emotion network of pictures, whose features a loss compares in place of EMOCA's.

    python -m fields_jax.emotion_network --config=configs/emotion_network.py --out=runs/emotion
    python -m fields_jax.emotion_network --config=configs/emotion_network.py:full \
        --config.data.root=DIR --out=DIR

For `--config.losses.emotion_feature_weights` of stage 2, at the same `image_size`. Everything here
is our choice; the data are read as in the stages (configs/common.py). The argument is "synthetic",
for the embedded faces, or "full", for AffectNet at 224 pixels, which was never run.
"""

from ml_collections import ConfigDict

from configs.common import make_config

# Read by the pipeline, and shared with the stages.
_SHARED = ("variant", "seed", "image_size", "head", "steps_scale", "compilation_cache", "data")
SETS = {"synthetic": "synthetic/wild2d", "full": "affectnet/full"}  # those with labels of emotion


def get_config(variant: str = "synthetic") -> ConfigDict:
    """The config; `variant` is "synthetic" or "full"."""
    common = make_config(variant, {}, {})
    config = ConfigDict({key: common[key] for key in _SHARED})
    config.update(
        dict(
            batch_size=32 if variant == "synthetic" else 128,
            steps=1500 if variant == "synthetic" else 50_000,
            rate=2e-3,
            warmup=50,
            decay=0.05,  # of the weights
            width=1.0,  # of the backbone, models/residual.py
            depth=1.0,
            losses={"class": 1.0, "va_mse": 1.0, "va_ccc": 1.0},
            evaluation=dict(batch_size=64),
        )
    )
    config.data.mixture = f"{SETS[variant]}=1"
    config.data.balanced = SETS[variant]  # as EMOCA draws: every class equally often
    return config
