"""Every key of a training config, at reference size and at the size for two CPU cores.

Of FIELDS (arXiv 2511.21245) only the abstract is public: numbers marked "ours" are our choice,
the others are SMIRK's and TEASER's published ones.
"""

from ml_collections import ConfigDict

VARIANTS = ("synthetic", "full")

# Expectations of what each network is; the names of FieldsModel's submodules.
POSE = "pose_encoder"
FACE_ENCODERS = ("expression_encoder", "shape_encoder")


def base_config(variant: str) -> ConfigDict:
    """The keys both stages share.

    Args:
      variant: "full" (224 px, reference networks, licensed data) or "synthetic".

    Raises:
      ValueError: any other variant.
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
            batch_size=64 if full else 32,  # over all devices
            parallel="pmap",  # or "shard_map": same step, same gradients
            accumulate=1,  # parts in which a device takes its share of a batch, for want of memory
            remat=False,  # True computes blocks again in the gradient: less memory, more time
            head="",  # FLAME .npz made by `fields_jax.convert`; empty: the procedural head
            init_from="",  # a workdir or a converted checkpoint to start from
            steps_scale=1.0,  # multiplies the steps of every phase
            model=_model(full),
            losses=_losses(full),
            cycle=_cycle(),
            skin=_skin(),
            data=_data(full),
            optim=_optim(full),
            ema=0.0,  # decay of a running mean of the parameters, e.g. 0.999; 0: none is kept
            guard=dict(
                max_bad_steps=0,  # non-finite steps in a row that are skipped, not fatal
                spike=5.0,  # losses above this many times the median are logged; 0: none
            ),
            log=dict(every=20, images_every=1000, images=8),  # images=0: no pictures
            profile=(0, 0),  # (first step, number of steps) traced to WORKDIR/profile
            checkpoint=dict(
                every=2000 if full else 1000,
                keep=3,  # the last ones
                keep_every=0,  # and every one at a multiple of this many steps; 0: none
                best_metric="",  # and the best by a metric of the log, e.g. "loss/gt_expression"
                best_mode="min",  # or "max"
            ),
            evaluation=dict(sources="", batch_size=64),  # sources "": those of data.mixture
            compilation_cache="",  # a folder that keeps compiled steps between runs
        )
    )


def _model(full: bool) -> dict:
    return dict(
        dtype="float32",  # or "bfloat16"; parameters stay float32
        n_shape=300,
        n_expression=50,
        backbone="mobilenet_v3",  # of the encoders; a name of models/backbones.BACKBONES
        encoder_width=1.0 if full else 0.5,  # channel multiplier of the backbones
        encoder_depth=1.0 if full else 0.5,  # multiplier of the repeated blocks of a stage
        synthesizer="teaser",  # or "smirk": no tokens, skin pixels pasted into the masked image
        synthesizer_width=32 if full else 8,  # channels of its first block
        residual_blocks=5 if full else 1,
        token_dim=256 if full else 64,
        adain_hidden=128 if full else 32,
        emotion_hidden=(512, 512) if full else (128, 128),  # ours
        emotion_detach_shape=False,  # True keeps the emotion loss away from identity
    )


def _losses(full: bool) -> dict:
    return dict(
        # L_3D-GT on expression: "coefficient" (MSE of psi) or "vertex" (mm^2 over the face mask).
        gt_metric="coefficient" if full else "vertex",
        intensity_weighting=0.0,  # e > 0 weighs the class loss by (e + I) / (e + 1)
        # Weights of the eight classes (neutral ... contempt); () for none. Ours for :synthetic:
        # about the inverse root of the class prior, mean 1.
        class_weights=() if full else (0.45, 0.35, 0.75, 1.0, 1.5, 1.9, 0.75, 1.9),
        va_min_count=16,  # labels that PCC and CCC need in the global batch
        va_weights="fixed",  # or "shake": EmoNet's random weights, afresh each step
        region_growth=(0.5, 0.2),  # mouth and eye boxes grow by this share on each side
        perceptual_weights="",  # converted VGG16; empty switches the perceptual loss off
        emotion_feature_weights="",  # converted ResNet-50; empty switches emotion_feature off
        dilation=10 / 224,  # growth of the face hole in the masked image, share of the image
    )


def _cycle() -> dict:
    """SMIRK's perturbations; see losses/cycle.py for their meaning."""
    return dict(
        noise=0.2,  # added to every group's expression
        limit=4.0,  # clip of the random group, standard deviations
        jaw_noise=(0.2, 0.02, 0.02),  # radians
        jaw_limit=0.5,
        eyelid_noise=0.25,
        synthesizer_clip=0.1,  # global norm of the synthesiser's gradient in its turn
    )


