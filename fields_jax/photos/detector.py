"""A face detector as a child process, because mediapipe cannot share an environment with us."""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from fields_jax.errors import UserError, quoted
from fields_jax.files import npy_bytes, parse_json, read_npy, write_whole
from fields_jax.landmark_schemes import N_MEDIAPIPE
from fields_jax.photos.faces import Detection, Finder, NotLookedAt

ENVIRONMENT = Path(__file__).parents[2] / ".venv-landmarks"  # made by `make landmarks`
CHILD = Path(__file__).with_name("mediapipe_child.py")
MIN_SCORE = 0.5
MAX_FACES = 10
REMEDY = "run `make landmarks` in the folder of fields_jax once"


class DetectorError(UserError):
    """The detector cannot be started or has ended; the message says why and what to do."""


def find_python() -> Path | None:
    """The interpreter of the landmark environment, or None if that was not made."""
    python = ENVIRONMENT / "bin" / "python"
    return python if python.exists() else None


@contextlib.contextmanager
def lasting(python: Path | str, **options: Any) -> Iterator[Finder]:
    """A detector that is started anew once, where it ends at a picture, which may be what ended it.

    That picture is not looked at, see `NotLookedAt`; the second end is a DetectorError.

    Args:
      python, options: of `Detector`.

    Raises:
      DetectorError: it cannot be started.
    """
    with contextlib.ExitStack() as stack:
        running = [stack.enter_context(Detector(python, **options))]

        def detect(image: UInt8[np.ndarray, "H W 3"]) -> Sequence[Detection]:
            try:
                return running[-1].detect(image)
            except DetectorError as error:
                if len(running) > 1:
                    raise
                running.append(stack.enter_context(Detector(python, **options)))
                raise NotLookedAt(str(error)) from error

        yield Finder(running[0].name, detect)


class Detector:
    """The running child; use it in a `with` statement.

    Attributes:
      name: what it calls itself, such as "mediapipe 0.10.21 face mesh".
    """

    def __init__(
        self,
        python: Path | str,
        *,
        script: Path = CHILD,
        task: str = "",
        max_faces: int = MAX_FACES,
        min_score: float = MIN_SCORE,
    ):
        """Starts the child and waits until it has loaded its models.

        Args:
          python: interpreter of an environment with mediapipe.
          script: the child's program; see `mediapipe_child` for what it must answer.
          task: a face_landmarker.task, for a mediapipe that brings no models.
          max_faces: faces per image at most, the largest.
          min_score: faces with a lower score are left out.

        Raises:
          DetectorError: it cannot be started.
        """
        self._folder = tempfile.TemporaryDirectory(prefix="landmarks-")
        self._noise = open(Path(self._folder.name) / "noise.txt", "w+")  # noqa: SIM115
        options = [f"--max_faces={max_faces}", f"--min_score={min_score}"]
        options += [f"--task={task}"] if task else []
        try:
            self._child = subprocess.Popen(
                [str(python), str(script), *options],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._noise,
                text=True,
            )
        except OSError as error:
            self._remove_files()
            raise DetectorError(f"{python} cannot be run: {error.strerror}; {REMEDY}") from error
        try:
            self.name = str(self._answer("name"))
        except BaseException:
            self.close()
            raise

    def detect(self, image: UInt8[np.ndarray, "H W 3"]) -> Sequence[Detection]:
        """The faces of an image, the largest first.

        Raises:
          NotLookedAt: the child failed at this image and lives on.
          DetectorError: the child has ended or does not answer as agreed.
          OSError: the image cannot be handed over, as on a full disk.
        """
        folder = Path(self._folder.name)
        request = {name: str(folder / f"{name}.npy") for name in ("image", "points")}
        write_whole(request["image"], npy_bytes(image))
        with contextlib.suppress(BrokenPipeError):  # `_answer` tells why the child has ended
            self._child.stdin.write(json.dumps(request) + "\n")
            self._child.stdin.flush()
        scores = self._answer("scores")
        try:
            points = read_npy(request["points"])
        except UserError as error:
            raise DetectorError(f"the detector left no points ({error})") from error
        sound = isinstance(scores, list) and points.shape == (len(scores), N_MEDIAPIPE, 3)
        if not sound or points.dtype.kind != "f":
            raise DetectorError(
                f"the detector answered points {points.shape}, scores {quoted(scores)}"
            )
        return [Detection(*face) for face in zip(points, scores, strict=True)]

    @property
    def finder(self) -> Finder:
        """This detector as `fields_jax.photos.faces` takes one."""
        return Finder(self.name, self.detect)

    def close(self) -> None:
        """Ends the child and removes its files."""
        with contextlib.suppress(BrokenPipeError):
            self._child.stdin.close()
        self._child.stdout.close()
        self._child.terminate()
        self._child.wait()
        self._remove_files()

    def _remove_files(self) -> None:
        self._noise.close()
        self._folder.cleanup()

    def __enter__(self) -> Detector:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _answer(self, key: str) -> Any:
        """The value of a key in the child's next line."""
        line = self._child.stdout.readline()
        if not line:
            self._noise.seek(0)
            said = [noise.strip() for noise in self._noise if noise.strip()]
            status = self._child.wait()
            raise DetectorError(
                f"the face detector ended with status {status} "
                f"({said[-1][:200] if said else 'it said nothing'}); {REMEDY}"
            )
        try:
            answer = parse_json(line, "its answer")
        except UserError as error:
            raise DetectorError(f"the detector answered {quoted(line)}, not JSON") from error
        if "error" in answer and key != "name":  # by then it had loaded its models
            raise NotLookedAt(f"the face detector failed at it: {answer['error']}")
        if "error" in answer:
            raise DetectorError(f"the face detector cannot go on: {answer['error']}")
        if key not in answer:
            raise DetectorError(f"the detector answered {quoted(line)}, without {key}")
        return answer[key]
