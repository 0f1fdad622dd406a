"""Names of columns and features, and messages that list them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from itertools import chain, count
from unicodedata import name as unicode_name
from unicodedata import normalize

from dqm.errors import FileError, escape_text, format_names
from dqm.events import FileColumn

__all__ = [
    "CHAMBER",
    "MOST_LISTED",
    "NAME_FEATURES",
    "NO_NUMBERS",
    "TIME",
    "describe_columns",
    "feature_of",
    "is_feature_name",
    "list_names",
    "name_features",
    "no_such",
    "other_features",
    "suggest_names",
]


TIME = "time"
CHAMBER = "chamber"

NO_NUMBERS = (
    "Give a file with a column of numbers, or compute features by derive and name them with --features"
)
"""What to do about a file that has none."""

MOST_LISTED = 30
"""Columns, trees or files that a message lists."""

LONGEST_SHOWN = 80
"""Characters of a name that a message shows."""

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")
_UNIT = re.compile(r"(.+?)\s*[\[(]\s*([^\[\]()]+?)\s*[\])]")
_NOT_IN_NAMES = re.compile(r"[^A-Za-z0-9._-]+")


def feature_of(name: str) -> str:
    """Give the name that a column has as a feature: ``drift time [ns]`` is ``drift_time_ns``.

    A unit in brackets at the end is joined by ``_``, and so are words. A name with other characters that no
    feature can have stays as it is: it needs a name in ``columns``.
    """
    if is_feature_name(name):
        return name
    text = name.strip()
    found = _UNIT.fullmatch(text)
    words = " ".join(found.groups()) if found else text
    joined = "_".join(words.split())
    return joined if is_feature_name(joined) else name


def is_feature_name(name: str) -> bool:
    """Tell whether a feature may have the name: 1 to 64 letters, digits, ``.``, ``_`` and ``-``."""
    return _NAME.fullmatch(name) is not None


def other_features(columns: Iterable[str], column: str) -> list[str]:
    """Give the features that are read from columns, without one of these."""
    return [feature_of(name) for name in columns if name not in (column, TIME, CHAMBER)]


def name_features(usable: Iterable[str] = ()) -> str:
    """Say how features are named that leave out a column of no use.

    Parameters
    ----------
    usable : iterable of str
        Those that can be used; empty if they are not known. The message names them unless they are many, or
        have names that no feature can have.
    """
    names = list(usable)
    if not 0 < len(names) <= MOST_LISTED or not all(map(is_feature_name, names)):
        names = ["A", "B"]
    quoted = ",".join(f'"{name}"' for name in names)
    return (
        f"Name the features to use: --features {','.join(names)}, or the collector's option features, as in "
        f"--set 'features=[{quoted}]' of extract"
    )


NAME_FEATURES = name_features()
"""What to do about a column that is of no use, where others are not known."""


def suggest_names(names: Sequence[str]) -> list[str]:
    """Give different names for columns whose own names no feature can have: ``θ (rad)`` is ``theta_rad``."""
    found: list[str] = []
    for name in names:
        stem = _NOT_IN_NAMES.sub("_", "".join(map(_spell, normalize("NFKD", name)))).strip("_.-")[:60] or "x"
        candidates = chain([stem], (f"{stem}_{k}" for k in count(2)))
        found.append(next(one for one in candidates if one not in found))
    return found


def _spell(letter: str) -> str:
    """Give a Greek letter its name."""
    words = unicode_name(letter, "").split()
    return words[-1].lower() if words[:1] == ["GREEK"] else letter


def no_such(
    kind: str, name: str, known: Sequence[str], *, where: str, listed: str | None = None
) -> FileError:
    """Make the error for a name that does not exist: the nearest one, and all there are.

    Parameters
    ----------
    kind : str
        What it should be: column, branch, tree.
    name : str
        What was asked for.
    known : sequence of str
        What there is.
    where : str
        File or table.
    listed : str, optional
        Text of what there is; `known` by default.
    """
    near = get_close_matches(name, known, 1)
    advice = f"Did you mean {_shorten(near[0])!r}? " if near else ""
    return FileError(
        f"no {kind} {_shorten(name)!r}",
        where=where,
        fix=f"{advice}There are: {listed or list_names(known)}" if known else f"There is no {kind} at all",
    )


def list_names(names: Sequence[str]) -> str:
    """List names, at most `MOST_LISTED` of them."""
    return format_names(list(map(_shorten, names)), MOST_LISTED)


def describe_columns(columns: Iterable[FileColumn]) -> str:
    """List columns with their types: ``t_1 (double), hits.x (std::vector<float>)``."""
    return list_names([f"{_shorten(one.name)} ({one.kind})" if one.kind else one.name for one in columns])


def _shorten(name: str) -> str:
    shown = escape_text(name)
    return shown if len(shown) <= LONGEST_SHOWN else f"{shown[:LONGEST_SHOWN]}..."
