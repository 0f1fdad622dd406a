"""Output of commands. Text from outside is data, and the reader of the output may end before the command."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer

from dqm.errors import FileError, escape_text

__all__ = ["ReaderGoneError", "abandon_output", "say", "say_json", "writing", "writing_file"]


class ReaderGoneError(Exception):
    """The program that read the output has closed it, as ``head`` does."""


@contextmanager
def writing() -> Iterator[None]:
    """Translate errors of standard output: a closed pipe, a full disk; raises as `say`."""
    try:
        yield
    except BrokenPipeError:
        raise ReaderGoneError from None
    except OSError as error:
        raise FileError(
            f"cannot be written: {error.strerror}", where="standard output", fix="Free space on its disk"
        ) from error


def say(text: str, *, err: bool = False, end: str = "\n") -> None:
    """Print text; characters that a terminal would obey are written as escapes.

    Parameters
    ----------
    text : str
        One or several lines.
    err : bool
        Whether it goes to standard error.
    end : str
        What follows it.

    Raises
    ------
    ReaderGoneError
        If nobody reads it any more.
    FileError
        If it cannot be written.
    """
    with writing():
        typer.echo(escape_text(text, keep="\n") + end, err=err, nl=False)


def say_json(text: str) -> None:
    """Print JSON on one line; what is not ASCII is written as escapes, so that nothing is obeyed."""
    with writing():
        typer.echo(text if text.isascii() else json.dumps(json.loads(text)))


@contextmanager
def writing_file(path: Path) -> Iterator[Path]:
    """Give the name of a file to write; it takes the place of `path` when it is complete.

    Raises
    ------
    FileError
        If it cannot be written; nothing is left of it then.
    """
    from dqm.config import replacing

    try:
        with replacing(path) as scratch:
            yield scratch
    except OSError as error:
        raise FileError(
            f"cannot write: {error.strerror or error}",
            where=str(path),
            fix="Choose another file, or free space on the disk",
        ) from error


def abandon_output() -> None:
    """Drop what is still in the buffer of standard output when the program ends."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
