"""Windows of a run as the store has them: their times, the run's borders, and what people said about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from dqm.alarm import RunJournal, Span
from dqm.errors import InputError
from dqm.events import RunRecord, Verdict
from dqm.export.flags import Flag, flag_run, take_spans
from dqm.store import CertificationStore, RunStore, VerdictStore

__all__ = ["RunWindows", "read_run_windows"]


@dataclass(frozen=True, slots=True)
class RunWindows:
    """Windows of a run.

    Parameters
    ----------
    run : int
        Its number.
    spans : mapping of str to sequence of Span
        By stream; empty for a stream without windows.
    borders : mapping of str to RunRecord
        When the run began and ended, by stream, as far as it is known.
    journal : RunJournal
        What people said of it.
    """

    run: int
    spans: Mapping[str, Sequence[Span]]
    borders: Mapping[str, RunRecord]
    journal: RunJournal

    @property
    def verdicts(self) -> list[Verdict]:
        """Verdicts of all streams."""
        return [span.verdict for found in self.spans.values() for span in found]

    def refuse_empty(self, where: str = "") -> None:
        """Raise `InputError` if there is no window; `where` names the store."""
        if not any(self.spans.values()):
            fix = "'dqm history' lists the runs that have windows"
            raise InputError(f"run {self.run} has no windows", where=where, fix=fix)

    def flag(self) -> list[Flag]:
        """Flag the run, see `flag_run`."""
        return flag_run(self.spans, self.borders, self.journal.amendments)


def read_run_windows(
    store: VerdictStore,
    run: int,
    streams: Iterable[str] = (),
    *,
    by_judgement: bool = True,
    verdicts: Iterable[Verdict] | None = None,
) -> RunWindows:
    """Read the windows of a run.

    Parameters
    ----------
    store : VerdictStore
        Where they are.
    run : int
        Its number.
    streams : iterable of str
        Streams that should be there, besides those that are.
    by_judgement : bool
        As of `take_spans`.
    verdicts : iterable of Verdict, optional
        Verdicts of the run with all that the store has of them; default: what flags need.

    Raises
    ------
    InputError
        As `take_spans`.
    """
    windows: dict[str, list[Verdict]] = {stream: [] for stream in streams}
    for verdict in store.outline(run) if verdicts is None else verdicts:
        windows.setdefault(verdict.window.stream, []).append(verdict)
    return RunWindows(
        run,
        {stream: take_spans(found, by_judgement=by_judgement) for stream, found in windows.items()},
        RunStore(store.database).of_run(run),
        CertificationStore(store.database).journal(run),
    )