def _skin() -> dict:
    """Pixels of the skin that SMIRK's masked image keeps; see render/skin.py. Unused by TEASER's.

    SMIRK's code has 0.05 as noise where its comment has 0.1.
    """
    return dict(
        share=0.01,  # of the image's pixels that are drawn, with repetition
        noise=0.05,  # relative deviation of a pasted colour
        drop=0.01,  # probability that a pixel of a 224 px image blacks out its neighbourhood
        cycle_drop=0.005,
    )


def _data(full: bool) -> dict:
    if full:
        mixture = "affectnet/full=2,bp4d/spontaneous=1,faces=1"  # shares are ours
    else:
        mixture = "synthetic/wild2d=16,synthetic/spont4d=12,synthetic/levels=4"
    return dict(
        root="data" if full else "data/embedded",
        mixture=mixture,  # TFDS folders below root, with their shares of each batch
        crop_scale=(1.2, 1.8) if full else (1.3, 1.5),  # side of the crop, face boxes
        eval_crop_scale=1.4,
        augment=dict(
            # Colours, on the scale of SMIRK's and TEASER's pipelines; p_* are probabilities.
            brightness=0.2,
            contrast=0.2,
            p_brightness_contrast=0.5,
            gamma=(80, 120),  # per cent
            p_gamma=0.5,
            jitter=0.05,
            p_jitter=0.25,
            rgb_shift=20,  # of 255
            p_rgb_shift=0.25,
            blur=(3, 7),  # odd widths
            p_blur=0.1 if full else 0.0,
            noise_variance=(10, 50),
            p_noise=0.5,
            clahe=(1, 4),  # clip limit; SMIRK's p is 0.255
            p_clahe=0.0,
            # Geometry; share of the image, share, degrees.
            shift=0.05 if full else 0.02,
            zoom=0.1 if full else 0.05,
            rotate=10 if full else 5,
            p_geometric=0.9 if full else 0.5,
            p_flip=0.0,  # mirrored examples lose their FLAME coefficients and 203 points
        ),
        balanced="",  # names of sets, with commas, from which all emotions are drawn equally often
        max_bad_share=0.01,  # of a set's examples that may be unreadable before training stops
        cache_examples=20_000,  # sets up to this size are kept in memory, undecoded
        shuffle_buffer=4096,  # larger ones stream through a buffer of this size
        threads=0,  # 0: half of the cores
    )


def set_encoder_rates(config: ConfigDict, rate: float, pose_head: float) -> None:
    """The learning rates of all encoders, that of the pose encoder's last layer apart."""
    config.optim.rules.backbones.lr = rate
    config.optim.rules.heads.lr = rate
    config.optim.rules.pose_head.lr = pose_head


def _optim(full: bool) -> dict:
    """Exactly one rule must match each parameter path; rates are per stage."""
    adam = dict(b1=0.9, b2=0.999)
    return dict(
        clip=0.0,  # largest global norm of an update's gradients; 0: none
        final=0.01,  # the cosine ends at this share of the rate
        period=0,  # steps of one cosine, restarted; 0: the length of the phase
        warmup=0 if full else 50,
        rules=dict(
            backbones=dict(
                match=r"(pose|shape|expression|token)_encoder/encoder/.*", lr=0.0, **adam
            ),
            heads=dict(match=r"(shape|expression|token)_encoder/(?!encoder/).*", lr=0.0, **adam),
            # By itself, because a metre of translation moves a face by seven images: where others
            # may take large steps, this one may not.
            pose_head=dict(match=r"pose_encoder/(?!encoder/).*", lr=0.0, **adam),
            synthesizer=dict(match=r"synthesizer/.*", lr=0.0, b1=0.5, b2=0.999),
            emotion=dict(match=r"emotion_head/.*", lr=0.0, **adam),
        ),
    )
