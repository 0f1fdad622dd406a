"""Which run each stream is in: by what senders say, and by the windows that come. No I/O; memory is limited.

The run that began last is the one that a stream is in, or was in last. A run begins by a message, or by the
first window of a run that is not known. A window of a known run that is open makes it the present one again
if the present one has ended or has a smaller number; any other window is late and moves nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import replace

from dqm.errors import PeerError
from dqm.events import RunEvent, RunNotice, RunRecord, Window
from dqm.events.finite import format_moment
from dqm.stream.acknowledgement import Reason

__all__ = ["REMEMBERED_RUNS", "RunTracker"]

REMEMBERED_RUNS = 16
"""Last runs of each stream whose borders are remembered."""


class RunTracker:
    """Follows the runs of all streams; to be used from one thread."""

    def __init__(self) -> None:
        self._runs: dict[str, OrderedDict[int, RunRecord]] = {}
        self._present: dict[str, RunRecord] = {}

    def present(self, stream: str) -> RunRecord | None:
        """Give the run that a stream is in, or was in last; None if there was none."""
        return self._present.get(stream)

    def restore(self, records: Iterable[RunRecord]) -> None:
        """Continue from stored records, in the order in which they were noted."""
        for record in records:
            self._keep(record)

    def remember(self, records: Iterable[RunRecord]) -> None:
        """Add stored records of runs that were forgotten; what is remembered is newer, and stays."""
        for record in records:
            if self._find(record.stream, record.run) is None:
                self._keep(record)

    def observe(self, window: Window, now: float) -> RunRecord | None:
        """Take an admitted window into account.

        Parameters
        ----------
        window : Window
            Window that has no verdict yet.
        now : float
            Unix seconds.

        Returns
        -------
        RunRecord or None
            The run that the stream is in because of this window; None if it does not change that.
        """
        known = self._find(window.stream, window.run)
        present = self._present.get(window.stream)
        if known is None:
            position = self._next_position(window.stream)
            return self._keep(RunRecord(window.stream, window.run, window.run_type, position, noted_at=now))
        is_late = known.ended_at is not None or (
            present is not None and present.ended_at is None and present.run >= known.run
        )
        if is_late:
            self._runs[window.stream].move_to_end(window.run)
            return None
        return self._keep(replace(known, position=self._next_position(window.stream), noted_at=now))

    def apply(self, notice: RunNotice, streams: Sequence[str], now: float) -> tuple[RunRecord, ...]:
        """Let a run begin or end in streams: in all of them, or in none.

        Parameters
        ----------
        notice : RunNotice
            What a sender says.
        streams : sequence of str
            Streams that its pattern fits, at least one.
        now : float
            Unix seconds.

        Returns
        -------
        tuple of RunRecord
            What changes; empty if all of it was known.

        Raises
        ------
        PeerError
            If the run would end before it begins or goes on (``run-time``), or has ended otherwise in all
            of these streams (``run-ended``).
        """
        step = self._begin if notice.event is RunEvent.BEGIN else self._end
        changed: list[RunRecord] = []
        ended_otherwise: list[RunRecord] = []
        for stream in streams:
            known = self._find(stream, notice.run)
            if known is not None and notice.event is RunEvent.END and known.ended_at is not None:
                if (known.ended_at, known.why) != (notice.time, notice.why):
                    ended_otherwise.append(known)
                continue
            record = step(stream, known, notice)
            if record != known:
                changed.append(replace(record, noted_at=now))
        if len(ended_otherwise) == len(streams):
            first = ended_otherwise[0]
            raise PeerError(
                Reason.RUN_ENDED,
                f"run {notice.run} of {first.stream} ended already at {format_moment(first.ended_at or 0.0)}"
                + (f": {first.why}" if first.why else ""),
            )
        for record in changed:
            self._keep(record)
        return tuple(changed)

    def _begin(self, stream: str, known: RunRecord | None, notice: RunNotice) -> RunRecord:
        position = self._next_position(stream)
        if known is None:
            return RunRecord(stream, notice.run, notice.run_type, position, began_at=notice.time)
        if known.ended_at is not None and notice.time > known.ended_at:  # it goes on after a stop
            return replace(known, position=position, ended_at=None, why="", resumed_at=notice.time)
        return known if known.began_at is not None else replace(known, began_at=notice.time)

    def _end(self, stream: str, known: RunRecord | None, notice: RunNotice) -> RunRecord:
        if known is None:
            present = self._present.get(stream)
            is_free = present is None or present.ended_at is not None
            position = self._next_position(stream) if is_free else 0
            known = RunRecord(stream, notice.run, notice.run_type, position)
        step = "begins"
        opened_at = known.began_at
        if known.resumed_at is not None:
            step = "goes on"
            opened_at = known.resumed_at
        if opened_at is not None and notice.time < opened_at:
            raise PeerError(
                Reason.RUN_TIME,
                f"run {notice.run} of {stream} would end at {format_moment(notice.time)}, "
                f"before it {step} at {format_moment(opened_at)}",
            )
        return replace(known, ended_at=notice.time, why=notice.why)

    def _find(self, stream: str, run: int) -> RunRecord | None:
        runs = self._runs.get(stream)
        return runs.get(run) if runs is not None else None

    def _next_position(self, stream: str) -> int:
        present = self._present.get(stream)
        return 1 if present is None else present.position + 1

    def _keep(self, record: RunRecord) -> RunRecord:
        """Remember a record; of too many, the one that was used first and is not the present one goes."""
        runs = self._runs.setdefault(record.stream, OrderedDict())
        runs[record.run] = record
        runs.move_to_end(record.run)
        present = self._present.get(record.stream)
        if record.is_present_after(present):
            self._present[record.stream] = present = record
        while len(runs) > REMEMBERED_RUNS:
            del runs[next(run for run in runs if present is None or run != present.run)]
        return record
