"""What the rolling reference sees of steps and ramps, and what it alarms on in healthy days.

``python -m tests.studies.rolling OUTPUT`` writes tables into OUTPUT, and each sequence that is done into
``sequences.json``, from where an interrupted study goes on. Windows of 500 events of the simulated chamber
are compared with the last K good ones by 200 permutations; kernels have 150 centres, half of what a daemon
takes. What may enter is decided as in the daemon, but the frozen reference takes no part: it calls every
window Good. So a fault is kept out by the rolling test alone, and what the table shows of ramps is what this
test would do without the other.

The weather changes the drift velocity by +- 2 % in a day of 96 windows (a quarter of an hour each). The
nuisance term is that of the drift velocity, learned from simulated samples at +- 1 and +- 3 %. An alarm is 2
of the last 3 windows below the p that 4 streams of a window a minute have for a tenth of one false alarm in
a shift. It takes 10 minutes of one core.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from dqm.alarm import RollingAlarmState, RollingReference
from dqm.alarm.budget import onset_rate, solve_threshold
from dqm.events import FloatArray, Quality, RollingResult, TestResult, Verdict, WindowHeader
from dqm.nplm import RollingTest, Shape
from dqm.nplm.rolling_test import MAX_CENTERS
from dqm.nplm.taylor import Network, ShiftedSample, learn_taylor
from dqm.reference.null import NullTable
from dqm_collectors.chamber.conditions import NOMINAL_THRESHOLD_MV, Conditions
from tests.studies.simulated_faults import events

SIZE, N_PERMUTATIONS, LENGTHS = 500, 200, (5, 10, 30)
N_REFERENCE, N_LEARNED, CENTERS = 10_000, 30_000, 150
DAY, SWING = 96, 0.02
"""Windows of a day, and the largest relative change of the drift velocity in it."""
WARM_UP = max(LENGTHS) + 2
"""Healthy windows before the first one that is tested."""
K_OF, N_OF = 2, 3
LIMIT = solve_threshold(0.1 / (4 * 480), lambda p: onset_rate(p, K_OF, N_OF))
VELOCITY = Conditions().drift_velocity_mm_per_ns

FAULTS: dict[str, Callable[[float], Conditions]] = {
    "threshold - 10 %": lambda part: Conditions(threshold_mv=NOMINAL_THRESHOLD_MV * (1 - 0.1 * part)),
    "threshold - 50 %": lambda part: Conditions(threshold_mv=NOMINAL_THRESHOLD_MV * (1 - 0.5 * part)),
    "t0 of one layer + 10 ns": lambda part: Conditions(t0_ns=(0.0, 10.0 * part, 0.0, 0.0)),
    "drift velocity - 4 %": lambda part: drift_velocity(-0.04 * part),
}
"""Conditions by how much of the fault is there, 0 to 1."""


@dataclass(frozen=True)
class Case:
    """Windows in a row: name, number of those tested, and the conditions of each from 0 on."""

    name: str
    n: int
    conditions: Callable[[int], Conditions]
    has_term: bool
    seed: int

    @property
    def key(self) -> str:
        return f"{self.name}, {'with' if self.has_term else 'without'} term, {self.seed}"


def drift_velocity(nu: float) -> Conditions:
    """Drift velocity 1 + nu times nominal."""
    return Conditions(drift_velocity_mm_per_ns=VELOCITY * (1.0 + nu))


def weather(number: int) -> Conditions:
    """Healthy conditions in the course of a day."""
    return drift_velocity(SWING * math.sin(2.0 * math.pi * number / DAY))


def faulty(fault: str, rise: int) -> Callable[[int], Conditions]:
    """Conditions from window 0 on of a fault that is complete after so many windows; 0: at once."""
    return lambda number: FAULTS[fault](0.0 if number < 0 else min(1.0, (number + 1) / max(rise, 1)))


def all_sequences(n_runs: int, n_days: int) -> Iterator[Case]:
    """Give what is studied."""
    for fault in FAULTS:
        for seed in range(n_runs):
            yield Case(f"{fault}, at once", 12, faulty(fault, 0), False, seed)
    for day in range(n_days):
        for has_term in (False, True):
            yield Case("weather", DAY, weather, has_term, day)
        yield Case("constant", DAY, lambda _: Conditions(), False, day)
    for seed in range(max(1, n_runs // 2)):
        for has_term in (False, True):
            for rise in (10, 50):
                for fault in ("threshold - 50 %", "t0 of one layer + 10 ns"):
                    yield Case(f"{fault}, over {rise}", rise + 10, faulty(fault, rise), has_term, seed)
        for fault in FAULTS:
            yield Case(f"{fault}, at once", 12, faulty(fault, 0), True, seed)


class Rolling:
    """The rolling reference of K windows, as a daemon would have it."""

    def __init__(self, test: RollingTest, n_windows: int) -> None:
        self._test, self._n_windows = test, n_windows
        self._reference = RollingReference()
        self._events: dict[tuple[int, int], FloatArray] = {}
        self._counts: deque[bool] = deque(maxlen=N_OF)

    def add(self, seq: int, x: FloatArray, *, is_tested: bool) -> float | None:
        """Judge a window and let it enter."""
        header = WindowHeader("s", 1, seq)
        past, reason = self._reference.find_past(header, "", self._n_windows)
        p = None
        if is_tested and not reason:
            rng = np.random.default_rng([seq, self._n_windows])
            before = [self._events[one] for one in past]
            found = self._test.evaluate(before, x, n_permutations=N_PERMUTATIONS, rng=rng)
            p = NullTable(found.permuted).p_value(found.t).p
            self._counts.append(p < LIMIT)
        result = TestResult(len(x), len(x), rolling=RollingResult(len(past), p=p))
        self._reference = self._reference.add(
            Verdict(header, Quality.GOOD, "", result, "", 0.0, 0.0),
            n_windows=self._n_windows,
            least_p=LIMIT,
            alarms=RollingAlarmState(freezes=self.is_alarmed),
        )
        self._events[(1, seq)] = x
        self._events = {one: self._events[one] for one in self._reference.held}
        return p

    @property
    def is_alarmed(self) -> bool:
        """Whether k of the last n windows have changed."""
        return sum(self._counts) >= K_OF


def play(sequence: Case, test: RollingTest) -> dict[str, list[float]]:
    """Give p of each window tested, by K; a fault that is alarmed by all ends the sequence."""
    ends = sequence.name not in ("constant", "weather")
    running = {length: Rolling(test, length) for length in LENGTHS}
    found: dict[str, list[float]] = {str(length): [] for length in LENGTHS}
    for number in range(-WARM_UP, sequence.n):
        seed = [71, sequence.seed, number + WARM_UP]
        x = events(sequence.conditions(number), SIZE, seed)
        for length, rolling in running.items():
            if ends and rolling.is_alarmed:
                continue
            p = rolling.add(number + WARM_UP, x, is_tested=number >= 0)
            if p is not None:
                found[str(length)].append(p)
        if ends and all(rolling.is_alarmed for rolling in running.values()):
            break
    return found


def make_tests(n_learned: int) -> tuple[RollingTest, RollingTest]:
    """Set up the test without and with the nuisance term."""
    reference = events(Conditions(), N_REFERENCE, [70])
    samples = [
        ShiftedSample(nu, events(drift_velocity(nu), n_learned, [69, place]))
        for place, nu in enumerate((0.01, -0.01, 0.03, -0.03))
    ]
    nominal = events(Conditions(), n_learned, [68])
    model = learn_taylor(nominal, samples, method=Network(), rng=np.random.default_rng(1))
    term = Shape("drift_velocity", math.inf, model.series)
    centers = reference[:CENTERS]
    return RollingTest(reference, centers), RollingTest(reference, centers, nuisances=[term])


def delay(p: Sequence[float]) -> float:
    """Windows from the first one on until the alarm."""
    counts = np.array(p) < LIMIT
    sums = np.convolve(counts, np.ones(N_OF))[: len(counts)]
    alarmed = np.flatnonzero(sums >= K_OF)
    return float(alarmed[0]) + 1.0 if len(alarmed) else math.inf


def n_alarms(p: Sequence[float]) -> int:
    """Count the passages to "k of the last n"."""
    sums = np.convolve(np.array(p) < LIMIT, np.ones(N_OF))[: len(p)] >= K_OF
    return int((sums[1:] & ~sums[:-1]).sum() + sums[0])


def tabulate(done: Mapping[str, Mapping[str, list[float]]]) -> list[str]:
    """Make both tables."""
    grouped: dict[tuple[str, str], list[Mapping[str, list[float]]]] = {}
    for key, found in done.items():
        name, term, _ = key.rsplit(", ", 2)
        grouped.setdefault((name, term), []).append(found)
    faults = ["| change | nuisance term | runs | K = 5 | K = 10 | K = 30 |", "|---" * 6 + "|"]
    healthy = [
        "| conditions | nuisance term | K | windows | p < 0.05 | p < 0.01 | below the limit | alarms |"
    ]
    healthy.append("|---" * 8 + "|")
    for (name, term), runs in grouped.items():
        how = term.split()[0]
        if name in ("constant", "weather"):
            for length in map(str, LENGTHS):
                p = np.array([value for run in runs for value in run[length]])
                shares = " | ".join(f"{np.mean(p < at):.3f}" for at in (0.05, 0.01, LIMIT))
                alarms = sum(n_alarms(run[length]) for run in runs)
                healthy.append(f"| {name} | {how} | {length} | {len(p)} | {shares} | {alarms} |")
            continue
        cells = []
        for length in map(str, LENGTHS):
            delays = np.sort([delay(run[length]) for run in runs])
            seen = delays[np.isfinite(delays)]
            middle = float(np.quantile(delays, 0.5, method="inverted_cdf"))
            told = "never" if math.isinf(middle) else f"{middle:.0f}"
            cells.append(f"{told} ({len(seen)} of {len(delays)})")
        faults.append(f"| {name} | {how} | {len(runs)} | {' | '.join(cells)} |")
    return [f"Limit of p: {LIMIT:.4f}", "", *faults, "", *healthy]


def tabulate_cost() -> list[str]:
    """Give the processor time of a window, with as many centres as the test takes; the shortest of three."""
    reference = events(Conditions(), N_REFERENCE, [70])
    test = RollingTest(reference, reference[:MAX_CENTERS])
    windows = events(Conditions(), SIZE * (max(LENGTHS) + 1), [72]).reshape(-1, SIZE, reference.shape[1])
    lines = ["| K | processor time, s |", "|---|---|"]
    for length in LENGTHS:
        seconds = []
        for seed in range(3):
            begin = time.process_time()
            rng = np.random.default_rng(seed)
            found = test.evaluate(list(windows[:length]), windows[-1], n_permutations=N_PERMUTATIONS, rng=rng)
            NullTable(found.permuted).p_value(found.t)
            seconds.append(time.process_time() - begin)
        lines.append(f"| {length} | {min(seconds):.2f} |")
    return lines


def main() -> None:
    """Play the sequences and write the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument(
        "--runs", type=int, default=3, help="sequences of each step; half as many of the others"
    )
    parser.add_argument("--days", type=int, default=1, help="healthy days")
    parser.add_argument("--learn", type=int, default=N_LEARNED, help="events at each point to learn log r")
    parser.add_argument("--cost", action="store_true", help="only measure the time of a window")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.cost:
        (arguments.output / "cost.md").write_text("\n".join(tabulate_cost()) + "\n")
        return
    path = arguments.output / "sequences.json"
    done = json.loads(path.read_text()) if path.exists() else {}
    tests = make_tests(arguments.learn)
    for sequence in track(list(all_sequences(arguments.runs, arguments.days))):
        if sequence.key not in done:
            done[sequence.key] = play(sequence, tests[sequence.has_term])
            path.write_text(json.dumps(done))
            (arguments.output / "rolling.md").write_text("\n".join(tabulate(done)) + "\n")


if __name__ == "__main__":
    main()
