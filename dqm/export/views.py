"""Windows and bundles as the page, the API and reports show them; the schemas document the API."""

from __future__ import annotations

from pydantic import Field

from dqm.events import Quality
from dqm.events.summary import View
from dqm.reference import Manifest

__all__ = [
    "BundleFacts",
    "Recent",
    "describe_bundle",
]


class Recent(View):
    """One of the last windows of a stream."""

    run: int
    seq: int
    quality: Quality


class BundleFacts(View):
    """Reference bundle in use."""

    identifier: str
    judges: str = Field("", description="windows of the stream that it judges, in words")
    features: tuple[str, ...]
    windows: str = Field(description="windows it is meant for")
    statistic: str
    settings: dict[str, float | int | str]
    n_reference: int = Field(description="reference events")
    n_toys: int = Field(description="healthy toys in all its null tables")
    nuisances: tuple[str, ...]
    templates: tuple[str, ...] = Field(description="faults it has been taught")
    sources: tuple[str, ...]


def describe_bundle(identifier: str, manifest: Manifest, judges: str = "") -> BundleFacts:
    """Describe a bundle.

    Parameters
    ----------
    identifier : str
        Its name.
    manifest : Manifest
        Its description.
    judges : str
        Windows of the stream that it judges, in words.

    Returns
    -------
    BundleFacts
        For `Queries`.
    """
    return BundleFacts(
        identifier=identifier,
        judges=judges,
        features=manifest.features,
        windows=manifest.judged,
        statistic=manifest.statistic,
        settings=manifest.settings_in_words,
        n_reference=manifest.reference.shape[0],
        n_toys=sum(column.toys.shape[0] for column in manifest.null),
        nuisances=tuple(entry.name for entry in manifest.nuisances),
        templates=tuple(dict.fromkeys(entry.fault for entry in manifest.templates)),
        sources=tuple(source.name for source in manifest.sources),
    )
