"""Writes the results of a benchmark to the file that --json names."""

from __future__ import annotations

import json
from typing import Any

from fields_jax.disk import writing
from fields_jax.files import write_whole


def save(path: str, report: Any, *, indent: int = 2) -> None:
    """Writes a report as JSON, unless the path is empty.

    Raises:
      DiskError: it cannot be written.
    """
    if path:
        with writing(path, instead="another --json"):
            write_whole(path, json.dumps(report, indent=indent) + "\n")
