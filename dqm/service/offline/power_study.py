"""Power of statistics against faults: share of faulty windows above the 95 % quantile of healthy ones.

One unit of work is one statistic, one family of faults, one size of reference and window. Its reference is
drawn, the statistic is set up as a bundle would (settings chosen by itself, or its usual ones), and tests
fresh healthy windows, which give the threshold, and windows of each fault. All statistics see the same
windows. A unit depends on its seed alone; finished units are kept in a file, and a study that is called again
continues.
"""

from __future__ import annotations

import json
import time
import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from dqm.errors import FileError, InputError, PluginError
from dqm.events import FloatArray
from dqm.nplm.channels import MAP_COLUMNS, NUMBER, UNKNOWN, ChannelTest
from dqm.nplm.samples import Sample
from dqm.reference import Processes, one_thread
from dqm.reference.features import choose_kinds
from dqm.reference.statistic import find_statistic
from dqm.service.offline.power_samples import FAMILIES, Family

__all__ = ["STATISTICS", "PowerPlan", "PowerRow", "compare_power", "sort_rows"]

NPLM = ("several", "kernel")
PEERS = (
    "energy", "mmd", "mmd-nystroem", "mmd-fuse", "kolmogorov", "chi-squared", "boosted-trees",
    "neural-classifier", "isolation-forest", "autoencoder",
)  # fmt: skip

CHANNELS = "channels"
"""The test of channels, for families of events with a channel: it counts the events of each."""

STATISTICS = (*NPLM, CHANNELS, *PEERS)
"""Those that a study has by default."""

NPLM_ON_REQUEST = ("symmetrised", "one-step", "falkon", "neural")
"""Tests of the NPLM family that it does not have by default: other forms of `kernel`, or slow."""

LEVEL = 0.05
"""Share of healthy windows above the threshold."""

TUNED_EVENTS = 10
"""Windows of healthy events beside the reference from which settings may be chosen."""

CENTERS = 300


@dataclass(frozen=True, slots=True)
class PowerPlan:
    """What is measured.

    Parameters
    ----------
    statistics : tuple of str
        Names of installed statistics.
    sizes : tuple of (int, int)
        Events of reference and window.
    n_healthy, n_faulty : int
        Windows for the threshold, and of each fault.
    families : tuple of str
        Names of `FAMILIES`.
    seed : int
        Of everything.
    """

    statistics: tuple[str, ...] = STATISTICS
    sizes: tuple[tuple[int, int], ...] = ((2000, 100), (2000, 200), (5000, 500))
    n_healthy: int = 400
    n_faulty: int = 100
    families: tuple[str, ...] = tuple(family.name for family in FAMILIES)
    seed: int = 1

    @classmethod
    def quick(cls, statistics: tuple[str, ...] = STATISTICS, seed: int = 1) -> PowerPlan:
        """Give a plan of a few minutes: one size, few windows, larger errors."""
        return cls(statistics, ((2000, 200),), 100, 30, seed=seed)

    @property
    def units(self) -> list[Unit]:
        """All units of work."""
        return [
            Unit(statistic, family, n_reference, n_window, self.n_healthy, self.n_faulty, self.seed)
            for n_reference, n_window in self.sizes
            for family in self.families
            for statistic in self.statistics
        ]


@dataclass(frozen=True, slots=True)
class Unit:
    """One statistic on one family of faults, at one size."""

    statistic: str
    family: str
    n_reference: int
    n_window: int
    n_healthy: int
    n_faulty: int
    seed: int

    @property
    def key(self) -> str:
        """What distinguishes it from the others, in the file of finished units."""
        return json.dumps(list(asdict(self).values()))


