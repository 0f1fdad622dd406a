"""Histograms against the events in them: t, power and cost; and the histograms of a real chamber.

``python -m tests.studies.histograms`` prints three tables: t and power of the same windows unbinned and in 16
to 256 bins, of one feature and of two; the time of a window by its number of events; with a folder of
published histograms (``run1252_shifted.csv`` and so on: ``bin_lo_ns,bin_hi_ns,count``) also what the test
says of them.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table
from scipy import stats

from dqm.events import FloatArray
from dqm.nplm import KernelTest
from dqm.nplm.samples import Sample

N_REFERENCE, N_WINDOW = 5000, 500
N_HEALTHY, N_FAULTY = 400, 200
FALSE_ALARMS = 0.05
"""Share of healthy windows above the threshold, whose power is given: 400 healthy windows know it well."""

Draw = Callable[[np.random.Generator, int], FloatArray]


def drift_times(rng: np.random.Generator, n: int) -> FloatArray:
    """Times of a box with soft edges, ns, as a drift tube gives."""
    return np.clip(rng.uniform(0.0, 390.0, n) + rng.normal(0.0, 8.0, n), -40.0, 430.0)


def _late(rng: np.random.Generator, n: int) -> FloatArray:
    return np.minimum(drift_times(rng, n) + 6.0, 430.0)


def _peak(rng: np.random.Generator, n: int) -> FloatArray:
    times = drift_times(rng, n)
    times[: n // 20] = rng.normal(200.0, 3.0, n // 20)  # an afterpulse: 5 % within some ns
    return times


def _stretched(rng: np.random.Generator, n: int) -> FloatArray:
    return np.clip(1.03 * drift_times(rng, n), -40.0, 430.0)


def _pair(times: Draw) -> Draw:
    def draw(rng: np.random.Generator, n: int) -> FloatArray:
        first = times(rng, n)
        return np.column_stack([first, np.clip(390.0 - first + rng.normal(0.0, 60.0, n), -200.0, 600.0)])

    return draw


ONE: Mapping[str, Draw] = {
    name: (lambda rng, n, draw=draw: draw(rng, n)[:, None])
    for name, draw in {
        "healthy": drift_times, "late by 6 ns": _late, "3 % slower": _stretched, "5 % within 3 ns": _peak
    }.items()
}  # fmt: skip
TWO: Mapping[str, Draw] = {
    name: _pair(draw)
    for name, draw in {
        "healthy": drift_times, "late by 6 ns": _late, "3 % slower": _stretched, "5 % within 3 ns": _peak
    }.items()
}  # fmt: skip
LIMITS = ((-40.0, 430.0), (-200.0, 600.0))


def fill(x: FloatArray, n_bins: int) -> Sample:
    """Fill a histogram with so many bins in all, and give its filled bins."""
    n_features = x.shape[1]
    n_each = round(n_bins ** (1.0 / n_features))
    edges = [np.linspace(*LIMITS[k], n_each + 1) for k in range(n_features)]
    counts, _ = np.histogramdd(x, bins=edges)
    centers = np.meshgrid(*(0.5 * (e[1:] + e[:-1]) for e in edges), indexing="ij")
    rows = np.stack(centers, axis=-1).reshape(-1, n_features)
    return Sample(rows, counts.ravel()).filled


def make_test(sample: Sample, rng: np.random.Generator) -> KernelTest:
    """Make the test as a bundle does by default."""
    n_centers = min(300, len(np.unique(sample.x, axis=0)))
    centers = sample.choose_rows(n_centers, rng)
    return KernelTest(
        sample.x, counts=sample.counts, n_expected=N_WINDOW, width=2.5, penalty=1e-7, centers=centers,
        loss="likelihood",
    )  # fmt: skip


def statistics(test: KernelTest, windows: list[Sample]) -> FloatArray:
    """Give t of each window."""
    return np.array([test.evaluate(w.x, weights=w.counts).t for w in windows])


def compare_binnings(console: Console, draws: Mapping[str, Draw], title: str) -> None:
    """Print t and power of the same windows, unbinned and binned."""
    rng = np.random.default_rng(1)
    reference = draws["healthy"](rng, N_REFERENCE)
    windows = {
        name: [draw(rng, N_WINDOW) for _ in range(N_HEALTHY if name == "healthy" else N_FAULTY)]
        for name, draw in draws.items()
    }
    table = Table("bins", "t healthy", "correlation", *(n for n in draws if n != "healthy"), title=title)
    unbinned: FloatArray | None = None
    for n_bins in (None, 256, 64, 16):

        def prepare(x: FloatArray, n_bins: int | None = n_bins) -> Sample:
            return Sample(x) if n_bins is None else fill(x, n_bins)

        test = make_test(prepare(reference), np.random.default_rng(2))
        healthy = statistics(test, [prepare(x) for x in windows["healthy"]])
        unbinned = healthy if unbinned is None else unbinned
        threshold = np.quantile(healthy, 1.0 - FALSE_ALARMS)
        powers = []
        for name, some in windows.items():
            if name == "healthy":
                continue
            t = statistics(test, [prepare(x) for x in some])
            k = int((t > threshold).sum())
            known = stats.binomtest(k, len(t)).proportion_ci(0.95)
            powers.append(f"{np.median(t):.1f}; {k / len(t):.2f} ({known.low:.2f} to {known.high:.2f})")
        table.add_row(
            "none" if n_bins is None else str(n_bins),
            f"{healthy.mean():.1f} +- {healthy.std():.1f}",
            f"{np.corrcoef(healthy, unbinned)[0, 1]:.2f}",
            *powers,
        )
    console.print(table)


def measure_cost(console: Console) -> None:
    """Print the time of a window by its number of events, in bins and unbinned."""
    table = Table("events", "64 bins", "256 bins", "unbinned", title="time of a healthy window, ms")
    for n in (500, 5000, 50_000, 500_000, 5_000_000):
        rng = np.random.default_rng(n)
        cells = []
        for n_bins in (64, 256, None):
            if n_bins is None and n > 50_000:
                cells.append("-")
                continue
            known = ONE["healthy"](rng, min(2 * n, 10_000_000))
            sample = Sample(known) if n_bins is None else fill(known, n_bins)
            test = KernelTest(
                sample.x, counts=sample.counts, n_expected=n, width=2.5, penalty=1e-7,
                centers=sample.choose_rows(min(300, len(sample.x)), rng), loss="likelihood",
            )  # fmt: skip
            drawn = ONE["healthy"](rng, n)
            window = Sample(drawn) if n_bins is None else fill(drawn, n_bins)
            test.evaluate(window.x, weights=window.counts)
            times = []
            for _ in range(5):
                begin = time.perf_counter()
                test.evaluate(window.x, weights=window.counts)
                times.append(time.perf_counter() - begin)
            cells.append(f"{1e3 * min(times):.1f}")
        table.add_row(f"{n:,}".replace(",", " "), *cells)
    console.print(table)


def read_published(path: Path) -> tuple[FloatArray, FloatArray]:
    """Read the borders of the bins and the contents of a published histogram."""
    with path.open() as file:
        rows = [
            (float(r["bin_lo_ns"]), float(r["bin_hi_ns"]), float(r["count"])) for r in csv.DictReader(file)
        ]
    values = np.array(rows)
    return np.append(values[:, 0], values[-1, 1]), values[:, 2]


def rebin(edges: FloatArray, contents: FloatArray, grid: FloatArray, rng: np.random.Generator) -> FloatArray:
    """Spread the events of each bin evenly over it and count them in others; outer bins hold the rest."""
    spread = np.repeat(edges[:-1], contents.astype(int))
    width = np.repeat(np.diff(edges), contents.astype(int))
    values = np.clip(spread + rng.uniform(size=len(spread)) * width, grid[0], np.nextafter(grid[-1], -np.inf))
    return np.histogram(values, grid)[0].astype(np.float64)


def judge_published(console: Console, folder: Path) -> None:
    """Print what the test says of published histograms: the good run is the reference."""
    runs = {
        "1252, good: its other half": "run1252_shifted", "1265, discrepant": "run1265_shifted",
        "1242, bad": "run1242_shifted",
    }  # fmt: skip
    rng = np.random.default_rng(5)
    for what, aligned in (("as published", False), ("each from its own rising edge", True)):
        grid = np.arange(-200.0, 801.0, 50.0)
        binned = {}
        for label, name in runs.items():
            edges, contents = read_published(folder / f"{name}.csv")
            shift = _rising_edge(edges, contents) if aligned else 0.0
            binned[label] = rebin(edges - shift, contents, grid, rng)
        _judge(console, f"drift times of real runs, 50 ns bins, {what}", grid, binned, rng)


def _rising_edge(edges: FloatArray, contents: FloatArray) -> float:
    """Give the time before which 5 % of the events are."""
    share = np.concatenate([[0.0], np.cumsum(contents)]) / contents.sum()
    return float(np.interp(0.05, share, edges))


def _judge(
    console: Console, title: str, grid: FloatArray, binned: Mapping[str, FloatArray], rng: np.random.Generator
) -> None:
    centers = (0.5 * (grid[1:] + grid[:-1]))[:, None]
    table = Table("windows of", *binned, title=f"{title}: median t; share above the threshold")
    good, *_ = binned
    reference, rest = Sample(centers, binned[good]).filled.split([1_000_000], rng)
    for n in (100, 300, 1000, 10_000):
        test = KernelTest(
            reference.x, counts=reference.counts, n_expected=n, width=2.5, penalty=1e-7, centers=reference.x,
            loss="likelihood",
        )  # fmt: skip
        healthy = statistics(test, _subsamples(rest, n, N_HEALTHY, rng))
        threshold = np.quantile(healthy, 1.0 - FALSE_ALARMS)
        cells = []
        for label, contents in binned.items():
            source = rest if label == good else Sample(centers, contents).filled
            t = statistics(test, _subsamples(source, n, 50, rng))
            cells.append(f"{np.median(t):.0f}; {np.mean(t > threshold):.2f}")
        table.add_row(str(n), *cells)
    console.print(table)


def _subsamples(sample: Sample, n: int, n_windows: int, rng: np.random.Generator) -> list[Sample]:
    return [sample.split([n], rng)[0] for _ in range(n_windows)]


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", nargs="?", type=Path, help="published histograms of a real chamber")
    parser.add_argument("--only", choices=("binnings", "cost", "published"), help="one part")
    arguments = parser.parse_args()
    console = Console(width=160)
    if arguments.only in (None, "binnings"):
        compare_binnings(console, ONE, "one feature: median t; power at 5 % false alarms")
        compare_binnings(console, TWO, "two features: median t; power at 5 % false alarms")
    if arguments.only in (None, "cost"):
        measure_cost(console)
    if arguments.folder is not None and arguments.only in (None, "published"):
        judge_published(console, arguments.folder)


if __name__ == "__main__":
    main()
