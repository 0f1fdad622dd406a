"""Comparisons of kept events that users ask for: what is asked, what is shown, and who does them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Protocol

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dqm.alarm import parse_numbers
from dqm.events import Explanation, ReferenceCurve
from dqm.events.summary import View
from dqm.store import KeptChoice, Taken
from dqm.web.models import StreamName

__all__ = [
    "Comparison",
    "ComparisonBody",
    "ComparisonDetail",
    "ComparisonList",
    "ComparisonName",
    "ComparisonOutcome",
    "ComparisonSide",
    "ComparisonState",
    "Comparisons",
    "KeptRun",
]

MOST_RUNS = 10_000
"""Runs of a side, at most."""

ComparisonName = Annotated[str, StringConstraints(pattern="^[0-9a-f]{12}$")]
"""Name of a comparison."""

WindowNumber = Annotated[int, Field(ge=0, lt=10**15)]
"""Number of a window, with as many digits as `parse_numbers` takes for a run."""

RunText = Annotated[str, StringConstraints(max_length=1000, pattern=r"^[0-9, -]*$")]


class ComparisonState(StrEnum):
    """How far a comparison is."""

    WAITING = "Waiting"
    RUNNING = "Running"
    DONE = "Done"
    FAILED = "Failed"
    CANCELLED = "Cancelled"

    @property
    def is_over(self) -> bool:
        """Whether nothing will change any more."""
        return self in {ComparisonState.DONE, ComparisonState.FAILED, ComparisonState.CANCELLED}


class ComparisonSide(BaseModel):
    """One of the two that are compared: a stream with runs, or a window."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    stream: StreamName
    runs: RunText = Field(description="run numbers, as in 10-12,15")
    window: WindowNumber | None = Field(None, description="only this window of the run; null: all")
    taken: Taken = Field(Taken.FAIR, description="which of the kept windows of the runs")

    def choice(self) -> KeptChoice:
        """Give the chosen windows; raises `InputError` if there is no run, or one window of several runs."""
        return KeptChoice(self.stream, parse_numbers(self.runs, MOST_RUNS), self.window, self.taken)


class ComparisonBody(BaseModel):
    """Compare two runs, windows or streams by their kept events."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    first: ComparisonSide
    second: ComparisonSide
    permutations: int = Field(1000, ge=99, le=10_000, description="p is not below 1/(1 + permutations)")


class Comparison(View):
    """A comparison that somebody asked for."""

    identifier: str
    first: str = Field(description="A, in words")
    second: str = Field(description="B, in words")
    permutations: int
    state: ComparisonState
    user: str = Field(description="who asked first")
    asked_at: float = Field(description="Unix seconds")
    ended_at: float | None = Field(description="Unix seconds; null while it waits or runs")
    done: int = Field(description="permutations done")
    p: float | None = Field(description="p-value; null before it is done")
    problem: str = Field(description="why it failed, and what to do; empty if it did not")


class ComparisonOutcome(View):
    """What a comparison has found."""

    p: float = Field(description="exact, by permutations of the events")
    z: float | None = Field(description="p as a one-sided Gaussian significance; null for p = 1")
    is_told: bool = Field(description="whether p is small enough, below 0.05, to say that they differ")
    t_first: float = Field(description="part of t that A gives")
    t_second: float = Field(description="part of t that B gives")
    n_first: int = Field(description="events of A")
    n_second: int = Field(description="events of B")
    told: tuple[str, str] = Field(description="which windows were taken of A and of B")
    features: tuple[str, ...]
    left_out: tuple[str, ...] = Field(description="features of one side only")
    kernels: tuple[str, ...] = Field(description="kernels, in words")
    p_of_kernels: tuple[float, ...] = Field(description="p of each kernel alone")
    place: int = Field(description="the kernel whose t and maps these are")
    explanation: Explanation = Field(description="maps of A over B; B is scaled to the events of A")
    references: tuple[ReferenceCurve, ...] = Field(description="the references, in the bins of the maps")


class ComparisonDetail(Comparison):
    """A comparison with what it has found."""

    outcome: ComparisonOutcome | None = Field(description="null before it is done")


class ComparisonList(View):
    """Comparisons that are remembered, the newest first."""

    comparisons: tuple[Comparison, ...]


class KeptRun(View):
    """A run of which events are kept."""

    run: int
    n_good: int = Field(description="kept windows that were Good")
    n_anomalous: int = Field(description="kept windows that were Medium or Bad")


class Comparisons(Protocol):
    """Makes comparisons beside the work of the daemon; may be used from any thread."""

    def start(self, first: KeptChoice, second: KeptChoice, n_permutations: int, user: str) -> Comparison:
        """Begin a comparison, or give the same one if it was made already.

        Raises
        ------
        InputError
            If nothing is kept of one of them; it says what to do.
        BusyError
            If too many wait.
        """

    def find(self, identifier: str) -> ComparisonDetail:
        """Give a comparison; raises `NotFoundError`."""

    def all(self) -> Sequence[Comparison]:
        """Give those that are remembered, the newest first."""

    def cancel(self, identifier: str) -> Comparison:
        """End a comparison; one that is over stays as it is. Raises `NotFoundError`."""

    def kept_runs(self, stream: str) -> Sequence[KeptRun]:
        """Give the runs of a stream of which events are kept, the newest first."""

    def describe_keeping(self) -> str:
        """Say what this daemon keeps, and how to keep more."""
