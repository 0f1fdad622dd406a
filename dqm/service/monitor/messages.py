"""What the daemon's loop and its core tell each other: settings and events in, instructions out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from dqm.alarm import KnownChannels, Mask, QualityLimits, RollingAlarmState, applies
from dqm.errors import PeerError
from dqm.events import EvaluationJob, EvaluationReport, RunRecord, Verdict, Window
from dqm.reference import RateTest, ReferenceRule, describe_unreferenced
from dqm.stream import RunMessage, StreamCounts

__all__ = [
    "Acknowledge",
    "Adopt",
    "Adopted",
    "AnswerRun",
    "CountDuplicate",
    "CountSkipped",
    "Evaluate",
    "Evaluated",
    "Event",
    "Found",
    "Instruction",
    "Keep",
    "LookUp",
    "MessageRefused",
    "MonitorSettings",
    "Publish",
    "Received",
    "Refuse",
    "ReloadAbandoned",
    "ReloadPrepared",
    "RollingSettings",
    "RunReceived",
    "ShowArrivals",
    "ShowRun",
    "ShowSilence",
    "Stop",
    "Store",
    "StoreFailed",
    "Stored",
    "StreamReference",
    "StreamSettings",
    "Tick",
    "UpdateAlarms",
    "WorkersReady",
]


@dataclass(frozen=True, slots=True)
class StreamReference:
    """A reference of a stream.

    Parameters
    ----------
    bundle : str
        Its identifier.
    rule : ReferenceRule
        Which windows it judges.
    rate : RateTest
        Test of the number of events.
    channels : KnownChannels or None
        Its channels; None if it has none.
    statistic : str
        Name of its test; empty if it is not known.
    """

    bundle: str
    rule: ReferenceRule = field(default_factory=ReferenceRule)
    rate: RateTest = field(default_factory=RateTest)
    channels: KnownChannels | None = None
    statistic: str = ""

    def without(self, window: Window, masked: Sequence[int]) -> Window:
        """Give a window without the hits of the masked channels, expecting none of them."""
        return window if self.channels is None else self.channels.without(window, masked)


@dataclass(frozen=True, slots=True)
class RollingSettings:
    """What windows of a stream are compared with beside their bundle.

    Parameters
    ----------
    n_windows, n_permutations : int
        The last good windows, and divisions of their events.
    least_p : float
        A window with a smaller p has changed.
    """

    n_windows: int
    n_permutations: int
    least_p: float


@dataclass(frozen=True, slots=True)
class StreamSettings:
    """What the core must know of a stream.

    Parameters
    ----------
    limits : QualityLimits
        What p-values mean.
    references : sequence of StreamReference
        In the order in which they are tried.
    tests_nan : bool
        Whether events may have NaN.
    bad_channels : tuple of int
        Channels that always count for nothing.
    rolling : RollingSettings or None
        Of its rolling reference, if it has one.
    """

    limits: QualityLimits
    references: Sequence[StreamReference]
    tests_nan: bool = False
    bad_channels: tuple[int, ...] = ()
    rolling: RollingSettings | None = None

    def find_reference(self, window: Window) -> StreamReference | None:
        """Give the first reference that fits a window; None if none does."""
        return next((one for one in self.references if one.rule.fits(window)), None)

    def describe_unreferenced(self, window: Window) -> str:
        """Say why none fits a window."""
        return describe_unreferenced(window, [one.rule for one in self.references])

    def find_masked(self, window: Window, masks: Sequence[Mask], unix_time: float) -> tuple[int, ...]:
        """Give the channels that count for nothing in a window that is judged now.

        Parameters
        ----------
        window : Window
            Of this stream.
        masks : sequence of Mask
            Masks of channels of this stream.
        unix_time : float
            Unix seconds.
        """
        reference = self.find_reference(window)
        if reference is None or reference.channels is None:
            return ()
        choices = [m.channels for m in masks if m.channels and applies(m, window.run_type, unix_time)]
        return reference.channels.find(choices, self.bad_channels)


@dataclass(frozen=True, slots=True)
class MonitorSettings:
    """What the core goes by until the next reload.

    Parameters
    ----------
    streams : mapping of str to StreamSettings
        Configured streams by name.
    most_waiting : int
        Windows that may wait for their test, in all.
    good_share : float
        Share of the Good windows that are kept.
    """

    streams: Mapping[str, StreamSettings]
    most_waiting: int
    good_share: float = 0.0


# Events: what has happened.


@dataclass(frozen=True, slots=True)
class Received:
    """A window has arrived. To be told only while `MonitorCore.wants_windows`."""

    window: Window


@dataclass(frozen=True, slots=True)
class RunReceived:
    """A message about a run has arrived. To be told only while `MonitorCore.wants_windows`.

    `stored` is what the store knows of this run, in all streams.
    """

    message: RunMessage
    unix_time: float
    stored: tuple[RunRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class MessageRefused:
    """A message was refused before it became a window."""

    refusal: PeerError


@dataclass(frozen=True, slots=True)
class Found:
    """The store has answered `LookUp`: the verdict on the window, or None if there is none.

    No window of its run with the number `first_new` or a larger one has a verdict. `run` is what the store
    knows of its run.
    """

    window: Window
    verdict: Verdict | None
    first_new: int
    run: RunRecord | None = None


@dataclass(frozen=True, slots=True)
class WorkersReady:
    """The workers can take `room` windows now; and the masks of channels, by stream, as they are now."""

    room: int
    now: float
    unix_time: float
    masks: Mapping[str, Sequence[Mask]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Evaluated:
    """A window was evaluated: `report` is what that gave, or None and `failure` says why there is none.

    The channels in `masked` counted for nothing, as its `EvaluationJob` said. `lost` is that job, if a worker
    was lost with it.
    """

    window: Window
    report: EvaluationReport | None
    failure: str
    unix_time: float
    masked: tuple[int, ...] = ()
    lost: EvaluationJob | None = None


@dataclass(frozen=True, slots=True)
class Tick:
    """The daemon's loop has come round."""

    now: float
    unix_time: float


