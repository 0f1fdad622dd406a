"""False alarms per shift of healthy streams against the budget: simulated months through the real engine.

``python -m tests.studies.false_alarms OUTPUT`` writes a table into OUTPUT. Budget, rates and delays are the
defaults: one false alarm in eight hours, a window a minute from each stream. Significances are exact, or read
from null tables of 1000 or 300 toys, one for each stream; or they are correlated, with and without the budget
knowing. Statistics and toys come from the Pearson III distribution that the tail of a null table is
fitted with, its shape that of the demonstration's chamber: so there are as many as it takes.

``--tables 16`` gives the mean and the spread over sets of null tables with as many toys as the daemon asks
for. What the engine counts is then counted for all streams together, which takes minutes in place of days.
"""

from __future__ import annotations

import argparse
import math
import multiprocessing
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress
from scipy import signal, special, stats

from dqm.alarm import (
    AlarmEngine,
    AlarmState,
    Cause,
    Rules,
    Thresholds,
    alarm_rules,
    ample_toys,
    derive_thresholds,
)
from dqm.config import DaemonConfig
from dqm.events import FloatArray, Quality, TestResult, Verdict, WindowHeader
from dqm.reference.null import NullTable

WINDOW_SECONDS = 60.0
SHIFT_HOURS = 8.0
SHAPE = stats.pearson3(0.31, 186.5, 19.9)
"""Statistic of healthy windows: skewness, mean and spread of the toys of the demonstration's chamber."""

SHIFTS = {1: 240, 4: 120, 50: 16, 250: 4}
"""Shifts to simulate, by the number of streams."""

TABLE_SHIFTS = {1: 500, 4: 500, 16: 200, 64: 60, 250: 20}
"""Shifts with each set of automatic tables."""

SHIFTS_IN_A_ROW = 5
"""So many of them follow each other; the others begin anew."""

CHUNKS = 4
MOST_TABLES = 50
"""Streams with a null table each, in one chunk: reading them takes the time."""


@dataclass(frozen=True)
class Scenario:
    """How healthy significances are made, and what the budget knows of it.

    Parameters
    ----------
    name : str
        What the table says.
    correlation : float
        Of the Z of neighbouring windows.
    known : float
        The same, as configured.
    n_toys : int
        Toys of each stream's null table; 0: p-values are exact.
    """

    name: str
    correlation: float = 0.0
    known: float = 0.0
    n_toys: int = 0


SCENARIOS = (
    Scenario("exact p"),
    Scenario("1000 toys", n_toys=1000),
    Scenario("300 toys", n_toys=300),
    Scenario("correlation 0.2", correlation=0.2),
    Scenario("correlation 0.2, configured", correlation=0.2, known=0.2),
    Scenario("correlation 0.5", correlation=0.5),
    Scenario("correlation 0.5, configured", correlation=0.5, known=0.5),
)


def significances(
    scenario: Scenario, n_windows: int, rng: np.random.Generator
) -> tuple[FloatArray, FloatArray]:
    """Give p and Z of the healthy windows of one stream."""
    c = scenario.correlation
    noise = math.sqrt(1.0 - c**2) * rng.standard_normal(n_windows)
    noise[0] /= math.sqrt(1.0 - c**2)
    z = signal.lfilter([1.0], [1.0, -c], noise)
    if not scenario.n_toys:
        return special.ndtr(-z), z
    toys = np.sort(SHAPE.rvs(scenario.n_toys, random_state=rng))
    t = SHAPE.isf(special.ndtr(-z))
    p = (len(toys) - np.searchsorted(toys, t) + 1) / (len(toys) + 1)
    z = -special.ndtri(np.minimum(p, 1.0 - 0.5 / (len(toys) + 1)))
    beyond = np.flatnonzero(t > toys[-1])
    if len(beyond):
        table = NullTable(toys)  # its bootstrap takes the time
        for place in beyond:
            found = table.p_value(float(t[place]))
            p[place], z[place] = found.p, found.z
    return p, z


