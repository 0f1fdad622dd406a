"""Toy windows under the reference, tested in parallel processes."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dqm.errors import BundleError, InputError
from dqm.events import FloatArray, WindowCut
from dqm.reference.bundle import Bundle, Column, array_file, open_bundle
from dqm.reference.statistic import Statistic, find_statistic

__all__ = ["calibrate", "largest_window", "prepare_statistic", "throw_toy"]

CHUNK = 25
"""Toys in one unit of work; what an interruption can lose, per process."""


def prepare_statistic(bundle: Bundle, n_expected: float) -> Statistic:
    """Set up the bundle's test for windows of one expected size."""
    m = bundle.manifest
    return find_statistic(m.statistic)(bundle.reference, n_expected, centers=bundle.centers, **m.settings)


def largest_window(cut: WindowCut, n_expected: float) -> int:
    """Events of the largest window a toy may have: far up the Poisson tail for windows cut by time."""
    return round(n_expected if cut is WindowCut.COUNT else n_expected + 10 * n_expected**0.5 + 10)


def throw_toy(pool: FloatArray, cut: WindowCut, n_expected: float, seed: int, index: int) -> FloatArray:
    """Draw one healthy window from the pool.

    Events are drawn without replacement, so that a toy is distributed exactly as a fresh window is. Each toy
    has a random stream of its own: it does not depend on how many others are thrown, or where.

    Parameters
    ----------
    pool : ndarray, shape (n_pool, d)
        Events disjoint from the reference.
    cut : WindowCut
        COUNT gives exactly `n_expected` events, TIME a Poisson number.
    n_expected : float
        Events expected, N(R_0).
    seed, index : int
        Seed of the table and number of the toy.

    Returns
    -------
    ndarray, shape (n_data, d)
        At least one event.
    """
    rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
    n = round(n_expected) if cut is WindowCut.COUNT else max(1, int(rng.poisson(n_expected)))
    return pool[rng.choice(len(pool), size=n, replace=False)]


def calibrate(
    bundle: Bundle,
    n_toys: int,
    *,
    cut: WindowCut,
    n_expected: float,
    seed: int,
    n_processes: int | None = None,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Bundle:
    """Throw toys and add their null table to the bundle.

    Finished toys are kept beside the bundle's files until the table is complete: called again after an
    interruption, or for more toys, it goes on where it stopped. The result depends on the seed only.

    Parameters
    ----------
    bundle : Bundle
        Bundle to calibrate; its directory is written to.
    n_toys : int
        Toys of the finished table, at least 100.
    cut : WindowCut
        What closes the windows.
    n_expected : float
        Events expected in them; a whole number for windows cut by count.
    seed : int
        Seed of the toys.
    n_processes : int, optional
        Parallel processes, one core each; the cores of the machine by default.
    progress : callable
        Told the toys done and the total.

    Returns
    -------
    Bundle
        With the new column.

    Raises
    ------
    InputError
        If the pool is too small for such windows or the numbers are out of range.
    BundleError
        If the fit of a toy does not converge, or the directory cannot be written.
    """
    if n_toys < 100:
        raise InputError(f"{n_toys} toys asked for", fix="A null table takes 100 or more")
    if not 10 <= n_expected < 1e9:
        raise InputError(f"windows of {n_expected:g} events", fix="A window takes 10 events or more")
    if cut is WindowCut.COUNT and n_expected != round(n_expected):
        raise InputError(f"windows cut by count cannot hold {n_expected} events", fix="Give a whole number")
    if len(bundle.pool) < 2 * largest_window(cut, n_expected):
        raise InputError(
            f"a pool of {len(bundle.pool)} events is too small for toys of {n_expected:g}",
            where=str(bundle.path),
            fix="Build the bundle from more events, or ask for smaller windows",
        )
    work = _Work(bundle.path, cut, n_expected, seed)
    known = bundle.column(cut, n_expected)
    done = (
        bundle.toys(known)[:n_toys]
        if known and known.seed == seed and known.n_expected == n_expected
        else None
    )
    toys = _throw_all(work, n_toys, done, n_processes or os.cpu_count() or 1, progress)
    if not np.isfinite(toys).all():
        failed = np.flatnonzero(~np.isfinite(toys))
        raise BundleError(
            f"the fit of {len(failed)} of {n_toys} toys did not converge (first: toy {failed[0]})",
            where=str(bundle.path),
            fix="Build the bundle with a larger penalty",
        )
    column = Column(cut=cut, n_expected=n_expected, seed=seed, toys=array_file("null", toys))
    calibrated = bundle.add_column(column, toys)
    work.clear()
    return calibrated


@dataclass(frozen=True, slots=True)
class _Work:
    """One column being calibrated, and where its finished chunks are kept."""

    bundle: Path
    cut: WindowCut
    n_expected: float
    seed: int

    @property
    def directory(self) -> Path:
        return self.bundle / f"calibrating-{self.cut}-{self.n_expected:g}-{self.seed}"

    def chunk(self, first: int) -> Path:
        return self.directory / f"{first:09d}.npy"

    def clear(self) -> None:
        for file in self.directory.glob("*"):
            file.unlink()
        self.directory.rmdir()


def _throw_all(
    work: _Work, n_toys: int, done: FloatArray | None, n_processes: int, progress: Callable[[int, int], None]
) -> FloatArray:
    toys = np.full(n_toys, np.nan)
    finished = 0
    if done is not None:
        finished = len(done) if len(done) == n_toys else len(done) // CHUNK * CHUNK
        toys[:finished] = done[:finished]
    try:
        work.directory.mkdir(exist_ok=True)
    except OSError as error:
        raise BundleError(f"cannot write: {error.strerror}", where=str(work.bundle)) from error
    missing = []
    for first in range(finished, n_toys, CHUNK):
        size = min(CHUNK, n_toys - first)
        kept = _read_chunk(work.chunk(first))
        if kept is not None and len(kept) == size:
            toys[first : first + size] = kept
            finished += size
        else:
            missing.append((first, size))
    progress(finished, n_toys)
    for first, values in _run_chunks(work, missing, n_processes):
        toys[first : first + len(values)] = values
        finished += len(values)
        progress(finished, n_toys)
    return toys


def _read_chunk(path: Path) -> FloatArray | None:
    try:
        values: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # absent, or cut short by the interruption: thrown again
    return values


def _run_chunks(
    work: _Work, chunks: list[tuple[int, int]], n_processes: int
) -> Iterator[tuple[int, FloatArray]]:
    if not chunks:
        return
    # spawned, not forked: a forked torch may hang on locks its parent's threads held
    with ProcessPoolExecutor(
        min(n_processes, len(chunks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(work,),
    ) as pool:
        futures: dict[Future[FloatArray], int] = {
            pool.submit(_throw_chunk, *chunk): chunk[0] for chunk in chunks
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


_worker: tuple[_Work, FloatArray, Statistic] | None = None
"""What a worker process keeps between chunks."""


def _start_worker(work: _Work) -> None:
    import torch

    global _worker
    torch.set_num_threads(1)
    bundle = open_bundle(work.bundle)
    _worker = (work, bundle.pool, prepare_statistic(bundle, work.n_expected))


def _throw_chunk(first: int, size: int) -> FloatArray:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    work, pool, test = _worker
    indices = range(first, first + size)
    toys = [throw_toy(pool, work.cut, work.n_expected, work.seed, index) for index in indices]
    values = np.array([outcome.t for outcome in test.evaluate_many(toys)])
    scratch = work.chunk(first).with_suffix(f".{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        np.save(file, values)
    scratch.replace(work.chunk(first))
    return values
