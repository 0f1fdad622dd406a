"""A window made from an array of a script, with the measurements that belong to it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dqm.errors import InputError, format_count
from dqm.events import Measurement, Origin, Window, WindowCut
from dqm.nplm.samples import Sample
from dqm.reference.manifest import Manifest

__all__ = ["Measured", "make_window"]

Measured = float | tuple[float, float] | None
"""Measurement of a nuisance parameter: a value, a value and its error, or None if there is none."""


def make_window(
    manifest: Manifest,
    sample: Sample,
    *,
    names: Sequence[str] | None,
    n_expected: float | None,
    measured: Mapping[str, Measured],
) -> tuple[Window, tuple[str, ...]]:
    """Make a window from an array, to be tested against a bundle.

    Parameters
    ----------
    manifest : Manifest
        Of the bundle.
    sample : Sample
        Events in raw features.
    names : sequence of str or None
        Names of the columns; None: those of the bundle.
    n_expected : float or None
        Events expected; None: the window is cut by count.
    measured : mapping of str to Measured
        Measurement of each measured nuisance parameter.

    Returns
    -------
    window : Window
        Without an identity.
    free : tuple of str
        Nuisance parameters that are to be fitted freely.

    Raises
    ------
    InputError
        If columns or a measurement are missing, or something is given that the bundle does not know.
    """
    events = sample.x
    features = manifest.features
    counts = _counts_of(manifest, sample)
    columns = features if names is None else tuple(names)
    if events.shape[1] != len(columns):
        raise InputError(
            f"the window has {format_count(events.shape[1], 'column')} for "
            f"{format_count(len(columns), 'feature')}: {', '.join(columns)}",
            fix="Give an array of shape (events, features), or the names of all its columns",
        )
    missing = [name for name in features if name not in columns]
    if missing:
        raise InputError(
            f"the window lacks the feature {missing[0]!r}", fix=f"The bundle has: {', '.join(features)}"
        )
    if n_expected is not None and not (np.isfinite(n_expected) and n_expected > 0):
        raise InputError(f"n_expected is {n_expected}", fix="Give a finite number above 0")
    cut = WindowCut.COUNT if n_expected is None else WindowCut.TIME
    readings, free = _readings(manifest, measured, cut)
    window = Window(
        stream="",
        run=0,
        seq=0,
        run_type="",
        origin=Origin.LIVE,
        cut=cut,
        names=(*columns, counts) if counts else columns,
        x=np.column_stack([events, sample.weights]) if counts else events,
        counts=counts,
        n_expected=n_expected,
        auxiliary=readings,
    )
    return window, free


def _counts_of(manifest: Manifest, sample: Sample) -> str:
    """Give the column of counts that the window will have; raises `InputError` if there is none."""
    counts = manifest.counts or ""
    if bool(counts) != (sample.counts is not None):
        given, rows = ("no weights", "counted rows") if counts else ("weights", "single events")
        raise InputError(f"{given} given for a bundle of {rows}", fix="Give weights=... with these only")
    return counts


def _readings(
    manifest: Manifest, measured: Mapping[str, Measured], cut: WindowCut
) -> tuple[tuple[Measurement, ...], tuple[str, ...]]:
    """Make measurements from what was given; also give the names of the parameters to be fitted freely."""
    sigmas = {
        entry.name: entry.sigma
        for entry in manifest.nuisances
        if entry.sigma is not None and entry.concerns(cut)
    }
    unknown = [name for name in measured if name not in sigmas]
    if unknown:
        raise InputError(
            f"{unknown[0]!r} is not a measured nuisance parameter of windows cut by {cut}",
            where="measured",
            fix=f"For such windows the bundle has: {', '.join(sigmas) or 'none'}",
        )
    readings = []
    free = []
    for name, sigma in sigmas.items():
        if name not in measured:
            raise InputError(
                f"{name} has no measurement",
                where="measured",
                fix=f"Give measured={{{name!r}: value}}, or None to fit it freely",
            )
        given = measured[name]
        if given is None:
            free.append(name)
        else:
            readings.append(_reading(name, given, sigma))
    return tuple(readings), tuple(free)


def _reading(name: str, given: Any, sigma: float) -> Measurement:
    try:
        value, error = given if isinstance(given, Sequence) else (given, sigma)
        reading = Measurement(name, float(value), float(error), time=0.0)
    except (TypeError, ValueError) as error:
        raise InputError(
            f"{given!r} is not a measurement", where=f"measured {name}", fix="Give a value, or (value, error)"
        ) from error
    if not (np.isfinite(reading.value) and np.isfinite(reading.sigma) and reading.sigma > 0):
        raise InputError(
            f"{given!r} is not a measurement",
            where=f"measured {name}",
            fix="Give finite numbers, an error above 0",
        )
    return reading
