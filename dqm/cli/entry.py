"""Where the program ``dqm`` begins: Ctrl-C is answered while everything else is still being loaded."""

import os
import sys
from contextlib import suppress

__all__ = ["INTERRUPTED", "run"]

INTERRUPTED = 130
"""Exit code after Ctrl-C, as a shell gives it."""


def run() -> None:
    """Load the commands and run the one that was asked for, see `dqm.cli.main.run`."""
    try:
        from dqm.cli.main import run as run_command

        run_command()
    except KeyboardInterrupt:
        with suppress(OSError):  # nobody may read it
            os.write(2, b"interrupted\n")
        sys.exit(INTERRUPTED)


if __name__ == "__main__":
    run()
