"""Files that a reader has from elsewhere: of a detector, of another system, of a package of their own."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import uproot

from dqm_collectors.chamber.hits import write_tdc
from tests.collectors.words import simulated_hits
from tests.packages import write_examples


def write_hits(path: Path, seconds: float) -> None:
    """Write what the TDC of chamber 2 gave."""
    write_tdc(simulated_hits(seconds=seconds, rate_hz=60.0, chamber=2), path)


def write_histograms(folder: Path) -> None:
    """Write drift times of two good runs as ROOT histograms."""
    for seed, name in enumerate(("good1.root", "good2.root")):
        drift_ns = np.random.default_rng(seed).triangular(0.0, 60.0, 380.0, 60_000)
        with uproot.recreate(folder / name) as file:
            file["chamber/drift"] = np.histogram(drift_ns, bins=64, range=(0.0, 400.0))


def write_packages(folder: Path) -> None:
    """Write the packages of `docs/plugins.md`, and pulses of its ADC."""
    write_examples(folder)
    rng = np.random.default_rng(1)
    pulses = zip(np.arange(600) % 2, np.arange(600) / 10, rng.gamma(2.0, 1.0, 600), strict=True)
    (folder / "run7.txt").write_text("".join(f"{c} {t:.1f} {q:.3f} {20 + q:.3f}\n" for c, t, q in pulses))
