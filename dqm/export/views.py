"""Verdicts, maps and bundles as page, API and reports show them; the schemas document the API."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dqm.events import (
    Condition,
    Explanation,
    Likeness,
    NuisanceResult,
    Origin,
    PMethod,
    Quality,
    RatioMap,
    Verdict,
)
from dqm.reference import Manifest

__all__ = [
    "BundleFacts",
    "ExplanationMaps",
    "Map",
    "Recent",
    "View",
    "WindowSummary",
    "describe_bundle",
    "explain",
    "summarise",
]


class View(BaseModel):
    """Something to be shown; made by the daemon."""

    model_config = ConfigDict(frozen=True)


class Recent(View):
    """One of the last windows of a stream."""

    run: int
    seq: int
    quality: Quality


class WindowSummary(View):
    """Verdict on one window, without its maps."""

    stream: str
    run: int
    seq: int
    run_type: str
    origin: Origin
    start: float | None = Field(description="first moment covered, Unix seconds; null without a clock")
    end: float | None = Field(description="last moment covered, Unix seconds; null without a clock")
    judged_at: float = Field(description="when it was decided, Unix seconds")
    quality: Quality
    reason: str = Field(description="why, in words; empty only if Good")
    n_data: int = Field(description="events in the window")
    n_expected: float = Field(description="events the reference was scaled to, N(R_0)")
    n_lost: int = Field(description="windows lost by the sender before this one")
    t: float | None = Field(description="test statistic tau - delta; null if not known")
    tau: float | None
    delta: float | None
    p: float | None = Field(description="p-value in (0, 1]; null if not known")
    p_low: float | None = Field(description="95 % interval of p")
    p_high: float | None
    p_method: PMethod | None = Field(
        description="read from the null table, or from the tail fitted beyond it"
    )
    z: float | None = Field(description="p as a one-sided Gaussian significance")
    nuisances: dict[str, NuisanceResult]
    warnings: dict[str, str] = Field(description="nuisance parameters that disagree with their measurement")
    remarks: tuple[str, ...] = Field(description="what limits the meaning of the numbers")
    conditions: dict[str, Condition]
    bundle: str = Field(description="reference bundle that judged it; empty if none did")
    seconds: float = Field(description="wall time of the test, s")


class Map(View):
    """A window and its reference in bins of one feature or of two; density ratio is fitted / reference."""

    features: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...] = Field(description="bin edges of each feature, raw units")
    reference: list[float] | list[list[float]] = Field(description="events expected in each bin")
    reference_error: list[float] | list[list[float]] = Field(description="its own one-sigma error")
    data: list[float] | list[list[float]] = Field(description="events seen")
    fitted: list[float] | list[list[float]] = Field(description="reference reweighted by exp(f)")


class ExplanationMaps(View):
    """Where a window departs from the reference, and what it looks like."""

    text: str
    ranking: tuple[tuple[str, float], ...] = Field(
        description="features and their share of the departure, 0 to 1, the largest first"
    )
    likenesses: tuple[Likeness, ...] = Field(description="known faults, the most similar first")
    maps: tuple[Map, ...] = Field(description="one for each feature")
    pairs: tuple[Map, ...] = Field(description="one for each pair of features")


class BundleFacts(View):
    """Reference bundle in use."""

    identifier: str
    features: tuple[str, ...]
    windows: str = Field(description="windows it is meant for")
    statistic: str
    settings: dict[str, float | int | str]
    n_reference: int = Field(description="reference events")
    n_toys: int = Field(description="healthy toys in all its null tables")
    nuisances: tuple[str, ...]
    templates: tuple[str, ...] = Field(description="faults it has been taught")
    sources: tuple[str, ...]


def summarise(verdict: Verdict) -> WindowSummary:
    """Flatten a verdict, without its maps."""
    r = verdict.result
    return WindowSummary(
        stream=verdict.stream,
        run=verdict.run,
        seq=verdict.seq,
        run_type=verdict.run_type,
        origin=verdict.origin,
        start=verdict.start,
        end=verdict.end,
        judged_at=verdict.judged_at,
        quality=verdict.quality,
        reason=verdict.reason,
        n_data=r.n_data,
        n_expected=r.n_expected,
        n_lost=verdict.n_lost,
        t=r.t,
        tau=r.tau,
        delta=r.delta,
        p=r.p,
        p_low=r.p_low,
        p_high=r.p_high,
        p_method=r.p_method,
        z=r.z,
        nuisances=dict(r.nuisances),
        warnings=dict(verdict.warnings),
        remarks=r.remarks,
        conditions=dict(verdict.conditions),
        bundle=verdict.bundle,
        seconds=verdict.seconds,
    )


def explain(explanation: Explanation | None) -> ExplanationMaps | None:
    """Write an explanation in plain numbers."""
    if explanation is None:
        return None
    return ExplanationMaps(
        text=explanation.text,
        ranking=explanation.ranking,
        likenesses=explanation.likenesses,
        maps=tuple(map(_map, explanation.maps)),
        pairs=tuple(map(_map, explanation.pairs)),
    )


def describe_bundle(identifier: str, manifest: Manifest) -> BundleFacts:
    """Write down what a bundle is.

    Parameters
    ----------
    identifier : str
        Its name.
    manifest : Manifest
        Its description.

    Returns
    -------
    BundleFacts
        For `Site`.
    """
    return BundleFacts(
        identifier=identifier,
        features=manifest.features,
        windows=str(manifest.kind),
        statistic=manifest.statistic,
        settings=manifest.settings,
        n_reference=manifest.reference.shape[0],
        n_toys=sum(column.toys.shape[0] for column in manifest.null),
        nuisances=tuple(entry.name for entry in manifest.nuisances),
        templates=tuple(dict.fromkeys(entry.fault for entry in manifest.templates)),
        sources=tuple(source.name for source in manifest.sources),
    )


def _map(ratio: RatioMap) -> Map:
    arrays: dict[str, Any] = {
        name: getattr(ratio, name).tolist() for name in ("reference", "reference_error", "data", "fitted")
    }
    edges = tuple(tuple(edge.tolist()) for edge in ratio.edges)
    return Map(features=ratio.features, edges=edges, **arrays)
