"""The model in the package: encoders and emotion head from generated faces of every kind.

    python -m fields_jax.train --config=configs/embedded.py --workdir=runs/embedded-64
    python -m fields_jax.train --config=configs/embedded.py:96 --workdir=runs/embedded-96
        --config.init_from=runs/embedded-64

The argument is the side of the pictures in pixels. Everything here is our choice.
"""

from ml_collections import ConfigDict

from configs.common import FACE_ENCODERS, POSE, make_config

LOSSES = {
    "landmark_68": 10.0,
    "landmark_105": 20.0,
    "landmark_203": 20.0,
    "gt_expression": 0.5,
    "gt_shape": 0.1,
    "gt_jaw": 60.0,
    "gt_eyelid": 10.0,
    "emotion": 0.3,
    "va_mse": 1.0,
    "va_ccc": 0.3,
}
REFERENCE = {
    "stage": 2,
    "phases.joint.steps": 12_000,
    "phases.joint.train": (POSE, *FACE_ENCODERS, "emotion_head"),
    "phases.joint.rates": {},
    "phases.joint.cycle": False,
    "phases.joint.losses": LOSSES,
}
CHANGED = {
    "data.mixture": "synthetic/wide=1",
    "data.crop_scale": (1.2, 1.6),
    "data.augment.shift": 0.08,
    "data.augment.zoom": 0.1,
    "data.augment.rotate": 15,
    "data.augment.p_geometric": 0.9,
    "data.cache_examples": 100_000,
    "ema": 0.999,
    "optim.warmup": 300,
    "optim.rules.pose_head.lr": 2e-4,
    "losses.class_weights": (),
    "model.backbone": "residual",
    "model.encoder_width": 1.0,
    "model.encoder_depth": 1.0,
    "model.camera_aim": "face",
    "losses.landmark_metric": "distance",
    "optim.rules.emotion.lr": 1e-3,
    "checkpoint.every": 1000,
}


def get_config(size: str = "64") -> ConfigDict:
    """The config for pictures of `size` pixels."""
    config = make_config("synthetic", REFERENCE, CHANGED)
    config.image_size = int(size)
    return config
