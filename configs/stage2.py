"""Stage 2: FIELDS itself, from a stage-1 workdir, a converted checkpoint or from scratch.

    python -m fields_jax.train --config=configs/stage2.py
    python -m fields_jax.train --config=configs/stage2.py --config.init_from=runs/stage1
    python -m fields_jax.train --config=configs/stage2.py:full --config.data.root=DIR --workdir=DIR

Phase A: synthesiser frozen; expression, shape and emotion head on landmarks, L_3D-GT, L_emo and
the base model. Phase B: everything but the pose encoder, a reconstruction and a cycle step per
iteration. The split into phases, the weights of gt_*, base_*, emotion and the V/A terms, region_l1
and all numbers of `:synthetic` are ours; the rest is TEASER's main training.
"""

from ml_collections import ConfigDict

from configs.common import FACE_ENCODERS, base_config, set_encoder_rates


def get_config(variant: str = "synthetic") -> ConfigDict:
    """The config of stage 2; `variant` is "synthetic" or "full"."""
    config = base_config(variant)
    full = variant == "full"
    config.stage = 2
    if full:
        set_encoder_rates(config, 2.5e-4, pose_head=2.5e-4)
    else:
        set_encoder_rates(config, 1e-3, pose_head=1e-4)
    config.optim.rules.synthesizer.lr = 1e-3 if full else 1e-2
    config.optim.rules.emotion.lr = 1e-3
    if full:
        config.optim.period = 3125  # one epoch of 50,000 samples at batch 16

    landmarks = dict(
        landmark_contour=100.0 if full else 150.0,
        landmark_105=100.0 if full else 500.0,
        landmark_203=1000.0 if full else 500.0,
    )
    labels = dict(
        gt_expression=1.0 if full else 3.0,
        gt_jaw=10.0 if full else 60.0,
        gt_eyelid=1.0 if full else 15.0,
        emotion=1.0 if full else 2.0,
        va_mse=1.0 if full else 2.0,
        va_pcc=0.5,
        va_ccc=0.5 if full else 1.0,
    )
    # L_3D-GT and the landmarks move the expression on purpose; the base only steadies it.
    base = dict(
        base_expression=1e-3,
        base_jaw=1e-2,
        base_shape=1e-1,
    )
    regularizers = dict(reg_expression=1e-3 if full else 5e-3, reg_jaw=1e-2)
    config.phases = ConfigDict(
        dict(
            A=dict(
                steps=50_000 if full else 3500,
                train=(*FACE_ENCODERS, "emotion_head"),
                rates=dict(),
                cycle=False,
                losses=landmarks | labels | base | regularizers,
            ),
            B=dict(
                steps=575_000 if full else 100,
                train=(*FACE_ENCODERS, "token_encoder", "synthesizer", "emotion_head"),
                rates=dict() if full else dict.fromkeys((*FACE_ENCODERS, "emotion_head"), 0.1),
                cycle=True,
                losses=landmarks
                | labels
                | base
                | regularizers
                | dict(
                    l1=10.0,
                    region_l1=1.0,
                    perceptual=10.0,
                    emotion_feature=1.0,
                    token=5.0 if full else 0.5,
                    cycle_expression=1.0,
                    cycle_jaw=10.0,
                    cycle_eyelid=10.0,
                    cycle_token=1.0 if full else 0.1,
                    cycle_shape=1.0,
                ),
            ),
        )
    )
    return config
