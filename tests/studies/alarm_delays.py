"""How many windows pass until a fault of the simulated chamber is alarmed, and by which alarm.

``python -m tests.studies.alarm_delays OUTPUT`` writes ``significances.json``, once, and tables into OUTPUT.
The reference is that of the demonstration, for windows of 500 events cut by count. A fault begins after
healthy windows, at once or growing evenly over 50 windows; each sequence goes through the real engine.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from dqm.alarm import AlarmEngine, AlarmState, Thresholds, alarm_rules, derive_thresholds
from dqm.alarm.budget import LARGEST_Z, REFERENCE_Z, drift_limit, run_length
from dqm.config import DaemonConfig, DriftTestName
from dqm.demo.simulated import FEATURES, WINDOW_EVENTS, prepare_reference
from dqm.events import Origin, Quality, TestResult, Verdict, Window, WindowCut, WindowHeader
from dqm.reference import Evaluator, open_bundle
from dqm_collectors.chamber.conditions import NOMINAL_STRIP_V, NOMINAL_THRESHOLD_MV, Conditions
from dqm_collectors.simulate import simulate_features

N_HEALTHY, N_FAULTY, RAMP, N_RAMPS = 1500, 60, 50, 6
WARM_UP, LONGEST, N_PLAYS = 30, 500, 100
ALONE = 0.79
"""Share of the budget of a test that stands alone: all that rate and nuisance parameters leave, but for 0.01,
since a configuration must leave something for windows that differ."""

DRIFT_VELOCITY = Conditions().drift_velocity_mm_per_ns

FAULTS: dict[str, Callable[[float], Conditions]] = {
    "cathode 75 %": lambda part: Conditions(strip_voltage_v=NOMINAL_STRIP_V * (1 - 0.25 * part)),
    "cathode 90 %": lambda part: Conditions(strip_voltage_v=NOMINAL_STRIP_V * (1 - 0.10 * part)),
    "threshold 50 %": lambda part: Conditions(threshold_mv=NOMINAL_THRESHOLD_MV * (1 - 0.5 * part)),
    "threshold 90 %": lambda part: Conditions(threshold_mv=NOMINAL_THRESHOLD_MV * (1 - 0.1 * part)),
    "one dead wire": lambda part: Conditions(dead_wires=(25,) if part >= 1 else ()),
    "four dead wires": lambda part: Conditions(dead_wires=(25, 26, 27, 28)[: round(4 * part)]),
    "t0 of one layer + 5 ns": lambda part: Conditions(t0_ns=(0.0, 5.0 * part, 0.0, 0.0)),
    "t0 of one layer + 10 ns": lambda part: Conditions(t0_ns=(0.0, 10.0 * part, 0.0, 0.0)),
    "drift velocity - 2 %": lambda part: Conditions(
        drift_velocity_mm_per_ns=DRIFT_VELOCITY * (1 - 0.02 * part)
    ),
    "drift velocity - 4 %": lambda part: Conditions(
        drift_velocity_mm_per_ns=DRIFT_VELOCITY * (1 - 0.04 * part)
    ),
}
"""Conditions by how much of the fault is there, 0 to 1."""

RAMPED = ("cathode 75 %", "threshold 50 %", "t0 of one layer + 10 ns", "drift velocity - 4 %")


def evaluate_windows(
    evaluator: Evaluator, conditions: Conditions, n: int, seed: list[int]
) -> list[list[float]]:
    """Give p, Z and the upper end of p of fresh windows of 500 events."""
    batch = simulate_features(conditions, n * WINDOW_EVENTS, np.random.default_rng(seed))
    x = batch.x[:, [batch.names.index(name) for name in FEATURES]]
    found = []
    for window in x.reshape(n, WINDOW_EVENTS, len(FEATURES)):
        result = evaluator.evaluate(
            Window("study", 0, 0, "study", Origin.SIMULATED, WindowCut.COUNT, FEATURES, window)
        )
        if result.p is None or result.z is None or result.p_high is None:
            raise RuntimeError(result.reason)
        found.append([result.p, result.z, result.p_high])
    return found


def measure(output: Path, bar: Progress) -> Mapping[str, list[list[float]]]:
    """Evaluator windows of every condition, or take those judged before."""
    path = output / "significances.json"
    if path.exists():
        known: dict[str, list[list[float]]] = json.loads(path.read_text())
        return known
    torch.set_num_threads(1)
    toys = bar.add_task("toys")
    bundle = prepare_reference(
        output, lambda done, total: bar.update(toys, completed=done, total=total), WindowCut.COUNT
    )
    evaluator = Evaluator(open_bundle(bundle))
    task = bar.add_task("conditions", total=1 + len(FAULTS) + RAMP * len(RAMPED))
    found = {"healthy": evaluate_windows(evaluator, Conditions(), N_HEALTHY, [11])}
    bar.advance(task)
    for number, (name, conditions) in enumerate(FAULTS.items()):
        found[name] = evaluate_windows(evaluator, conditions(1.0), N_FAULTY, [12, number])
        bar.advance(task)
    for name in RAMPED:
        for step in range(1, RAMP + 1):
            growing = FAULTS[name](step / RAMP)
            found[f"{name}, {step}"] = evaluate_windows(evaluator, growing, N_RAMPS, [13, step, len(name)])
            bar.advance(task)
    path.write_text(json.dumps(found))
    return found


def thresholds_of(
    n_streams: int, drift_share: float, reference_z: float = REFERENCE_Z, drift_test: DriftTestName = "sum"
) -> Thresholds:
    """Derive thresholds of so many streams that send a window a minute."""
    streams = [{"name": f"s{number}", "bundle": "none"} for number in range(n_streams)]
    alarm = {"drift_share": drift_share, "drift_test": drift_test}
    config = DaemonConfig.model_validate({"streams": streams, "alarm": alarm})
    found = derive_thresholds(config)
    if reference_z == REFERENCE_Z or not drift_share:
        return found
    length = partial(run_length, reference_z=reference_z)
    limit = drift_limit(found.windows_per_shift / drift_share, length, reference_z)
    return replace(found, drift_limit=limit, reference_z=reference_z)


def play(
    known: Mapping[str, list[list[float]]],
    name: str,
    grows: bool,
    thresholds: Thresholds,
    rng: np.random.Generator,
) -> float:
    """Give the windows from the beginning of a fault to its first alarm."""
    config = DaemonConfig.model_validate({"streams": [{"name": "s", "bundle": "none"}]})
    engine = AlarmEngine(alarm_rules(config), thresholds, 0.0)
    for number in range(-WARM_UP, LONGEST):
        source = "healthy" if number < 0 else f"{name}, {number + 1}" if grows and number < RAMP else name
        p, z, p_high = known[source][rng.integers(len(known[source]))]
        result = TestResult(WINDOW_EVENTS, WINDOW_EVENTS, t=0.0, p=p, z=z, p_high=p_high)
        now = 60.0 * (number + WARM_UP)
        changes = engine.observe(
            Verdict(WindowHeader("s", 1, 0), Quality.GOOD, "", result, "", 0.0, now), now
        )
        raised = [change for change in changes if change.alarm.state is AlarmState.ACTIVE]
        if raised and number < 0:  # a false alarm: another try
            return play(known, name, grows, thresholds, rng)
        if raised:
            return number + 1.0
    return math.inf


def describe(delays: list[float]) -> str:
    """Give median and 90 % point in windows."""
    middle, late = (float(np.quantile(delays, share, method="inverted_cdf")) for share in (0.5, 0.9))
    return " / ".join("never" if math.isinf(value) else f"{value:.0f}" for value in (middle, late))


def tabulate(known: Mapping[str, list[list[float]]], n_streams: int) -> list[str]:
    """Make a line for each fault."""
    watches = {
        "both": thresholds_of(n_streams, 0.5),
        "k of n alone": thresholds_of(n_streams, 0.0),
        "sum alone": replace(thresholds_of(n_streams, ALONE), p_threshold=0.0),
        "k of n and evidence": thresholds_of(n_streams, 0.5, drift_test="run"),
        "evidence alone": replace(thresholds_of(n_streams, ALONE, drift_test="run"), p_threshold=0.0),
        **{f"both, {z:g}": thresholds_of(n_streams, 0.5, z) for z in (0.25, 0.75, 1.0)},
    }
    head = f"| fault, {n_streams} streams | share beyond p = {watches['both'].p_threshold:.2g} | mean Z |"
    lines = [head + "".join(f" {watch} |" for watch in watches), "|---" * (3 + len(watches)) + "|"]
    faults = [(name, False) for name in FAULTS] + [(name, True) for name in RAMPED]
    for name, grows in faults:
        p, z, _ = np.array(known[name]).T
        beyond = float(np.mean(p < watches["both"].p_threshold))
        mean = np.clip(z, -LARGEST_Z, LARGEST_Z).mean()
        line = f"| {name}{', growing' if grows else ''} | {beyond:.2f} | {mean:.1f} |"
        for thresholds in watches.values():
            rng = np.random.default_rng(3)
            delays = [play(known, name, grows, thresholds, rng) for _ in range(N_PLAYS)]
            line += f" {describe(delays)} |"
        lines.append(line)
    return lines


def main() -> None:
    """Measure, then play the sequences; windows until the alarm, median / 90 %."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with Progress() as bar:
        known = measure(arguments.output, bar)
    p, z, _ = np.array(known["healthy"]).T
    z = np.clip(z, -LARGEST_Z, LARGEST_Z)  # where every toy is larger it is minus infinity
    neighbours = np.corrcoef(z[1:], z[:-1])[0, 1]
    lines = [
        f"Healthy: {len(p)} windows, share below 0.01 {np.mean(p < 0.01):.4f}, mean Z {z.mean():.3f}, "
        f"spread {z.std():.3f}, correlation of neighbours {neighbours:.3f}",
        "",
    ]
    for n_streams in (4, 250):
        lines += [*tabulate(known, n_streams), ""]
        (arguments.output / "alarm_delays.md").write_text("\n".join(lines))


if __name__ == "__main__":
    main()
