"""A small detector for the page: streams, windows, alarms and people, with a clock of its own."""

from __future__ import annotations

import fnmatch
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from dqm.alarm import (
    Acknowledgement,
    Alarm,
    AlarmChange,
    AlarmState,
    Cause,
    Guidance,
    Mask,
    Priority,
    Shelf,
)
from dqm.errors import InputError
from dqm.events import (
    Condition,
    Explanation,
    Likeness,
    NuisanceResult,
    Origin,
    PMethod,
    Profiled,
    Quality,
    RatioMap,
    TestResult,
    Verdict,
)
from dqm.export import Site
from dqm.export.situation import Situation
from dqm.export.web.models import BundleFacts
from dqm.store import VerdictStore, sqlite_url

START = 1_790_000_000.0
GUIDANCE = Guidance(
    condition="The drift times differ from the reference.",
    action="Check the high voltage of the chamber.",
    contact="Muon expert on call, 16-2345",
)
FEATURES = ("t_1", "t_2", "theta")


class Clock:
    """Unix time as the test wants it."""

    def __init__(self) -> None:
        self.time = START

    def __call__(self) -> float:
        return self.time


@dataclass
class Leaf:
    stream: str


@dataclass
class Node:
    name: str
    path: str
    quality: Quality
    state: AlarmState
    children: Sequence[Node] = ()
    streams: Sequence[Leaf] = ()


@dataclass
class MemoryDesk:
    """Alarms in memory, raised by the test itself."""

    groups: dict[str, list[str]]
    clock: Clock
    by_name: dict[tuple[str, Cause], Alarm] = field(default_factory=dict)
    made: list[Mask] = field(default_factory=list)
    log: list[AlarmChange] = field(default_factory=list)

    def __post_init__(self) -> None:
        for streams in self.groups.values():
            for stream in streams:
                for cause in Cause:
                    self.by_name[stream, cause] = Alarm(
                        stream, cause, Priority.P2, GUIDANCE, AlarmState.NORMAL, self.clock()
                    )

    def raise_alarm(
        self, stream: str, cause: Cause = Cause.DIFFERS, text: str = "4 of 5 windows differ"
    ) -> None:
        now = self.clock()
        self._set(stream, cause, "window", state=AlarmState.ACTIVE, since=now, raised_at=now, text=text)

    def alarms(self) -> Sequence[Alarm]:
        return tuple(self.by_name.values())

    def masks(self) -> Sequence[Mask]:
        return tuple(self.made)

    def thresholds(self) -> object:
        return None

    def tree(self) -> Node:
        children = [
            Node(name, name, Quality.GOOD, AlarmState.NORMAL, (), [Leaf(stream) for stream in streams])
            for name, streams in self.groups.items()
        ]
        return Node("", "", Quality.GOOD, AlarmState.NORMAL, children)

    def changes(
        self,
        stream: str | None = None,
        since: float | None = None,
        until: float | None = None,
        limit: int | None = None,
    ) -> Iterator[AlarmChange]:
        found = [
            c
            for c in self.log
            if stream in (None, c.alarm.stream) and (since or 0) <= c.time < (until or math.inf)
        ]
        yield from found[-(limit or len(found)) :] if found else []

    def acknowledge(self, stream: str, cause: Cause, user: str, comment: str) -> None:
        alarm = self._find(stream, cause)
        if alarm.state is not AlarmState.ACTIVE:
            raise InputError(f"the alarm is {alarm.state}", where=f"{stream} {cause}", fix="Nothing to do")
        given = Acknowledgement(user, comment, self.clock())
        self._set(stream, cause, "acknowledge", user, comment, acknowledged=given)

    def shelve(
        self, stream: str, cause: Cause, user: str, reason: str, until: float | None, one_shot: bool
    ) -> None:
        shelf = Shelf(user, reason, self.clock(), until, one_shot)
        self._set(stream, cause, "shelve", user, reason, state=AlarmState.SHELVED, shelf=shelf)

    def unshelve(self, stream: str, cause: Cause, user: str, comment: str) -> None:
        if self._find(stream, cause).shelf is None:
            raise InputError("the alarm is on no shelf", where=f"{stream} {cause}")
        self._set(stream, cause, "unshelve", user, comment, state=AlarmState.NORMAL, shelf=None)

    def add_mask(
        self,
        streams: str,
        user: str,
        reason: str,
        run_types: tuple[str, ...],
        start: float | None,
        until: float | None,
    ) -> Mask:
        if not any(fnmatch.fnmatchcase(stream, streams) for stream, _ in self.by_name):
            raise InputError(f"no stream matches {streams!r}", where="streams", fix="Use * and ?")
        mask = Mask(
            f"mask-{len(self.made) + 1}", streams, user, reason, self.clock(), run_types, start, until
        )
        self.made.append(mask)
        return mask

    def remove_mask(self, identifier: str, user: str, comment: str) -> None:
        kept = [mask for mask in self.made if mask.identifier != identifier]
        if len(kept) == len(self.made):
            raise InputError(f"no mask {identifier!r}", fix="See the masks")
        self.made = kept

    def _find(self, stream: str, cause: Cause) -> Alarm:
        return self.by_name[stream, cause]

    def _set(
        self, stream: str, cause: Cause, action: str, user: str = "", comment: str = "", **fields: object
    ) -> None:
        before = self.by_name[stream, cause]
        after = replace(before, **fields)  # type: ignore[arg-type]
        self.by_name[stream, cause] = after
        self.log.append(AlarmChange(after, before.state, self.clock(), action, user, comment))


