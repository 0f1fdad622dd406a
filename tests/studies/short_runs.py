"""Do p-values hold on the next run when the run of the reference was short?

``python -m tests.studies.short_runs OUTPUT`` simulates many independent runs of a healthy chamber. For each
it builds a bundle, calibrates it as the program chooses or as told, and judges windows of another
healthy run. It writes the mean share of windows with p < 0.05 and p < 0.01, and the spread of the mean Z from
run to run beside the uncertainty that is computed, after each run. Finished runs are kept: called again, the
study goes on.
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
from rich.progress import Progress
from scipy import stats

from dqm.events import FloatArray
from dqm.reference import (
    NullTable,
    OriginName,
    Processes,
    Recipe,
    calibrate,
    choose_reference_size,
    create_bundle,
    prepare_statistic,
    uncertainty_of,
)
from dqm.reference.processes import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import FEATURES, events

CASES = tuple((n_file, size) for n_file in (1500, 5000, 50_000) for size in (50, 200, 500))
"""Events of the file, and of a window. Those of the reference are chosen as `dqm reference build` does; it
refuses windows of 500 of a file of 1500."""


@dataclass(frozen=True)
class Work:
    """One run of one case, and what toys are made of."""

    case: tuple[int, int]
    run: int
    statistic: str
    width: float
    penalty: float
    n_toys: int
    n_windows: int
    origins: tuple[OriginName, ...]


def judge(work: Work) -> list[dict[str, object]]:
    """p of the windows of another healthy run, for each kind of toys."""
    n_file, size = work.case
    n_reference = choose_reference_size(n_file, size)
    x = events(Conditions(), n_file, [1, work.run, n_file])
    fresh = events(Conditions(), size * work.n_windows, [2, work.run, n_file, size])
    of_kernel = {"width": work.width, "penalty": work.penalty, "loss": "logistic"}
    settings = of_kernel if work.statistic == "kernel" else {}
    recipe = Recipe(FEATURES, n_reference, size, statistic=work.statistic, settings=settings)
    found = []
    with one_thread(), tempfile.TemporaryDirectory() as scratch:
        bundle = create_bundle(x, recipe, Path(scratch) / "bundle")
        kind = bundle.manifest.kind
        outcomes = prepare_statistic(bundle, kind).evaluate_many(
            list(fresh.reshape(work.n_windows, size, len(FEATURES)))
        )
        for origin in work.origins:
            bundle = calibrate(bundle, work.n_toys, kind=kind, seed=3, origin=origin, workers=Processes(1))
            (entry,) = bundle.manifest.null
            table = NullTable(bundle.toys(entry)[:, 0])
            p = [table.p_value(outcome.t).p for outcome in outcomes]
            origin_taken = "splits" if entry.per_split else "pool"
            found.append(
                {"case": work.case, "run": work.run, "origin": origin_taken, "p": p,
                 "uncertainty": uncertainty_of(bundle.manifest, entry)[0]}
            )  # fmt: skip
    return found


def table(rows: list[dict[str, object]]) -> str:
    """Summarise what was found so far."""
    lines = [
        "| file, window | toys | runs | p < 0.05 | p < 0.01 | spread of mean Z | computed |",
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
    parser.add_argument(
        "--origins",
        nargs="*",
        default=["auto"],
        choices=["auto", "pool", "splits"],
        help="what toys are made of",
    )
    parser.add_argument("--processes", type=int, default=2)
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / f"short_runs_{arguments.statistic}.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(*row["case"], row["run"]) for row in rows}
    works = [
        Work(
            CASES[case],
            run,
            arguments.statistic,
            arguments.width,
            arguments.penalty,
            arguments.toys,
            arguments.windows,
            tuple(arguments.origins),
        )
        for run in range(arguments.runs)
        for case in arguments.cases
        if CASES[case] != (1500, 500) and (*CASES[case], run) not in known
    ]
    spawn = multiprocessing.get_context("spawn")
    with Progress() as bar, ProcessPoolExecutor(arguments.processes, mp_context=spawn) as pool:
        task = bar.add_task("runs", total=len(works))
        for done in as_completed([pool.submit(judge, work) for work in works]):
            found = done.result()
            rows += found
            with kept.open("a") as file:
                file.writelines(json.dumps(row) + "\n" for row in found)
            (arguments.output / f"short_runs_{arguments.statistic}.md").write_text(table(rows))
            bar.advance(task)


if __name__ == "__main__":
    main()
