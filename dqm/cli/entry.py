"""Where the program ``dqm`` begins: what must be right before everything else is loaded."""

import os
import sys
from contextlib import suppress

__all__ = ["INTERRUPTED", "run"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell gives it."""


def run() -> None:
    """Load the commands and run the one that was asked for, see `dqm.cli.main.run`."""
    try:
        _open_standard_streams()
        from dqm.cli.main import run as run_command

        run_command()
    except KeyboardInterrupt:
        with suppress(OSError):  # nobody may read it
            os.write(2, b"interrupted\n")
        sys.exit(INTERRUPTED)


def _open_standard_streams() -> None:
    """Open closed standard streams on the null device: a file would get their number, and what is printed."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            nothing = open(os.devnull, mode, encoding="utf-8")  # noqa: PTH123, SIM115 - it gets the lowest number
            os.set_inheritable(nothing.fileno(), True)
            setattr(sys, name, nothing)


if __name__ == "__main__":
    run()
