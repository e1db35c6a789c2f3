r"""The model in the package: encoders and emotion head from generated faces of every kind.

    python -m fields_jax.train --config=configs/embedded.py --workdir=runs/embedded-64
    python -m fields_jax.train --config=configs/embedded.py:96 --workdir=runs/embedded-96 \
        --config.init_from=runs/embedded-64
    python -m fields_jax.export --workdir=runs/embedded-96 --ema --weights=FOLDER

The argument is the side of the pictures in pixels. Everything here is our choice; docs/embedded.md
says what each choice was worth.
"""

from typing import Any

from ml_collections import ConfigDict

from configs.common import FACE_ENCODERS, POSE, make_config

SIZES = ("64", "96")
REFERENCE = {
    "stage": 2,
    "phases.joint.steps": 14_000,
    "phases.joint.train": (POSE, *FACE_ENCODERS, "emotion_head"),
    "phases.joint.rates": {},  # network: factor of its rule's rate
    "phases.joint.cycle": False,
    "phases.joint.losses.landmark_68": 10.0,
    "phases.joint.losses.landmark_105": 20.0,
    "phases.joint.losses.landmark_203": 20.0,
    "phases.joint.losses.gt_expression": 0.5,  # of mm^2
    "phases.joint.losses.gt_shape": 0.1,  # of mm^2
    "phases.joint.losses.gt_jaw": 60.0,
    "phases.joint.losses.gt_eyelid": 10.0,
    "phases.joint.losses.emotion": 0.3,
    "phases.joint.losses.va_mse": 1.0,
    "phases.joint.losses.va_ccc": 0.3,
}
CHANGED: dict[str, Any] = {
    "data.mixture": "synthetic/wide=1",
    "data.crop_scale": (1.2, 1.6),
    "data.eval_crop_scale": 1.4,
    "data.augment.shift": 0.08,
    "data.augment.rotate": 15,
    "data.cache_examples": 100_000,
    "ema": 0.999,
    "losses.class_weights": (),
    "optim.warmup": 300,
    "optim.rules.emotion.lr": 1e-3,
}
# Larger pictures, from networks that have learnt small ones: now lids and lips can be seen.
GROWN = {
    "image_size": 96,
    "phases.joint.losses.gt_jaw": 300.0,
    "phases.joint.losses.gt_eyelid": 60.0,
    "phases.joint.steps": 9500,
    "optim.rules.backbones.lr": 4e-4,
    "optim.rules.heads.lr": 4e-4,
    "optim.rules.pose_head.lr": 8e-5,
    "optim.rules.emotion.lr": 4e-4,
}


def get_config(size: str = SIZES[0]) -> ConfigDict:
    """The config for pictures of so many pixels; see `SIZES`.

    Raises:
      ValueError: any other size.
    """
    if size not in SIZES:
        raise ValueError(f"unknown config argument {size!r}; known: {', '.join(SIZES)}")
    changed = CHANGED | (GROWN if size == SIZES[1] else {})
    return make_config("synthetic", REFERENCE, changed)
