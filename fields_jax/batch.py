"""The contract of one example: keys, shapes and dtypes, for every source alike.

A batch is a `dict[str, np.ndarray]` of these fields with a leading batch dimension. A label that an
example lacks is zero (class, subject and level: -1) and its `has_*` flag is False. Images are RGB;
landmarks are in [-1, 1], x right, y down, with pixel (i, j) centred at
((2j + 1) / size - 1, (2i + 1) / size - 1), as the rasteriser samples it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

N_EXPRESSION = 50  # components a record stores: as many as SMIRK and TEASER predict
N_SHAPE = 300


class Field(NamedTuple):
    """Shape and dtype of one key; named dimensions depend on the config."""

    shape: tuple[int | str, ...]
    dtype: str  # a numpy dtype name, or "str" for a numpy unicode array


EXAMPLE_SPEC: dict[str, Field] = {
    "image": Field(("size", "size", 3), "uint8"),
    "face_mask": Field(("size", "size"), "uint8"),  # 1 outside the hull of the face, 0 inside
    "landmarks_68": Field((68, 2), "float32"),
    "landmarks_105": Field((105, 2), "float32"),
    "landmarks_203": Field((203, 2), "float32"),
    "has_landmarks_68": Field((), "bool"),
    "has_annotated_68": Field((), "bool"),  # False: taken from mediapipe's points, good for regions
    "has_landmarks_105": Field((), "bool"),
    "has_landmarks_203": Field((), "bool"),
    "expression": Field(("n_expression",), "float32"),  # standard deviations
    "jaw": Field((3,), "float32"),  # axis-angle, radians
    "eyelid": Field((2,), "float32"),  # (left, right) in [0, 1]; 1 closes
    "has_flame": Field((), "bool"),  # expression, jaw and eyelid
    "shape": Field(("n_shape",), "float32"),  # standard deviations
    "has_shape": Field((), "bool"),
    # How far a landmark fit that gave these coefficients leaves the landmarks, as a share of the
    # inter-ocular distance; 0: they are exact.
    "fit_residual": Field((), "float32"),
    "valence": Field((), "float32"),  # [-1, 1]
    "arousal": Field((), "float32"),
    "has_va": Field((), "bool"),
    "emotion": Field((), "int32"),  # row of emotions.EMOTIONS
    "has_emotion": Field((), "bool"),
    # For evaluation only: the training step never reads these.
    "eval_expression": Field(("n_expression",), "float32"),
    "eval_jaw": Field((3,), "float32"),
    "eval_eyelid": Field((2,), "float32"),
    "has_eval": Field((), "bool"),
    "source": Field((), "int32"),  # which set of the mixture, counted from 0
    "subject": Field((), "int32"),
    "level": Field((), "int32"),  # 0, 1, 2: how strong an intended expression is
    "id": Field((), "str"),
}

# The labels that each flag declares present.
FLAGS: dict[str, tuple[str, ...]] = {
    "has_landmarks_68": ("landmarks_68",),
    "has_annotated_68": ("landmarks_68",),
    "has_landmarks_105": ("landmarks_105",),
    "has_landmarks_203": ("landmarks_203",),
    "has_flame": ("expression", "jaw", "eyelid"),
    "has_shape": ("shape",),
    "has_va": ("valence", "arousal"),
    "has_emotion": ("emotion",),
    "has_eval": ("eval_expression", "eval_jaw", "eval_eyelid"),
}

# Flags of labels that may come from a landmark fit; `fit_residual` tells.
FITTED_FLAGS = ("has_flame", "has_shape")

LANDMARK_SETS = ("landmarks_68", "landmarks_105", "landmarks_203")

# Fields that sets made before there was such a label lack; it counts as absent there.
OPTIONAL = ("fit_residual",)

# The value of a label that is absent; every other label is zero.
ABSENT = {"emotion": -1, "subject": -1, "level": -1}

NOT_FOR_TRAINING = (*FLAGS["has_eval"], "has_eval", "id")


def batch_spec(
    batch_size: int,
    image_size: int,
    *,
    n_expression: int = N_EXPRESSION,
    n_shape: int = N_SHAPE,
) -> dict[str, Field]:
    """EXAMPLE_SPEC with the batch dimension in front and every named dimension filled in."""
    sizes = {"size": image_size, "n_expression": n_expression, "n_shape": n_shape}
    return {
        key: Field((batch_size, *(sizes.get(d, d) for d in field.shape)), field.dtype)
        for key, field in EXAMPLE_SPEC.items()
    }


def validate_batch(
    batch: Mapping[str, np.ndarray],
    image_size: int,
    *,
    n_expression: int = N_EXPRESSION,
    n_shape: int = N_SHAPE,
) -> None:
    """Checks keys, shapes and dtypes; the batch size is that of `image`.

    Raises:
      ValueError: one line with the first key at fault, what was expected and what was found.
    """
    if missing := [key for key in EXAMPLE_SPEC if key not in batch]:
        raise ValueError(f"batch lacks {', '.join(map(repr, missing))}")
    if unknown := [key for key in batch if key not in EXAMPLE_SPEC]:
        raise ValueError(
            f"batch has unknown keys: {', '.join(map(repr, unknown))}; "
            f"known: {', '.join(EXAMPLE_SPEC)}"
        )
    batch_size = np.shape(batch["image"])[0] if np.ndim(batch["image"]) else 0
    expected = batch_spec(batch_size, image_size, n_expression=n_expression, n_shape=n_shape)
    for key, field in expected.items():
        value = np.asarray(batch[key])
        found = Field(value.shape, "str" if value.dtype.kind == "U" else value.dtype.name)
        if found != field:
            raise ValueError(
                f"batch[{key!r}]: expected {field.dtype} {list(field.shape)}, "
                f"found {found.dtype} {list(found.shape)}"
            )


def is_exact(labels: Mapping[str, Any]) -> Any:
    """[B] bool: whose coefficients, if there are any, come from no landmark fit.

    Args:
      labels: of a batch, numpy or JAX; without `fit_residual` all are exact.
    """
    return labels["fit_residual"] == 0 if "fit_residual" in labels else True


def training_arrays(batch: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The fields that may go to a device: no strings, nothing kept for evaluation."""
    return {key: value for key, value in batch.items() if key not in NOT_FOR_TRAINING}
