"""Write what benchmarks measured into a document, each table between its own pair of markers.

``python -m tests.benchmarks.report RESULTS.json DOCUMENT.md``; tables without new results stay as they are.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Benchmark = dict[str, Any]
Row = Sequence[str]

FACTORS = {
    "n_reference": "N_R",
    "n_data": "N_D",
    "centers": "centres",
    "n_features": "features",
}
METHODS = {
    "kernel": "`KernelTest`, converged",
    "newton": "NumPy and SciPy: Newton, dense, all centres",
    "one-step": "one step by conjugate gradients, as published (`one-step`)",
    "falkon": "the same by the Falkon library (`falkon`)",
    "mmd": "MMD, 500 permutations",
    "boosted-trees": "classifier two-sample test, boosted trees",
}


def main() -> None:
    """Read the results, replace the tables they give."""
    results, document = map(Path, sys.argv[1:])
    measured = json.loads(results.read_text())
    text = document.read_text()
    origin = describe(measured)
    for name, table in TABLES.items():
        mine = [b for b in measured["benchmarks"] if b["name"].split("[")[0] == name]
        for part, lines in table(mine):
            text = replaced(text, part, [origin, "", *lines])
    document.write_text(text)


def replaced(text: str, part: str, lines: list[str]) -> str:
    """Put lines between the markers of a part; raises `ValueError` if the document has none."""
    begin, end = f"<!-- {part} -->\n", f"<!-- end of {part} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise ValueError(f"the document has not one pair of markers {begin.strip()} and {end}")
    before, _, rest = text.partition(begin)
    return before + begin + "\n".join([*lines, ""]) + end + rest.partition(end)[2]


def describe(measured: dict[str, Any]) -> str:
    """Say where and when."""
    m = measured["machine_info"]
    return (
        f"{m['cpu']}, {m['cores']} cores, load {m['load']:.1f} at the start, torch {m['torch']}, "
        f"{measured['datetime'][:10]}."
    )


def table_of(head: Row, rows: list[Row]) -> list[str]:
    """Lay out a table."""
    return [f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows]]


def seconds(value: float) -> str:
    """Write a time with its unit, three digits."""
    return f"{value * 1e3:.3g} ms" if value < 0.9995 else f"{value:.3g} s"


def growth(sizes: Sequence[float], times: Sequence[float]) -> str:
    """Exponent of a power law through all points, and between the last two."""
    if len(sizes) < 2:
        return "-"
    x, y = np.log(sizes), np.log(times)
    return f"{np.polyfit(x, y, 1)[0]:.2f}, {(y[-1] - y[-2]) / (x[-1] - x[-2]):.2f}"


def window_tables(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Times by size, one table a configuration."""
    tables = []
    for base in dict.fromkeys(b["params"]["base"] for b in found):
        rows = []
        for factor, label in FACTORS.items():
            mine = [b for b in found if (b["params"]["base"], b["params"]["factor"]) == (base, factor)]
            sizes = [b["params"]["value"] for b in mine]
            exponents = growth(sizes, [b["stats"]["median"] for b in mine])
            for b in mine:
                s, more = b["stats"], b["extra_info"]
                rows.append([
                    f"{label} = {b['params']['value']}", seconds(s["median"]),
                    seconds(float(np.quantile(s["data"], 0.99))), str(s["rounds"]), str(more["functions"]),
                    seconds(more["build_seconds"]), exponents if b is mine[-1] else "",
                    "" if more["converged"] else "not converged",
                ])  # fmt: skip
        head = ["changed", "median", "p99", "windows", "functions", "preparation", "exponent: all, last", ""]
        tables.append((f"window {base}", table_of(head, rows)))
    return tables


def time_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Times of all methods, and their ratio to ours."""
    medians = {b["params"]["method"]: b["stats"]["median"] for b in found}
    if "kernel" not in medians:
        return []
    rows = []
    for b in found:
        method = b["params"]["method"]
        difference = b["extra_info"].get("largest_difference")
        rows.append([
            METHODS[method], seconds(medians[method]), f"{medians[method] / medians['kernel']:.3g}",
            "" if difference is None else f"{difference:.2g}", str(b["stats"]["rounds"]),
        ])  # fmt: skip
    return [
        ("alternatives", table_of(["", "median", "times ours", "largest difference of t", "windows"], rows))
    ]


def detection_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Share of faulty windows seen."""
    rows = [
        [METHODS[b["params"]["method"]], f"{b['extra_info']['detected']:.2f}", seconds(b["stats"]["median"])]
        for b in found
    ]
    return [("detection", table_of(["", "seen", "median"], rows))] if rows else []


