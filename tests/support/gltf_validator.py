"""Khronos' validator of glTF files, run by Node."""

from __future__ import annotations

import functools
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

WEB = Path(__file__).parents[1] / "web"


@functools.cache
def why_absent() -> str:
    """Why there is no validator here; "" where there is one."""
    if shutil.which("node") is None:
        return "no Node on this machine"
    if not (WEB / "node_modules/gltf-validator").is_dir():
        return "no gltf-validator: `npm ci` in tests/web installs it"
    return ""


def issues(file: Path) -> list[dict[str, Any]]:
    """Errors and warnings about a file; infos and hints are left out.

    Raises:
      RuntimeError: the validator has failed.
    """
    command = ["node", str(WEB / "validate.cjs"), str(file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise RuntimeError(done.stderr)
    report = json.loads(done.stdout)
    assert not report["issues"]["truncated"]
    return [issue for issue in report["issues"]["messages"] if issue["severity"] < 2]
