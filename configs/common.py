"""Every key that both stages share: the reference values, and what `:synthetic` has in their place.

Keys are written as on the command line, `--config.data.augment.p_flip=0.5`. The comment beside a
value gives its source, then its meaning. "Both" are SMIRK and TEASER as published; "ours" is our
choice, since only the abstract of FIELDS (arXiv 2511.21245) is public.
"""

from collections.abc import Mapping
from typing import Any

from ml_collections import ConfigDict

VARIANTS = ("synthetic", "full")

# Names of FieldsModel's submodules.
POSE = "pose_encoder"
FACE_ENCODERS = ("expression_encoder", "shape_encoder")

REFERENCE = {
    "stage": 0,
    "seed": 0,  # ours
    "image_size": 224,  # both; a multiple of 32
    "batch_size": 64,  # ours (32 in SMIRK, 16 in TEASER); over all devices
    "parallel": "pmap",  # ours; or "shard_map": same step, same gradients
    "accumulate": 1,  # ours; parts in which a device takes its share of a batch: less memory
    "remat": False,  # ours; True computes blocks again in the gradient: less memory, more time
    "head": "",  # FLAME .npz made by `fields_jax.convert`; empty: the procedural head
    "init_from": "",  # a workdir or a converted checkpoint to start from
    "steps_scale": 1.0,  # multiplies the steps of every phase
    # The networks.
    "model.dtype": "float32",  # both; or "bfloat16": parameters stay float32
    "model.n_shape": 300,  # both
    "model.n_expression": 50,  # both
    "model.backbone": "mobilenet_v3",  # both; of the encoders: models/backbones.BACKBONES
    "model.encoder_width": 1.0,  # both; channel multiplier of the backbones
    "model.encoder_depth": 1.0,  # both; multiplier of the repeated blocks of a stage
    "model.synthesizer": "teaser",  # or "smirk": no tokens, skin pixels in the masked image
    "model.synthesizer_width": 32,  # both; channels of its first block
    "model.residual_blocks": 5,  # both
    "model.token_dim": 256,  # TEASER
    "model.adain_hidden": 128,  # TEASER
    "model.emotion_hidden": (512, 512),  # ours
    "model.expression_bounds": (),  # a head's own, which training fills in; leave it empty
    "model.camera_aim": "origin",  # both; or "face" (ours): the camera is told where the face is
    "model.face_centre": (),  # what "face" means, which training fills in; leave it empty
    "model.emotion_detach_shape": False,  # ours; True keeps the emotion loss away from identity
    # The losses; their weights are those of the phases.
    "losses.gt_metric": "coefficient",  # ours; MSE of psi, or "vertex": mm^2 over the face mask
    "losses.landmark_metric": "squared",  # both; or "distance", which outliers rule less
    "losses.fitted_weight": 0.0,  # ours; how much coefficients of landmark fits count; exact: 1
    "losses.fitted_scale": 0.02,  # ours; residual that halves it, inter-ocular distances
    "losses.emotion_targets": "intensity",  # ours; or "hard": the class as labelled, however weak
    "losses.intensity_weighting": 0.0,  # ours; e > 0 weighs the class loss by (e + I) / (e + 1)
    "losses.class_weights": (),  # ours; one per class (neutral ... contempt); (): all 1
    "losses.va_min_count": 16,  # ours; labels that PCC and CCC need in the global batch
    "losses.va_weights": "fixed",  # ours; or "shake": EmoNet's random weights, afresh each step
    "losses.region_growth": (0.5, 0.2),  # TEASER; mouth and eye boxes grow by this on each side
    "losses.perceptual_weights": "",  # converted VGG16; empty switches the perceptual loss off
    "losses.emotion_feature_weights": "",  # ResNet-50 or fields_jax.emotion_network's; empty: off
    "losses.dilation": 10 / 224,  # both; growth of the masked face hole, fraction of the image
    # Perturbations of the expression cycle; see losses/cycle.py.
    "cycle.noise": 0.2,  # both; added to every group's expression
    "cycle.limit": 4.0,  # both; clip of the random group, standard deviations
    "cycle.jaw_noise": (0.2, 0.02, 0.02),  # both; radians
    "cycle.jaw_limit": 0.5,  # both; radians
    "cycle.eyelid_noise": 0.25,  # both
    "cycle.synthesizer_clip": 0.1,  # both; global norm of the synthesiser's gradient in its turn
    # Skin pixels that SMIRK's masked image keeps, unused by TEASER's; see render/skin.py.
    "skin.share": 0.01,  # SMIRK; fraction of the image's pixels drawn, with repetition
    "skin.noise": 0.05,  # SMIRK's code, 0.1 in its comment; relative deviation of a pasted colour
    "skin.drop": 0.01,  # SMIRK; probability that a pixel of a 224 px image blacks out a patch
    "skin.cycle_drop": 0.005,  # SMIRK
    # The training data. Colours and geometry follow the pipeline of both; p_* are probabilities.
    "data.root": "data",
    "data.mixture": "affectnet/full=2,bp4d/spontaneous=1,faces=1",  # ours; TFDS=share of a batch
    "data.crop_scale": (1.2, 1.8),  # both; side of the crop, face boxes
    "data.eval_crop_scale": 1.4,  # both, in their demos
    "data.augment.brightness": 0.2,  # both
    "data.augment.contrast": 0.2,  # both
    "data.augment.p_brightness_contrast": 0.5,  # both
    "data.augment.gamma": (80, 120),  # both; per cent
    "data.augment.p_gamma": 0.5,  # both
    "data.augment.jitter": 0.05,  # both
    "data.augment.p_jitter": 0.25,  # both
    "data.augment.rgb_shift": 20,  # both; of 255
    "data.augment.p_rgb_shift": 0.25,  # both
    "data.augment.blur": (3, 7),  # both; odd widths
    "data.augment.p_blur": 0.1,  # both
    "data.augment.noise_variance": (10, 50),  # both
    "data.augment.p_noise": 0.5,  # both
    "data.augment.clahe": (1, 4),  # both; clip limit
    "data.augment.p_clahe": 0.0,  # ours; 0.255 in both
    "data.augment.shift": 0.05,  # both; fraction of the image
    "data.augment.zoom": 0.1,  # both; fraction
    "data.augment.rotate": 10,  # both; degrees
    "data.augment.p_geometric": 0.9,  # both
    "data.augment.p_flip": 0.0,  # both; a mirrored face loses its FLAME coefficients and 203 points
    "data.balanced": "",  # ours; "SET,SET": sets whose emotions are drawn equally often
    "data.max_bad_share": 0.01,  # ours; fraction of a set's examples that may be unreadable
    "data.cache_examples": 20_000,  # ours; sets up to this size stay in memory, undecoded
    "data.shuffle_buffer": 4096,  # ours; larger sets stream through a buffer of this size
    "data.threads": 0,  # 0: half of the cores
    # The optimiser: exactly one rule matches each parameter path; the stages set the rates.
    "optim.clip": 0.0,  # both; largest global norm of an update's gradients, 0: none
    "optim.final": 0.01,  # both; the cosine ends at this share of the rate
    "optim.period": 0,  # steps of one cosine, restarted; 0: the length of the phase
    "optim.warmup": 0,  # both; steps
    "optim.rules.backbones.match": r"(pose|shape|expression|token)_encoder/encoder/.*",
    "optim.rules.backbones.lr": 0.0,
    "optim.rules.backbones.b1": 0.9,  # both
    "optim.rules.backbones.b2": 0.999,  # both
    "optim.rules.heads.match": r"(shape|expression|token)_encoder/(?!encoder/).*",
    "optim.rules.heads.lr": 0.0,
    "optim.rules.heads.b1": 0.9,  # both
    "optim.rules.heads.b2": 0.999,  # both
    # A rule of its own, with small steps: a metre of translation moves a face by seven images.
    "optim.rules.pose_head.match": r"pose_encoder/(?!encoder/).*",
    "optim.rules.pose_head.lr": 0.0,
    "optim.rules.pose_head.b1": 0.9,  # both
    "optim.rules.pose_head.b2": 0.999,  # both
    "optim.rules.synthesizer.match": r"synthesizer/.*",
    "optim.rules.synthesizer.lr": 0.0,
    "optim.rules.synthesizer.b1": 0.5,  # both
    "optim.rules.synthesizer.b2": 0.999,  # both
    "optim.rules.emotion.match": r"emotion_head/.*",
    "optim.rules.emotion.lr": 0.0,
    "optim.rules.emotion.b1": 0.9,  # ours
    "optim.rules.emotion.b2": 0.999,  # ours
    "ema": 0.0,  # both; decay of a running mean of the parameters, such as 0.999; 0: none
    # What a run watches, writes and keeps; all ours.
    "guard.max_bad_steps": 0,  # non-finite steps in a row that are skipped, not fatal
    "guard.spike": 5.0,  # a loss above this many times the median is logged; 0: none
    "log.every": 20,  # steps
    "log.images_every": 1000,  # steps
    "log.images": 8,  # 0: no pictures
    "profile": (0, 0),  # (first step, number of steps) traced to WORKDIR/profile
    "checkpoint.every": 2000,  # steps
    "checkpoint.keep": 3,  # the last ones
    "checkpoint.keep_every": 0,  # and each at a multiple of this many steps; 0: none
    "checkpoint.best_metric": "",  # and the best by a metric of the log: "loss/gt_expression"
    "checkpoint.best_mode": "min",  # or "max"
    "evaluation.sources": "",  # empty: those of data.mixture
    "evaluation.batch_size": 64,
    "compilation_cache": "",  # a folder that keeps compiled steps between runs; empty: the user's
}

