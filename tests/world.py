"""A small detector for the page: streams, windows, alarms and people, with a clock of its own."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
from argon2 import PasswordHasher

from dqm.alarm import Cause, Guidance, KnownChannels, Priority, Rules, SignOffRules, StreamRules, Thresholds
from dqm.config import WebSection
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
from dqm.export import Metrics
from dqm.service.monitor.alarm_service import AlarmService
from dqm.service.monitor.certification_service import CertificationService
from dqm.service.monitor.comparison_jobs import ComparisonJobs
from dqm.service.monitor.recorder import Recorder
from dqm.service.offline.kept_selection import KeptPlace
from dqm.store import VerdictStore, WindowKeeper, sqlite_url
from dqm.web import Authenticator, Queries, StreamStatuses, UserFile, add_user, create_app
from dqm.web.models import BundleFacts
from tests.verdicts import alter, make_verdict

START = 1_790_000_000.0
VERSION = version("dqm")
GUIDANCE = Guidance(
    condition="The drift times differ from the reference.",
    action="Check the high voltage of the chamber.",
    contact="Muon expert on call, 16-2345",
)
FEATURES = ("t_1", "t_2", "theta")
PASSWORDS = {"maria": "correct horse", "jo": "battery staple"}
CHEAP = PasswordHasher(time_cost=1, memory_cost=8, parallelism=1)


class Clock:
    """Unix time as the test wants it."""

    def __init__(self, time: float = START) -> None:
        self.time = time

    def __call__(self) -> float:
        return self.time


@dataclass
class World:
    """Everything the page stands on."""

    queries: Queries
    alarm_service: AlarmService
    statuses: StreamStatuses
    store: VerdictStore
    clock: Clock
    metrics: Metrics
    users: Path

    def authenticator(self, **section: Any) -> Authenticator:
        """An authenticator with its users, and further keys of ``[web]``."""
        return Authenticator(
            WebSection(**section), UserFile(self.users, CHEAP), self.metrics.count_sign_in,
            self.alarm_service.history.record, self.clock, self.clock,
        )  # fmt: skip

    def judge(self, *verdicts: Verdict) -> None:
        """Store and show verdicts; they may raise alarms."""
        Recorder(self.store, self.alarm_service, self.clock).record(verdicts)
        for verdict in verdicts:
            self.statuses.observe(verdict)
            self.metrics.observe(verdict)

    def know_channels(self, stream: str, n: int = 8) -> None:
        """Give the reference of a stream channels in two layers, and cards of four."""
        numbers = np.arange(float(n))
        known = KnownChannels(numbers, numbers % 2 + 1.0, numbers // 4, np.full(n, 1 / n))
        rules, thresholds = self.alarm_service._rules, self.alarm_service.thresholds()
        streams = (replace(s, channels=(known,)) if s.stream == stream else s for s in rules.streams)
        self.alarm_service.revise(replace(rules, streams=tuple(streams)), thresholds)
        (facts,) = self.queries.bundles[stream]
        cast(dict[str, object], self.queries.bundles)[stream] = (
            facts.model_copy(update={"features": ("channel",), "is_of_channels": True}),
        )

    def raise_alarm(self, stream: str = "chamber-2") -> None:
        """Let three windows differ."""
        self.judge(*(verdict_of(stream, seq, p=2e-9, judged_at=self.clock()) for seq in range(3)))


def make_world(path: Path, groups: dict[str, list[str]], url: str | None = None, now: float = START) -> World:
    """Open a store, at the path or at another URL; two of three windows below 0.001 raise an alarm."""
    clock = Clock(now)
    streams = {stream: group for group, members in groups.items() for stream in members}
    rules = Rules(
        tuple(
            StreamRules(
                name, group, 600.0, 600.0, True, (), Priority.P2, dict.fromkeys(Cause, GUIDANCE), n_rolling=10
            )
            for name, group in streams.items()
        )
    )
    store = VerdictStore(url or sqlite_url(path))
    thresholds = Thresholds(0.001, 30.0, rate_p=0.001, changed_p=0.001)
    alarm_service = AlarmService(rules, thresholds, store.database, clock)
    statuses = StreamStatuses(streams, clock)
    facts = BundleFacts(
        identifier="3f9a21c7d0b4e865",
        features=FEATURES,
        windows="500 events cut by count",
        statistic="kernel",
        settings={"width": 2.5, "penalty": 1e-6, "centers": 300},
        n_reference=5000,
        n_toys=2000,
        nuisances=("drift_velocity",),
        rate_range_hz=(95.0, 105.0),
        nuisance_ranges={"drift_velocity": (-0.004, 0.004)},
        condition_ranges={"strip_voltage_v": (-1210.0, -1190.0)},
        templates=("lowered cathode voltage",),
        sources=("good.parquet",),
    )
    queries = Queries(
        statuses=statuses,
        alarm_service=alarm_service,
        certification=CertificationService(
            SignOffRules(), store, lambda: tuple(streams), clock, created_by=f"dqm {VERSION}"
        ),
        verdicts=store,
        history=alarm_service.history,
        kept=WindowKeeper(path.parent / "windows", 1_000_000).path,
        bundles=dict.fromkeys(streams, (facts,)),
        clock=clock,
        version=VERSION,
        # tests run beside others, which would leave no processor to it
        comparisons=ComparisonJobs(
            lambda: KeptPlace(path.parent, 0.05, 1024.0), store, clock, lowers_priority=False
        ),
    )
    metrics = Metrics(dict.fromkeys(streams, ("3f9a",)), clock, VERSION)
    metrics.show_states(queries.present)
    users = path.parent / "users.toml"
    for name, password in PASSWORDS.items():
        add_user(users, name, password, CHEAP)
    return World(
        queries,
        alarm_service,
        statuses,
        store,
        clock,
        metrics,
        users,
    )


class Browser:
    """Asks the application of a world as a browser does, or a program; cookies stay."""

    def __init__(
        self,
        world: World,
        *,
        as_program: bool = False,
        user: str = "",
        address: str = "127.0.0.1",
        authenticator: Authenticator | None = None,
    ) -> None:
        app = create_app(
            world.metrics,
            lambda: 0.1,
            queries=world.queries,
            authenticator=authenticator or world.authenticator(),
        )
        self._transport = httpx.ASGITransport(app, raise_app_exceptions=False)
        self.move(address)
        self._client = httpx.AsyncClient(
            transport=self._transport,
            base_url="http://127.0.0.1:8787",
            headers={} if as_program else {"Accept": "text/html", "Sec-Fetch-Site": "same-origin"},
            auth=(user, PASSWORDS[user]) if as_program and user else None,
            trust_env=False,
        )
        if user and not as_program:
            assert self.sign_in(user, PASSWORDS[user]).status_code == 303

    def move(self, address: str) -> None:
        """Ask from another address."""
        self._transport.client = (address, 40000)

    def token(self, path: str = "/login") -> str:
        """Token of the forms of a page."""
        return self.get(path).text.split('name="token" value="')[1].split('"')[0]

    def sign_in(self, user: str, password: str, **fields: str) -> httpx.Response:
        form = {"token": self.token(), "user": user, "password": password}
        return self.post("/login", data=form | fields)

    def ask(self, method: str, path: str, **request: Any) -> httpx.Response:
        return asyncio.run(self._client.request(method, path, **request))

    def get(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("GET", path, **request)

    def post(self, path: str, **request: Any) -> httpx.Response:
        return self.ask("POST", path, **request)


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
    plain = make_verdict(
        stream=stream, run=7, seq=seq, quality=quality, reason=reason, result=result,
        bundle="3f9a21c7d0b4e865", seconds=0.021, judged_at=START + seq,
        run_type="cosmics", origin=Origin.SIMULATED, start=START + seq - 5.0, end=START + seq,
        conditions=conditions, explanation=explanation_of() if quality in ("Medium", "Bad") else None,
    )  # fmt: skip
    return alter(plain, **fields)


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
