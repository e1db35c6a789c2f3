"""Stage 1: pose, shape and expression encoders from landmarks; its result is the base model.

    python -m fields_jax.train --config=configs/stage1.py --workdir=runs/stage1
    python -m fields_jax.train --config=configs/stage1.py:full --config.data.root=DIR --workdir=DIR

`:synthetic` (default) trains on embedded faces. Both stages with their evaluation take half an hour
on two cores (`make demo`). Expected on held-out subjects after this stage, one seed: an
expression error of 2.03 mm, where no expression has 2.61 mm, and a rank correlation of intensity of
0.81.

`:full` is the pretraining of SMIRK and TEASER without MICA's term. We had none of the licensed data
and measured neither time nor scores.
"""

from ml_collections import ConfigDict

from configs.common import FACE_ENCODERS, POSE, make_config

# Sources as in configs/common.py; "both" are SMIRK's and TEASER's pretraining.
REFERENCE = {
    "stage": 1,
    "batch_size": 32,  # both
    "optim.period": 1562,  # both; steps of one cosine, restarted: an epoch of 50,000 samples
    "optim.rules.backbones.lr": 5e-5,  # both; a quarter of their lr of 2e-4
    "optim.rules.heads.lr": 5e-5,  # both
    "optim.rules.pose_head.lr": 5e-5,  # both
    "phases.pretrain.steps": 468_600,  # both; 300 epochs
    "phases.pretrain.train": (POSE, *FACE_ENCODERS),  # both
    "phases.pretrain.rates": {},  # network: factor of its rule's rate
    "phases.pretrain.cycle": False,  # both
    "phases.pretrain.losses.landmark_contour": 100.0,  # both
    "phases.pretrain.losses.landmark_105": 100.0,  # both
    "phases.pretrain.losses.landmark_203": 0.0,  # both
    "phases.pretrain.losses.reg_expression": 1e-2,  # both
    "phases.pretrain.losses.reg_jaw": 0.0,  # both
    "phases.pretrain.losses.reg_shape": 0.0,  # both
}

# All ours.
SYNTHETIC = {
    "batch_size": 16,
    "phases.pretrain.steps": 3000,
    "phases.pretrain.losses.landmark_contour": 5.0,
    "phases.pretrain.losses.landmark_105": 20.0,
    "phases.pretrain.losses.landmark_203": 20.0,  # the embedded faces carry them
    "phases.pretrain.losses.reg_expression": 0.3,
    "phases.pretrain.losses.reg_jaw": 2e-2,
    "phases.pretrain.losses.reg_shape": 0.1,  # instead of MICA's term
}


def get_config(variant: str = "synthetic") -> ConfigDict:
    """The config of stage 1; `variant` is "synthetic" or "full"."""
    return make_config(variant, REFERENCE, SYNTHETIC)
