"""Tests of many toys in parallel; an interruption loses little."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from dqm.config import replacing
from dqm.errors import BundleError, PluginError
from dqm.events import FloatArray
from dqm.nplm.samples import Sample
from dqm.reference.manifest import WindowKind
from dqm.reference.processes import Workers
from dqm.reference.splits import split_events
from dqm.reference.statistic import (
    Outcome,
    PreparedStatistic,
    find_statistic,
    prepare_for_splits,
    prepare_statistic,
    resize,
)
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.toys import Toy, ToySource, Truth

__all__ = ["ToyWork", "run_toys"]

CHUNK = 25
"""Most toys in one unit of work; an interruption loses at most this number for each process."""

CHUNK_OF_DRAWN = 1000
"""The same if the test is quick with toys from one pool: it looks at each event of the pool once for all of
them. This takes a second or two."""

N_TESTED_TWICE = 2
"""Toys that are also tested alone, to see whether this gives the same."""

AGREEMENT = 1e-3
"""Largest difference of their t, relative to the largest t of the toys tested together."""

Chunk = tuple[int, int, int]
"""Place of its work, first toy, number of toys."""


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
    per_split : int
        Toys of each fresh split, see `dqm.reference.splits`; 0 for toys from the pool.
    together : int
        Most toys in one unit of work.
    """

    bundle: Path
    definition: str
    kind: WindowKind
    truth: Truth
    seed: int
    per_split: int = 0
    together: int = CHUNK

    @classmethod
    def of(cls, bundle: StoredBundle, kind: WindowKind, truth: Truth, seed: int, per_split: int) -> ToyWork:
        """Describe toys of a bundle."""
        is_plain = not per_split and not any(one.concerns(kind.cut) for one in bundle.manifest.nuisances)
        is_quick = is_plain and find_statistic(bundle.manifest.statistic).is_quick_with_toys
        together = CHUNK_OF_DRAWN if is_quick else CHUNK
        return cls(bundle.path, bundle.manifest.definition, kind, truth, seed, per_split, together)

    @property
    def directory(self) -> Path:
        """Where finished chunks are kept."""
        kind = "-".join([self.kind.cut, f"{self.kind.n_expected:g}", *self.kind.free])
        splits = f"-splits{self.per_split}" if self.per_split else ""
        return self.bundle / f"toys-{self.definition}-{kind}-{self.truth.label}-{self.seed}{splits}"

    @property
    def chunk_size(self) -> int:
        """Toys in one unit of work: whole splits."""
        return self.together // self.per_split * self.per_split if self.per_split else self.together

    def chunk(self, first: int) -> Path:
        """File of the chunk that begins with a toy."""
        return self.directory / f"{first:09d}.npy"

    def clear(self) -> None:
        """Remove the finished chunks."""
        for file in self.directory.glob("*"):
            file.unlink()
        self.directory.rmdir()


def run_toys(
    works: Sequence[ToyWork],
    n_toys: int,
    workers: Workers,
    progress: Callable[[int, int], None],
    known: FloatArray | None = None,
) -> list[FloatArray]:
    """Throw and test toys.

    Parameters
    ----------
    works : sequence of ToyWork
        What to do by one bundle, for windows that differ in their size alone.
    n_toys : int
        Toys of each.
    workers : Workers
        Who does it.
    progress : callable
        Told the toys done and the total.
    known : ndarray, optional
        First rows of the first work, from an earlier call.

    Returns
    -------
    list of ndarray, each of shape (n_toys, 2 + 2 k)
        As in `Bundle.toys`; depends on the works alone. t is NaN where a fit did not converge.

    Raises
    ------
    BundleError
        If the directory cannot be written, or the workers do not find the bundle.
    InputError
        If such toys cannot be thrown.
    PluginError
        If the statistic fails; then nothing that is finished is kept.
    WorkerError
        If the workers are lost.
    """
    rows: list[dict[int, FloatArray]] = [{} for _ in works]
    n_known = 0 if known is None else len(known)
    n_known = n_toys if n_known >= n_toys else n_known // works[0].chunk_size * works[0].chunk_size
    if known is not None and n_known:
        rows[0][0] = known[:n_known]
    missing: list[Chunk] = []
    for place, work in enumerate(works):
        _make_directory(work)
        for first in range(n_known if place == 0 else 0, n_toys, work.chunk_size):
            size = min(work.chunk_size, n_toys - first)
            kept = _read_chunk(work.chunk(first))
            if kept is not None and len(kept) == size:
                rows[place][first] = kept
            else:
                missing.append((place, first, size))
    finished = sum(len(values) for parts in rows for values in parts.values())
    progress(finished, n_toys * len(works))
    try:
        for done, values in workers.run(_Toys(tuple(works)), missing):
            place, first, size = missing[done]
            _write_chunk(works[place].chunk(first), values)
            rows[place][first] = values
            finished += size
            progress(finished, n_toys * len(works))
    except PluginError:  # the statistic must be mended, so what it gave before counts for nothing
        for work in works:
            work.clear()
        raise
    return [np.concatenate([parts[first] for first in sorted(parts)]) for parts in rows]


def as_row(outcome: Outcome, names: Sequence[str]) -> list[float]:
    """Give one row of a null table: t, tau, both pulls of each named parameter, NaN where there is none."""
    row = [outcome.t, outcome.tau]
    for name in names:
        fitted = outcome.nuisances.get(name)
        pulls = (fitted.reference.pull, fitted.alternative.pull) if fitted else (None, None)
        row += [math.nan if pull is None else pull for pull in pulls]
    return row


