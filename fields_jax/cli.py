"""What every command shares: a mistake or a full disk is one clear line and exit status 2."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from absl import app, flags, logging

from fields_jax import cpu_tuning, disk
from fields_jax.errors import Preemption, printable

Item = TypeVar("Item")
_LOG_SECONDS = 5.0  # between the lines where stderr is no terminal
PREEMPTED = 42  # exit status: run the same command again


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a command under absl; mistakes end with one line on stderr and status 2."""
    command = guarded(main)
    app.run(lambda argv: leave(command(argv)), flags_parser=parse_flags)


def leave(status: int) -> int:
    """Returns 0; any other status ends the process here and now.

    What was interrupted leaves threads of XLA at work, and taking the interpreter down under them
    is a segmentation fault now and then; other processes of a training may not be there to wait
    for either.
    """
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def guarded(main: Callable[[list[str]], int | None]) -> Callable[[list[str]], int]:
    """The command with exit statuses: 2 for a mistake or a full disk, 42 for SIGTERM, 130 for ^C.

    After 42 the same command, run again, goes on or starts anew.
    """

    def command(argv: list[str]) -> int:
        if not flags.FLAGS.is_parsed() or not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax narrates every file it writes
        cpu_tuning.tune()
        signal.signal(signal.SIGTERM, _preempt)
        try:
            return main(argv) or 0
        except Exception as error:
            line = disk.told(error)
            # Libraries raise these for a user's mistakes too; all others are bugs.
            if line is None and not isinstance(error, (ValueError, OSError)):
                raise
            print(f"error: {printable(error if line is None else line)}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130
        except Preemption:
            print("preempted; run the same command again", file=sys.stderr)
            return PREEMPTED

    return command


def parse_flags(argv: list[str]) -> list[str]:
    """Parses absl flags; an unknown or malformed one is a user's mistake, not a traceback.

    Config files are executed while flags are parsed, so their ValueErrors arrive here too.
    """
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # how ml_collections names a key it does not have
        message = f"unknown config key: {error.args[0] if error.args else error}"
    except SyntaxError as error:
        message = f"{error.filename}, line {error.lineno} is no Python: {error.msg}"
    except (flags.Error, ValueError, OSError) as error:
        message = _of_config(str(error))
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(2)


def progress(items: Iterable[Item], total: int, what: str) -> Iterator[Item]:
    """Passes items on and says on stderr how many are done, how fast, and how long is left.

    An item counts when the next one is asked for. At a terminal one line is kept up to date;
    elsewhere a line is written every few seconds, and at the end.
    """
    started = said = time.monotonic()
    for done, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        last = done == total
        if not (last or sys.stderr.isatty() or now - said >= _LOG_SECONDS):
            continue
        said, rate = now, done / max(now - started, 1e-9)
        line = f"{done}/{total} {what}, {rate:.1f}/s, {(total - done) / rate:.0f} s left"
        if sys.stderr.isatty():
            print(f"\r{line:70}", end="\n" if last else "", file=sys.stderr, flush=True)
        else:
            print(line, file=sys.stderr, flush=True)


def _preempt(*_: object) -> None:
    raise Preemption


def _of_config(message: str) -> str:
    """What a config file's own error said, where ml_collections quotes its traceback."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if any(line.startswith("Traceback (most recent call last)") for line in lines):
        return lines[-1].removeprefix("ValueError: ")
    return message
