"""The files and commands of a page, as its reader takes them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

ROOT = Path(__file__).parents[2]
FILE = re.compile(r"as\s+`([\w.-]+)`:\n\n```\w+\n(.*?)^```$", re.DOTALL | re.MULTILINE)
CONSOLE = re.compile(r"^( *)```console\n(.*?)^\1```$", re.DOTALL | re.MULTILINE)
COMMAND = re.compile(r"^[$#] ((?:.*\\\n)*.*)$", re.MULTILINE)
"""What follows a prompt, with the lines that a backslash joins to it."""


def files_of(page: str) -> dict[str, str]:
    """Give the files that a page tells its reader to write."""
    return dict(FILE.findall(page))


def commands_of(page: str) -> list[str]:
    """Give the commands of the console blocks, in order."""
    return [command for _, block in CONSOLE.findall(page) for command in COMMAND.findall(dedent(block))]


def walk(page: str, folder: Path, *, seconds: float) -> str:
    """Write the files of a page and run its commands in one shell; the first that fails ends it."""
    for name, text in files_of(page).items():
        (folder / name).write_text(text)
    return walk_commands(commands_of(page), folder, seconds=seconds)


def walk_commands(commands: list[str], folder: Path, *, seconds: float) -> str:
    """Run commands in one shell; the first that fails ends it. Give what they said."""
    shown = (f"cat <<'COMMAND'\n$ {each}\nCOMMAND\n{each}" for each in commands)
    script = "\n".join(["trap 'kill $(jobs -p) 2>/dev/null || true' EXIT", *shown])
    search = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
    with (folder / "terminal.log").open("w") as terminal:
        told = subprocess.run(
            ["/bin/bash", "-e", "-m", "-c", script],
            cwd=folder,
            env={**os.environ, "PATH": search, "COLUMNS": "160"},
            stdout=terminal,
            stderr=subprocess.STDOUT,
            timeout=seconds,
            check=False,
        )
    said = (folder / "terminal.log").read_text()
    assert told.returncode == 0, said
    return said
