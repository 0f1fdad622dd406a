"""Do p-values hold on the next run when the run of the reference was short?

``python -m tests.studies.short_runs OUTPUT`` simulates many independent runs of a healthy chamber. For each
it builds a bundle, calibrates it with toys from the pool and with fresh splits, and judges windows of another
healthy run. It writes the mean share of windows with p < 0.05 and p < 0.01, and the spread of the mean Z from
run to run beside the uncertainty that is computed, after each run.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from dqm.events import FloatArray
from dqm.reference import (
    NullTable,
    Processes,
    Recipe,
    calibrate,
    create_bundle,
    prepare_statistic,
    uncertainty_of,
)
from dqm.reference.processes import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import FEATURES, events

CASES = (
    (1500, 750, 50), (1500, 750, 200), (1500, 750, 300),
    (5000, 2500, 50), (5000, 2500, 200), (5000, 2500, 500),
    (50_000, 5000, 50), (50_000, 5000, 200), (50_000, 5000, 500),
)  # fmt: skip
"""Events of the file, of the reference, and of a window."""


@dataclass(frozen=True)
class Work:
    """One run of one case."""

    case: tuple[int, int, int]
    run: int
    statistic: str
    width: float
    penalty: float
    n_toys: int
    n_windows: int


def judge(work: Work) -> list[dict[str, object]]:
    """p of the windows of another healthy run, for both kinds of toys."""
    n_file, n_reference, size = work.case
    x = events(Conditions(), n_file, [1, work.run, n_file])
    fresh = events(Conditions(), size * work.n_windows, [2, work.run, n_file, size])
    recipe = Recipe(
        FEATURES, n_reference, size, work.width, work.penalty, loss="logistic", statistic=work.statistic
    )
    found = []
    with one_thread(), tempfile.TemporaryDirectory() as scratch:
        bundle = create_bundle(x, recipe, Path(scratch) / "bundle")
        kind = bundle.manifest.kind
        outcomes = prepare_statistic(bundle, kind).evaluate_many(
            list(fresh.reshape(work.n_windows, size, len(FEATURES)))
        )
        for origin in ("pool", "splits"):
            bundle = calibrate(bundle, work.n_toys, kind=kind, seed=3, origin=origin, workers=Processes(1))
            (entry,) = bundle.manifest.null
            table = NullTable(bundle.toys(entry)[:, 0])
            p = [table.p_value(outcome.t).p for outcome in outcomes]
            found.append(
                {"case": work.case, "run": work.run, "origin": origin, "p": p,
                 "uncertainty": uncertainty_of(bundle, entry)[0]}
            )  # fmt: skip
    return found


def table(rows: list[dict[str, object]]) -> str:
    """Summarise what was found so far."""
    lines = [
        "| file, reference, window | toys | runs | p < 0.05 | p < 0.01 | spread of mean Z | computed |",
        "|---|---|---|---|---|---|---|",
    ]
    for key in sorted({(tuple(row["case"]), row["origin"]) for row in rows}):
        mine = [row for row in rows if (tuple(row["case"]), row["origin"]) == key]
        p = np.array([row["p"] for row in mine])
        lines.append(
            f"| {', '.join(map(str, key[0]))} | {key[1]} | {len(mine)} | {_share(p, 0.05)} "
            f"| {_share(p, 0.01)} | {_spread(p):.2f} | {mine[0]['uncertainty']:.2f} |"
        )
    return "\n".join(lines) + "\n"


def _share(p: FloatArray, level: float) -> str:
    shares = (p < level).mean(axis=1)
    error = shares.std(ddof=1) / len(shares) ** 0.5 if len(shares) > 1 else np.nan
    return f"{shares.mean():.3f} +- {error:.3f}"


def _spread(p: FloatArray) -> float:
    """Spread of the mean Z of a run, without what few windows add."""
    z = stats.norm.isf(np.clip(p, 1e-12, 1 - 1e-3))
    own = z.var(axis=1, ddof=1).mean() / p.shape[1]
    return float(np.sqrt(max(0.0, z.mean(axis=1).var(ddof=1) - own))) if len(p) > 1 else np.nan


def main() -> None:
    """Run the cases; write the table after each run, so that an interruption loses little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--runs", type=int, default=20)
    parser.add_argument("--toys", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=300)
    parser.add_argument("--statistic", default="several")
    parser.add_argument("--width", type=float, default=2.5, help="of the kernel; several chooses its own")
    parser.add_argument("--penalty", type=float, default=1e-6)
    parser.add_argument(
        "--cases", type=int, nargs="*", default=range(len(CASES)), help="numbers of the cases"
    )
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    works = [
        Work(
            CASES[case],
            run,
            arguments.statistic,
            arguments.width,
            arguments.penalty,
            arguments.toys,
            arguments.windows,
        )
        for case in arguments.cases
        for run in range(arguments.runs)
    ]
    rows: list[dict[str, object]] = []
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(arguments.processes, mp_context=spawn) as pool:
        for done in as_completed([pool.submit(judge, work) for work in works]):
            rows += done.result()
            (arguments.output / f"short_runs_{arguments.statistic}.json").write_text(json.dumps(rows))
            (arguments.output / f"short_runs_{arguments.statistic}.md").write_text(table(rows))


if __name__ == "__main__":
    main()
