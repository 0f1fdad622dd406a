"""References of all sizes with nothing chosen: the usual test beside other tests, calibrated alike.

``python -m tests.studies.small_references OUTPUT`` simulates files of a healthy chamber. It builds a bundle
of each for every test, with nothing given but the size of the windows. All judge the same windows of another
healthy run, and of runs with faults. Boosted trees take long, so they have fewer toys and windows. The table
is written after each part. Finished parts are kept: called again, the study goes on.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from scipy import stats

import dqm
from dqm.reference import one_thread
from tests.studies.several_settings import draw
from tests.studies.simulated_faults import FEATURES

CASES = ((1500, 50), (1500, 200), (5000, 50), (5000, 200), (50_000, 50), (50_000, 500))
"""Events of the file, and of a window."""

FAULTS = ("cathode 75 %", "velocity - 2 %", "layer + 10 ns")
SHARES = (0.05, 0.01, 0.001)
USUAL, SLOW = (500, 400, 100), (200, 100, 40)
"""Toys, healthy windows, and windows of each fault."""

NUMBERS = {"several": USUAL, "kolmogorov": USUAL, "energy": USUAL, "mmd": USUAL, "boosted-trees": SLOW}


def judge(case: tuple[int, int], number: int, statistic: str) -> dict[str, Any]:
    """Build and calibrate one bundle, and judge all windows; `number` is that of the file."""
    n_file, size = case
    n_toys, n_healthy, n_faulty = NUMBERS[statistic]
    begin = time.process_time()
    with one_thread():
        run = draw("healthy", n_file, [31, number, n_file])
        bundle = dqm.build_bundle(run, window=size, features=FEATURES, statistic=statistic)
        bundle.calibrate(n_toys, seed=3)
        (entry,) = bundle.manifest.null
        p = {}
        for place, condition in enumerate(("healthy", *FAULTS)):
            n = n_faulty if place else n_healthy
            x = draw(condition, n * size, [32, number, size, place])
            windows = x.reshape(n, size, len(FEATURES))
            p[condition] = [bundle.evaluate(window).p for window in windows]
    return {
        "case": case, "number": number, "statistic": statistic, "p": p, "n_toys": n_toys,
        "n_reference": bundle.manifest.n_reference, "splits": bool(entry.per_split),
        "mean_t": float(bundle.toys(entry)[:, 0].mean()), "seconds": time.process_time() - begin,
    }  # fmt: skip


def table(rows: list[dict[str, Any]]) -> Iterator[str]:
    """Give the lines of what was found so far, on average over the files of each case."""
    yield (
        f"| file, N_R, window | test | files | mean t | KS p | {' | '.join(f'p < {a:g}' for a in SHARES)} | "
        f"{' | '.join(FAULTS)} |"
    )
    yield "|---|---|---|---|---|" + "---|" * (len(SHARES) + len(FAULTS))
    for case in CASES:
        for statistic in NUMBERS:
            mine = [row for row in rows if (tuple(row["case"]), row["statistic"]) == (case, statistic)]
            if not mine:
                continue
            # the null table is a sample, too: p of a toy is uniform on a grid
            grids = [np.arange(1, row["n_toys"] + 2) / (row["n_toys"] + 1) for row in mine]
            fits = [
                stats.ks_2samp(row["p"]["healthy"], grid, method="asymp").pvalue
                for row, grid in zip(mine, grids, strict=True)
            ]
            healthy = " | ".join(f"{_share(mine, 'healthy', a):.3f}" for a in SHARES)
            power = " | ".join(f"{_share(mine, fault, 0.05):.2f}" for fault in FAULTS)
            yield (
                f"| {case[0]}, {mine[0]['n_reference']}, {case[1]} | {statistic} | {len(mine)} "
                f"| {np.mean([row['mean_t'] for row in mine]):.3g} | {np.median(fits):.2g} "
                f"| {healthy} | {power} |"
            )


def _share(rows: list[dict[str, Any]], condition: str, level: float) -> float:
    return float(np.mean([np.mean(np.array(row["p"][condition]) < level) for row in rows]))


def main() -> None:
    """Go through files, cases and tests, but for those that are done."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--files", type=int, default=4, help="files of each size")
    parser.add_argument("--statistics", nargs="*", default=list(NUMBERS), choices=list(NUMBERS))
    choice = parser.parse_args()
    choice.output.mkdir(parents=True, exist_ok=True)
    kept = choice.output / "small_references.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(*row["case"], row["number"], row["statistic"]) for row in rows}
    for number in range(choice.files):
        for statistic in choice.statistics:
            for case in CASES:
                if (*case, number, statistic) in known:
                    continue
                rows.append(judge(case, number, statistic))
                with kept.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                text = "\n".join(table(rows)) + "\n"
                (choice.output / "small_references.md").write_text(text)
                sys.stdout.write(f"file {number}, {case}, {statistic}: {rows[-1]['seconds']:.0f} s\n")
                sys.stdout.flush()


if __name__ == "__main__":
    main()
