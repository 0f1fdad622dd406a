"""Which fault simulated windows are said to look like, for faults known and unknown.

``python -m tests.studies.fault_templates OUTPUT`` writes tables and a figure into OUTPUT. Defaults of ``dqm
reference build``, N_R = 5000; templates from 20 000 labelled events each. Only windows with p < 0.01 are
explained, as in the daemon.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from rich.progress import track

from dqm.events import FloatArray, Origin, Window, WindowCut
from dqm.reference import (
    Evaluator,
    LabelledSample,
    Recipe,
    WindowKind,
    calibrate,
    create_bundle,
    learn_templates,
)
from dqm_collectors.chamber.conditions import Conditions
from dqm_collectors.simulate import simulate_features

mpl.use("Agg")
from matplotlib import pyplot as plt

FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
UNLIKE = "unlike"
MIXTURE = "two faults at once"
UNTAUGHT = "a fault without template"
HEALTHY = "healthy"
N_LABELLED = 20_000
DRIFT = 0.05385


def late(layer: int, ns: float) -> Conditions:
    """One layer's signals delayed."""
    return Conditions.model_validate({"t0_ns": [ns if k == layer else 0.0 for k in (1, 2, 3, 4)]})


LEARNED = {
    "cathode": [Conditions(strip_voltage_v=-900), Conditions(strip_voltage_v=-600)],
    "threshold": [Conditions(threshold_mv=75), Conditions(threshold_mv=50)],
    **{f"layer {k} late": [late(k, 20)] for k in (1, 2, 3, 4)},
}
PROBES = {
    **{f"cathode {p} %": ("cathode", Conditions(strip_voltage_v=-12 * p)) for p in (90, 75, 65, 50, 35, 25)},
    **{f"threshold {p} %": ("threshold", Conditions(threshold_mv=p)) for p in (85, 75, 65, 50, 35, 25)},
    **{f"layer {k} late 20 ns": (f"layer {k} late", late(k, 20)) for k in (1, 2, 3, 4)},
    **{f"layer {k} late 10 ns": (f"layer {k} late", late(k, 10)) for k in (1, 2, 3, 4)},
    "layer 2 late 40 ns": ("layer 2 late", late(2, 40)),
    **{f"layer {k} early 20 ns": (UNLIKE, late(k, -20)) for k in (1, 2, 3, 4)},
    "drift velocity +5 %": (UNLIKE, Conditions(drift_velocity_mm_per_ns=1.05 * DRIFT)),
    "drift velocity -5 %": (UNLIKE, Conditions(drift_velocity_mm_per_ns=0.95 * DRIFT)),
    "resolution 0.8 mm": (UNLIKE, Conditions(resolution_mm=0.8)),
    "cathode 75 %, threshold 75 %": (UNLIKE, Conditions(strip_voltage_v=-900, threshold_mv=75)),
    "cathode 75 %, layer 2 late 20 ns": (
        UNLIKE, late(2, 20).model_copy(update={"strip_voltage_v": -900.0}),
    ),
    "threshold 75 %, layer 2 late 20 ns": (
        UNLIKE, late(2, 20).model_copy(update={"threshold_mv": 75.0}),
    ),
    "one dead wire": (UNLIKE, Conditions(dead_wires=(20,))),
    "healthy": (UNLIKE, Conditions()),
}  # fmt: skip


def events(conditions: Conditions, n: int, seed: list[int]) -> FloatArray:
    """Simulated and reconstructed events, shape (n, 5)."""
    batch = simulate_features(conditions, n, np.random.default_rng(seed))
    return batch.x[:, [batch.names.index(name) for name in FEATURES]]


def prepare(path: Path, sizes: list[int], n_toys: int) -> Evaluator:
    """Make, calibrate and teach a bundle."""
    bundle = create_bundle(events(Conditions(), 305_000, [1]), Recipe(FEATURES, 5000, sizes[0]), path)
    for size in track(sizes, "calibrating"):
        kind = WindowKind(cut=WindowCut.COUNT, n_expected=size)
        bundle = calibrate(bundle, n_toys, kind=kind, seed=2, n_processes=1)
    samples = [
        LabelledSample(name, events(conditions, N_LABELLED, [2, k, i]))
        for k, (name, several) in enumerate(LEARNED.items())
        for i, conditions in enumerate(several)
    ]
    return Evaluator(learn_templates(bundle, samples))


def probe(evaluator: Evaluator, name: str, size: int, n_windows: int) -> dict[str, object]:
    """Explain fresh windows of one condition."""
    truth, conditions = PROBES[name]
    x = events(conditions, n_windows * size, [3, list(PROBES).index(name), size])
    named: Counter[str] = Counter()
    leading: Counter[str] = Counter()
    claimed, right = [], []
    for part in np.split(x, n_windows):
        window = Window("study", 0, 0, "study", Origin.SIMULATED, WindowCut.COUNT, FEATURES, part)
        evaluation = evaluator.evaluate(window)
        explanation = evaluation.find_explanation()
        if explanation is None or evaluation.result.p is None:
            raise RuntimeError(evaluation.result.reason)
        if evaluation.result.p >= 0.01:
            continue
        first = explanation.likenesses[0]
        unlike = 1.0 - sum(likeness.share for likeness in explanation.likenesses)
        said = UNLIKE if explanation.text.startswith("unlike") else first.fault
        named[said] += 1
        leading[explanation.ranking[0][0]] += 1
        claimed.append(max(unlike, first.share))
        right.append(said == truth)
    return {
        "events": size,
        "condition": name,
        "truth": truth,
        "windows": n_windows,
        "alarmed": sum(named.values()),
        "named": dict(named),
        "leading": dict(leading),
        "claimed": claimed,
        "right": right,
    }


