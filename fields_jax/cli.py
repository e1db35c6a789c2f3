"""What every command shares: a user's mistake is one clear line and exit status 2."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

from absl import app, flags, logging

from fields_jax import host


class UserError(ValueError):
    """A mistake of the user's: the message names the thing and the remedy in one line."""


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a command under absl; mistakes end with one line on stderr and status 2."""

    def guarded(argv: list[str]) -> int:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax narrates every file it writes
        host.tune()
        try:
            return main(argv) or 0
        except (ValueError, OSError) as error:  # libraries raise these for a user's mistakes too
            print(f"error: {_last_words(str(error))}", file=sys.stderr)
            return 2
        except KeyboardInterrupt:
            print("interrupted", file=sys.stderr)
            return 130

    app.run(guarded, flags_parser=parse_flags)


def parse_flags(argv: list[str]) -> list[str]:
    """Parses absl flags; an unknown or malformed one is a user's mistake, not a traceback.

    Config files are executed while flags are parsed, so their ValueErrors arrive here too.
    """
    try:
        return flags.FLAGS(argv)
    except (AttributeError, KeyError) as error:  # how ml_collections names a key it does not have
        message = f"unknown config key: {error.args[0] if error.args else error}"
    except (flags.Error, ValueError, OSError) as error:
        message = str(error)
    print(f"error: {_last_words(message)}", file=sys.stderr)
    sys.exit(2)


def _last_words(message: str) -> str:
    """One line; of a message that quotes a traceback, what the innermost error said."""
    lines = [line.strip() for line in message.splitlines() if line.strip()]
    if any("Traceback" in line for line in lines):
        return re.sub(r"^[\w.]*(Error|Exception): ", "", lines[-1])
    return " ".join(lines)
