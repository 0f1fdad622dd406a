"""Verdicts as rows of the table of verdicts."""

from __future__ import annotations

import math
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from dqm.events import (
    ChannelDeparture,
    ChannelSummary,
    NanResult,
    NuisanceResult,
    Origin,
    PMethod,
    Profiled,
    Quality,
    RateResult,
    RollingResult,
    TestResult,
    Verdict,
    WindowCut,
    WindowHeader,
)
from dqm.store.schema import verdicts

__all__ = ["identity_of", "row_of", "verdict_of"]


def identity_of(verdict: Verdict) -> dict[str, object]:
    """Give what no other verdict has, by column."""
    return {"stream": verdict.window.stream, "run": verdict.window.run, "seq": verdict.window.seq}


def row_of(verdict: Verdict) -> dict[str, object]:
    """Give the values of a verdict by column, without its explanation."""
    result = verdict.result
    return {
        **identity_of(verdict),
        "run_type": verdict.window.run_type,
        "origin": verdict.window.origin.value,
        "start": verdict.window.start,
        "end": verdict.window.end,
        "n_lost": verdict.window.n_lost,
        "n_data": result.n_data,
        "n_expected": result.n_expected,
        "t": result.t,
        "p": result.p,
        "p_low": result.p_low,
        "p_high": result.p_high,
        "p_method": result.p_method.value if result.p_method else None,
        "z": result.z,
        "result_reason": result.reason,
        "tau": result.tau,
        "delta": result.delta,
        "nuisances": {name: _fits_of(one) for name, one in result.nuisances.items()},
        "remarks": list(result.remarks),
        "warnings": dict(verdict.warnings),
        "rate": None if result.rate is None else asdict(result.rate),
        "channels": None if result.channels is None else asdict(result.channels),
        "nan": None if result.nan is None else asdict(result.nan),
        "rolling": None if result.rolling is None else asdict(result.rolling),
        "conditions": dict(verdict.window.conditions),
        "digest": verdict.window.digest,
        "is_late": verdict.window.is_late,
        "quality": verdict.quality.value,
        "reason": verdict.reason,
        "bundle": verdict.bundle,
        "seconds": verdict.seconds,
        "judged_at": verdict.judged_at,
    }


def verdict_of(row: Row[Any]) -> Verdict:
    """Make the verdict of a row that has all columns."""
    values = row._mapping
    c = verdicts.c
    method = values[c.p_method]
    return Verdict(
        window=WindowHeader(
            stream=values[c.stream],
            run=values[c.run],
            seq=values[c.seq],
            run_type=values[c.run_type],
            origin=Origin(values[c.origin]),
            start=values[c.start],
            end=values[c.end],
            n_lost=values[c.n_lost],
            conditions=values[c.conditions],
            digest=values[c.digest],
            is_late=values[c.is_late],
        ),
        quality=Quality(values[c.quality]),
        reason=values[c.reason],
        result=TestResult(
            n_data=values[c.n_data],
            n_expected=values[c.n_expected],
            t=values[c.t],
            p=values[c.p],
            p_low=values[c.p_low],
            p_high=values[c.p_high],
            p_method=PMethod(method) if method else None,
            z=values[c.z],
            reason=values[c.result_reason],
            tau=values[c.tau],
            delta=values[c.delta],
            nuisances={name: _to_nuisance(stored) for name, stored in values[c.nuisances].items()},
            remarks=tuple(values[c.remarks]),
            rate=_to_rate(values[c.rate]),
            channels=_to_channels(values[c.channels]),
            nan=None if values[c.nan] is None else NanResult(**values[c.nan]),
            rolling=_to_rolling(values[c.rolling]),
        ),
        bundle=values[c.bundle],
        seconds=values[c.seconds],
        judged_at=values[c.judged_at],
        warnings=values[c.warnings],
    )


def _fits_of(nuisance: NuisanceResult) -> dict[str, object]:
    """As `asdict`, which takes three times as long."""
    fits = {"reference": nuisance.reference, "alternative": nuisance.alternative}
    return {"measured": nuisance.measured} | {
        name: {"value": fit.value, "error": fit.error, "pull": fit.pull} for name, fit in fits.items()
    }


def _to_rate(stored: dict[str, Any] | None) -> RateResult | None:
    return None if stored is None else RateResult(**{**stored, "cut": WindowCut(stored["cut"])})


def _to_rolling(stored: dict[str, Any] | None) -> RollingResult | None:
    if stored is None:
        return None
    method = stored["p_method"]
    ends = {name: stored[name] and tuple(stored[name]) for name in ("first", "last")}
    return RollingResult(**{**stored, **ends, "p_method": PMethod(method) if method else None})


def _to_channels(stored: dict[str, Any] | None) -> ChannelSummary | None:
    if stored is None:
        return None
    worst = tuple(ChannelDeparture(**each) for each in stored["worst"])
    masked = tuple(stored.get("masked", ()))  # not in verdicts of earlier versions
    return ChannelSummary(**{**stored, "worst": worst, "masked": masked})


def _to_nuisance(stored: dict[str, Any]) -> NuisanceResult:
    fits = {key: _to_profiled(stored[key]) for key in ("reference", "alternative")}
    return NuisanceResult(stored["measured"], **fits)


def _to_profiled(stored: dict[str, Any]) -> Profiled:
    """Decode a fit; what was not finite is stored as null."""
    value, error = (math.nan if stored[key] is None else stored[key] for key in ("value", "error"))
    return Profiled(value, error, stored["pull"])