def truth_of(condition: str) -> str:
    """Row of the confusion matrix that a condition belongs to."""
    truth, _ = PROBES[condition]
    if truth != UNLIKE:
        return truth
    if condition == HEALTHY:
        return HEALTHY
    return MIXTURE if ", " in condition else UNTAUGHT


def confusion(rows: list[dict[str, object]], size: int) -> str:
    """Lay the confusion matrix out: windows of each true fault, at all its strengths, by what was said."""
    said = [*LEARNED, UNLIKE]
    counts: dict[str, Counter[str]] = {}
    for row in rows:
        if row["events"] != size:
            continue
        here = counts.setdefault(truth_of(row["condition"]), Counter())  # type: ignore[arg-type]
        here.update(row["named"])  # type: ignore[arg-type]
        here["no alarm"] += row["windows"] - row["alarmed"]  # type: ignore[operator]
    columns = [*said, "no alarm"]
    lines = [
        f"| truth, {size} events | windows | " + " | ".join(columns) + " |",
        "|---" * (len(columns) + 2) + "|",
    ]
    for truth in [*LEARNED, UNTAUGHT, MIXTURE, HEALTHY]:
        if truth in counts:
            cells = [str(counts[truth][column] or "") for column in columns]
            lines.append(f"| {truth} | {counts[truth].total()} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def table(rows: list[dict[str, object]], size: int) -> str:
    """Tell conditions apart: windows with p < 0.01, and the share of them said to look like each fault."""
    columns = [*LEARNED, UNLIKE]
    lines = [f"| {size} events | p < 0.01 | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for row in rows:
        if row["events"] != size:
            continue
        named, n = row["named"], row["alarmed"]
        shares = [f"{named.get(c, 0) / n:.2f}" if n and named.get(c) else "" for c in columns]  # type: ignore[attr-defined,operator]
        lines.append(f"| {row['condition']} | {n} of {row['windows']} | " + " | ".join(shares) + " |")
    return "\n".join(lines) + "\n"


def reliability(rows: list[dict[str, object]]) -> str:
    """Compare the share claimed with the share right, over all conditions but healthy ones."""
    claimed = np.concatenate([row["claimed"] for row in rows if row["condition"] != "healthy"])  # type: ignore[misc]
    right = np.concatenate([row["right"] for row in rows if row["condition"] != "healthy"])  # type: ignore[misc]
    lines = ["| claimed | windows | mean claim | right |", "|---|---|---|---|"]
    for low, high in ((0, 0.6), (0.6, 0.8), (0.8, 0.9), (0.9, 0.95), (0.95, 1.01)):
        here = (claimed >= low) & (claimed < high)
        if here.any():
            means = f"{claimed[here].mean():.2f} | {right[here].mean():.2f}"
            lines.append(f"| {low:g} to {min(high, 1):g} | {here.sum()} | {means} |")
    return "\n".join(lines) + "\n"


def draw(rows: list[dict[str, object]], sizes: list[int], path: Path) -> None:
    """Draw the same, condition by condition."""
    columns = [*LEARNED, UNLIKE]
    figure, axes = plt.subplots(
        1, len(sizes), figsize=(5.5 * len(sizes), 9), layout="constrained", squeeze=False
    )
    for size, panel in zip(sizes, axes[0], strict=True):
        chosen = [row for row in rows if row["events"] == size]
        image = [[row["named"].get(c, 0) / max(row["alarmed"], 1) for c in columns] for row in chosen]  # type: ignore[attr-defined,call-overload]
        panel.imshow(image, vmin=0, vmax=1, cmap="cividis", aspect="auto")
        panel.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
        panel.set_yticks(range(len(chosen)), [f"{row['condition']} ({row['alarmed']})" for row in chosen])
        panel.set_title(f"windows of {size}: said to look like")
    figure.savefig(path)


def main() -> None:
    """Run all; write after each condition, so that an interruption loses little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=400)
    parser.add_argument("--sizes", type=int, nargs="+", default=[500, 2000])
    parser.add_argument("--windows", type=int, default=50, help="windows of each condition and size")
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        evaluator = prepare(Path(scratch) / "bundle", arguments.sizes, arguments.toys)
        for size in arguments.sizes:
            for name in track(PROBES, f"windows of {size}"):
                rows.append(probe(evaluator, name, size, arguments.windows))
                (arguments.output / "fault_templates.json").write_text(json.dumps(rows, indent=1))
            done = [size for size in arguments.sizes if any(row["events"] == size for row in rows)]
            tables = [make(rows, size) for make in (confusion, table) for size in done]
            (arguments.output / "fault_templates.md").write_text("\n".join([*tables, reliability(rows)]))
            draw(rows, done, arguments.output / "fault_templates.png")


if __name__ == "__main__":
    main()
