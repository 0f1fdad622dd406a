"""Dead and noisy channels of real drift tubes, by name.

``python -m tests.studies.real_channels DATA`` reads two public data sets that are not shipped. DATA/tdc has a
raw run of 24 s: each chamber's first half, in windows of 0.5 s, is the reference of its second half.
DATA/legnaro has the rate of every channel in nine runs. Its windows are not real ones: they are Poisson draws
at these rates, 600 s each. They say whether channels that differ between runs are named, and nothing about
how channels vary within a run.
"""

from __future__ import annotations

import argparse
import csv
from collections import defaultdict
from itertools import product
from pathlib import Path

import numpy as np

from dqm.events import FloatArray
from dqm.nplm.channels import LAYER, WIRE, ChannelResult, ChannelState, learn_model
from dqm_collectors.chamber.geometry import WIRES_PER_CHAMBER, Convention, WireMap
from dqm_collectors.tdc import TdcCollector
from tests.studies.channel_faults import Detector, tell

SECONDS = 0.5
DRAWN_SECONDS, DRAWN_WINDOWS = 600.0, 10
GOOD_RUNS = (1233, 1238, 1251, 1252, 1253)
RESTLESS = 5.0
CHAMBERS = (0, 1, 2)
"""Chamber 3 of the second set has no usable reference."""


def chamber_map() -> FloatArray:
    """Give channel, layer, wire and card of each channel of a chamber."""
    number = np.arange(WIRES_PER_CHAMBER)
    _, layer, cell = WireMap.of(Convention.Y2021).wires(np.zeros_like(number), number)
    return np.column_stack([number, layer, cell + 1, number // 16 + 1]).astype(np.float64)


def name(found: ChannelResult) -> str:
    """Name the channels that depart, the most extreme first."""
    places, words = chamber_map(), []
    for k in sorted(np.flatnonzero(found.state), key=lambda k: found.p[k]):
        state = ChannelState(found.state[k]).name.lower()
        seen, expected = found.hits[k], found.fitted[k]
        words.append(f"wire {places[k, WIRE]:.0f} of layer {places[k, LAYER]:.0f} {state} ")
        words[-1] += (
            f"({seen:.0f} of {expected:.0f})" if seen < expected else f"({seen / expected:.2g} times)"
        )
    return "; ".join(words) or "-"


def raw_windows(path: Path) -> dict[str, list[FloatArray]]:
    """Read the hits of every chamber in full windows."""
    options = {"inputs": [path], "convention": "2018", "channels": True, "batch_seconds": SECONDS}
    windows = defaultdict(list)
    for batch in TdcCollector(TdcCollector.Options.model_validate(options)):
        if batch.counts and (batch.end or 0.0) - (batch.start or 0.0) > 0.99 * SECONDS:
            windows[batch.chamber].append(batch.x[:, 1])
    return windows


def show_raw_run(path: Path) -> None:
    """Print for each chamber what was dead from the beginning, and the windows of the second half."""
    windows = raw_windows(path)
    tell("chamber", "windows", "p < 0.05 in the second half", "nearly no hits in the first half")
    tell(*["---"] * 4)
    for chamber, rows in windows.items():
        hits = np.stack(rows)
        half = len(hits) // 2
        detector = Detector.learn(hits[:half], chamber_map())
        p = [detector.judge(row)[1] for row in hits[half:]]
        total = hits[:half].sum(axis=0)
        dead = chamber_map()[total < 0.1 * np.median(total)]
        named = ", ".join(f"wire {wire:.0f} of layer {layer:.0f}" for _, layer, wire, _ in dead)
        tell(chamber, str(len(hits)), f"{sum(q < 0.05 for q in p)} of {len(p)}", named or "-")


def show_care(path: Path) -> None:
    """Print p without each of the two allowances for what 24 s cannot show, and with other references."""
    runs = [np.stack(rows) for rows in raw_windows(path).values()]
    tell("reference", "dispersion counted", "illumination", "p < 0.05", "p < 0.1", "p < 0.5", "median p")
    tell(*["---"] * 7)
    for wander, illumination in product((None, 1.0), (0.1, 0.03)):
        show_split(runs, "first half", wander, illumination)
    for name, wander in product(("second half", "even windows", "odd windows"), (None, 1.0)):
        show_split(runs, name, wander, 0.1 if wander is None else 0.03)


def show_split(runs: list[FloatArray], name: str, wander: float | None, illumination: float) -> None:
    """Print p of the windows that are not in the reference, of all chambers."""
    p: list[float] = []
    for hits in runs:
        number, half = np.arange(len(hits)), len(hits) // 2
        in_reference = {
            "first half": number < half,
            "second half": number >= half,
            "even windows": number % 2 == 0,
            "odd windows": number % 2 == 1,
        }[name]
        detector = Detector.learn(hits[in_reference], chamber_map(), 300, illumination, wander)
        p += [detector.judge(row)[1] for row in hits[~in_reference]]
    counted = "as learned, 2 times or more" if wander is None else "once"
    counts = (f"{sum(q < limit for q in p)} of {len(p)}" for limit in (0.05, 0.1, 0.5))
    tell(name, counted, f"{100 * illumination:.0f} %", *counts, f"{np.median(p):.2f}")


def show_restless(path: Path) -> None:
    """Print the wires that vary more in the first half than in the second one: they make p large there."""
    tell("chamber", "wires whose dispersion is five times larger in the first half", "in the second half")
    tell(*["---"] * 3)
    places = chamber_map()
    for chamber, rows in raw_windows(path).items():
        hits = np.stack(rows)
        half = len(hits) // 2
        first, second = (learn_model(part, places, 0.03).dispersion for part in (hits[:half], hits[half:]))
        named = (
            ", ".join(f"{wire:.0f} of layer {layer:.0f}" for _, layer, wire, _ in places[much])
            for much in (first > RESTLESS * second, second > RESTLESS * first)
        )
        tell(chamber, *named)


def show_rates(path: Path) -> None:
    """Print for each run and chamber which channels differ from the good runs, without the run itself."""
    rates: dict[int, FloatArray] = defaultdict(lambda: np.zeros((4, WIRES_PER_CHAMBER)))
    with path.open() as file:
        for row in csv.DictReader(file):
            fpga, channel = int(row["fpga"]), int(row["tdc_channel"])
            chamber = 2 * fpga + channel // WIRES_PER_CHAMBER
            rates[int(row["run"])][chamber, channel % WIRES_PER_CHAMBER] = float(row["rate_hz"])
    tell("run", "chamber", "p", "named")
    tell(*["---"] * 4)
    for run in rates:
        for chamber in CHAMBERS:
            rng = np.random.default_rng([run, chamber])
            good = [one for one in GOOD_RUNS if one != run]
            drawn = [
                rng.poisson(DRAWN_SECONDS * rates[one][chamber], (DRAWN_WINDOWS, WIRES_PER_CHAMBER))
                for one in good
            ]
            detector = Detector.learn(np.concatenate(drawn).astype(np.float64), chamber_map(), 300)
            found, p = detector.judge(rng.poisson(DRAWN_SECONDS * rates[run][chamber]).astype(np.float64))
            tell(str(run), str(chamber), f"{p:.2g}", name(found))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="directory with tdc/ and legnaro/")
    data = parser.parse_args().data
    show_raw_run(data / "tdc" / "run591_first120k.dat")
    show_care(data / "tdc" / "run591_first120k.dat")
    show_restless(data / "tdc" / "run591_first120k.dat")
    show_rates(data / "legnaro" / "occupancy_and_rate_per_channel.csv")


if __name__ == "__main__":
    main()