@dataclass(frozen=True, slots=True)
class PowerRow:
    """Power of all statistics against one fault.

    Parameters
    ----------
    family, fault : str
        What was wrong.
    n_reference, n_window : int
        Events.
    power : dict of str to float
        Share of faulty windows above the threshold, by statistic.
    n_faulty : int
        Faulty windows.
    """

    family: str
    fault: str
    n_reference: int
    n_window: int
    power: dict[str, float]
    n_faulty: int

    @property
    def peers_lead(self) -> float:
        """By how much the best of the peers is ahead of the best of our tests; negative if it is behind."""
        school = (*NPLM, CHANNELS, *NPLM_ON_REQUEST)
        own = [value for name, value in self.power.items() if name in school]
        others = [value for name, value in self.power.items() if name not in school]
        return max(others, default=0.0) - max(own, default=0.0)


def compare_power(
    plan: PowerPlan,
    kept: Path,
    *,
    n_processes: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> tuple[list[PowerRow], dict[str, float], dict[tuple[str, str], set[str]]]:
    """Measure what is not measured yet.

    Parameters
    ----------
    plan : PowerPlan
        What to measure.
    kept : Path
        File of finished units, one JSON object in a line; it is added to.
    n_processes : int, optional
        Parallel processes; the cores of the machine by default.
    progress : callable
        Told the units done and the total.

    Returns
    -------
    rows : list of PowerRow
        One for each fault and size; those in which another test is ahead come first.
    milliseconds : dict of str to float
        Median time of a window of each statistic.
    refused : dict of (str, str) to set of str
        Families of events that a statistic refused, by the statistic and its reason.

    Raises
    ------
    BundleError
        If a statistic is not installed.
    FileError
        If the file cannot be read or written.
    """
    for name in plan.statistics:
        find_statistic(name)
    done = _read(kept)
    units = plan.units
    missing = [unit for unit in units if unit.key not in done]
    progress(len(units) - len(missing), len(units))
    work = _Work(kept.parent)
    for n_done, (place, found) in enumerate(Processes(n_processes).run(work, missing), 1):
        done[missing[place].key] = found
        _keep(kept, {"unit": missing[place].key, **found})
        progress(len(units) - len(missing) + n_done, len(units))
    return _collect(units, done)


def _keep(kept: Path, found: dict[str, object]) -> None:
    """Add a finished unit to the file."""
    try:
        with kept.open("a") as file:
            file.write(json.dumps(found) + "\n")
    except OSError as error:
        raise FileError(
            f"cannot write: {error.strerror}",
            where=str(kept),
            fix="Free space on the disk and start it again; what is finished is not measured again",
        ) from error


@dataclass(frozen=True, slots=True)
class _Work:
    """Task of `Workers`."""

    bundle: Path

    def prepare(self, _path: Path, /) -> Callable[[Unit], dict[str, object]]:
        return measure


def measure(unit: Unit) -> dict[str, object]:
    """Measure one unit: power by fault, milliseconds of a window, or why the statistic refuses the events."""
    family = next(one for one in FAMILIES if one.name == unit.family)
    rng = np.random.default_rng(  # not of the statistic: all see the same events
        [unit.seed, zlib.crc32(unit.family.encode()), unit.n_reference, unit.n_window]
    )
    run = family.healthy(unit.n_reference + TUNED_EVENTS * unit.n_window, rng)
    samples = dict(_draw_windows(family, unit, rng))
    try:
        with one_thread():
            evaluate = (
                _prepare_channels(unit, run, family.channel)
                if unit.statistic == CHANNELS
                else _prepare(unit, run, np.random.default_rng(unit.seed))
            )
            begin = time.perf_counter()
            t = {
                name: np.array([evaluate(window) for window in windows]) for name, windows in samples.items()
            }
            seconds = time.perf_counter() - begin
    except (InputError, PluginError) as error:
        return {"refused": str(error)}
    threshold = float(np.quantile(t.pop(""), 1.0 - LEVEL, method="higher"))
    n_windows = unit.n_healthy + unit.n_faulty * len(family.faults)
    return {
        "power": {name: float((values > threshold).mean()) for name, values in t.items()},
        "milliseconds": 1e3 * seconds / n_windows,
    }


def _draw_windows(family: Family, unit: Unit, rng: np.random.Generator) -> Iterator[tuple[str, FloatArray]]:
    """Draw the windows of each fault; those without a name are healthy."""
    for name, draw, n in (
        ("", family.healthy, unit.n_healthy),
        *((name, draw, unit.n_faulty) for name, draw in family.faults.items()),
    ):
        x = draw(n * unit.n_window, rng)
        yield name, x.reshape(n, unit.n_window, -1)


def _prepare(unit: Unit, run: FloatArray, rng: np.random.Generator) -> Callable[[FloatArray], float]:
    """Set up a statistic as `dqm.reference.create_bundle` does."""
    plugin = find_statistic(unit.statistic)
    n_centers = min(CENTERS, len(np.unique(run[: unit.n_reference], axis=0)))
    if plugin.is_tunable:
        names = [f"x{k}" for k in range(run.shape[1])]
        kinds = [str(one.kind) for one in choose_kinds(run, names)]
        tuned = plugin.tune(
            Sample(run),
            kinds,
            n_reference=unit.n_reference,
            n_expected=unit.n_window,
            n_centers=n_centers,
            rng=rng,
        )
        settings = plugin.choose_settings({}, tuned)
    else:
        settings = plugin.choose_settings({})
    reference = run[: unit.n_reference]
    centers = Sample(reference).choose_rows(n_centers, rng)
    test = plugin.make(reference, settings, n_expected=float(unit.n_window), centers=centers)

    def evaluate(window: FloatArray) -> float:
        outcome = test.evaluate(window)
        return outcome.t if outcome.converged else float("-inf")

    return evaluate


def _prepare_channels(unit: Unit, run: FloatArray, channel: int | None) -> Callable[[FloatArray], float]:
    """Set up the test of channels; its reference is divided into windows."""
    if channel is None:
        raise InputError("these events have no channel")
    x = run[: unit.n_reference, channel]
    numbers = np.unique(x)
    channel_map = np.full((len(numbers), len(MAP_COLUMNS)), UNKNOWN)
    channel_map[:, NUMBER] = numbers
    windows = x[: len(x) // unit.n_window * unit.n_window].reshape(-1, unit.n_window)
    hits = np.stack([(window[:, None] == numbers).sum(axis=0, dtype=np.float64) for window in windows])
    test = ChannelTest(hits, n_expected=float(unit.n_window), prepared={"map": channel_map})

    def evaluate(window: FloatArray) -> float:
        rows, counts = np.unique(window[:, channel], return_counts=True)
        return test.evaluate(rows[:, None], weights=counts).t

    return evaluate


def _read(path: Path) -> dict[str, dict[str, object]]:
    """Read the finished units; a line that was cut short is measured again."""
    found: dict[str, dict[str, object]] = {}
    if not path.exists():
        return found
    for line in path.read_text().splitlines():
        try:
            row = json.loads(line)
            found[row.pop("unit")] = row
        except (ValueError, KeyError):
            continue
    return found


def _collect(
    units: Sequence[Unit], done: dict[str, dict[str, object]]
) -> tuple[list[PowerRow], dict[str, float], dict[tuple[str, str], set[str]]]:
    rows: dict[tuple[str, str, int, int], PowerRow] = {}
    times: dict[str, list[float]] = {}
    refused: dict[tuple[str, str], set[str]] = {}
    for unit in units:
        found = done[unit.key]
        power = found.get("power")
        milliseconds = found.get("milliseconds")
        if not isinstance(power, dict) or not isinstance(milliseconds, float):
            refused.setdefault((unit.statistic, str(found.get("refused"))), set()).add(unit.family)
            continue
        times.setdefault(unit.statistic, []).append(milliseconds)
        for fault, share in power.items():
            place = (unit.family, fault, unit.n_reference, unit.n_window)
            rows.setdefault(place, PowerRow(*place, {}, unit.n_faulty)).power[unit.statistic] = share
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return sort_rows(rows.values()), medians, refused


def sort_rows(rows: Iterable[PowerRow]) -> list[PowerRow]:
    """Put first the rows in which another test is ahead of the NPLM tests, the largest lead first."""
    return sorted(rows, key=lambda row: -row.peers_lead)
