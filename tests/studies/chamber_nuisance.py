"""The drift velocity as a nuisance parameter: windows it explains do not alarm, faults still do.

``python -m tests.studies.chamber_nuisance OUTPUT`` writes tables and a figure into OUTPUT. The coefficients
of log r are learned from simulated samples at nu = ln(v/v_0) = +-1 % and +-3 %; the measurement of nu has an
error of 0.5 %. Windows of 5000 events show shifts, which are small for the kernels, those of 20 000 events
the smaller one; windows of 500 events show faults, all of which 5000 would. Both losses, two widths, with
the term and without: the share of windows with p < 0.01, and of windows whose pull of nu, fitted without f,
is off by more than 3 of its standard deviations in healthy windows. It takes 70 minutes on one core.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path

import matplotlib as mpl
import numpy as np
import torch
from rich.progress import Progress
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest, Shape
from dqm.nplm.loss import LossName
from dqm.nplm.taylor import Network, ShiftedSample, TaylorModel, learn_taylor
from dqm.reference.null import empirical_p_value
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.simulated_faults import CONDITIONS, events

mpl.use("Agg")
from matplotlib import pyplot as plt

NAME, SIGMA = "drift_velocity", 0.005
LEARNED_AT = (0.01, -0.01, 0.03, -0.03)
SHIFTS = {f"{nu:+.1%}": nu for nu in (0.005, -0.005, 0.01, -0.01)}
FAULTS = tuple(name for name in CONDITIONS if name != "healthy")
NAMES = ("healthy", *SHIFTS, *FAULTS)
CENTERS = 200
LEVEL, PULL_LIMIT = 0.01, 3.0


@dataclass(frozen=True)
class Setup:
    """What is compared."""

    loss: LossName
    width: float
    penalty: float
    nuisance: bool

    def __str__(self) -> str:
        term = "with" if self.nuisance else "without"
        return f"{self.loss}, width {self.width}, penalty {self.penalty:g}, {term} the term"


KERNELS: tuple[tuple[LossName, float, float], ...] = (
    ("likelihood", 2.5, 1e-6),
    ("likelihood", 2.5, 1e-7),
    ("likelihood", 4.5, 1e-6),
    ("logistic", 2.5, 1e-6),
    ("logistic", 4.5, 1e-6),
)
SETUPS = tuple(Setup(*kernel, nuisance) for kernel, nuisance in itertools.product(KERNELS, (True, False)))


@dataclass(frozen=True)
class Series:
    """Windows of one size, their reference and conditions."""

    size: int
    n_reference: int
    names: tuple[str, ...]
    setups: tuple[Setup, ...]


SERIES = (
    Series(5000, 50_000, tuple(SHIFTS), SETUPS),
    Series(500, 10_000, FAULTS, SETUPS),
    Series(20_000, 100_000, tuple(SHIFTS)[:2], SETUPS[:2]),
)


@dataclass(frozen=True)
class Outcome:
    """Windows of one condition."""

    t: FloatArray
    pull: FloatArray
    steps: FloatArray
    ms: float


def conditions(name: str) -> Conditions:
    """State of the chamber."""
    return CONDITIONS[name] if name in CONDITIONS else at_shift(SHIFTS[name])


def at_shift(nu: float) -> Conditions:
    """Drift velocity exp(nu) times nominal."""
    nominal = Conditions()
    velocity = nominal.drift_velocity_mm_per_ns * np.exp(nu)
    return nominal.model_copy(update={"drift_velocity_mm_per_ns": velocity})


@lru_cache(maxsize=len(NAMES))
def windows(name: str, size: int, n: int, seed: int) -> FloatArray:
    """Fresh events, shape (n, size, 5); no pool, hence no fluctuation that windows share."""
    return events(conditions(name), n * size, [seed, 2, size, NAMES.index(name)]).reshape(n, size, -1)


def learn(n: int, seed: int, bar: Progress) -> TaylorModel:
    """Learn log r from n events at each point."""
    task = bar.add_task("log r", total=None)
    samples = [ShiftedSample(nu, events(at_shift(nu), n, [seed, 0, k])) for k, nu in enumerate(LEARNED_AT)]
    return learn_taylor(
        events(Conditions(), n, [seed, 0, len(samples)]),
        samples,
        method=Network(),
        rng=np.random.default_rng(seed),
        progress=lambda done, total: bar.update(task, completed=done, total=total),
    )


def study(
    model: TaylorModel, series: Series, setup: Setup, counts: Mapping[str, int], seed: int, bar: Progress
) -> dict[str, Outcome]:
    """Test windows of each condition."""
    size = series.size
    velocity = Shape(NAME, SIGMA, linear=model.linear, quadratic=model.quadratic)
    test = KernelTest(
        events(Conditions(), series.n_reference, [seed, 1, size]), n_expected=size,
        width=setup.width, penalty=setup.penalty, centers=CENTERS, loss=setup.loss,
        rng=np.random.default_rng(seed), nuisances=[velocity] if setup.nuisance else [],
    )  # fmt: skip
    title = f"{size}, {setup}"
    task = bar.add_task(title, total=sum(counts.values()))
    found = {}
    for name, n in counts.items():
        sample = windows(name, size, n, seed)
        t, pull, steps = [], [], []
        rng = np.random.default_rng([seed, 3, size, NAMES.index(name)])
        start = time.perf_counter()
        for part in np.array_split(sample, -(-n // 10)):
            measured = rng.normal(SHIFTS.get(name, 0.0), SIGMA, len(part))
            given = [{NAME: float(nu)} for nu in measured] if setup.nuisance else None
            for result in test.evaluate_many(list(part), auxiliaries=given):
                t.append(result.t)
                steps.append(result.iterations)
                pull.append(result.nuisances[NAME].reference.pull if setup.nuisance else 0.0)
            bar.advance(task, len(part))
        ms = 1e3 * (time.perf_counter() - start) / n
        found[name] = Outcome(np.array(t), np.array(pull, dtype=np.float64), np.array(steps), ms)
    return found


@dataclass(frozen=True)
class Line:
    """One condition, tested with one setup; shares are of windows."""

    setup: Setup
    size: int
    condition: str
    windows: int
    not_converged: int
    share_t: float
    low: float
    high: float
    share_pull: float
    share_either: float
    mean_t: float
    sd_t: float
    ks_p: float
    mean_pull: float
    sd_pull: float
    steps: float
    most_steps: int
    ms: float

    @property
    def label(self) -> str:
        """First cells in a table."""
        return f"| {self.size} | {self.setup.loss} | {self.setup.width} | {self.setup.penalty:g} |"


def summarise(setup: Setup, size: int, found: Mapping[str, Outcome]) -> list[Line]:
    """One line for each condition; a window whose fit was given up does not alarm by t."""
    healthy = found["healthy"]
    null = np.sort(healthy.t[np.isfinite(healthy.t)])
    center, spread = float(healthy.pull.mean()), float(healthy.pull.std()) or 1.0
    lines = []
    for name, outcome in found.items():
        settled = outcome.t[np.isfinite(outcome.t)]
        low_p = np.array([bool(np.isfinite(t)) and empirical_p_value(t, null) < LEVEL for t in outcome.t])
        far = np.abs(outcome.pull - center) > PULL_LIMIT * spread
        interval = stats.binomtest(int(low_p.sum()), len(low_p)).proportion_ci(0.95)
        lines.append(
            Line(
                setup,
                size,
                name,
                windows=len(low_p),
                not_converged=len(low_p) - len(settled),
                share_t=float(low_p.mean()),
                low=float(interval.low),
                high=float(interval.high),
                share_pull=float(far.mean()),
                share_either=float((low_p | far).mean()),
                mean_t=float(settled.mean()),
                sd_t=float(settled.std()),
                ks_p=float(stats.ks_2samp(settled, null).pvalue),
                mean_pull=float(outcome.pull.mean()),
                sd_pull=float(outcome.pull.std()),
                steps=float(outcome.steps.mean()),
                most_steps=int(outcome.steps.max()),
                ms=outcome.ms,
            )
        )
    return lines


def markdown(lines: Sequence[Line]) -> str:
    """Tables of healthy windows and shifts, of faults, and of cost."""
    plain = {(r.label, r.condition): r for r in lines if not r.setup.nuisance}
    head = "| events | loss | width | penalty |"
    healthy = [f"{head} term | nu | windows | p < 0.01 | 95 % | KS p of t | t | pull | beyond 3 |"]
    faults = [f"{head} fault | windows | without | with, t | with, pull | with, either | 95 % of t |"]
    costs = [f"{head} term | condition | steps, most | not converged | ms |"]
    for r in lines:
        name, term = r.condition, "with" if r.setup.nuisance else "without"
        pull = f"{r.mean_pull:.2f} +- {r.sd_pull:.2f} | {r.share_pull:.3f}" if r.setup.nuisance else "|"
        share = f"{r.share_t:.3f}", f"{r.low:.3f} to {r.high:.3f}"
        if name not in FAULTS:
            seen = *share, f"{r.ks_p:.2g}"
            cells = " | ".join(("",) * 3 if name == "healthy" else seen)
            healthy.append(
                f"{r.label} {term} | {name} | {r.windows} | {cells} | "
                f"{r.mean_t:.1f} +- {r.sd_t:.1f} | {pull} |"
            )
        elif r.setup.nuisance:
            bare = plain.get((r.label, name))
            without = f"{bare.share_t:.3f}" if bare else ""
            faults.append(
                f"{r.label} {name} | {r.windows} | {without} | {share[0]} | {r.share_pull:.3f} | "
                f"{r.share_either:.3f} | {share[1]} |"
            )
        costs.append(
            f"{r.label} {term} | {name} | {r.steps:.1f}, {r.most_steps} | {r.not_converged} | {r.ms:.0f} |"
        )
    for table in (healthy, faults, costs):
        table.insert(1, "|---" * (table[0].count("|") - 1) + "|")
    return "\n\n".join("\n".join(table) for table in (healthy, faults, costs)) + "\n"


def draw(lines: Sequence[Line], path: Path) -> None:
    """Share of windows below 0.01 in each condition, without the term (crosses) and with it (dots)."""
    sizes = sorted({r.size for r in lines})
    figure, axes = plt.subplots(
        len(sizes), 1, figsize=(11, 4 * len(sizes)), layout="constrained", squeeze=False
    )
    for size, axis in zip(sizes, axes[:, 0], strict=True):
        chosen = [r for r in lines if r.size == size and r.condition != "healthy"]
        names = [name for name in NAMES if any(r.condition == name for r in chosen)]
        setups = list(dict.fromkeys(replace(r.setup, nuisance=True) for r in chosen))
        for (k, setup), nuisance in itertools.product(enumerate(setups), (False, True)):
            points = [r for r in chosen if r.setup == replace(setup, nuisance=nuisance)]
            x = [names.index(r.condition) + 0.15 * (k - (len(setups) - 1) / 2) for r in points]
            share, low, high = np.array([(r.share_t, r.low, r.high) for r in points]).reshape(-1, 3).T
            text = str(replace(setup, nuisance=nuisance))
            axis.errorbar(
                x, share, [share - low, high - share], fmt="o" if nuisance else "x", color=f"C{k}", label=text
            )
        axis.axhline(LEVEL, color="grey", lw=0.8)
        axis.set_yscale("symlog", linthresh=0.02)
        axis.set(title=f"{size} events", ylabel="share of windows with p < 0.01", ylim=(0, 1.2))
        axis.set_xticks(range(len(names)), names)
        axis.set_xlim(-0.5, len(names) - 0.5)
    axes[0, 0].legend(ncols=2, fontsize="small")
    figure.savefig(path, dpi=100)
    plt.close(figure)


def write(lines: Sequence[Line], output: Path) -> None:
    """Tables, numbers and figure."""
    (output / "chamber_nuisance.md").write_text(markdown(lines))
    (output / "chamber_nuisance.json").write_text(json.dumps([asdict(r) for r in lines], indent=1))
    draw(lines, output / "chamber_nuisance.png")


def main() -> None:
    """Run all; write after each setup, so that an interruption loses little."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path, help="directory to write to")
    parser.add_argument("--toys", type=int, default=400, help="healthy windows for each setup")
    parser.add_argument("--windows", type=int, default=200, help="windows at each shift and fault")
    parser.add_argument("--learn", type=int, default=200_000, help="events at each point to learn log r from")
    sizes = [series.size for series in SERIES]
    parser.add_argument("--sizes", type=int, nargs="+", choices=sizes, default=sizes, help="sizes of window")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arguments.output.mkdir(parents=True, exist_ok=True)
    lines: list[Line] = []
    with Progress() as bar:
        model = learn(arguments.learn, arguments.seed, bar)
        for series in (series for series in SERIES if series.size in arguments.sizes):
            counts = {"healthy": arguments.toys, **dict.fromkeys(series.names, arguments.windows)}
            for setup in series.setups:
                found = study(model, series, setup, counts, arguments.seed, bar)
                lines += summarise(setup, series.size, found)
                write(lines, arguments.output)


if __name__ == "__main__":
    main()
