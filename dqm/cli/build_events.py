"""Events that ``dqm reference build`` gets: their features, and histograms of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from dqm.cli.output import say
from dqm.cli.settings import refuse_given
from dqm.errors import ConfigError

if TYPE_CHECKING:
    from dqm.reference import NanRows
    from dqm.service.offline.feature_files import RunEvents

__all__ = ["check_run", "read_histograms", "read_kinds"]


def read_kinds(given: Sequence[str]) -> dict[str, str]:
    """Read options ``NAME=KIND``; raises `ConfigError`."""
    kinds = {}
    for text in given:
        name, equals, kind = text.partition("=")
        if not equals:
            raise ConfigError(f"{text!r} is not a kind of feature", where="--feature", fix="Give NAME=KIND")
        kinds[name.strip()] = kind.strip()
    return kinds


def check_run(
    run: RunEvents, statistic: str, kinds: Mapping[str, str], where: str | None
) -> tuple[RunEvents, NanRows | None]:
    """Leave out events with NaN, and say what is unusual about the others."""
    from dqm.reference import describe_features, drop_nan, refuse_run

    x, nan = drop_nan(run.x, run.names)
    refuse_run(x, run.names, where)
    for finding in describe_features(x, run.names, statistic, kinds):
        say(f"note: {finding}", err=True)
    return replace(run, x=x), nan


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
