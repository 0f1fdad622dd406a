"""Certificates of the bundles that a daemon uses: a red line is refused, a missing certificate is told."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog

from dqm.config import StreamSection
from dqm.errors import BundleError
from dqm.reference import CertificateStatus, Light

__all__ = ["refuse_red", "warn_of_certificates"]

MOST_NAMED = 5
"""Streams that a line of the log names."""

log = structlog.get_logger(__name__)


def refuse_red(stream: StreamSection, path: Path, status: CertificateStatus) -> None:
    """Refuse a bundle with a red line in its certificate, unless the stream accepts it.

    Parameters
    ----------
    stream : StreamSection
        Its configuration.
    path : Path
        The bundle.
    status : CertificateStatus
        Its certificate.

    Raises
    ------
    BundleError
        With all red lines.
    """
    certificate = status.certificate
    if certificate is None or stream.accept_red_certificate:
        return
    red = certificate.lines_of(Light.RED)
    if red:
        told = "; ".join(f"{line.name}: {line.meaning} ({line.found})" for line in red)
        raise BundleError(
            f"its certificate is red: {told}",
            where=str(path),
            fix=f"{red[0].action}. To use it all the same: accept_red_certificate = true in stream "
            f"{stream.name!r}",
        )


def warn_of_certificates(references: Mapping[str, Sequence[tuple[Path, CertificateStatus]]]) -> None:
    """Say in one line which streams have bundles without certificate, and in one which accept a red one.

    Parameters
    ----------
    references : mapping of str to sequence of (Path, CertificateStatus)
        Bundles of each stream.
    """
    pairs = [(stream, *one) for stream, found in references.items() for one in found]
    bare = [(stream, status.why_none) for stream, _, status in pairs if status.certificate is None]
    if bare:
        log.warning(
            "bundles are not certified: nobody has measured what their p-values are worth",
            n_streams=len({stream for stream, _ in bare}),
            streams=list(dict.fromkeys(stream for stream, _ in bare))[:MOST_NAMED],
            why=sorted({why for _, why in bare}),
            fix="run 'dqm reference validate BUNDLE' for the bundles of these streams",
        )
    red = [s for s, _, status in pairs if status.certificate and status.certificate.light is Light.RED]
    if red:
        log.warning(
            "bundles are used although their certificates are red, as the configuration says",
            n_streams=len(set(red)),
            streams=list(dict.fromkeys(red))[:MOST_NAMED],
            fix="see the certificate on the page of the stream, or 'dqm reference show BUNDLE'",
        )
