"""How much the pool of the toys matters: the share of healthy windows below a p, and its spread over runs.

``python -m tests.studies.pool_effect OUTPUT`` simulates many independent runs of a healthy chamber. Each has
a reference, a pool that toys are drawn from, and windows of another run. It is ``tests.studies.short_runs``
without bundles and with the settings of one run for all, and so for more runs in less time. The table has the
spread of the mean Z from run to run, what is computed from the share of the variance that is linear in single
events, and what so few toys make by themselves. In brackets is the share below a level that follows from the
computed spread for Gaussian Z. Finished runs are kept: called again, the study goes on.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import SeveralTest
from dqm.reference import choose_reference_size
from dqm.reference.null import measure_linear_share, pool_offset
from dqm.reference.processes import one_thread
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import events

CASES = ((5000, 50), (5000, 200))
"""Events of the file, and of a window."""

LEVELS = (0.05, 0.01)
N_CENTERS = 300
AT_ONCE = 100
"""Windows that are tested together."""


def judge(
    case: tuple[int, int],
    run: int,
    settings: dict[str, object],
    *,
    n_toys: int,
    n_windows: int,
    n_centers: int = N_CENTERS,
) -> dict[str, object]:
    """p of the windows of one run, and the share of the variance of t that is linear in single events."""
    n_file, size = case
    n_reference = choose_reference_size(n_file, size)
    x = events(Conditions(), n_file, [1, run, n_file])
    pool = x[n_reference:]
    test = SeveralTest(x[:n_reference], n_expected=size, centers=x[:n_centers], **settings)
    rng = np.random.default_rng([3, run, n_file, size])
    drawn = [rng.choice(len(pool), size, replace=False) for _ in range(n_toys)]
    toys = np.concatenate(
        [
            [one.t for one in test.evaluate_drawn(pool, drawn[first : first + AT_ONCE])]
            for first in range(0, n_toys, AT_ONCE)
        ]
    )
    t = []
    for part in range(n_windows // AT_ONCE):
        fresh = events(Conditions(), size * AT_ONCE, [2, run, n_file, size, part])
        places = list(np.arange(len(fresh)).reshape(AT_ONCE, size))
        t += [one.t for one in test.evaluate_drawn(fresh, places)]
    beyond = len(toys) - np.searchsorted(np.sort(toys), t, side="left")
    share = measure_linear_share(toys, drawn, len(pool))
    return {"case": case, "run": run, "p": ((beyond + 1) / (len(toys) + 1)).tolist(), "share": share}


def table(rows: list[dict[str, object]], n_toys: int) -> str:
    """Summarise what was found so far."""
    lines = [
        "| file, N_R, window | runs | p < 0.05 (expected) | p < 0.01 (expected) | linear share "
        "| spread of mean Z | computed | toys alone | together |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for case in sorted({tuple(row["case"]) for row in rows}):
        mine = [row for row in rows if tuple(row["case"]) == case]
        n_file, size = case
        n_reference = choose_reference_size(n_file, size)
        linear = float(np.mean([row["share"] for row in mine]))
        pool = pool_offset(size, n_file - n_reference, n_reference, linear)
        toys = n_toys**-0.5
        p = np.array([row["p"] for row in mine])
        spread = "{:.3f} +- {:.3f}".format(*spread_of_runs(p)) if len(p) > 1 else "-"
        shares = " | ".join(_share(p, level, pool) for level in LEVELS)
        lines.append(
            f"| {n_file}, {n_reference}, {size} | {len(mine)} | {shares} | {linear:.2f} | {spread} "
            f"| {pool:.3f} | {toys:.3f} | {np.hypot(pool, toys):.3f} |"
        )
    return "\n".join(lines) + "\n"


def _share(p: FloatArray, level: float, offset: float) -> str:
    """Share below a level, and what it is for Gaussian Z if tables are off by so much."""
    shares = (p < level).mean(axis=1)
    error = shares.std(ddof=1) / len(shares) ** 0.5 if len(shares) > 1 else np.nan
    # toys of one pool scatter by as much less as their means scatter
    limit = stats.norm.isf(level) * np.sqrt(1.0 - offset**2)
    expected = stats.norm.sf(limit / np.sqrt(1.0 + offset**2))
    return f"{shares.mean():.4f} +- {error:.4f} ({expected:.4f})"


def spread_of_runs(p: FloatArray) -> tuple[float, float]:
    """Spread of the mean Z of a run, without what few windows add, and its error; p: (n_runs, n_windows)."""
    z = stats.norm.isf(np.clip(p, 1e-12, 1 - 1e-3))
    means, own = z.mean(axis=1), z.var(axis=1, ddof=1).mean() / p.shape[1]
    variance = means.var(ddof=1)
    spread = np.sqrt(max(0.0, variance - own))
    return float(spread), float(variance / np.sqrt(2.0 * (len(p) - 1)) / max(spread, 1e-9))


def main() -> None:
    """Run the cases; write the table after each run."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--toys", type=int, default=1000)
    parser.add_argument("--windows", type=int, default=1000)
    parser.add_argument(
        "--cases", type=int, nargs="*", default=range(len(CASES)), help="numbers of the cases"
    )
    arguments = parser.parse_args()
    arguments.output.mkdir(parents=True, exist_ok=True)
    kept = arguments.output / "pool_effect.jsonl"
    rows = [json.loads(line) for line in kept.read_text().splitlines()] if kept.exists() else []
    known = {(*row["case"], row["run"]) for row in rows}
    with one_thread():
        for case in (CASES[k] for k in arguments.cases):
            n_reference, rng = choose_reference_size(*case), np.random.default_rng(1)
            run = events(Conditions(), case[0], [4, *case])
            settings = SeveralTest.tune(
                run, n_reference=n_reference, n_expected=case[1], n_centers=N_CENTERS, rng=rng
            )
            for number in range(arguments.runs):
                if (*case, number) in known:
                    continue
                rows.append(judge(case, number, settings, n_toys=arguments.toys, n_windows=arguments.windows))
                with kept.open("a") as file:
                    file.write(json.dumps(rows[-1]) + "\n")
                (arguments.output / "pool_effect.md").write_text(table(rows, arguments.toys))


if __name__ == "__main__":
    main()