def windows(
    scenario: Scenario, n_streams: int, n_windows: int, rng: np.random.Generator
) -> Iterator[tuple[Verdict, float]]:
    """Give verdicts of healthy windows and their times, stream by stream within each minute."""
    made = [significances(scenario, n_windows, rng) for _ in range(n_streams)]
    for number in range(n_windows):
        for stream, (p, z) in enumerate(made):
            result = TestResult(500, 500.0, t=0.0, p=float(p[number]), z=float(z[number]))
            now = WINDOW_SECONDS * (number + stream / n_streams)
            yield Verdict(WindowHeader(f"s{stream}", 1, number), Quality.GOOD, "", result, "", 0.0, now), now


def derive_rules(n_streams: int, known: float = 0.0) -> tuple[Rules, Thresholds]:
    """Give rules and thresholds of so many streams, all else as by default."""
    config = DaemonConfig.model_validate(
        {
            "streams": [{"name": f"s{number}", "bundle": "none"} for number in range(n_streams)],
            "alarm": {"autocorrelation": known, "windows_per_hour": 3600.0 / WINDOW_SECONDS},
        }
    )
    return alarm_rules(config), derive_thresholds(config)


def count_false_alarms(scenario: Scenario, n_streams: int, n_shifts: int, seed: list[int]) -> Counter[Cause]:
    """Count passages from Normal to Active."""
    engine = AlarmEngine(*derive_rules(n_streams, scenario.known), 0.0)
    n_windows = round(n_shifts * SHIFT_HOURS * 3600.0 / WINDOW_SECONDS)
    found: Counter[Cause] = Counter()
    for verdict, now in windows(scenario, n_streams, n_windows, np.random.default_rng(seed)):
        for change in engine.observe(verdict, now):
            if change.alarm.state is AlarmState.ACTIVE and change.before is AlarmState.NORMAL:
                found[change.alarm.cause] += 1
        if verdict.window.stream == "s0":
            engine.tick(now)
    return found


def count_onsets(p: FloatArray, z: FloatArray, n_streams: int) -> Counter[Cause]:
    """Count what `count_false_alarms` counts, of many sequences of healthy windows.

    Parameters
    ----------
    p, z : ndarray, shape (n_windows, n_sequences)
        Of the windows; each column is a stream from its first window.
    n_streams : int
        Streams that share the budget.
    """
    rules, limits = derive_rules(n_streams)
    counts = np.cumsum(p < limits.p_threshold, axis=0)
    counts[rules.n :] -= counts[: -rules.n].copy()
    differs = counts >= rules.k
    gone = math.floor(rules.timing.off_delay_seconds / WINDOW_SECONDS) + 1
    drifts = _drifts(z, differs, limits)
    return Counter({Cause.DIFFERS: _onsets(differs, gone), Cause.DRIFT: _onsets(drifts, gone)})


def _drifts(z: FloatArray, differs: NDArray[np.bool_], limits: Thresholds) -> NDArray[np.bool_]:
    """Say where the sum of Z alarms; see `dqm.alarm.drift`."""
    found = np.zeros(z.shape, dtype=bool)
    if limits.drift_limit is None:
        return found
    steps = np.clip(z, -limits.largest_z, limits.largest_z) - limits.reference_z
    total, is_drifting = np.zeros(z.shape[1]), np.zeros(z.shape[1], dtype=bool)
    for row, step in enumerate(steps):
        grown = total + step
        is_further = (grown > 0.0) & (is_drifting | (grown > limits.drift_limit))
        is_drifting = np.where(differs[row], is_drifting, is_further)
        total = np.where(differs[row], total, np.clip(grown, 0.0, limits.drift_limit))
        found[row] = is_drifting
    return found


def _onsets(condition: NDArray[np.bool_], gone: int) -> int:
    """Count where a condition comes, after it was gone for so many windows."""
    before = np.zeros_like(condition)
    for lag in range(1, gone + 1):
        before[lag:] |= condition[:-lag]
    return int((condition & ~before).sum())