@dataclass(frozen=True, slots=True)
class Stored:
    """The verdicts and runs of the last `Store` are durable.

    `alarms` says what the alarms of streams with a rolling reference mean for it, after these verdicts.
    """

    alarms: Mapping[str, RollingAlarmState] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class StoreFailed:
    """The store could not carry out `LookUp`, `Store`, `UpdateAlarms`, `Prune` or `Adopt`."""

    now: float


@dataclass(frozen=True, slots=True)
class ReloadPrepared:
    """Another configuration is ready to be adopted."""

    settings: MonitorSettings


@dataclass(frozen=True, slots=True)
class Adopted:
    """The new configuration is in effect.

    Parameters
    ----------
    recent : sequence of Verdict
        Last verdicts of the streams that are new.
    """

    recent: Sequence[Verdict]


@dataclass(frozen=True, slots=True)
class ReloadAbandoned:
    """The new configuration cannot be adopted: the present one stays."""


@dataclass(frozen=True, slots=True)
class Stop:
    """The daemon has been told to end."""


Event = (
    Received
    | RunReceived
    | MessageRefused
    | Found
    | WorkersReady
    | Evaluated
    | Tick
    | Stored
    | StoreFailed
    | ReloadPrepared
    | Adopted
    | ReloadAbandoned
    | Stop
)


# Instructions: what the daemon shall do.


@dataclass(frozen=True, slots=True)
class LookUp:
    """Ask the store for the verdict on a window; to be answered by `Found` or `StoreFailed`."""

    window: Window


@dataclass(frozen=True, slots=True)
class Refuse:
    """Tell the sender that a window is refused for good; count and log the reason."""

    window: Window
    refusal: PeerError


@dataclass(frozen=True, slots=True)
class Acknowledge:
    """Tell the sender that a window has a verdict."""

    window: Window


@dataclass(frozen=True, slots=True)
class CountDuplicate:
    """Count a window that has been seen before."""

    stream: str


@dataclass(frozen=True, slots=True)
class CountSkipped:
    """Count a window that was given up because the daemon cannot keep up."""

    stream: str


@dataclass(frozen=True, slots=True)
class ShowArrivals:
    """Show how the windows of a stream have arrived."""

    stream: str
    counts: StreamCounts


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Give a window to a worker; to be answered by `Evaluated`."""

    job: EvaluationJob


@dataclass(frozen=True, slots=True)
class Store:
    """Store verdicts, borders of runs, and what they do to alarms, all or none.

    To be answered by `Stored` or `StoreFailed`. The borders come first.
    """

    verdicts: tuple[Verdict, ...]
    runs: tuple[RunRecord, ...] = ()


@dataclass(frozen=True, slots=True)
class AnswerRun:
    """Tell the sender that a message about a run is stored; or, with a refusal, that it is refused."""

    message: RunMessage
    refusal: PeerError | None = None


@dataclass(frozen=True, slots=True)
class ShowRun:
    """Show a border of a run that is stored."""

    record: RunRecord


@dataclass(frozen=True, slots=True)
class Publish:
    """Show a verdict that is stored."""

    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Keep:
    """Keep the events of a window: one that departs from its reference, or one of a sample of Good ones.

    `is_sample` says which, because each kind has room of its own.
    """

    window: Window
    verdict: Verdict
    is_sample: bool


@dataclass(frozen=True, slots=True)
class UpdateAlarms:
    """Let the alarms notice the time; to be answered by `StoreFailed` if what changes cannot be stored."""


@dataclass(frozen=True, slots=True)
class ResumeWaits:
    """Count silence on: nobody listened since `absent_from`, Unix seconds, or the clock was put forward."""

    absent_from: float


@dataclass(frozen=True, slots=True)
class Prune:
    """Remove from the store what is older than it shall keep; to be answered by `StoreFailed` if it fails."""


@dataclass(frozen=True, slots=True)
class ShowSilence:
    """Show which streams are silent."""


@dataclass(frozen=True, slots=True)
class Adopt:
    """Bring the prepared configuration into effect.

    To be answered by `Adopted`, `ReloadAbandoned` or `StoreFailed`.
    """


Instruction = (
    LookUp
    | Refuse
    | Acknowledge
    | CountDuplicate
    | CountSkipped
    | ShowArrivals
    | Evaluate
    | Store
    | AnswerRun
    | ShowRun
    | Publish
    | Keep
    | UpdateAlarms
    | ResumeWaits
    | Prune
    | ShowSilence
    | Adopt
)
