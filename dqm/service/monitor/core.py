"""What the monitor does next: a state machine without sockets, clocks, threads, files or logs.

Theory of operation
-------------------
The daemon tells the core what has happened (an *event*) and carries out what the core answers (a list of
*instructions*, in this order). Nothing else in the daemon decides what becomes of a window.

A window takes these steps. Between two of them the core, and only the core, knows where it is::

    step           event        instruction
    receive        Received     LookUp
    admit          Found        (the window waits in the queue)
    evaluate       WorkersReady Evaluate
    grade          Evaluated    (the number of events is tested; the verdict waits for the next Tick)
    record         Tick         Store
    acknowledge    Stored       Acknowledge
    publish                     Publish, Keep

Why in this order:

*  The store is asked before a window is admitted (`LookUp`). A sender sends again what was not acknowledged.
   It may have a verdict: from before a restart, or because the acknowledgement was lost. Then it is
   acknowledged again and not judged twice. A window that is in flight is in no store yet, so the core looks
   into its own memory first. It also knows which windows must be new: the store is asked once for the largest
   number of a run (`Found.first_new`), and a window beyond this and beyond all that came since is admitted
   without a question.
*  A verdict is stored before the window is acknowledged. The sender keeps a window until then, so a crash at
   any point between loses nothing: the window comes again, and its identity tells whether it has a verdict.
*  It is stored before it is published, so that nobody is told a verdict that a crash can take back.
*  Verdicts are stored together, once a pass of the daemon's loop: a transaction costs more than a row.

The last runs of each stream are remembered; what the store knows of an older one comes with `Found` and
`RunReceived`, so that it is not taken for a new run.

A message about a run (`RunReceived`) takes a shorter way. Its key and its times are checked at once, for all
streams that its pattern fits: it is refused as a whole or not at all. What it changes waits for the next
`Store`, in which runs come before verdicts; then it is acknowledged and shown (`AnswerRun`, `ShowRun`). A
window of a run that is not known begins this run, which is stored with the next verdict. Whatever message
about a run was received before a window is durable when that window is acknowledged, duplicates included: a
sender relies on it (see `dqm.stream.run_backlog`).

What may fail between the steps, and what happens then:

*  The store does not answer a `LookUp` (`StoreFailed`): the window stays undecided and is looked up again.
*  The store does not take verdicts (`StoreFailed`): they stay, and so do their windows. Nothing more is
   received until they are stored (`wants_windows`), so that senders keep what cannot be recorded. The store
   is tried again after `STORE_RETRY_SECONDS`, for as long as it takes.
*  None of the references of its stream is for a window: it is ``Null`` without a test of any kind, because
   nobody said what is healthy in such a run.
*  A test fails, or its worker dies (`Evaluated` without a report): the verdict says why. It is ``Null``
   unless the number of events is wrong: this is tested here, for every window.
*  A test that had a rolling test beside it fails: it is done again without this, so that it can never take
   the verdict of the bundle away. A stream with a rolling reference has one window tested at a time, so
   that what a window is compared with depends on the order of the verdicts and not on the workers. While
   more than half of the queue is taken rolling tests are left out, so that nothing is given up for them.
*  More windows arrive than can be evaluated: a full queue stops the receiving, and ZeroMQ makes the senders
   wait. If it stays full for too long, the oldest windows of each stream are given up as ``Null``.
*  The configuration changes (`ReloadPrepared`): no test is begun until those under way are recorded, then
   `Adopt` is given. Windows that wait are judged by the new configuration.
*  The daemon is told to stop (`Stop`): tests that have begun are finished and recorded. Windows that wait are
   dropped without an acknowledgement; their senders keep them.

Time arrives with the events: `now` in seconds that never go back, `unix_time` for what people read.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

from dqm.alarm import Mask, RollingAlarmState
from dqm.alarm.good_sample import is_sampled
from dqm.alarm.quality import ANOMALOUS
from dqm.errors import PeerError
from dqm.events import EvaluationJob, RunRecord, Verdict, Window
from dqm.service.monitor.fair_queue import FairQueue
from dqm.service.monitor.grading import grade_evaluated, grade_untested, without_additions
from dqm.service.monitor.messages import (
    Acknowledge,
    Adopt,
    Adopted,
    AnswerRun,
    CountDuplicate,
    CountSkipped,
    Evaluate,
    Evaluated,
    Event,
    Found,
    Instruction,
    Keep,
    LookUp,
    MessageRefused,
    MonitorSettings,
    Prune,
    Publish,
    Received,
    Refuse,
    ReloadAbandoned,
    ReloadPrepared,
    ResumeWaits,
    RunReceived,
    ShowArrivals,
    ShowRun,
    ShowSilence,
    Stop,
    Store,
    Stored,
    StoreFailed,
    Tick,
    UpdateAlarms,
    WorkersReady,
)
from dqm.service.monitor.rolling_windows import RollingWindows
from dqm.stream import (
    Identity,
    Reason,
    RunMessage,
    RunTracker,
    SequenceTracker,
    find_conflict,
    identity_of,
)

__all__ = ["LONGEST_PAUSE_SECONDS", "LOOK_SECONDS", "STORE_RETRY_SECONDS", "MonitorCore"]

STORE_RETRY_SECONDS = 1.0
"""Pause before a store that failed is tried again."""

LOOK_SECONDS = 1.0
"""Time between two looks at what time alone does to alarms."""

LONGEST_PAUSE_SECONDS = 10.0
"""After a longer time without a look, nobody listened, or the clock was put forward: this is no silence."""

OVERLOAD = "overload: the daemon cannot keep up; newer windows are tested first"


class MonitorCore:
    """All that the monitor knows between two system calls.

    Parameters
    ----------
    settings : MonitorSettings
        Streams and their limits.
    overload_seconds : float
        How long the queue may be full before windows are given up.
    unix_time : float
        Unix seconds at the start.
    """

    def __init__(self, settings: MonitorSettings, *, overload_seconds: float, unix_time: float) -> None:
        self._settings = settings
        self._prepared: MonitorSettings | None = None
        self._sequences = SequenceTracker()
        self._runs = RunTracker()
        self._queue = FairQueue(settings.most_waiting, overload_seconds)
        self._undecided: Window | None = None
        self._is_asked = False
        self._in_flight: dict[Identity, Window] = {}
        self._n_evaluating = 0
        self._rolling = RollingWindows()
        self._masks: Mapping[str, Sequence[Mask]] = {}
        self._unstored: list[Verdict] = []
        self._unstored_runs: list[RunRecord] = []
        self._answers: list[Instruction] = []
        """What senders are told when all that is unstored now is durable."""
        self._storing: Store | None = None
        self._storing_answers: list[Instruction] = []
        self._is_failing = False
        self._now = float("-inf")
        self._unix_time = unix_time
        self._retry_at = float("-inf")
        self._look_at = float("-inf")
        self._listened_until = unix_time
        self._is_stopping = False

    @property
    def wants_windows(self) -> bool:
        """Whether a window may be received now."""
        has_place = self._queue.room > 0 and self._undecided is None
        return has_place and not (self.is_held or self._is_stopping)

    @property
    def room(self) -> int:
        """Windows that the queue can take."""
        return self._queue.room

    @property
    def has_unstored(self) -> bool:
        """Whether there are verdicts that are not durable, or senders that wait until something is."""
        return bool(self._unstored or self._answers) or self._storing is not None

    @property
    def is_held(self) -> bool:
        """Whether the store must be waited for: it has failed, or has verdicts to take first."""
        has_verdicts = bool(self._unstored) or self._storing is not None
        return self._now < self._retry_at or has_verdicts or (self._is_failing and self.has_unstored)

    @property
    def can_evaluate(self) -> bool:
        """Whether a window waits that may be given to a worker."""
        is_free = self._prepared is None and not self._is_stopping
        return is_free and self._queue.can_give(self._busy)

    @property
    def _busy(self) -> Collection[str]:
        """Streams whose next window waits for the last one; none where this would hold up too many."""
        return () if self._queue.is_crowded else self._rolling.busy

    @property
    def is_idle(self) -> bool:
        """Whether no window is being evaluated or waits to be stored."""
        return self._n_evaluating == 0 and not self.has_unstored

    @property
    def n_waiting(self) -> int:
        """Windows that wait for their test."""
        return len(self._queue)

    @property
    def n_in_flight(self) -> int:
        """Windows that were admitted and have no stored verdict."""
        return len(self._in_flight)

    def restore(self, verdicts: Iterable[Verdict], runs: Iterable[RunRecord] = ()) -> None:
        """Go on from where the store ends; verdicts of streams that were not watched until now."""
        self._sequences.restore(verdicts)
        self._runs.restore(runs)

    def handle(self, event: Event) -> list[Instruction]:
        """Take in what has happened.

        Parameters
        ----------
        event : Event
            What has happened.

        Returns
        -------
        list of Instruction
            What is to be done now, in this order.
        """
        match event:
            case Received(window):
                return self._receive(window)
            case RunReceived(message, unix_time, stored):
                self._runs.remember(stored)
                return self._receive_run(message, unix_time)
            case MessageRefused(refusal):
                if refusal.window is not None and refusal.window[0] in self._settings.streams:
                    self._sequences.note_refused(*refusal.window)
            case Found():
                return self._find(event)
            case WorkersReady(room, now, unix_time, masks):
                self._masks = masks
                return [*self._skip_old_windows(now, unix_time), *self._evaluate(room, unix_time)]
            case Evaluated():
                return self._grade(event)
            case Tick(now, unix_time):
                return self._tick(now, unix_time)
            case Stored(alarms):
                return self._finish(alarms)
            case StoreFailed(now):
                self._hold(now)
            case ReloadPrepared(settings):
                self._prepared = settings
            case ReloadAbandoned():
                self._prepared = None
            case Adopted(recent):
                return self._adopt(recent)
            case Stop():
                self._is_stopping = True
        return []

    def _receive(self, window: Window) -> list[Instruction]:
        """Refuse what cannot be admitted, whatever the store says; ask the store about the rest."""
        if window.stream not in self._settings.streams:
            return [_refuse_stream(window)]
        refusal = self._sequences.find_refusal(window)
        known = self._in_flight.get(identity_of(window))
        if known is not None:
            refusal = refusal or find_conflict(window, known)
            return [Refuse(window, refusal)] if refusal is not None else self._count_duplicate(window)
        if refusal is None and self._sequences.is_new(window):
            return self._admit(window)
        self._undecided = window
        return self._look_up(window)

    def _receive_run(self, message: RunMessage, unix_time: float) -> list[Instruction]:
        """Let a run begin or end in all streams that the pattern fits, or refuse the message."""
        try:
            streams = self._find_streams(message)
            self._unstored_runs += self._runs.apply(message.notice, streams, unix_time)
        except PeerError as refusal:
            return [AnswerRun(message, refusal)]
        self._answers.append(AnswerRun(message))
        return []

    def _find_streams(self, message: RunMessage) -> list[str]:
        """Give the streams that a message about a run is about; raises `PeerError` if its key may not."""
        notice = message.notice
        sender = message.sender
        streams = [name for name in self._settings.streams if fnmatchcase(name, notice.streams)]
        if not streams:
            raise PeerError(Reason.UNKNOWN_STREAM, f"no configured stream fits {notice.streams!r}")
        forbidden = [name for name in streams if sender is not None and not sender.may_send(name)]
        if sender is not None and forbidden:
            what = f"{sender.name} may not {notice.event} runs of stream {forbidden[0]}"
            raise PeerError(Reason.STREAM_NOT_ALLOWED, what)
        return streams

    def _look_up(self, window: Window) -> list[Instruction]:
        self._is_asked = True
        return [LookUp(window)]

    def _find(self, found: Found) -> list[Instruction]:
        """Admit the window that the store was asked about, unless it has a verdict or is refused."""
        window = found.window
        verdict = found.verdict
        if window is not self._undecided:
            return []
        self._undecided = None
        if window.stream not in self._settings.streams:  # a reload came between
            return [_refuse_stream(window)]
        refusal = self._sequences.find_refusal(window)
        if verdict is not None:
            refusal = refusal or find_conflict(window, verdict)
        if refusal is not None:
            return [Refuse(window, refusal)]
        if verdict is not None:
            return [*self._count_duplicate(window), *self._acknowledge_again(window)]
        self._sequences.note_stored(window, found.first_new)
        if found.run is not None:
            self._runs.remember([found.run])
        return self._admit(window)

    def _admit(self, window: Window) -> list[Instruction]:
        """Let a window wait for its test: it has no verdict."""
        if (record := self._runs.observe(window, self._unix_time)) is not None:
            self._unstored_runs.append(record)
        present = self._runs.present(window.stream)
        is_late = present is not None and present.run != window.run
        admitted = replace(window, is_late=is_late) if is_late is not window.is_late else window
        n_lost = self._sequences.observe(admitted).n_lost
        if n_lost != admitted.n_lost:
            admitted = replace(admitted, n_lost=n_lost)
        self._in_flight[identity_of(admitted)] = admitted
        self._queue.put(admitted)
        return [self._show_arrivals(window)]

    def _acknowledge_again(self, window: Window) -> list[Instruction]:
        """Acknowledge a window that has a verdict, once what came before it is durable."""
        if not (self._answers or self._storing_answers):
            return [Acknowledge(window)]
        self._answers.append(Acknowledge(window))
        return []

    def _count_duplicate(self, window: Window) -> list[Instruction]:
        self._sequences.observe(window)
        return [self._show_arrivals(window), CountDuplicate(window.stream)]

    def _show_arrivals(self, window: Window) -> ShowArrivals:
        return ShowArrivals(window.stream, replace(self._sequences.counts(window.stream)))

    def _skip_old_windows(self, now: float, unix_time: float) -> list[Instruction]:
        """Give up what has waited for too long, before anything is taken from a queue that is full."""
        skipped = self._queue.give_up(now)
        self._unstored += [
            self._give_up(window, OVERLOAD, unix_time, self._find_masked(window, unix_time))
            for window in skipped
        ]
        return [CountSkipped(window.stream) for window in skipped]

    def _evaluate(self, room: int, unix_time: float) -> list[Instruction]:
        """Give windows to the workers; none while tests must end before a reload.

        The reference is chosen here. A window that none is for is `Null` and takes no worker.
        """
        jobs: list[Instruction] = []
        while len(jobs) < room and (window := self._take()) is not None:
            stream = self._settings.streams[window.stream]
            reference = stream.find_reference(window)
            if reference is None:
                reason = stream.describe_unreferenced(window)
                self._unstored.append(self._give_up(window, reason, unix_time))
                continue
            job = EvaluationJob(
                window,
                reference.bundle,
                explain_below=stream.limits.medium_p,
                min_events=stream.limits.min_events,
                tests_nan=stream.tests_nan,
                masked=self._find_masked(window, unix_time),
                others_wait=len(self._queue) > 0,
            )
            if stream.rolling is not None:
                is_crowded = self._queue.is_crowded
                job = self._rolling.leave_out(job) if is_crowded else self._rolling.begin(job, stream.rolling)
            jobs.append(Evaluate(job))
        self._n_evaluating += len(jobs)
        return jobs

    def _take(self) -> Window | None:
        """Give the window that is tested next, if one may be."""
        return self._queue.take(self._busy) if self.can_evaluate else None

    def _grade(self, event: Evaluated) -> list[Instruction]:
        if event.lost is not None and (again := without_additions(event.lost, event.failure)):
            return [Evaluate(again)]
        self._n_evaluating -= 1
        self._unstored.append(grade_evaluated(event, self._settings.streams[event.window.stream]))
        return []

    def _give_up(
        self, window: Window, reason: str, unix_time: float, masked: tuple[int, ...] = ()
    ) -> Verdict:
        stream = self._settings.streams[window.stream]
        return grade_untested(window, reason, stream, unix_time=unix_time, masked=masked)

    def _find_masked(self, window: Window, unix_time: float) -> tuple[int, ...]:
        masks = self._masks.get(window.stream, ())
        return self._settings.streams[window.stream].find_masked(window, masks, unix_time)

    def _tick(self, now: float, unix_time: float) -> list[Instruction]:
        """Store verdicts; if there are none, do what else is due."""
        self._now = now
        self._unix_time = unix_time
        if now < self._retry_at or self._storing is not None:
            return self._look(can_store=False)
        if not (self._unstored or self._answers):
            return self._do_what_is_due()
        self._storing = Store(tuple(self._unstored), tuple(self._unstored_runs))
        self._storing_answers = self._answers
        self._unstored = []
        self._unstored_runs = []
        self._answers = []
        return [self._storing]

    def _finish(self, alarms: Mapping[str, RollingAlarmState]) -> list[Instruction]:
        """Forget what is durable, and say what is to be told of it."""
        stored, self._storing = self._storing, None
        if stored is None:
            return []
        self._is_failing = False
        answers, self._storing_answers = self._storing_answers, []
        shown = [ShowRun(run) for run in stored.runs if run.stream in self._settings.streams]
        instructions: list[Instruction] = [*answers, *shown]
        for verdict in stored.verdicts:
            window = self._in_flight.pop(identity_of(verdict.window))
            self._note_past(window, verdict, alarms.get(window.stream, RollingAlarmState()))
            instructions += [Acknowledge(window), Publish(verdict)]
            is_sample = self._is_sample(window, verdict)
            if is_sample or verdict.quality in ANOMALOUS:
                instructions.append(Keep(window, verdict, is_sample))
        return [*instructions, *self._do_what_is_due()]

    def _note_past(self, window: Window, verdict: Verdict, alarms: RollingAlarmState) -> None:
        """Let a window enter the rolling reference of its stream, if it has one and the window may."""
        stream = self._settings.streams.get(window.stream)
        if stream is not None and stream.rolling is not None:
            self._rolling.add(window, verdict, stream.rolling, alarms)

    def _is_sample(self, window: Window, verdict: Verdict) -> bool:
        """Tell whether a Good window is kept; of counted rows no reference is made of windows."""
        return not window.counts and is_sampled(verdict, self._settings.good_share)

    def _do_what_is_due(self) -> list[Instruction]:
        """Do what the store must be able for, once it has taken all verdicts."""
        instructions: list[Instruction] = []
        if self._undecided is not None and not self._is_asked:
            instructions += self._look_up(self._undecided)
        instructions += self._look(can_store=True)
        if self._prepared is not None and self.is_idle and not self._is_stopping:
            instructions.append(Adopt())
        return instructions

    def _look(self, *, can_store: bool) -> list[Instruction]:
        """Once a second look at what time alone does.

        Alarms wait while the store does: their changes must be stored. This time is no silence, because
        windows were held up. The page shows at once that nothing comes.
        """
        if self._now < self._look_at or self._is_stopping:
            return []
        self._look_at = self._now + LOOK_SECONDS
        if not can_store:
            return [ShowSilence()]
        listened_until, self._listened_until = self._listened_until, self._unix_time
        is_pause = self._unix_time - listened_until > LONGEST_PAUSE_SECONDS
        pause = [ResumeWaits(listened_until)] if is_pause else []
        return [*pause, UpdateAlarms(), Prune(), ShowSilence()]

    def _hold(self, now: float) -> None:
        """Wait before the store is tried again; what it did not take stays."""
        if self._storing is not None:
            self._unstored = [*self._storing.verdicts, *self._unstored]
            self._unstored_runs = [*self._storing.runs, *self._unstored_runs]
            self._answers = [*self._storing_answers, *self._answers]
            self._storing = None
            self._storing_answers = []
        self._is_asked = False
        self._is_failing = True
        self._now = max(self._now, now)
        self._retry_at = now + STORE_RETRY_SECONDS

    def _adopt(self, recent: Sequence[Verdict]) -> list[Instruction]:
        """Go by the new settings; windows of streams that are gone are refused."""
        if self._prepared is None:
            return []
        before, self._settings, self._prepared = self._settings, self._prepared, None
        self._queue.resize(self._settings.most_waiting)
        self._sequences.restore(recent)
        self._rolling.keep({name: stream.rolling for name, stream in self._settings.streams.items()})
        refused: list[Instruction] = []
        for stream in before.streams.keys() - self._settings.streams.keys():
            for window in self._queue.withdraw(stream):
                del self._in_flight[identity_of(window)]
                refused.append(_refuse_stream(window))
        return refused


def _refuse_stream(window: Window) -> Refuse:
    what = f"stream {window.stream!r} is not configured"
    return Refuse(window, PeerError(Reason.UNKNOWN_STREAM, what))
