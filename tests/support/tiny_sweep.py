"""A sweep of one seed and a handful of steps."""

from configs import ablation

TINY = {
    "image_size": 32,
    "batch_size": 16,
    "model.encoder_width": 0.25,
    "model.encoder_depth": 0.25,
    "model.synthesizer_width": 4,
    "model.token_dim": 8,
    "model.adain_hidden": 4,
    "log.every": 1,
}


def get_config():
    """The shipped sweep, small."""
    config = ablation.get_config()
    config.seeds = (0,)
    for part in (config.start, config.base):
        part.update_from_flattened_dict(TINY)
    config.start.phases.pretrain.steps = 3
    config.base.phases.A.steps = 4
    config.probe.update(width=8, steps=20)
    return config
