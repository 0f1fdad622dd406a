"""Files that a reader has from elsewhere."""

from __future__ import annotations

from pathlib import Path

from dqm_collectors.chamber.hits import write_tdc
from tests.collectors.words import simulated_hits


def write_hits(path: Path, seconds: float) -> None:
    """Write what the TDC of chamber 2 gave."""
    write_tdc(simulated_hits(seconds=seconds, rate_hz=60.0, chamber=2), path)
