"""Dead and noisy channels: how soon they are told and named, false alarms, and the cost of a window.

``python -m tests.studies.channel_faults`` prints three tables. Faults are those of the simulated chamber,
whose hits are counted as a collector counts them. False alarms are those of a detector whose rate,
illumination and channels wander, in the real alarm engine with the default budget: one false alarm in eight
hours.
"""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console
from rich.progress import track

from dqm.alarm import AlarmEngine, AlarmState, Cause, StreamFacts, alarm_rules, derive_thresholds
from dqm.config import DaemonConfig
from dqm.events import FloatArray, Quality, TestResult, Verdict, WindowHeader
from dqm.nplm.channels import LEAST_FACTOR, NUMBER, ChannelResult, ChannelTest
from dqm.reference import NullTable
from dqm_collectors.simulate import SimulateCollector
from tests.studies.false_alarms import interval

SHIFT_WINDOWS = 480
"""Windows in a shift of eight hours, one a minute."""

N_TOYS = 1000
RUN_WINDOWS = 60
"""Windows of the reference's run."""

WANDER_SEED = 7
"""Seed of the shifts that wander: the test was tuned while it was 2, so those shifts say too little."""

TRIES = 20
MOST_WINDOWS = 30

CARD = list(range(16, 32))
HEALTHY_HZ = 14.0
"""Hits of a wire of the simulated chamber, Hz."""

FAULTS: dict[str, tuple[Mapping[str, object], set[int]]] = {
    "none": ({}, set()),
    "1 dead wire": ({"dead_wires": [17]}, {17}),
    "4 dead wires": ({"dead_wires": [3, 17, 40, 62]}, {3, 17, 40, 62}),
    "dead card of 16": ({"dead_wires": CARD}, set(CARD)),
    "1 wire 3 times its rate": ({"noisy_wires": {5: 2 * HEALTHY_HZ}}, {5}),
    "1 wire 10 times its rate": ({"noisy_wires": {5: 9 * HEALTHY_HZ}}, {5}),
    "1 wire 100 times its rate": ({"noisy_wires": {5: 99 * HEALTHY_HZ}}, {5}),
    "illumination + 10 %": ({"illumination_slope": 0.1}, set()),
    "illumination - 10 %": ({"illumination_slope": -0.1}, set()),
}
"""Knobs of the simulation, and the channels that are at fault."""


@dataclass(frozen=True)
class Detector:
    """A test of channels with its null table.

    Parameters
    ----------
    test : ChannelTest
        Prepared.
    table : NullTable
        Of its toys.
    """

    test: ChannelTest
    table: NullTable

    @classmethod
    def learn(
        cls,
        run: FloatArray,
        channel_map: FloatArray,
        n_toys: int = N_TOYS,
        illumination: float = 0.1,
        wander: float | None = None,
    ) -> Detector:
        """Learn from the windows of a run, shape (n_windows, n_channels); `wander` replaces what it says."""
        n_expected = float(run.sum() / len(run))
        prepared = {"map": channel_map}
        test = ChannelTest(run, n_expected=n_expected, prepared=prepared, illumination=illumination)
        if wander is not None:
            prepared = replace(test.model, wander=wander).arrays
            test = ChannelTest(run, n_expected=n_expected, prepared=prepared, illumination=illumination)
        t = []
        for number in range(n_toys):
            x, hits = test.throw(np.random.default_rng([1, number]))
            t.append(test.evaluate(x, weights=hits).t)
        return cls(test, NullTable(np.array(t)))

    def judge(self, hits: FloatArray) -> tuple[ChannelResult, float]:
        """Test a window; also gives its p-value."""
        found = self.test.evaluate(self.test.model.channel_map[:, [NUMBER]], weights=hits)
        return found, self.table.p_value(found.t).p