def false_alarms_of_sets(n_tables: int, n_streams: int, n_shifts: int, n_toys: int) -> FloatArray:
    """Give false alarms per shift of each set of null tables, by k of n and by drift; shape (n_tables, 2).

    Only places in the table count, so t and toys are uniform here. p beyond the largest toy is not
    extrapolated: there must be enough toys that such a window counts, and that its Z is cut off.
    """
    n_windows = round(SHIFTS_IN_A_ROW * SHIFT_HOURS * 3600.0 / WINDOW_SECONDS)
    n_each = n_shifts // SHIFTS_IN_A_ROW
    p = np.arange(1, n_toys + 2) / (n_toys + 1)
    z = -special.ndtri(np.minimum(p, 1.0 - 0.5 / (n_toys + 1)))
    found = []
    for number in range(n_tables):
        rng = np.random.default_rng([99, n_streams, number])
        places = []
        for _ in range(n_streams):
            sums = np.cumsum(rng.standard_exponential(n_toys + 1))
            toys = sums[:-1] / sums[-1]  # ordered uniform numbers
            places.append(np.searchsorted(toys, rng.random((n_windows, n_each)), "right"))
        beyond = np.hstack(places)
        counted = count_onsets(p[beyond], z[beyond], n_streams)
        found.append([counted[Cause.DIFFERS], counted[Cause.DRIFT]])
    return np.array(found) / n_shifts


def spread_over_tables(n_tables: int, n_streams: int, n_shifts: int) -> str:
    """Give the mean and the spread over sets of tables with as many toys as the daemon asks for."""
    p_threshold = derive_rules(n_streams)[1].p_threshold
    n_toys = ample_toys(p_threshold)
    sets = false_alarms_of_sets(n_tables, n_streams, n_shifts, n_toys)
    each, total = sets.mean(axis=0), sets.sum(axis=1)
    return (
        f"| {n_streams} | {p_threshold:.2g} | {n_toys} | {n_shifts} | {total.mean():.2f} | {each[0]:.2f} | "
        f"{each[1]:.2f} | {total.std(ddof=1):.2f} | {math.sqrt(total.mean() / n_shifts):.2f} | "
        f"{total.min():.2f} to {total.max():.2f} |"
    )


def interval(count: int, n_shifts: float) -> str:
    """Give a rate per shift with its 95 % Poisson interval."""
    low, high = (
        stats.chi2.ppf(0.025, 2 * count) / 2 if count else 0.0,
        stats.chi2.ppf(0.975, 2 * count + 2) / 2,
    )
    return f"{count / n_shifts:.2f} ({low / n_shifts:.2f} to {high / n_shifts:.2f})"


def main() -> None:
    """Run all scenarios; write the table after each, so that an interruption loses little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--times", type=int, default=1, help="how many times as many shifts")
    parser.add_argument("--first", type=int, default=0, help="number of the scenario to begin with")
    parser.add_argument(
        "--tables", type=int, default=0, help="instead: mean and spread over so many sets of automatic tables"
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    if arguments.tables:
        lines = [
            "| streams | threshold | toys | shifts of a set | mean | k of n | drift | spread over sets | "
            "by counting alone | range |",
            "|---|---|---|---|---|---|---|---|---|---|",
        ]
        for n_streams, n_shifts in TABLE_SHIFTS.items():
            lines.append(spread_over_tables(arguments.tables, n_streams, n_shifts * arguments.times))
            (arguments.output / "false_alarms_tables.md").write_text("\n".join(lines) + "\n")
        return
    lines = [
        "| significances | streams | shifts | false alarms per shift (95 %) | k of n | drift |",
        "|---|---|---|---|---|---|",
    ]
    context = multiprocessing.get_context("spawn")
    with Progress() as bar, ProcessPoolExecutor(arguments.processes, mp_context=context) as pool:
        task = bar.add_task("scenarios", total=len(SCENARIOS) * len(SHIFTS))
        for number, scenario in list(enumerate(SCENARIOS))[arguments.first :]:
            for n_streams, most in SHIFTS.items():
                if scenario.n_toys and n_streams > MOST_TABLES:
                    continue
                n_shifts = most * arguments.times // CHUNKS
                jobs = [
                    pool.submit(count_false_alarms, scenario, n_streams, n_shifts, [number, n_streams, chunk])
                    for chunk in range(CHUNKS)
                ]
                counts = sum((job.result() for job in jobs), Counter())
                total = n_shifts * CHUNKS
                lines.append(
                    f"| {scenario.name} | {n_streams} | {total} | {interval(counts.total(), total)} | "
                    f"{counts[Cause.DIFFERS] / total:.2f} | {counts[Cause.DRIFT] / total:.2f} |"
                )
                (arguments.output / "false_alarms.md").write_text("\n".join(lines) + "\n")
                bar.advance(task)


if __name__ == "__main__":
    main()
