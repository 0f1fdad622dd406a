"""Testing many toys in parallel processes, so that an interruption loses little."""

from __future__ import annotations

import math
import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from dqm.errors import BundleError
from dqm.events import FloatArray
from dqm.reference.bundle import open_bundle
from dqm.reference.manifest import WindowKind
from dqm.reference.statistic import Outcome, Statistic, prepare_statistic
from dqm.reference.toys import ToySource, Truth

__all__ = ["ToyWork", "run_toys"]

CHUNK = 25
"""Toys in one unit of work; what an interruption can lose, per process."""


@dataclass(frozen=True, slots=True)
class ToyWork:
    """Toys to test.

    Parameters
    ----------
    bundle : Path
        Bundle that tests them; finished chunks are kept beside its files until `clear` is called.
    definition : str
        What the bundle tests with, see `Manifest.definition`: chunks of another test are not taken up.
    kind : WindowKind
        What windows they are.
    truth : Truth
        Where they are thrown.
    seed : int
        Seed of all of them.
    """

    bundle: Path
    definition: str
    kind: WindowKind
    truth: Truth
    seed: int

    @property
    def directory(self) -> Path:
        """Where finished chunks are kept."""
        kind = "-".join([self.kind.cut, f"{self.kind.n_expected:g}", *self.kind.free])
        return self.bundle / f"toys-{self.definition}-{kind}-{self.truth.label}-{self.seed}"

    def chunk(self, first: int) -> Path:
        """File of the chunk that begins with a toy."""
        return self.directory / f"{first:09d}.npy"

    def clear(self) -> None:
        """Remove the finished chunks."""
        for file in self.directory.glob("*"):
            file.unlink()
        self.directory.rmdir()


def run_toys(
    work: ToyWork,
    n_toys: int,
    n_processes: int,
    progress: Callable[[int, int], None],
    known: FloatArray | None = None,
) -> FloatArray:
    """Throw and test toys.

    Parameters
    ----------
    work : ToyWork
        What to do.
    n_toys : int
        Toys in all.
    n_processes : int
        Parallel processes, one core each; 1 is this process.
    progress : callable
        Told the toys done and the total.
    known : ndarray, optional
        First rows, from an earlier call.

    Returns
    -------
    ndarray, shape (n_toys, 2 + 2 k)
        As in `Bundle.toys`; depends on the work alone. t is NaN where a fit did not converge.

    Raises
    ------
    BundleError
        If the directory cannot be written.
    InputError
        If such toys cannot be thrown.
    """
    try:
        work.directory.mkdir(exist_ok=True)
    except OSError as error:
        raise BundleError(f"cannot write: {error.strerror}", where=str(work.bundle)) from error
    n_known = 0 if known is None else len(known)
    n_known = n_toys if n_known >= n_toys else n_known // CHUNK * CHUNK
    rows = {} if known is None else {0: known[:n_known]}
    missing = []
    for first in range(n_known, n_toys, CHUNK):
        size = min(CHUNK, n_toys - first)
        kept = _read_chunk(work.chunk(first))
        if kept is not None and len(kept) == size:
            rows[first] = kept
        else:
            missing.append((first, size))
    finished = sum(map(len, rows.values()))
    progress(finished, n_toys)
    for first, values in _run_chunks(work, missing, n_processes):
        rows[first] = values
        finished += len(values)
        progress(finished, n_toys)
    return np.concatenate([rows[first] for first in sorted(rows)])


def as_row(outcome: Outcome, names: Sequence[str]) -> list[float]:
    """Give one row of a null table: t, tau, both pulls of each named parameter, NaN where there is none."""
    row = [outcome.t, outcome.tau]
    for name in names:
        fitted = outcome.nuisances.get(name)
        pulls = (fitted.reference.pull, fitted.alternative.pull) if fitted else (None, None)
        row += [math.nan if pull is None else pull for pull in pulls]
    return row


def _read_chunk(path: Path) -> FloatArray | None:
    try:
        values: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # absent, or cut short by the interruption: thrown again
    return values


def _run_chunks(
    work: ToyWork, chunks: list[tuple[int, int]], n_processes: int
) -> Iterator[tuple[int, FloatArray]]:
    if not chunks:
        return
    if n_processes == 1:
        yield from _run_here(work, chunks)
        return
    # spawned, not forked: a forked torch may hang on locks its parent's threads held
    with ProcessPoolExecutor(
        min(n_processes, len(chunks)),
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_start_worker,
        initargs=(work,),
    ) as pool:
        futures: dict[Future[FloatArray], int] = {
            pool.submit(_test_chunk, *chunk): chunk[0] for chunk in chunks
        }
        try:
            for future in as_completed(futures):
                yield futures[future], future.result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)


def _run_here(work: ToyWork, chunks: list[tuple[int, int]]) -> Iterator[tuple[int, FloatArray]]:
    """Do without a second process, on one thread as it would."""
    n_threads = torch.get_num_threads()
    try:
        _start_worker(work)
        for first, size in chunks:
            yield first, _test_chunk(first, size)
    finally:
        torch.set_num_threads(n_threads)


_worker: tuple[ToyWork, list[str], ToySource, Statistic] | None = None
"""What a worker process keeps between chunks."""


def _start_worker(work: ToyWork) -> None:
    global _worker
    torch.set_num_threads(1)
    bundle = open_bundle(work.bundle)
    names = [entry.name for entry in bundle.manifest.nuisances]
    source = ToySource(bundle, work.kind, work.truth)
    _worker = (work, names, source, prepare_statistic(bundle, work.kind))


def _test_chunk(first: int, size: int) -> FloatArray:
    if _worker is None:
        raise RuntimeError("the worker was not started")
    work, names, source, test = _worker
    toys = [source.throw(work.seed, index) for index in range(first, first + size)]
    outcomes = test.evaluate_many([toy.x for toy in toys], [toy.auxiliary for toy in toys])
    values = np.array([as_row(outcome, names) for outcome in outcomes])
    scratch = work.chunk(first).with_suffix(f".{os.getpid()}.tmp")
    with scratch.open("wb") as file:
        np.save(file, values)
    scratch.replace(work.chunk(first))
    return values
