"""Stage 1: pose, shape and expression encoders from landmarks; its result is the base model.

    python -m fields_jax.train --config=configs/stage1.py --workdir=runs/stage1
    python -m fields_jax.train --config=configs/stage1.py:full --config.data.root=DIR --workdir=DIR

`:synthetic` (default) trains on embedded faces; `:full` is SMIRK's and TEASER's pretraining
(lr 2e-4, encoders at a quarter of it, batch 32, 468,600 steps), without MICA's term.
"""

from ml_collections import ConfigDict

from configs.common import FACE_ENCODERS, POSE, base_config, set_encoder_rates


def get_config(variant: str = "synthetic") -> ConfigDict:
    """The config of stage 1; `variant` is "synthetic" or "full"."""
    config = base_config(variant)
    full = variant == "full"
    config.stage = 1
    config.batch_size = 32 if full else 16
    if full:
        set_encoder_rates(config, 5e-5, pose_head=5e-5)
    else:
        set_encoder_rates(config, 1e-3, pose_head=1e-4)
    if full:
        config.optim.period = 1562  # one epoch of 50,000 samples
    config.phases = ConfigDict(
        dict(
            pretrain=dict(
                steps=468_600 if full else 3500,
                train=(POSE, *FACE_ENCODERS),
                rates=dict(),
                cycle=False,
                losses=dict(
                    landmark_contour=100.0,
                    landmark_105=100.0,
                    landmark_203=0.0 if full else 100.0,  # ours: the embedded faces carry them
                    reg_expression=1e-2 if full else 3e-2,
                    reg_jaw=0.0 if full else 2e-2,
                    reg_shape=0.0 if full else 0.1,  # ours, in the place of MICA's term
                ),
            )
        )
    )
    return config