def far_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Windows far from the reference over healthy ones."""
    if not found:
        return []
    names = [b["params"]["statistic"] for b in found]
    usual = ", ".join(
        f"{seconds(b['extra_info']['healthy_seconds'])} with `{name}`"
        for name, b in zip(names, found, strict=True)
    )
    rows = []
    for case in found[0]["extra_info"]["ratios"]:
        row = [case]
        for b in found:
            middle, largest, both, largest_both, first = b["extra_info"]["ratios"][case]
            row += [f"{middle:.1f}, {largest:.1f}", f"{both:.1f}, {largest_both:.1f}", f"{first:.1f}"]
        rows.append(row)
    parts = ("test", "test and maps", "first maps")
    head = ["windows", *(f"`{name}`: {part}" for name in names for part in parts)]
    return [("far", [f"A healthy window takes {usual}.", "", *table_of(head, rows)])]


def rate(b: Benchmark) -> float:
    """Items per second."""
    per_second: float = b["extra_info"]["items"] / b["stats"]["median"]
    return per_second


def rate_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Items per second."""
    if not found:
        return []
    rows = [[*map(str, (b["params"] or {}).values()), f"{rate(b):,.0f}"] for b in found]
    head = [*(found[0]["params"] or {}), "per second"]
    return [(found[0]["name"].removeprefix("test_").split("[")[0], table_of(head, rows))]


def device_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Windows per second, by how many are tested together."""
    rows = [
        [b["params"]["base"], b["extra_info"]["device"], str(b["params"]["together"]), f"{rate(b):,.0f}"]
        for b in found
    ]
    return [("device", table_of(["", "on", "together", "windows/s"], rows))] if rows else []


CLAIMED = 250
"""Streams with which the rate of the sentence below the table was measured."""


def stream_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """End to end, and the claim."""
    if not found:
        return []
    rows = []
    for b in found:
        more = b["extra_info"]
        rows.append([
            b["params"]["statistic"], str(b["params"]["n_streams"]), f"{rate(b):.0f}", f"{more['paced']:.0f}",
            seconds(more["delay_median"]), seconds(more["delay_p99"]),
            f"{more['rest_megabytes']:.0f} MB", f"{more['peak_megabytes']:.0f} MB",
        ])  # fmt: skip
    head = ["statistic", "streams", "windows/s", "delays at", "median", "p99", "memory", "sum of peaks"]
    claims = [
        f"**{int(rate(b))} streams at one window of 500 events per second** keep the machine above busy "
        f"with the statistic that `build` takes (measured with {CLAIMED} streams, collectors' side included)."
        for b in found
        if b["params"] == {"statistic": "several", "n_streams": CLAIMED}
    ]
    return [("streams", [*table_of(head, rows), "", *claims])]


def live_times_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Windows of one live time beside windows of any."""
    if not found:
        return []
    took = found[0]["extra_info"]["took"]
    rows = [[name, f"{1.0 / wall:.0f}", seconds(cpu)] for name, (wall, cpu) in took.items()]
    head = ["live times", "windows/s", "processor time of daemon and workers"]
    return [("live times", table_of(head, rows))]


def start_table(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Start of the daemon."""
    rows = [
        [
            b["params"]["statistic"],
            b["params"]["kind"],
            seconds(b["extra_info"]["start_seconds"]),
            f"{b['extra_info']['rest_megabytes']:.0f} MB",
        ]
        for b in found
    ]
    head = ["statistic", "250 streams on", "until it listens", "memory after 500 windows"]
    return [("start", table_of(head, rows))] if rows else []


def profile_tables(found: list[Benchmark]) -> list[tuple[str, list[str]]]:
    """Own time of the functions that take most of it."""
    tables = []
    for b in found:
        rows = [
            [f"`{entry['place']}`", f"{entry['share']:.0%}", f"{entry['calls']:.1f}"]
            for entry in b["extra_info"]["profile"]
        ]
        tables.append(
            (f"profile {b['params']['base']}", table_of(["function", "own time", "calls a window"], rows))
        )
    return tables


TABLES: dict[str, Callable[[list[Benchmark]], list[tuple[str, list[str]]]]] = {
    "test_window": window_tables,
    "test_time": time_table,
    "test_detection": detection_table,
    "test_far": far_table,
    "test_device": device_table,
    "test_toys": rate_table,
    "test_calibration": rate_table,
    "test_reconstruction": rate_table,
    "test_streams": stream_table,
    "test_live_times": live_times_table,
    "test_start": start_table,
    "test_profile": profile_tables,
}


if __name__ == "__main__":
    main()
