"""Files of patterns and directories, with the runs that their names tell."""

from __future__ import annotations

import glob
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from dqm.errors import LARGEST_INTEGER, FileError

__all__ = ["ENDINGS", "RunFile", "list_files", "list_new", "names_root"]

ENDINGS = (".parquet", ".root", ".csv", ".csv.gz", ".txt", ".txt.gz")
"""Endings of files that are taken from a directory."""

_RUN_TYPE = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_DIGITS = re.compile(r"(\d+)")


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file and what its name tells.

    Parameters
    ----------
    path : Path
        The file.
    run : int or None
        Number of its run; None without `name_pattern`.
    run_type : str
        What the run is for; empty if the name does not say it.
    part : int
        Its place among the files of the run.
    """

    path: Path
    run: int | None = None
    run_type: str = ""
    part: int = 0


def list_files(inputs: Sequence[Path], name_pattern: str | None) -> list[RunFile]:
    """List the files to read, in order: by run and part if their names tell, otherwise as they are given.

    Parameters
    ----------
    inputs : sequence of Path
        Files, patterns with ``*``, ``?`` or ``[...]``, and directories. Numbers in the names that these give
        are ordered as numbers: ``run2`` before ``run10``.
    name_pattern : str or None
        Regular expression for whole names, see `FileOptions`.

    Raises
    ------
    FileError
        If there is no file, if a name does not match, or if two files are the same part of a run.
    """
    found = _list(inputs, name_pattern)
    if not found:
        raise FileError(
            "there is no file",
            where=", ".join(map(str, inputs)),
            fix=f"In a directory, files count whose names match name_pattern = {name_pattern!r}"
            if name_pattern
            else f"In a directory, files with these endings count: {', '.join(ENDINGS)}",
        )
    return found


def list_new(inputs: Sequence[Path], name_pattern: str | None) -> list[RunFile]:
    """List files that may appear later: there may be none yet, and each counts once."""
    return list({file.path: file for file in _list(inputs, name_pattern)}.values())


def names_root(inputs: Sequence[Path], name_pattern: str | None) -> bool:
    """Tell whether ROOT files are among those to read, by what is there and by the names that may come."""
    if name_pattern is not None and ".root" in name_pattern.replace("\\", ""):
        return True
    if any(source.suffix == ".root" for source in inputs):
        return True
    try:
        return any(file.path.suffix == ".root" for file in list_new(inputs, name_pattern))
    except FileError:  # reported when they are read
        return False


def _list(inputs: Sequence[Path], name_pattern: str | None) -> list[RunFile]:
    pattern = None if name_pattern is None else re.compile(name_pattern)
    found = [file for source in inputs for file in _list_one(source, pattern)]
    if pattern is None:
        return found
    found = sorted(set(found), key=lambda file: (file.run or 0, file.part, _natural(file.path)))
    for one, other in pairwise(found):
        _refuse_twice(one, other)
    return found


def _refuse_twice(one: RunFile, other: RunFile) -> None:
    """Refuse two files of one run that cannot both be of it, such as files of two detectors."""
    if one.run != other.run:
        return
    if one.run_type != other.run_type:
        raise FileError(
            f"run {one.run} is {one.run_type!r} by this file and {other.run_type!r} by {other.path.name}",
            where=str(one.path),
            fix="A run has one type: correct the names, or name_pattern",
        )
    if one.part == other.part:
        raise FileError(
            f"run {one.run} has a second file: {other.path.name}",
            where=str(one.path),
            fix="If they are of two detectors, let name_pattern match the files of one; if they are parts "
            "of the run, "
            r"give it the group (?P<part>\d+)",
        )


def _list_one(source: Path, pattern: re.Pattern[str] | None) -> Iterable[RunFile]:
    if source.is_dir():
        paths = _within(source)
        if pattern is None:
            return [RunFile(path) for path in paths if path.name.lower().endswith(ENDINGS)]
        return [_read_name(path, match) for path in paths if (match := pattern.fullmatch(path.name))]
    if glob.has_magic(str(source)) and not source.exists():
        matching = sorted(map(Path, glob.glob(str(source))), key=_natural)  # noqa: PTH207
        paths = [path for path in matching if path.is_file()]
    else:
        paths = [source]
    return [_named(path, pattern) for path in paths]


def _within(folder: Path) -> list[Path]:
    try:
        return sorted((path for path in folder.iterdir() if path.is_file()), key=_natural)
    except OSError as error:
        raise FileError(
            f"cannot be read: {error.strerror}",
            where=str(folder),
            fix="Correct the path, or the rights of the directory",
        ) from error


def _named(path: Path, pattern: re.Pattern[str] | None) -> RunFile:
    if pattern is None:
        return RunFile(path)
    match = pattern.fullmatch(path.name)
    if match is None:
        raise FileError(
            f"the name does not match name_pattern = {pattern.pattern!r}",
            where=str(path),
            fix="The pattern must match the whole name, with its ending",
        )
    return _read_name(path, match)


def _read_name(path: Path, match: re.Match[str]) -> RunFile:
    groups = match.groupdict(default="")
    numbers = {}
    for name in ("run", "part"):
        text = groups.get(name, "")
        if name == "part" and not text:
            continue
        if not text.isascii() or not text.isdigit() or len(text) > 19 or int(text) > LARGEST_INTEGER:
            raise FileError(
                f"its name gives {name} = {text!r}, which is not a number",
                where=str(path),
                fix=rf"Let name_pattern take digits alone: (?P<{name}>\d+)",
            )
        numbers[name] = int(text)
    run_type = groups.get("run_type", "")
    if run_type and not _RUN_TYPE.fullmatch(run_type):
        raise FileError(
            f"its name gives run_type = {run_type!r}",
            where=str(path),
            fix="1 to 64 letters, digits, '.', '_' and '-' are possible",
        )
    return RunFile(path, numbers["run"], run_type, numbers.get("part", 0))


def _natural(path: Path) -> list[tuple[int, str]]:
    """Give a key by which numbers in names are ordered as numbers."""
    parts = _DIGITS.split(path.name)
    return [(int(part) if part.isdecimal() else -1, part) for part in parts]
