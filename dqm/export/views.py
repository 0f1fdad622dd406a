"""Windows and bundles as the page, the API and reports show them; the schemas document the API."""

from __future__ import annotations

from pydantic import Field

from dqm.events import Quality
from dqm.events.summary import View
from dqm.reference import CertificateStatus, Light, Manifest, RateTest

__all__ = [
    "BundleFacts",
    "CertificateFacts",
    "CheckedFact",
    "Recent",
    "describe_bundle",
]


class Recent(View):
    """One of the last windows of a stream."""

    run: int
    seq: int
    quality: Quality


class CheckedFact(View):
    """Line of a certificate."""

    name: str = Field(description="what was looked at")
    light: str = Field(description="green, amber or red")
    number: float = Field(description="what was measured, as `found` says")
    found: str = Field(description="the number in words")
    meaning: str
    action: str = Field(description="what to do; empty for green")


class CertificateFacts(View):
    """Certificate of a bundle, the worst lines first."""

    light: str = Field(description="the worst of its lines: green, amber or red")
    windows: str = Field(description="windows that were tested")
    made_at: float = Field(description="Unix seconds")
    lines: tuple[CheckedFact, ...]


class BundleFacts(View):
    """Reference bundle in use."""

    identifier: str
    judges: str = Field("", description="windows of the stream that it judges, in words")
    features: tuple[str, ...]
    windows: str = Field(description="windows it is meant for")
    statistic: str
    is_of_channels: bool = Field(False, description="whether its windows carry the hits of every channel")
    settings: dict[str, float | int | str]
    n_reference: int = Field(description="reference events")
    n_toys: int = Field(description="healthy toys in all its null tables")
    nuisances: tuple[str, ...]
    rate_range_hz: tuple[float, float] | None = Field(
        None, description="rate of the reference less and plus its uncertainty; null if it is not known"
    )
    nuisance_ranges: dict[str, tuple[float, float]] = Field(
        {}, description="nominal value of each nuisance parameter less and plus the error of its measurement"
    )
    condition_ranges: dict[str, tuple[float, float]] = Field(
        {}, description="conditions of the detector while its events were taken, smallest and largest"
    )
    templates: tuple[str, ...] = Field(description="faults that it has learned")
    sources: tuple[str, ...]
    certificate: CertificateFacts | None = Field(None, description="what was measured of it")
    why_uncertified: str = Field("", description="why there is no certificate that counts")

    def value_range(self, name: str) -> tuple[float, float] | None:
        """Give what the reference has of a nuisance parameter or condition; None if it is not known."""
        return self.nuisance_ranges.get(name) or self.condition_ranges.get(name)


def describe_bundle(
    identifier: str,
    manifest: Manifest,
    judges: str = "",
    status: CertificateStatus | None = None,
    rate: RateTest | None = None,
) -> BundleFacts:
    """Describe a bundle.

    Parameters
    ----------
    identifier : str
        Its name.
    manifest : Manifest
        Its description.
    judges : str
        Windows of the stream that it judges, in words.
    status : CertificateStatus, optional
        Its certificate.
    rate : RateTest, optional
        Its test of the number of events.

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
        is_of_channels=manifest.is_of_channels,
        settings=manifest.settings_in_words,
        n_reference=manifest.n_reference,
        n_toys=sum(column.toys.shape[0] for column in manifest.null),
        nuisances=tuple(entry.name for entry in manifest.nuisances),
        rate_range_hz=rate and _rate_range(rate),
        nuisance_ranges={
            entry.name: (-entry.sigma, entry.sigma) for entry in manifest.nuisances if entry.sigma is not None
        },
        condition_ranges=manifest.conditions,
        templates=tuple(dict.fromkeys(entry.fault for entry in manifest.templates)),
        sources=tuple(source.name for source in manifest.sources),
        certificate=_describe_certificate(status),
        why_uncertified=status.why_none if status else "",
    )


def _rate_range(rate: RateTest) -> tuple[float, float] | None:
    if rate.hz is None or rate.is_free:
        return None
    return max(0.0, rate.hz * (1.0 - rate.typical_uncertainty)), rate.hz * (1.0 + rate.typical_uncertainty)


def _describe_certificate(status: CertificateStatus | None) -> CertificateFacts | None:
    if status is None or status.certificate is None:
        return None
    certificate = status.certificate
    return CertificateFacts(
        light=certificate.light,
        windows=certificate.windows,
        made_at=certificate.made_at,
        lines=tuple(
            CheckedFact(**line.model_dump())
            for light in reversed(Light)
            for line in certificate.lines_of(light)
        ),
    )
