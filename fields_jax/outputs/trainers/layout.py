"""What the layouts share: parts of a set of frames, numbers as JSON, FLAME's rotations in 6D."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from jaxtyping import Float

_HELD_OUT = 10  # the last of so many frames are not trained on; fewer frames are trained on all


def parted(count: int) -> dict[str, range]:
    """Rows of the frames by the ending of their `transforms*.json`: all, train, val, test.

    The last tenth of the frames is for validation and test. Of fewer than ten every part has all.
    """
    held = count // _HELD_OUT
    first = count - held
    last = range(first, count) if held else range(count)
    return {"": range(count), "_train": range(first), "_val": last, "_test": last}


def json_text(table: Any) -> str:
    """JSON, indented as people read it."""
    return json.dumps(table, indent=1) + "\n"


def six(rotation: Float[np.ndarray, "3 3"]) -> Float[np.ndarray, "6"]:
    """A rotation as its first two rows, one after the other (Zhou et al. 2019, in rows)."""
    return np.asarray(rotation[:2], np.float32).reshape(6)
