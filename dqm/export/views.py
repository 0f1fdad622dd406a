"""Maps and bundles as page, API and reports show them; the schemas document the API."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from dqm.events import (
    Explanation,
    Likeness,
    Quality,
    RatioMap,
)
from dqm.events.summary import View
from dqm.reference import Manifest

__all__ = [
    "BundleFacts",
    "ExplanationMaps",
    "Map",
    "Recent",
    "describe_bundle",
    "explain",
]


class Recent(View):
    """One of the last windows of a stream."""

    run: int
    seq: int
    quality: Quality


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


def explain(explanation: Explanation | None) -> ExplanationMaps | None:
    """Convert an explanation to plain numbers."""
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
    """Describe a bundle.

    Parameters
    ----------
    identifier : str
        Its name.
    manifest : Manifest
        Its description.

    Returns
    -------
    BundleFacts
        For `Queries`.
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