@dataclass
class World:
    """Everything the page stands on."""

    site: Site
    desk: MemoryDesk
    situation: Situation
    store: VerdictStore
    clock: Clock

    def judge(self, verdict: Verdict) -> None:
        """Store and show a verdict."""
        self.store.append(verdict)
        self.situation.observe(verdict)


def make_world(path: Path, groups: dict[str, list[str]]) -> World:
    clock = Clock()
    streams = [stream for members in groups.values() for stream in members]
    desk = MemoryDesk(groups, clock)
    situation = Situation(streams, clock)
    store = VerdictStore(sqlite_url(path))
    facts = BundleFacts(
        identifier="3f9a21c7d0b4e865",
        features=FEATURES,
        windows="500 events cut by count",
        statistic="kernel",
        settings={"width": 2.5, "penalty": 1e-6, "centers": 300},
        n_reference=5000,
        n_toys=2000,
        nuisances=("drift_velocity",),
        sources=("good.parquet",),
    )
    site = Site(situation, desk, store, desk, dict.fromkeys(streams, facts), clock, "0.1.0")
    return World(site, desk, situation, store, clock)


def verdict_of(stream: str = "chamber-1", seq: int = 0, p: float | None = 0.4, **fields: object) -> Verdict:
    """A verdict whose numbers belong together."""
    quality, reason = Quality.GOOD, ""
    if p is None:
        quality, reason = Quality.NULL, "12 events, fewer than 50 (expected 500)"
    elif p < 0.01:
        quality = Quality.BAD if p < 0.001 else Quality.MEDIUM
        reason = f"differs from the reference: p = {p:.2g} (below {0.001 if p < 0.001 else 0.01:g})"
    pull = float(np.random.default_rng(seq).normal())
    fit = Profiled(0.002 * pull, 0.004, pull)
    result = TestResult(
        n_data=500,
        n_expected=500.0,
        t=None if p is None else 40.0 - 8.0 * math.log10(p),
        p=p,
        p_low=None if p is None else 0.8 * p,
        p_high=None if p is None else min(1.0, 1.2 * p),
        p_method=None if p is None else (PMethod.TAIL if p < 1e-3 else PMethod.EMPIRICAL),
        z=None if p is None else -math.log10(p) + 0.1,
        reason=reason if p is None else "",
        tau=None if p is None else 45.0 - 8.0 * math.log10(p),
        delta=None if p is None else 5.0,
        nuisances={"drift_velocity": NuisanceResult(0.001, fit, fit)},
    )
    conditions: dict[str, Condition] = {"strip_voltage_v": -1200.0, "trigger": "cosmic"}
    plain = Verdict(
        stream, 7, seq, quality, reason, result, "3f9a21c7d0b4e865", 0.021, START + seq,
        run_type="cosmics", origin=Origin.SIMULATED, start=START + seq - 5.0, end=START + seq,
        conditions=conditions, explanation=explanation_of() if quality in ("Medium", "Bad") else None,
    )  # fmt: skip
    return replace(plain, **fields)  # type: ignore[arg-type]


def explanation_of() -> Explanation:
    """Maps of a window that departs in t_2."""
    rng = np.random.default_rng(2)
    n = 12
    edges = {name: np.linspace(0.0, 400.0, n + 1) for name in FEATURES} | {
        "theta": np.linspace(-45, 45, n + 1)
    }
    shape = np.exp(-0.5 * ((np.arange(n) - 5.5) / 3.0) ** 2)
    shape *= 500.0 / shape.sum()
    maps = []
    for name in FEATURES:
        tilt = np.exp((np.arange(n) - 5.5) * (0.25 if name == "t_2" else 0.01))
        fitted = shape * tilt * shape.sum() / (shape * tilt).sum()
        maps.append(
            RatioMap((name,), (edges[name],), shape, np.sqrt(shape / 10), rng.poisson(fitted) * 1.0, fitted)
        )
    pairs = []
    for a in range(len(FEATURES)):
        for b in range(a):
            reference = np.outer(shape, shape) / 500.0
            tilt = np.exp((np.arange(n) - 5.5) * 0.25) if FEATURES[a] == "t_2" else np.ones(n)
            fitted = reference * tilt[:, None]
            pairs.append(
                RatioMap(
                    (FEATURES[a], FEATURES[b]), (edges[FEATURES[a]], edges[FEATURES[b]]), reference,
                    np.sqrt(reference), rng.poisson(fitted) * 1.0, fitted,
                )
            )  # fmt: skip
    return Explanation(
        tuple(maps), tuple(pairs), (("t_2", 0.81), ("t_1", 0.12), ("theta", 0.07)),
        (Likeness("lowered cathode voltage", 0.92), Likeness("unlike anything known", 0.05)),
        "looks like lowered cathode voltage, 92 %",
    )  # fmt: skip
