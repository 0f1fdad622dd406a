"""Windows of the bundle's own run, compared with a reference and toys that do not contain their events.

All events of the run are in the bundle, in random order; with the seed their order is restored
(`events_in_order`). The run is cut into blocks of time. For each block, reference and toys are made of the
events of the other blocks alone, split anew a few times. The windows are consecutive events of the block, as
a collector cuts them. So such a window has the same relation to its reference and toys as a window of the
next run to the bundle's.

A histogram does not keep the order: its blocks are random parts of its events. For channels, the reference is
made of windows rather than events, and the test learns from the other blocks again.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from scipy import special

from dqm.errors import BundleError, InputError
from dqm.events import FloatArray
from dqm.nplm.samples import Sample, merge
from dqm.reference.manifest import WindowKind
from dqm.reference.parallel import evaluate_toys
from dqm.reference.processes import Workers
from dqm.reference.splits import ordered_in
from dqm.reference.statistic import Outcome, find_statistic, prepare_for_splits
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.toys import NOMINAL, Toy, ToySource, largest_window

__all__ = ["BlockPlan", "BlockWindows", "BlockWork", "evaluate_blocks", "events_in_order", "plan_blocks"]

MOST_BLOCKS = 8
WINDOWS_PER_BLOCK = 25
"""Most windows of a block that are tested."""

SPLITS = 5
"""References that are made from the other blocks."""

TOYS_PER_SPLIT = 24


@dataclass(frozen=True, slots=True)
class BlockPlan:
    """How a run is cut.

    Parameters
    ----------
    n_blocks : int
        Blocks of equal numbers of events, or of windows.
    n_windows : int
        Windows that are tested of each.
    n_splits, n_toys : int
        References that are made for each, and toys of each of these.
    is_ordered : bool
        Whether the order of the events in time is known; otherwise blocks are random.
    """

    n_blocks: int
    n_windows: int
    n_splits: int
    n_toys: int
    is_ordered: bool

    @property
    def n_tests(self) -> int:
        """Windows and toys in all."""
        return self.n_blocks * (self.n_windows + self.n_splits * self.n_toys)


@dataclass(frozen=True, slots=True, eq=False)
class BlockWindows:
    """Results of the windows of all blocks and of their toys.

    Parameters
    ----------
    plan : BlockPlan
        How the run was cut.
    p : ndarray, shape (n_blocks, n_windows)
        p-value of each window by the toys of its block.
    toy_z : ndarray, shape (n_blocks, n_splits, n_toys)
        Place of each toy among all toys of its block, as a Gaussian significance.
    n_outside : ndarray, shape (n_blocks, n_windows)
        Events of each window where its reference has none.
    n_events : float
        Events of a window on average.
    """

    plan: BlockPlan
    p: FloatArray
    toy_z: FloatArray
    n_outside: FloatArray
    n_events: float

    @property
    def z(self) -> FloatArray:
        """One-sided significances of the windows, from their places among the toys."""
        half = 0.5 / (self.toy_z[0].size + 1)
        z: FloatArray = -special.ndtri(np.maximum(self.p - half, half))
        return z


def events_in_order(bundle: StoredBundle) -> tuple[FloatArray, bool]:
    """Give all events of a bundle in the order in which they were given to it.

    Parameters
    ----------
    bundle : StoredBundle
        Of single events.

    Returns
    -------
    events : ndarray, shape (n_events, d)
        In the order of the files; shuffled if the order is not known.
    is_known : bool
        Whether the order is known: the draws of `create_bundle` could be repeated. The centres, which were
        drawn next, are the proof.
    """
    shuffled = np.concatenate([bundle.reference, bundle.pool])
    rng = np.random.default_rng(bundle.manifest.seed)
    order = rng.permutation(len(shuffled))
    chosen = np.sort(rng.choice(len(bundle.reference), size=len(bundle.centers), replace=False))
    if not np.array_equal(bundle.reference[chosen], bundle.centers):
        return shuffled, False
    events = np.empty_like(shuffled)
    events[order] = shuffled
    return events, True


def plan_blocks(bundle: StoredBundle, kind: WindowKind) -> BlockPlan:
    """Cut a run into blocks that are large enough for windows, and leave enough for reference and toys.

    Raises
    ------
    InputError
        If the run is too short for that.
    """
    n_reference, n_pool = bundle.manifest.n_reference, bundle.manifest.n_pool
    if bundle.manifest.is_of_channels:
        n_reference = len(bundle.reference)
        n_blocks = min(MOST_BLOCKS, n_reference // 2)
        n_windows = min(WINDOWS_PER_BLOCK, n_reference // n_blocks)
        return BlockPlan(n_blocks, n_windows, n_splits=1, n_toys=SPLITS * TOYS_PER_SPLIT, is_ordered=True)
    n_events = n_reference + n_pool
    largest = largest_window(kind.cut, kind.n_expected)
    n_blocks = max(1, min(MOST_BLOCKS, n_events // largest))
    if n_pool - math.ceil(n_events / n_blocks) < 2 * largest:
        raise InputError(
            f"{n_events} events, {n_reference} of them in the reference, leave no room to hold windows of "
            f"{kind.n_expected:g} back from reference and toys",
            where=str(bundle.path),
            fix="Build the bundle from a longer run, with a smaller reference or for smaller windows"
            + (": 'dqm reference advise' shows what a run allows" if bundle.manifest.counts is None else ""),
        )
    n_windows = min(WINDOWS_PER_BLOCK, n_events // n_blocks // largest)
    is_ordered = bundle.manifest.counts is None and events_in_order(bundle)[1]
    return BlockPlan(n_blocks, n_windows, n_splits=SPLITS, n_toys=TOYS_PER_SPLIT, is_ordered=is_ordered)


@dataclass(frozen=True, slots=True)
class BlockWork:
    """Task of `Workers`: the windows and toys of one split for one block.

    Parameters
    ----------
    bundle : Path
        The bundle.
    definition : str
        What it tests with, see `Manifest.definition`.
    kind : WindowKind
        The windows.
    plan : BlockPlan
        How the run is cut.
    seed : int
        Seed of splits and toys.
    """

    bundle: Path
    definition: str
    kind: WindowKind
    plan: BlockPlan
    seed: int

    def prepare(self, path: Path) -> Callable[[tuple[int, int]], FloatArray]:
        """Open the bundle; raises `BundleError` if it is another one."""
        bundle = StoredBundle.read(path)
        if bundle.manifest.definition != self.definition:
            raise BundleError(
                f"tests as {bundle.manifest.definition}, not as {self.definition}: it is another bundle",
                where=str(path),
                fix="Let the workers see the same bundle at this path, or send it with --ship",
            )
        if bundle.manifest.is_of_channels:
            return lambda item: self._test_channels(bundle, item[0])
        parts = self._cut_run(bundle)
        return lambda item: self._test_events(bundle, parts, *item)

    def _cut_run(self, bundle: StoredBundle) -> list[Sample]:
        if bundle.manifest.counts is None:
            return [Sample(part) for part in np.array_split(events_in_order(bundle)[0], self.plan.n_blocks)]
        events = merge(bundle.reference_sample, bundle.pool_sample)
        size = int(events.n_events) // self.plan.n_blocks
        return events.split([size] * (self.plan.n_blocks - 1), np.random.default_rng(self.seed))

    def _test_events(self, bundle: StoredBundle, parts: list[Sample], block: int, split: int) -> FloatArray:
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(block, split, 1)))
        others = functools.reduce(merge, [part for number, part in enumerate(parts) if number != block])
        reference, pool = others.split([bundle.manifest.n_reference], rng, ordered_in(bundle.manifest))
        n_centers = min(len(bundle.centers), len(reference.x))
        test = prepare_for_splits(bundle, self.kind)(reference, reference.choose_rows(n_centers, rng))
        source = ToySource(bundle, self.kind, NOMINAL, pool)
        seed = int(rng.integers(2**32))
        toys = [source.throw(seed, number) for number in range(self.plan.n_toys)]
        # measurements and number of events as a toy has them, events as the block has them
        patterns = [source.throw(self.seed, number) for number in range(self.plan.n_windows)]
        windows = _cut(parts[block], patterns, rng)[split :: self.plan.n_splits]
        return _rows(evaluate_toys(test, [*toys, *windows]), [_size(toy) for toy in [*toys, *windows]])

    def _test_channels(self, bundle: StoredBundle, block: int) -> FloatArray:
        parts = np.array_split(bundle.reference, self.plan.n_blocks)
        others = np.concatenate([part for number, part in enumerate(parts) if number != block])
        known = bundle.prepared["map"]
        test = find_statistic(bundle.manifest.statistic).make(
            others, bundle.manifest.settings, n_expected=self.kind.n_expected, prepared={"map": known}
        )
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(block, 0, 1)))
        thrown = [test.throw(rng) for _ in range(self.plan.n_toys)]
        toys = [Toy(x, {}, weights) for x, weights in thrown]
        numbers = known[:, :1]
        windows = [Toy(numbers, {}, hits) for hits in parts[block][: self.plan.n_windows]]
        found = evaluate_toys(test, [*toys, *windows])
        return _rows(found, [_size(toy) for toy in [*toys, *windows]])


def evaluate_blocks(
    bundle: StoredBundle,
    *,
    kind: WindowKind,
    plan: BlockPlan,
    seed: int,
    workers: Workers,
    progress: Callable[[int, int], None],
) -> BlockWindows:
    """Test the windows of all blocks.

    Parameters
    ----------
    bundle : StoredBundle
        Whose run it is.
    kind : WindowKind
        The windows.
    plan : BlockPlan
        How the run is cut.
    seed : int
        Seed of splits and toys.
    workers : Workers
        Who does it.
    progress : callable
        Told the windows and toys done and the total.

    Raises
    ------
    BundleError
        If the fit of a window or a toy does not converge.
    WorkerError
        If the workers are lost.
    """
    items = [(block, split) for block in range(plan.n_blocks) for split in range(plan.n_splits)]
    work = BlockWork(bundle.path, bundle.manifest.definition, kind, plan, seed)
    found: dict[int, FloatArray] = {}
    done = 0
    progress(0, plan.n_tests)
    for place, rows in workers.run(work, items):
        found[place] = rows
        done += len(rows)
        progress(done, plan.n_tests)
    per_block = [
        [found[block * plan.n_splits + split] for split in range(plan.n_splits)]
        for block in range(plan.n_blocks)
    ]
    return _collect(bundle, plan, per_block)


def _collect(bundle: StoredBundle, plan: BlockPlan, per_block: list[list[FloatArray]]) -> BlockWindows:
    rows = np.concatenate([part for parts in per_block for part in parts])
    n_failed = int(np.isnan(rows[:, 0]).sum())
    if n_failed:
        raise BundleError(
            f"the fit of {n_failed} of {len(rows)} healthy windows did not converge",
            where=str(bundle.path),
            fix="Build the bundle with a larger penalty",
        )
    p, toy_z, outside = [], [], []
    for parts in per_block:
        toys = np.array([part[: plan.n_toys, 0] for part in parts])
        windows = np.concatenate([part[plan.n_toys :] for part in parts])
        n = toys.size
        ordered = np.sort(toys.ravel())
        p.append((n - np.searchsorted(ordered, windows[:, 0], side="left") + 1) / (n + 1))
        places = (np.searchsorted(ordered, toys, "left") + np.searchsorted(ordered, toys, "right")) / 2
        toy_z.append(special.ndtri((places + 0.5) / (n + 1)))
        outside.append(windows[:, 1])
    return BlockWindows(plan, np.array(p), np.array(toy_z), np.array(outside), float(rows[:, 2].mean()))


def _cut(events: Sample, patterns: list[Toy], rng: np.random.Generator) -> list[Toy]:
    """Cut events into windows of the sizes of some toys: consecutive ones, or random ones of a histogram."""
    sizes = [_size(pattern) for pattern in patterns]
    if events.counts is None:
        samples = [Sample(part) for part in np.split(events.x, np.cumsum(sizes))]
    else:
        samples = events.split(sizes, rng)
    return [Toy(one.x, toy.auxiliary, one.counts) for one, toy in zip(samples[:-1], patterns, strict=True)]


def _size(toy: Toy) -> int:
    """Count the events of a window."""
    return len(toy.x) if toy.weights is None else round(toy.weights.sum())


def _rows(outcomes: object, sizes: list[int]) -> FloatArray:
    """Give t, events outside and events of each outcome."""
    return np.array(
        [(one.t, one.n_outside, size) for one, size in zip(cast(list[Outcome], outcomes), sizes, strict=True)]
    )
