"""What every command shares: a user's mistake is one clear line and exit status 2."""

from __future__ import annotations

import sys
from collections.abc import Callable

from absl import app, flags, logging


class UserError(ValueError):
    """A mistake of the user's: the message names the thing and the remedy in one line."""


def run(main: Callable[[list[str]], int | None]) -> None:
    """Runs a command under absl; mistakes end with one line on stderr and status 2."""

    def guarded(argv: list[str]) -> int:
        if not flags.FLAGS["verbosity"].present:
            logging.set_verbosity(logging.WARNING)  # Orbax narrates every file it writes
        try:
            return main(argv) or 0
        except (ValueError, FileNotFoundError) as error:
            # Libraries raise these too; their first line is what a user can act on.
            print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
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
    except (flags.Error, ValueError, AttributeError, KeyError, FileNotFoundError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(2)
