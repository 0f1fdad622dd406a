"""Whether what came back from another machine can be the report on a window.

A worker of a cluster may run other software, or have memory that fails. What it gives goes into verdicts and
into the store, so it is checked once, where it comes in. A number that is wrong and possible is not found.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from pydantic import ConfigDict, TypeAdapter, ValidationError

from dqm.events import EvaluationJob, EvaluationReport, RatioMap, RollingJob

__all__ = ["find_flaw"]

_MOST_CHARACTERS = 200
"""Of a text that came from outside."""


@dataclass(frozen=True, slots=True)
class _Checked:
    """A report; with all its parts, each is of the type that its class says."""

    __pydantic_config__ = ConfigDict(strict=True, revalidate_instances="always")

    report: EvaluationReport


_CHECKED = TypeAdapter(_Checked)


def find_flaw(job: EvaluationJob, outcome: object) -> str:
    """Say why this cannot be the report on a job; empty if it can.

    Parameters
    ----------
    job : EvaluationJob
        That it should be of.
    outcome : object
        Anything.

    Returns
    -------
    str
        Never all of what came, which may be large.
    """
    if not isinstance(outcome, EvaluationReport):
        return f"gave {type(outcome).__name__}, which is no report"[:_MOST_CHARACTERS]
    try:
        _CHECKED.validate_python(_Checked(outcome))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        place = ".".join(str(part) for part in first["loc"][1:])
        kind = type(first["input"]).__name__
        return f"gave a report with a part that is none: {place}: {first['msg']}, not {kind}"[
            :_MOST_CHARACTERS
        ]
    flaw = _find_other_window(job, outcome) or _find_impossible(outcome)
    return f"gave a report that cannot be: {flaw}"[:_MOST_CHARACTERS] if flaw else ""


def _find_other_window(job: EvaluationJob, report: EvaluationReport) -> str:
    """Say what shows that a report is of another window."""
    n_data, n_events = report.result.n_data, job.window.n_events
    rolling = report.result.rolling
    if report.bundle != job.bundle:
        return f"it is of bundle {report.bundle}, not {job.bundle}"
    if n_data != n_events:
        return f"it is of {n_data} events, not {n_events}"
    if isinstance(job.rolling, RollingJob):
        n_past = len(job.rolling.past)
        return (
            ""
            if rolling and rolling.n_windows == n_past
            else f"its rolling result is not of {n_past} windows"
        )
    return "" if rolling == job.rolling else "its rolling result is not that of the job"


def _find_impossible(report: EvaluationReport) -> str:
    """Say which number or which map cannot be."""
    result = report.result
    if result.p is None and not result.reason:
        return "it has neither p nor a reason"
    if result.p is not None and None in (result.p_low, result.p_high, result.p_method, result.z):
        return "it has p without its interval, method and z"
    parts = {"": result, "nan.": result.nan, "rolling.": result.rolling}
    for part, values in parts.items():
        for name in ("p", "p_low", "p_high"):
            value = getattr(values, name, None)
            if value is not None and not 0.0 <= value <= 1.0:
                return f"{part}{name} = {value}"
    for name, value in (("t", result.t), ("z", result.z), ("seconds", report.seconds)):
        if value is not None and math.isnan(value):
            return f"{name} = {value}"
    if not (math.isfinite(result.n_expected) and result.n_expected >= 0.0):
        return f"n_expected = {result.n_expected}"
    explained = report.explanation
    maps = () if explained is None else (*explained.maps, *explained.pairs, explained.occupancy)
    bad = next((one for one in maps if one is not None and not _is_map(one)), None)
    return "" if bad is None else f"the map of {bad.features}"


def _is_map(found: RatioMap) -> bool:
    """Tell whether all arrays of a map are numbers in the bins that it says."""
    shape = tuple(len(edges) - 1 for edges in found.edges)
    arrays = (found.reference, found.reference_error, found.data, found.fitted)
    return (
        len(found.features) == len(shape)
        and all(edges.ndim == 1 for edges in found.edges)
        and all(array.shape == shape for array in arrays)
        and all(array.dtype.kind in "fiu" for array in (*found.edges, *arrays))
    )
