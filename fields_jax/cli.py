"""What every command shares: a user's mistake or a full disk ends in one line and exit status 2.

Any other exception is a bug of ours: a traceback, a line that asks for a report, and status 1.
"""

from __future__ import annotations

import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

from absl import app, flags, logging

from fields_jax import __version__, compile_cache, cpu_tuning, disk
from fields_jax.errors import Preemption, UserError, causes, first_line, printable

BUG, MISTAKE = 1, 2  # exit statuses
INTERRUPTED = 130  # as shells have it
PREEMPTED = 42  # exit status: run the same command again

_BACKENDS = "jax._src.xla_bridge"  # the module of JAX that opens devices
# The module that executes config files, the name it gives them, and the package ours import.
_CONFIG_FLAGS, _CONFIG_FILE, _CONFIGS = "ml_collections.config_flags", "_config", "configs."


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a command under absl; mistakes end with one line on stderr and status 2."""
    command = guarded(main)
    app.run(lambda argv: leave(command(argv)), flags_parser=parse_flags)


def leave(status: int) -> int:
    """Returns 0; any other status ends the process here and now.

    An interrupted command leaves threads of XLA running, and shutting the interpreter down under
    them sometimes ends in a segmentation fault. Nor can it wait for the other processes of a
    training, which may be gone.
    """
    if status:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)
    return status


def guarded(main: Callable[[list[str]], int | None]) -> Callable[[list[str]], int]:
    """The command with exit statuses.

    2 for a user's mistake or a full or read-only disk, 1 for a bug, 130 for Ctrl-C and 42 for
    SIGTERM. After 42 the same command, run again, goes on or starts anew.
    """

    def command(argv: list[str]) -> int:
        if not flags.FLAGS.is_parsed() or not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax logs every file it writes
        cpu_tuning.tune()
        compile_cache.keep_programs()
        # TensorFlow imports all of Keras, which no command uses, unless it is told to look for the
        # old Keras, which is a package of its own: a third of its import.
        os.environ.setdefault("TF_USE_LEGACY_KERAS", "1")
        signal.signal(signal.SIGTERM, _preempt)
        try:
            return main(argv) or 0
        except Exception as error:
            line = disk.told(error)
            if line is None and isinstance(error, UserError):
                line = str(error)
            return _ended(error, line or told_lack(error))
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return INTERRUPTED
        except Preemption:
            print("preempted; run the same command again", file=sys.stderr)
            return PREEMPTED

    return command


def told_lack(error: Exception) -> str | None:
    """The line about a device or a package that this machine lacks; None for any other error."""
    for link in causes(error):
        if isinstance(link, ImportError) and "gcsfs" in str(link):  # said by etils.epath
            return "paths in buckets need TensorFlow or gcsfs: pip install -e '.[data]'"
        if isinstance(link, RuntimeError) and "RESOURCE_EXHAUSTED: Out of memory" in str(link):
            return (
                f"the device's memory is short ({first_line(link)}): see that no other process "
                "holds it, or give it fewer images at once; a training needs less by "
                "--config.batch_size, --config.accumulate, --config.remat=True or "
                "--config.model.dtype=bfloat16"
            )
        modules = {name for name, _, _ in _frames(link)}
        if isinstance(link, RuntimeError | AssertionError) and _BACKENDS in modules:
            why = first_line(link) if str(link) else f"no {os.environ.get('JAX_PLATFORMS')}"
            return (
                f"JAX has no device ({why}): see that no other process holds it and "
                "that its packages are there (extras cuda and tpu), or unset JAX_PLATFORMS"
            )
    return None


def parse_flags(argv: list[str]) -> list[str]:
    """Parses absl flags; an unknown or malformed one is a user's mistake, not a traceback.

    Config files are executed while flags are parsed: errors that they raise arrive here too and are
    the user's mistakes as well.
    """
    try:
        rest = flags.FLAGS([argv[0], *map(_installed_config, argv[1:])])
        for name in flags.FLAGS:  # reading the value raises if its config file cannot be read
            getattr(flags.FLAGS[name].value, "lock", None)
        return rest
    except Exception as error:
        sys.exit(_ended(error, _said_of_flags(error)))


def _installed_config(argument: str) -> str:
    """--config=configs/NAME.py as the installed file of that name, where none lies here."""
    flag, equals, value = argument.partition("=")
    path, colon, choice = value.partition(":")
    folder, name = os.path.split(path)
    if flag.lstrip("-") != "config" or folder != _CONFIGS.rstrip(".") or os.path.exists(path):
        return argument
    file = Path(__file__).parents[1] / folder / name  # beside this package, in a wheel too
    return f"{flag}{equals}{file}{colon}{choice}" if file.exists() else argument


def _ended(error: Exception, mistake: str | None) -> int:
    """Prints the one line about a user's mistake, or the traceback of a bug; returns the status."""
    if mistake is not None:
        print(f"error: {printable(mistake)}", file=sys.stderr)
        return MISTAKE
    for line in "".join(traceback.format_exception(error)).splitlines():
        text = line.lstrip(" ")
        print(" " * (len(line) - len(text)) + printable(text), file=sys.stderr)
    print(
        f"this is a bug of fields_jax {__version__} ({_command()}): please report it with the "
        "lines above",
        file=sys.stderr,
    )
    return BUG


def _command() -> str:
    """The command without its arguments, which may name people."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    name = spec.name.removesuffix(".__main__") if spec else os.path.basename(sys.argv[0])
    return f"python -m {name}" if spec else name


def _said_of_flags(error: Exception) -> str | None:
    """The line about flags or a config file that cannot be used; None for any other error."""
    for link in causes(error):
        if place := _place_in_config(link):
            if isinstance(link, ValueError):  # how config files refuse an argument
                return str(link)
            return f"{place}: {type(link).__name__}: {first_line(link)}"
    executes = any(name.startswith(_CONFIG_FLAGS) for name, _, _ in _frames(error))
    if executes and isinstance(error, SyntaxError):
        return f"{error.filename}, line {error.lineno} is no Python: {error.msg}"
    if executes and getattr(error, "name", None) == "get_config":
        return "the config file has no function get_config"
    if executes and isinstance(error, (AttributeError, KeyError)):
        return f"unknown config key: {error.args[0] if error.args else error}"
    if executes or isinstance(error, flags.Error):
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        quotes = any(line.startswith("Traceback (most recent call last)") for line in lines)
        return lines[-1] if quotes else " ".join(lines)
    return None


def _place_in_config(error: BaseException) -> str | None:
    """The last line of a config file that the error passed on its way."""
    executes, place = False, None
    for name, file, line in _frames(error):
        executes |= name.startswith(_CONFIG_FLAGS)
        if executes and (name.endswith(_CONFIG_FILE) or name.startswith(_CONFIGS)):
            place = f"{file}, line {line}"
    return place


def _frames(error: BaseException) -> Iterator[tuple[str, str, int]]:
    """(module, file, line) of each frame that the error passed, the outermost first."""
    for frame, line in traceback.walk_tb(error.__traceback__):
        yield frame.f_globals.get("__name__", ""), frame.f_code.co_filename, line


def _preempt(*_: object) -> None:
    raise Preemption