def grid_map(n: int) -> FloatArray:
    """Four layers, cards of 16 channels."""
    number = np.arange(float(n))
    return np.column_stack([number, number % 4 + 1, number // 4 + 1, number // 16 + 1])


def simulated_windows(seconds: float, n: int, seed: int, **knobs: object) -> Iterator[FloatArray]:
    """Yield the hits of every channel of a simulated chamber in windows."""
    options = SimulateCollector.Options.model_validate(
        {
            "chambers": [0],
            "channels": True,
            "seed": seed,
            "seconds": seconds * n,
            "batch_seconds": seconds,
            "conditions": knobs,
        }
    )
    for batch in SimulateCollector(options):
        if batch.counts:
            yield batch.x[:, 1]


def make_engine(autocorrelation: float = 0.0, *, wanders: bool = False) -> AlarmEngine:
    """Make an engine with the default budget, of one stream, whose reference may say that it wanders."""
    config = DaemonConfig.model_validate(
        {"streams": [{"name": "s", "bundle": "none"}], "alarm": {"autocorrelation": autocorrelation}}
    )
    return AlarmEngine(
        alarm_rules(config), derive_thresholds(config, {"s": StreamFacts(wanders=wanders)}), 0.0
    )


def verdict_of(seq: int, found: ChannelResult, p: float, z: float) -> Verdict:
    """Make a window of which p is known."""
    n = int(found.hits.sum())
    result = TestResult(n, float(found.nominal.sum()), t=found.t, p=p, p_low=p, p_high=p, z=z)
    return Verdict(WindowHeader("s", 1, seq), Quality.GOOD, "", result, "", 0.0, 0.0)


def count_raised(engine: AlarmEngine, detector: Detector, hits: FloatArray, seq: int) -> int:
    """Observe a window; gives how many alarms of its shape it raises."""
    found, p = detector.judge(hits)
    value = detector.table.p_value(found.t)
    changes = engine.observe(verdict_of(seq, found, p, value.z), 60.0 * seq)
    return sum(
        change.alarm.state is AlarmState.ACTIVE
        and change.before is AlarmState.NORMAL
        and change.alarm.cause in (Cause.DIFFERS, Cause.DRIFT)
        for change in changes
    )


def find_delay(detector: Detector, windows: Iterator[FloatArray], healthy: Iterator[FloatArray]) -> int:
    """Count windows from the begin of a fault to the alarm; 0 if there is none."""
    engine = make_engine(wanders=detector.test.model.wander > LEAST_FACTOR)
    for seq, hits in enumerate(healthy):
        count_raised(engine, detector, hits, seq)
    for number, hits in enumerate(windows, start=1):
        if count_raised(engine, detector, hits, 100 + number):
            return number
    return 0


def show_detection(seconds: float) -> None:
    """Print how soon each fault is told, and how often exactly its channels are named."""
    run = np.stack(list(simulated_windows(seconds, RUN_WINDOWS, 1)))
    detector = Detector.learn(run, chamber_map())
    for name, (knobs, channels) in FAULTS.items():
        delays, named, n, p_smallest = [], 0, 0, 1.0
        for number in range(TRIES):
            faulty = list(simulated_windows(seconds, MOST_WINDOWS, 1000 + number, **knobs))
            healthy = simulated_windows(seconds, 3, 2000 + number)
            delays.append(find_delay(detector, iter(faulty), healthy))
            for hits in faulty[:5]:
                found, p = detector.judge(hits)
                named += {int(k) for k in np.flatnonzero(found.state)} == channels
                n += 1
                p_smallest = min(p_smallest, p)
        told = [delay for delay in delays if delay]
        soon = f"{np.median(told):.0f}, at most {max(told)}" if told else "none"
        found_in = f"{len(told)} of {TRIES}"
        tell(f"{seconds:g} s", name, found_in, soon, f"{named} of {n}", f"{p_smallest:.2g}")


def chamber_map() -> FloatArray:
    """Give the map of the simulated chamber."""
    from dqm_collectors.chamber.geometry import Convention, WireMap

    number = np.arange(64)
    _, layer, cell = WireMap.of(Convention.Y2021).wires(np.zeros_like(number), number)
    return np.column_stack([number, layer, cell + 1, number // 16 + 1]).astype(np.float64)


@dataclass
class Wander:
    """A detector whose rate, illumination and channels change slowly, each with its spread."""

    n: int
    mean: float
    rate: float
    slope: float
    own: float
    rng: np.random.Generator
    memory: float = 0.95

    def __post_init__(self) -> None:
        self.shares = self.rng.uniform(0.6, 1.4, self.n)
        self.position = np.linspace(-1.0, 1.0, self.n)
        self.state = [self.rng.standard_normal(size) for size in (1, 1, self.n)]

    def window(self) -> FloatArray:
        """Draw the next window."""
        fresh = np.sqrt(1.0 - self.memory**2)
        self.state = [self.memory * s + fresh * self.rng.standard_normal(len(s)) for s in self.state]
        rate, slope, own = self.state
        log_mean = self.rate * rate + self.slope * slope * self.position + self.own * own
        return self.rng.poisson(self.mean * self.shares * np.exp(log_mean)).astype(np.float64)


def show_false_alarms(
    n: int, mean: float, spreads: tuple[float, float, float], *, autocorrelation: float, n_shifts: int
) -> None:
    """Print false alarms per shift; every shift has a reference of its own."""
    found = 0
    for shift in track(range(n_shifts), console=Console(stderr=True)):
        wander = Wander(n, mean, *spreads, np.random.default_rng([WANDER_SEED, shift]))
        run = np.stack([wander.window() for _ in range(RUN_WINDOWS)])
        detector = Detector.learn(run, grid_map(n), 1000 if n < 1000 else 200)
        engine = make_engine(autocorrelation, wanders=detector.test.model.wander > LEAST_FACTOR)
        found += sum(count_raised(engine, detector, wander.window(), seq) for seq in range(SHIFT_WINDOWS))
    percents = (f"{100 * s:g} %" for s in spreads)
    configured = f"{autocorrelation:g}" if autocorrelation else "not set"
    tell(str(n), f"{mean:g}", *percents, configured, str(n_shifts), interval(found, n_shifts))


def show_cost(n: int) -> None:
    """Print time and memory of one window."""
    wander = Wander(n, 40.0, 0.05, 0.05, 0.02, np.random.default_rng(3))
    run = np.stack([wander.window() for _ in range(RUN_WINDOWS)])
    test = ChannelTest(run, n_expected=float(run.sum() / len(run)), prepared={"map": grid_map(n)})
    hits, seconds = wander.window(), []
    rows = test.model.channel_map[:, [NUMBER]]
    for _ in range(100):
        begin = time.process_time()
        test.evaluate(rows, weights=hits)
        seconds.append(time.process_time() - begin)
    tracemalloc.start()
    test.evaluate(rows, weights=hits)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    tell(str(n), f"{1e3 * np.median(seconds):.1f} ms", f"{1e3 * min(seconds):.1f} ms", f"{peak / 1e6:.1f} MB")


def tell(*cells: str) -> None:
    """Print a row at once: an interruption loses little."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def _head(*cells: str) -> None:
    sys.stdout.write("\n")
    tell(*cells)
    tell(*["---"] * len(cells))


def main() -> None:
    """Print the tables."""
    _head("channels", "CPU time: median", "shortest", "memory")
    for n in (64, 1000, 10_000):
        show_cost(n)
    _head(
        "windows of",
        "fault",
        "told",
        "windows to the alarm: median",
        "exactly its channels named",
        "smallest p",
    )
    for seconds in (3.0, 10.0):
        show_detection(seconds)
    wander = ("rate", "illumination", "each channel", "autocorrelation")
    _head("channels", "hits", *wander, "shifts", "false alarms per shift (95 %)")
    for spreads in ((0.0, 0.0, 0.0), (0.05, 0.05, 0.02), (0.1, 0.1, 0.05)):
        show_false_alarms(64, 400.0, spreads, autocorrelation=0.0, n_shifts=10)
        show_false_alarms(64, 400.0, spreads, autocorrelation=0.7, n_shifts=10)
    for spreads in ((0.0, 0.0, 0.0), (0.05, 0.05, 0.02)):
        show_false_alarms(10_000, 40.0, spreads, autocorrelation=0.7, n_shifts=2)


if __name__ == "__main__":
    main()