# For two CPU cores and the embedded faces; all ours.
SYNTHETIC = {
    "image_size": 64,
    "batch_size": 32,
    "model.backbone": "residual",  # soon learns where a face is (docs/embedded.md)
    "model.camera_aim": "face",
    "model.synthesizer_width": 8,
    "model.residual_blocks": 1,
    "model.token_dim": 64,
    "model.adain_hidden": 32,
    "model.emotion_hidden": (128, 128),
    "losses.gt_metric": "vertex",
    "losses.landmark_metric": "distance",
    # About the inverse root of the true classes' shares (synthetic/labels.py); their mean is 1.075.
    "losses.class_weights": (0.45, 0.35, 0.75, 1.0, 1.5, 1.9, 0.75, 1.9),
    "data.root": "data/embedded",
    "data.mixture": "synthetic/wild2d=16,synthetic/spont4d=12,synthetic/levels=4",
    "data.crop_scale": (1.1, 1.3),
    "data.eval_crop_scale": 1.2,
    "data.augment.p_blur": 0.0,
    "data.augment.rotate": 12,
    "optim.period": 0,
    "optim.warmup": 50,
    "optim.rules.backbones.lr": 1e-3,
    "optim.rules.heads.lr": 1e-3,
    "optim.rules.pose_head.lr": 2e-4,
    "checkpoint.every": 1000,
}


def make_config(
    variant: str, reference: Mapping[str, Any], synthetic: Mapping[str, Any]
) -> ConfigDict:
    """The config of a stage.

    Args:
      variant: "full" (224 px, reference networks, licensed data) or "synthetic".
      reference: the stage's own keys, added to REFERENCE.
      synthetic: values of "synthetic" that replace these, added to SYNTHETIC.

    Raises:
      ValueError: any other variant.
    """
    if variant not in VARIANTS:
        raise ValueError(f"unknown config argument {variant!r}; known: {', '.join(VARIANTS)}")
    config = ConfigDict(nested({"variant": variant} | REFERENCE | dict(reference)))
    if variant == "synthetic":
        config.update_from_flattened_dict(SYNTHETIC | dict(synthetic))
    return config


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *groups, name = key.split(".")
        group = found
        for part in groups:
            group = group.setdefault(part, {})
        group[name] = value
    return found
