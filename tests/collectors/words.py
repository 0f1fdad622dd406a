"""Raw words for tests: simulated hits, and the binary format written from its description."""

from __future__ import annotations

import numpy as np

from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.chamber.geometry import Convention
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.simulation import simulate_hits


def simulated_hits(
    convention: Convention = Convention.Y2021,
    *,
    seconds: float = 5.0,
    rate_hz: float = 120.0,
    seed: int = 2,
    chamber: int = 0,
) -> RawHits:
    """Words of one chamber in the order of time."""
    rng = np.random.default_rng(seed)
    span = seconds * 1e9
    passage = np.sort(rng.uniform(0, span, int(rate_hz * seconds)))
    made = simulate_hits(
        Conditions(), passage, span, rng, chamber=chamber, first_count=10**12, convention=convention
    )
    return made.raw


def binary_of(raw: RawHits, first_channel: int = 0, *, like_text: bool = False) -> bytes:
    """Words of 64 bits; the electronics count channels from 0 and TDC from 1, text does not."""
    shift = 0 if like_text else 1
    channel = raw.channel - (0 if like_text else first_channel)
    words = [
        head << 62 | fpga << 58 | wire << 49 | (orbit % 2**32) << 17 | bx << 5 | tdc + shift
        for head, fpga, wire, orbit, bx, tdc in zip(
            *(a.tolist() for a in (raw.head, raw.fpga, channel, raw.orbit, raw.bx, raw.tdc)), strict=True
        )
    ]
    return b"".join(word.to_bytes(8, "little") for word in words)
