"""Who gets in: windows that are new, of the run's origin and of a stream that is configured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import structlog

from dqm.errors import PeerError
from dqm.events import Verdict, Window
from dqm.export import Metrics
from dqm.store import VerdictStore
from dqm.stream import Reason, Receiver, SequenceTracker, find_conflict, identity_of

__all__ = ["Admission"]

log = structlog.get_logger(__name__)


class Admission:
    """Answers the senders of windows that are not to be judged, and counts them.

    Parameters
    ----------
    receiver : Receiver
        Where windows come from.
    store : VerdictStore
        Knows what was judged.
    metrics : Metrics
        Where refusals and duplicates are counted.
    """

    def __init__(self, receiver: Receiver, store: VerdictStore, metrics: Metrics) -> None:
        self._receiver, self._store, self._metrics = receiver, store, metrics
        self._sequences = SequenceTracker()

    def restore(self, verdicts: Sequence[Verdict]) -> None:
        """Go on where the store ends, for one or more streams."""
        self._sequences.restore(verdicts)

    def admit(self, window: Window, *, is_in_hand: bool) -> Window | None:
        """Decide on a window of a configured stream.

        Parameters
        ----------
        window : Window
            As it arrived.
        is_in_hand : bool
            Whether the same one waits for its verdict.

        Returns
        -------
        Window or None
            With the number of windows lost before it; None if it is refused, or known already.
        """
        identity = identity_of(window)
        refusal = self._sequences.find_refusal(window)
        is_stored = not is_in_hand and self._store.contains(*identity)
        stored = self._store.find(*identity) if is_stored else None
        if stored is not None:
            refusal = refusal or find_conflict(window, stored)
        if refusal is not None:
            self._turn_away(window, refusal)
            return None
        arrival = self._sequences.observe(window)
        self._metrics.show_arrivals(window.stream, self._sequences.counts(window.stream))
        if stored is not None:
            self._receiver.acknowledge(window)
        if stored is not None or is_in_hand:
            self._metrics.count_duplicate(window.stream)
            return None
        return replace(window, n_lost=arrival.n_lost)

    def refuse(self, refusal: PeerError) -> None:
        """Count a message that was refused, and log why."""
        self._metrics.refuse(refusal.reason)
        log.warning("message refused", reason=refusal.reason, what=refusal.what)

    def refuse_stream(self, window: Window) -> None:
        """Refuse a window whose stream is not configured."""
        what = f"stream {window.stream!r} is not configured"
        self._turn_away(window, PeerError(Reason.UNKNOWN_STREAM, what))

    def _turn_away(self, window: Window, refusal: PeerError) -> None:
        self._receiver.refuse(window, refusal.reason)
        self.refuse(refusal)