def evaluate_toys(
    test: PreparedStatistic, toys: Sequence[Toy], pool: Sample | None = None
) -> Sequence[Outcome]:
    """Test toys; those of counted rows with their counts.

    Parameters
    ----------
    test : PreparedStatistic
        Tests them.
    toys : sequence of Toy
        The toys.
    pool : Sample, optional
        That of their source, if they all come from one: some tests are quicker then.
    """
    rows = [toy.rows for toy in toys if toy.rows is not None and not toy.auxiliary]
    if pool is not None and len(rows) == len(toys):
        counts = [toy.weights for toy in toys if toy.weights is not None]
        return test.evaluate_drawn(pool.x, rows, weights=counts or None)
    windows, auxiliaries = [toy.x for toy in toys], [toy.auxiliary for toy in toys]
    weights = [toy.weights for toy in toys if toy.weights is not None]
    return test.evaluate_many(windows, auxiliaries=auxiliaries, weights=weights or None)


@dataclass(frozen=True, slots=True)
class _Toys:
    """The task: chunk in, rows out."""

    works: tuple[ToyWork, ...]

    @property
    def bundle(self) -> Path:
        return self.works[0].bundle

    def prepare(self, path: Path) -> Callable[[Chunk], FloatArray]:
        bundle = StoredBundle.read(path)
        expected = self.works[0].definition
        if bundle.manifest.definition != expected:
            raise BundleError(
                f"tests as {bundle.manifest.definition}, not as {expected}: it is another bundle",
                where=str(path),
                fix="Let the workers see the same bundle at this path, or send it with --ship",
            )
        names = [entry.name for entry in bundle.manifest.nuisances]
        from_pool = _from_pool(bundle, self.works)

        def run(chunk: Chunk) -> FloatArray:
            place, first, size = chunk
            work = self.works[place]
            toys = _from_splits(bundle, work, first, size) if work.per_split else from_pool(chunk)
            return np.array([as_row(outcome, names) for outcome in toys])

        return run


def _from_pool(bundle: StoredBundle, works: Sequence[ToyWork]) -> Callable[[Chunk], list[Outcome]]:
    """Get ready to test toys of the pool against the bundle's reference."""

    @lru_cache(maxsize=1)
    def first_test() -> PreparedStatistic:
        return prepare_statistic(bundle, works[0].kind)

    @lru_cache(maxsize=1)
    def test_of(kind: WindowKind) -> PreparedStatistic:
        return first_test() if kind == works[0].kind else resize(bundle, first_test(), kind)

    @lru_cache(maxsize=1)  # chunks come work by work, and a shifted pool may be large
    def source(place: int) -> ToySource:
        return ToySource(bundle, works[place].kind, works[place].truth)

    def run(chunk: Chunk) -> list[Outcome]:
        place, first, size = chunk
        return _test(test_of(works[place].kind), source(place), works[place].seed, range(first, first + size))

    return run


def _from_splits(bundle: StoredBundle, work: ToyWork, first: int, size: int) -> list[Outcome]:
    """Test toys of fresh splits, each against its own reference."""
    found: list[Outcome] = []
    prepare = prepare_for_splits(bundle, work.kind)
    for toy in range(first, first + size, work.per_split):
        reference, centers, pool = split_events(bundle, work.seed, toy // work.per_split)
        test = prepare(reference, centers)
        source = ToySource(bundle, work.kind, work.truth, pool)
        found += _test(test, source, work.seed, range(toy, min(toy + work.per_split, first + size)))
    return found


def _test(test: PreparedStatistic, source: ToySource, seed: int, indices: range) -> list[Outcome]:
    toys = [source.throw(seed, index) for index in indices]
    found = list(evaluate_toys(test, toys, source.pool))
    if indices.start == 0:
        _refuse_disagreement(test, toys, found)
    return found


def _refuse_disagreement(test: PreparedStatistic, toys: Sequence[Toy], found: Sequence[Outcome]) -> None:
    """Refuse a statistic that gives another t alone, as windows are tested, than among others, as toys are.

    Raises
    ------
    PluginError
        If it does for one of the first toys: then every p would be wrong.
    """
    most = AGREEMENT * max((abs(one.t) for one in found if one.converged), default=0.0)
    for toy, among in list(zip(toys, found, strict=True))[:N_TESTED_TWICE]:
        alone = test.evaluate(toy.x, auxiliary=toy.auxiliary, weights=toy.weights)
        if alone.converged and among.converged and abs(alone.t - among.t) > most:
            raise PluginError(
                f"{test.label} gave t = {alone.t:.6g} for a window alone and t = {among.t:.6g} for the same "
                f"window among {len(toys)}",
                fix="Let 'evaluate', 'evaluate_many' and 'evaluate_drawn' agree: p compares windows tested "
                "alone with toys tested together",
            )


def _make_directory(work: ToyWork) -> None:
    try:
        work.directory.mkdir(exist_ok=True)
    except OSError as error:
        raise BundleError(
            f"cannot write: {error.strerror}",
            where=str(work.bundle),
            fix="Free space on the disk, or change the rights of the directory",
        ) from error


def _read_chunk(path: Path) -> FloatArray | None:
    try:
        values: FloatArray = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None  # absent, or cut short by the interruption: thrown again
    return values


def _write_chunk(path: Path, values: FloatArray) -> None:
    try:
        with replacing(path) as scratch, scratch.open("wb") as file:
            np.save(file, values)
    except OSError as error:
        raise BundleError(
            f"cannot write: {error.strerror}",
            where=str(path),
            fix="Free space on the disk, or change the rights of the directory",
        ) from error
