"""Events that ``dqm reference build`` gets: their features, and histograms of them."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dqm.cli.output import say
from dqm.cli.settings import refuse_given, split_names
from dqm.config import NAME_PATTERN, parse_value
from dqm.errors import ConfigError, FileError, InputError

if TYPE_CHECKING:
    from dqm.reference import NanRows
    from dqm.service.offline.feature_files import RunEvents

__all__ = [
    "check_run",
    "choose_features",
    "pointing_to_advice",
    "read_conditions",
    "read_histograms",
    "read_kinds",
]


NAMES_OF_NUMBERS = frozenset({
    "entry", "event", "event_id", "event_number", "evt", "index", "lumi", "row", "run", "run_id",
    "run_number", "seq", "spill", "subrun",
})  # fmt: skip
"""Names of columns that probably number events or runs: windows of another run would differ by them alone."""

TIME_NAME = re.compile(r"(?:unix_?)?time(?:_?stamp)?(?:_(s|ms|us|ns))?")
"""Names of columns that probably hold the times of events, with their unit."""

UNITS_OF_TIME = {"ms": 1e-3, "us": 1e-6, "ns": 1e-9}
"""Seconds of each unit but the second."""

NAMES_OF_COUNTS = frozenset({"count", "counts", "entries", "weight", "weights"})
"""Names of columns that probably hold numbers of events, not a feature."""


FEATURES_TO_NAME = re.compile(r" --features (?!A,B\b)[\w.-]+(,[\w.-]+)*")
"""Features that a message names as those to use."""


@contextmanager
def pointing_to_advice(files: Sequence[Path]) -> Iterator[None]:
    """Add to a refusal of the events in files which command shows more of them."""
    try:
        yield
    except InputError as error:
        if not files or not all(file.exists() for file in files) or _nothing_to_show(error, files):
            raise
        shown = shlex.join(map(str, files))
        if found := FEATURES_TO_NAME.search(error.fix or ""):  # it reads no other columns either
            shown += found[0]
        advice = f"'dqm reference advise {shown}' shows what they hold and allow"
        fix = ". ".join(filter(None, [error.fix, advice]))
        raise type(error)(error.what, where=error.where, fix=fix) from error


def _nothing_to_show(error: InputError, files: Sequence[Path]) -> bool:
    """Tell whether other columns are needed that the error does not name, or nothing can list any."""
    from dqm.service.offline.feature_files import has_columns

    fix = error.fix or ""
    is_unnamed = "--features" in fix and not FEATURES_TO_NAME.search(fix)
    return is_unnamed or (isinstance(error, FileError) and not has_columns(files))


def choose_features(text: str | None, files: Sequence[Path]) -> tuple[str, ...] | None:
    """Read the option ``--features``; a column may be given as it is spelled in the file."""
    names = split_names(text)
    if names is None or all(re.fullmatch(NAME_PATTERN, name) for name in names):
        return names
    from dqm.service.offline.feature_files import feature_names

    spelled: dict[str, str] = {}
    for file in files:
        if file.is_file():
            spelled |= feature_names(file)
    return tuple(spelled.get(name, name) for name in names)


def read_kinds(given: Sequence[str]) -> dict[str, str]:
    """Read options ``NAME=KIND``; raises `ConfigError`."""
    kinds = {}
    for text in given:
        name, equals, kind = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not a kind of feature", where="--feature", fix="Give NAME=KIND")
        kinds[name.strip()] = kind.strip()
    return kinds


def read_conditions(given: Sequence[str]) -> dict[str, tuple[float, float]]:
    """Read options ``NAME=VALUE`` and ``NAME=[LOW, HIGH]``; raises `ConfigError`."""
    conditions = {}
    for text in given:
        name, _, value = text.partition("=")
        name, ends = name.strip(), _ends_of(parse_value(value))
        if ends is None or not re.fullmatch(NAME_PATTERN, name):
            raise ConfigError(
                f"{text!r} is not a condition with a number",
                where="--condition",
                fix="Give NAME=VALUE or NAME=[LOW, HIGH], such as hv_v=1200",
            )
        conditions[name] = ends
    return conditions


def _ends_of(value: object) -> tuple[float, float] | None:
    """Give the ends of a range, or of one value; None if it is neither."""
    match value if isinstance(value, list) else [value, value]:
        case [int() | float() as low, int() | float() as high] if not isinstance(low, bool):
            return (float(low), float(high)) if -math.inf < low <= high < math.inf else None
    return None


def check_run(
    run: RunEvents, statistic: str, kinds: Mapping[str, str], where: str | None
) -> tuple[RunEvents, NanRows | None]:
    """Leave out events with NaN, and say what is unusual about the others."""
    from dqm.reference import describe_features, drop_nan, refuse_run

    x, nan = drop_nan(run.x, run.names, where)
    refuse_run(x, run.names, where)
    for finding in describe_features(x, run.names, statistic, kinds):
        say(f"note: {finding}", err=True)
    for remark in (*run.notes, *filter(None, (_doubt_feature(name, run.names) for name in run.names))):
        say(f"note: {remark}", err=True)
    return replace(run, x=x), nan


def _doubt_feature(name: str, names: Sequence[str]) -> str:
    """Say what a feature probably is if it is none, by its name; empty if nothing is doubtful."""
    if name.lower() in NAMES_OF_COUNTS:
        return (
            f"{name} is tested as a feature. If it says how many events a row stands for, "
            f"give --counts {name}"
        )
    others = ",".join(one for one in names if one != name)
    leave_out = f"To leave it out: --features {others}" if others else ""
    if name.lower() in NAMES_OF_NUMBERS:
        return (
            f"{name} is tested as a feature, but by its name it numbers runs or events. {leave_out}".strip()
        )
    if found := TIME_NAME.fullmatch(name.lower()):
        scale = UNITS_OF_TIME.get(found[1] or "")
        as_time = f"--read columns.time.column={name}"
        if scale:
            as_time += f" --read columns.time.scale={scale:g}"
        return (
            f"{name} is tested as a feature. If it is the time of the events: {as_time}. {leave_out}".strip()
        )
    return ""


def read_histograms(
    files: list[Path],
    names: tuple[str, ...] | None,
    chamber: str | None,
    *,
    counts: str | None,
    histogram: str | None,
    reading: Mapping[str, object],
) -> RunEvents:
    """Read histograms: a table with a column of counts, or ROOT files."""
    from dqm.service.offline.feature_files import read_counted, read_histogram

    if histogram is None:
        return read_counted(files, names, counts or "", chamber, reading=reading)
    of_tables = {"chamber": chamber, "counts": counts, "read": reading or None}
    refuse_given(of_tables, "cannot be given with --histogram, which names what is read")
    return read_histogram(files, histogram, names)
