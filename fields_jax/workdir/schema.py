"""What each key of a config may be: the one table of types, lengths and ranges.

It has the shape of the config itself (configs/common.py says what the keys mean). Values are
checked before anything is built from them, so that a wrong one ends a run at its start.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

from fields_jax.errors import UserError, printable
from fields_jax.models.backbones import BACKBONES
from fields_jax.models.fields import DTYPES, NETWORKS, SYNTHESIZERS

_MOST_STEPS = 2**31 - 2  # steps are counted in 32 bits
_LARGEST = 3e38  # about the largest number of float32
_SHOWN = 80  # characters of a value that a message repeats
MAPPINGS = ("pmap", "shard_map")  # of the step over devices


class Rule(NamedTuple):
    """What one key may be.

    Attributes:
      what: ends the sentence "config.key is ...".
      holds: whether a value conforms.
    """

    what: str
    holds: Callable[[Any], bool]


class Choice(NamedTuple):
    """One of some words."""

    known: Collection[str]


class Each(NamedTuple):
    """A group with at least `least` keys of any names, whose values all follow one rule."""

    rule: Any
    least: int = 0


def share(below: bool = False) -> Rule:
    """A number of [0, 1], or below 1."""
    ends = "[0, 1)" if below else "[0, 1]"
    return Rule(
        f"a number in {ends}", lambda v: _is_number(v) and 0 <= v <= 1 and not (below and v == 1)
    )


def whole(low: int, high: int = _MOST_STEPS, what: str = "a whole number") -> Rule:
    """A whole number of a range."""
    bound = f"{low} or more" if low >= 0 and high == _MOST_STEPS else f"from {low} to {high}"
    return Rule(
        f"{what}, {bound}",
        lambda v: isinstance(v, int) and not isinstance(v, bool) and low <= v <= high,
    )


def several(count: int, rule: Rule, example: str, *, ordered: bool = False) -> Rule:
    """A tuple of `count` values that each follow a rule, in ascending order if `ordered`."""

    def holds(value: Any) -> bool:
        fits = isinstance(value, (tuple, list)) and len(value) == count
        fits = fits and all(map(rule.holds, value))
        return fits and (not ordered or list(value) == sorted(value))

    order = ", the smaller first" if ordered else ""
    return Rule(f"{_COUNTS[count]}, each {rule.what}{order}, such as {example}", holds)


def some(rule: Rule, what: str) -> Rule:
    """A tuple of any number of values, even none, that each follow a rule."""
    return Rule(what, lambda v: isinstance(v, (tuple, list)) and all(map(rule.holds, v)))


_COUNTS = {2: "two values", 3: "three values"}
_FLAG = Rule("True or False", lambda v: isinstance(v, bool))
_TEXT = Rule("a text", lambda v: isinstance(v, str) and "\0" not in v)
_PLACE = Rule("the path of a folder", lambda v: isinstance(v, str) and v.strip() and "\0" not in v)
_POSITIVE = Rule("a number above 0", lambda v: _is_number(v) and v > 0)
_RATE = Rule("a number, 0 or more", lambda v: _is_number(v) and v >= 0)
_ODD = Rule("an odd whole number", lambda v: whole(1).holds(v) and v % 2 == 1)
_STEPS = whole(1, what="a number of steps")
_NETWORK = Rule("a network", lambda v: v in NETWORKS)


def _is_regex(value: Any) -> bool:
    try:
        return isinstance(value, str) and bool(re.compile(value))
    except re.error:
        return False


def phase_steps(steps: int, scale: float) -> int:
    """The steps of a phase, times `config.steps_scale`; 0 leaves it out, any other at least one."""
    return max(1, round(steps * scale)) if steps else 0


def _is_pair(value: Any) -> bool:
    return isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_number, value))


def _is_number(value: Any) -> bool:
    plain = isinstance(value, (int, float)) and not isinstance(value, bool)
    return plain and abs(value) < _LARGEST  # False for NaN


_MODEL = dict(
    dtype=Choice(DTYPES),
    n_shape=whole(1),
    n_expression=whole(1),
    backbone=Choice(BACKBONES),
    encoder_width=_POSITIVE,
    encoder_depth=_POSITIVE,
    synthesizer=Choice(SYNTHESIZERS),
    synthesizer_width=whole(1),
    residual_blocks=whole(0),
    token_dim=whole(1),
    adain_hidden=whole(1),
    emotion_hidden=some(whole(1), "widths of layers, such as (512,512)"),
    expression_bounds=some(
        Rule("two numbers", _is_pair),
        "pairs of numbers, which the head fills in: leave it empty",
    ),
    camera_aim=Choice(("origin", "face")),
    face_centre=some(
        Rule("a number", _is_number), "numbers, which the head fills in: leave it empty"
    ),
    emotion_detach_shape=_FLAG,
)
_LOSSES = dict(
    gt_metric=Choice(("coefficient", "vertex")),
    landmark_metric=Choice(("squared", "distance")),
    fitted_weight=_RATE,
    fitted_scale=_POSITIVE,
    emotion_targets=Choice(("intensity", "hard")),
    intensity_weighting=_RATE,
    class_weights=Rule(
        "eight numbers, 0 or more, or none",
        lambda v: isinstance(v, (tuple, list)) and len(v) in (0, 8) and all(map(_RATE.holds, v)),
    ),
    va_min_count=whole(1),
    va_weights=Choice(("fixed", "shake")),
    region_growth=several(2, _RATE, "(0.5,0.2)"),
    perceptual_weights=_TEXT,
    emotion_feature_weights=_TEXT,
    dilation=share(),
)
_CYCLE = dict(
    noise=_RATE,
    limit=_POSITIVE,
    jaw_noise=several(3, _RATE, "(0.2,0.02,0.02)"),
    jaw_limit=_POSITIVE,
    eyelid_noise=_RATE,
    synthesizer_clip=_POSITIVE,
)
_AUGMENT = dict(
    brightness=_RATE,
    contrast=_RATE,
    p_brightness_contrast=share(),
    gamma=several(2, _POSITIVE, "(80,120)", ordered=True),
    p_gamma=share(),
    jitter=share(),
    p_jitter=share(),
    rgb_shift=_RATE,
    p_rgb_shift=share(),
    blur=several(2, _ODD, "(3,7)", ordered=True),
    p_blur=share(),
    noise_variance=several(2, _RATE, "(10,50)", ordered=True),
    p_noise=share(),
    clahe=several(2, _POSITIVE, "(1,4)", ordered=True),
    p_clahe=share(),
    shift=_RATE,
    zoom=share(below=True),
    rotate=_RATE,
    p_geometric=share(),
    p_flip=share(),
)
_DATA = dict(
    root=_PLACE,
    mixture=_TEXT,
    crop_scale=several(2, _POSITIVE, "(1.3,1.5)", ordered=True),
    eval_crop_scale=_POSITIVE,
    augment=_AUGMENT,
    balanced=_TEXT,
    max_bad_share=share(),
    cache_examples=whole(0),
    shuffle_buffer=whole(1),
    threads=whole(0),
)
_RULE = dict(
    match=Rule("a regular expression", _is_regex), lr=_RATE, b1=share(below=True), b2=share(True)
)
_PHASE = dict(
    steps=whole(0, what="a number of steps"),
    train=Rule(
        f"a tuple of networks ({', '.join(NETWORKS)})",
        lambda v: some(_NETWORK, "").holds(v) and len(v) and len(set(v)) == len(v),
    ),
    rates=Each(_RATE),
    cycle=_FLAG,
    losses=Each(_RATE),
)
TABLE = dict(
    variant=_TEXT,
    stage=Rule("1 or 2", lambda v: v in (1, 2) and not isinstance(v, (bool, float))),
    seed=whole(-(2**31), _MOST_STEPS),
    image_size=whole(32),
    batch_size=whole(1),
    parallel=Choice(MAPPINGS),
    accumulate=whole(1),
    remat=_FLAG,
    head=_TEXT,
    init_from=_TEXT,
    steps_scale=_POSITIVE,
    model=_MODEL,
    losses=_LOSSES,
    cycle=_CYCLE,
    skin=dict(share=share(), noise=_RATE, drop=share(), cycle_drop=share()),
    data=_DATA,
    optim=dict(
        clip=_RATE,
        final=share(),
        period=whole(0, what="a number of steps"),
        warmup=whole(0, what="a number of steps"),
        rules=Each(_RULE, least=1),
    ),
    ema=share(below=True),
    guard=dict(max_bad_steps=whole(0), spike=_RATE),
    log=dict(every=_STEPS, images_every=_STEPS, images=whole(0)),
    profile=several(2, whole(0), "'(100,5)'")._replace(
        what="(first step, number of steps), such as '(100,5)'"
    ),
    checkpoint=dict(
        every=_STEPS,
        keep=whole(1),
        keep_every=whole(0, what="a number of steps"),
        best_metric=_TEXT,
        best_mode=Choice(("min", "max")),
    ),
    evaluation=dict(sources=_TEXT, batch_size=whole(1)),
    compilation_cache=_TEXT,
    phases=Each(_PHASE, least=1),
)
# Keys that a trained model needs in its config. Others may be of an older version, and unknown.
_NEEDED = (
    *("stage", "image_size", "head", "model.synthesizer", "model.dtype", "losses.dilation"),
    *("data.root", "data.mixture", "data.eval_crop_scale", "data.threads"),
    *("evaluation.sources", "evaluation.batch_size"),
)


def check(config: Mapping[str, Any]) -> None:
    """Checks every key of a config for training.

    Args:
      config: plain dictionaries, `ConfigDict.to_dict()`.

    Raises:
      UserError: naming the first key that is missing, unknown or not what the table wants.
    """
    _check(config, TABLE, "config", complete=True)
    steps = sum(phase["steps"] * config["steps_scale"] for phase in config["phases"].values())
    if steps > _MOST_STEPS:
        raise UserError(
            f"config.phases have {steps:.3g} steps by config.steps_scale={config['steps_scale']}; "
            f"no more than {_MOST_STEPS} can be counted"
        )
    if (widest := config["data"]["augment"]["blur"][1]) > config["image_size"]:
        raise UserError(f"config.data.augment.blur is wider ({widest}) than config.image_size")


def check_trained(
    config: Mapping[str, Any], source: str, *, needed: Collection[str] = _NEEDED
) -> None:
    """Checks the known keys of a trained model's config.

    Args:
      config: plain dictionaries.
      source: names the file in messages.
      needed: keys that must be there; by default those needed to build and score the model.

    Raises:
      UserError: one of them is missing, or some key is not what the table wants.
    """
    for key in needed:
        value: Any = config
        for part in key.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is None:
            raise UserError(f"{source}: config.{key} is missing")
    try:
        _check(config, TABLE, "config", complete=False)
    except UserError as error:
        raise UserError(f"{source}: {error}") from error


def _check(value: Any, rule: Any, path: str, *, complete: bool) -> None:
    if isinstance(rule, Rule):
        if not rule.holds(value):
            raise UserError(f"{path} is {rule.what}, not {_shown(value)}")
    elif isinstance(rule, Choice):
        if not isinstance(value, str) or value not in rule.known:
            raise UserError(f"unknown {path} {_shown(value)}; known: {', '.join(rule.known)}")
    elif not isinstance(value, Mapping):
        raise UserError(f"{path} is a group of keys, not {_shown(value)}")
    elif isinstance(rule, Each):
        if len(value) < rule.least:
            raise UserError(f"{path} is empty: it needs {rule.least} or more")
        for name, each in value.items():
            _check(each, rule.rule, f"{path}.{printable(name)}", complete=complete)
    else:
        _check_group(value, rule, path, complete=complete)


def _check_group(value: Mapping, rules: Mapping[str, Any], path: str, *, complete: bool) -> None:
    for name in rules:
        if name in value:
            _check(value[name], rules[name], f"{path}.{name}", complete=complete)
        elif complete:
            raise UserError(f"{path}.{name} is missing")
    unknown = [name for name in value if name not in rules]
    if complete and unknown:
        raise UserError(f"unknown key {path}.{printable(unknown[0])}: remove it")


def _shown(value: Any) -> str:
    text = printable(repr(value))
    return text if len(text) <= _SHOWN else f"{text[: _SHOWN - 3]}..."
