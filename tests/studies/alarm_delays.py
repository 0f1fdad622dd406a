"""How many windows pass until a fault of the simulated chamber is alarmed, and by which alarm.

``python -m tests.studies.alarm_delays OUTPUT`` writes ``significances.json``, once, and tables into OUTPUT.
The reference is that of the demonstration, windows have 500 events. A fault begins after healthy windows, at
once or growing evenly over 50 windows; each sequence goes through the real board.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import torch
from rich.progress import Progress

from collectors.chamber.conditions import NOMINAL_STRIP_V, NOMINAL_THRESHOLD_MV, Conditions
from collectors.simulate import simulate_features
from dqm.events import Origin, Window, WindowCut
from dqm.reference import Judge, open_bundle
from dqm.service.demo import FEATURES, WINDOW_EVENTS, prepare_reference

N_HEALTHY, N_FAULTY, RAMP, N_RAMPS = 1500, 60, 50, 6
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


def judge_windows(judge: Judge, conditions: Conditions, n: int, seed: list[int]) -> list[list[float]]:
    """Give p and Z of fresh windows of 500 events."""
    batch = simulate_features(conditions, n * WINDOW_EVENTS, np.random.default_rng(seed))
    x = batch.x[:, [batch.names.index(name) for name in FEATURES]]
    found = []
    for window in x.reshape(n, WINDOW_EVENTS, len(FEATURES)):
        result = judge.judge(
            Window("study", 0, 0, "study", Origin.SIMULATED, WindowCut.COUNT, FEATURES, window)
        )
        if result.p is None or result.z is None:
            raise RuntimeError(result.reason)
        found.append([result.p, result.z])
    return found


def measure(output: Path, bar: Progress) -> Mapping[str, list[list[float]]]:
    """Judge windows of every condition, or take those judged before."""
    path = output / "significances.json"
    if path.exists():
        known: dict[str, list[list[float]]] = json.loads(path.read_text())
        return known
    torch.set_num_threads(1)
    toys = bar.add_task("toys")
    bundle = prepare_reference(output, lambda done, total: bar.update(toys, completed=done, total=total))
    judge = Judge(open_bundle(bundle))
    task = bar.add_task("conditions", total=1 + len(FAULTS) + RAMP * len(RAMPED))
    found = {"healthy": judge_windows(judge, Conditions(), N_HEALTHY, [11])}
    bar.advance(task)
    for number, (name, conditions) in enumerate(FAULTS.items()):
        found[name] = judge_windows(judge, conditions(1.0), N_FAULTY, [12, number])
        bar.advance(task)
    for name in RAMPED:
        for step in range(1, RAMP + 1):
            conditions = FAULTS[name](step / RAMP)
            found[f"{name}, {step}"] = judge_windows(judge, conditions, N_RAMPS, [13, step, len(name)])
            bar.advance(task)
    path.write_text(json.dumps(found))
    return found


def main() -> None:
    """Measure, then play the sequences."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    with Progress() as bar:
        measure(arguments.output, bar)


if __name__ == "__main__":
    main()
