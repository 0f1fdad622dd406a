"""Which Good windows are kept: a share of them, chosen by their identity."""

from __future__ import annotations

import hashlib

from dqm.events import Quality, Verdict

__all__ = ["is_sampled"]


def is_sampled(verdict: Verdict, share: float) -> bool:
    """Tell whether a window belongs to the sample of Good windows.

    The choice depends on stream, run and number alone: a window that comes again, or is judged again after a
    crash, is chosen again. It has nothing to do with what is in the window.

    Parameters
    ----------
    verdict : Verdict
        Verdict on the window.
    share : float
        Share of the Good windows that are chosen, 0 to 1.
    """
    if verdict.quality is not Quality.GOOD:
        return False
    window = verdict.window
    digest = hashlib.sha256(f"{window.stream}\0{window.run}\0{window.seq}".encode()).digest()
    return int.from_bytes(digest[:8]) < share * 2.0**64
