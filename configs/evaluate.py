r"""Protocols of evaluation by name: a set, its split, what is scored, the crop and the folds.

    python -m fields_jax.evaluate --config=configs/evaluate.py --workdir=DIR --out=OUT

Scores a model by every protocol whose set is prepared; the argument chooses some, as in
`configs/evaluate.py:affectnet_8,raf_db`. FIELDS (arXiv 2511.21245) claims results on six data sets;
its public part does not name them. The kinds here are our reading of the claim: photographs with
eight classes and with seven, valence and arousal of films and of videos, emotions of graded
intensity, spontaneous 4D scans. The embedded sets stand for them where none is at hand.

Keys of a protocol:
  title: of its table.
  set, split: of `data_pipelines.prepare`.
  labels: what the labels are, in words.
  crop: side of the crop, face boxes; 0: as the model was evaluated in training.
  folds: parts, by subject or clip, whose mean and deviation are told; 0: none.
  metrics: names of `fields_jax.evaluation.recognition` and `fields_jax.evaluation.registry`.
"""

from typing import Any

from ml_collections import ConfigDict

_AXES = tuple(
    f"{axis}.{score}" for axis in ("valence", "arousal") for score in ("ccc", "pcc", "rmse", "sagr")
)
_CLASSES = ("accuracy", "balanced_accuracy", "macro_f1", "ece")
_EIGHT, _SEVEN = (tuple(f"{kind}.{name}" for name in _CLASSES) for kind in ("eight", "seven"))
_EXPRESSION = (
    "expression_error_mm",
    "zero_expression_error_mm",
    "expression.calibration.slope",
    "expression.calibration.spearman",
)
_LEVELS = ("levels.ordered_share", "expression.calibration.spearman")


def _protocol(title: str, source: str, labels: str, metrics: tuple[str, ...], **kept: Any) -> dict:
    common = dict(title=title, set=source, split="test", labels=labels, crop=0.0, folds=0)
    return common | dict(metrics=metrics) | kept


PROTOCOLS = {
    "affectnet_8": _protocol(
        "AffectNet-8", "affectnet/eight_class", "8 classes, V/A", (*_AXES, *_EIGHT)
    ),
    "affectnet_7": _protocol(
        "AffectNet-7", "affectnet/eight_class", "7 classes, without contempt", _SEVEN
    ),
    "affectnet_full": _protocol(
        "AffectNet, manual part", "affectnet/full", "8 classes, V/A", (*_AXES, *_EIGHT)
    ),
    "raf_db": _protocol("RAF-DB", "faces/raf_db", "7 basic classes", _SEVEN),
    "afew_va": _protocol("AFEW-VA", "faces/afew_va", "V/A in -10..10, over 10", _AXES, folds=5),
    "aff_wild2": _protocol("Aff-Wild2", "faces/aff_wild2", "V/A", _AXES),
    "mead": _protocol("MEAD", "faces/mead", "8 classes at 3 levels", (*_LEVELS, *_EIGHT)),
    "bp4d": _protocol("BP4D-Spontaneous", "bp4d/spontaneous", "fits of scans", _EXPRESSION),
    "wild2d": _protocol(
        "Embedded emotion photographs",
        "synthetic/wild2d",
        "8 classes, V/A, clean",
        (*_AXES, *_EIGHT, *_SEVEN, *_EXPRESSION),
    ),
    "spont4d": _protocol(
        "Embedded spontaneous expressions", "synthetic/spont4d", "exact", _EXPRESSION
    ),
    "levels": _protocol(
        "Embedded levels", "synthetic/levels", "3 levels, exact", (*_LEVELS, *_EXPRESSION[:2])
    ),
}


def get_config(chosen: str = "") -> ConfigDict:
    """The protocols named "NAME,NAME"; empty: all.

    Raises:
      ValueError: an unknown name.
    """
    names = [name.strip() for name in chosen.split(",") if name.strip()] or list(PROTOCOLS)
    for name in names:
        if name not in PROTOCOLS:
            raise ValueError(f"unknown protocol {name!r}; known: {', '.join(PROTOCOLS)}")
    return ConfigDict({"protocols": {name: dict(PROTOCOLS[name]) for name in names}})
