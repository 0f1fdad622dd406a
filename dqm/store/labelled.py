"""Whether a window is labelled with a fault: then templates learn from its kept events."""

from __future__ import annotations

from dqm.alarm import Overlay
from dqm.events import WindowHeader
from dqm.store.certification_store import CertificationStore
from dqm.store.verdict_store import VerdictStore

__all__ = ["is_labelled"]


def is_labelled(store: VerdictStore, stream: str, run: int, seq: int) -> bool:
    """Tell whether a label that is not withdrawn covers a window.

    A label by time covers a window if it covers its middle, see `VerdictStore.find_span`; where the verdict
    is deleted, no label by time is known to fit.

    Parameters
    ----------
    store : VerdictStore
        Where verdicts and labels are.
    stream, run, seq : str, int, int
        Identity of the window.

    Raises
    ------
    StoreError
        If the store cannot be read.
    """
    amendments = CertificationStore(store.database).journal(run).amendments
    labels = [one for one in amendments if one.fault and one.scope.stream in ("", stream)]
    if not labels:
        return False
    by_time = any(one.scope.start is not None for one in labels)
    verdict = store.find(stream, run, seq) if by_time else None
    middle = None if verdict is None else store.find_span(verdict).middle
    return Overlay(labels).label(WindowHeader(stream, run, seq), middle) is not None
