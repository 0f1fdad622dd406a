"""Toys: windows drawn under the reference, at a chosen truth of the nuisance parameters."""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dqm.errors import InputError
from dqm.events import FloatArray, WindowCut
from dqm.nplm.samples import Sample
from dqm.reference.manifest import NuisanceEntry, WindowKind
from dqm.reference.nuisances import find_transformation, taylor_model
from dqm.reference.statistic import PreparedStatistic, prepare_statistic
from dqm.reference.stored_bundle import StoredBundle

__all__ = ["NOMINAL", "Toy", "ToySource", "Truth", "largest_window"]


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """Truth under which toys are thrown: one nuisance parameter away from 0, or none.

    Parameters
    ----------
    name : str
        The parameter; empty for none.
    nu : float
        Its true value, in its own unit.
    sample : ndarray, shape (n, d), optional
        Events taken there. Without them the parameter determines how toys are made: by its rate, by its
        transformation of the pool, or by reweighting the pool with the learned log ratio.
    """

    name: str = ""
    nu: float = 0.0
    sample: FloatArray | None = None

    @property
    def label(self) -> str:
        """Name for files: parameter, value and a hash of the events."""
        if not self.name:
            return "nominal"
        events = b"" if self.sample is None else np.ascontiguousarray(self.sample).tobytes()
        return f"{self.name}-{self.nu:+g}-{hashlib.sha256(events).hexdigest()[:8]}"


NOMINAL = Truth()


@dataclass(frozen=True, slots=True)
class Toy:
    """A window and its slow control.

    Parameters
    ----------
    x : ndarray, shape (n_data, d)
        At least one event.
    auxiliary : dict of str to float
        Measured nuisance parameters; without those that are free.
    weights : ndarray, shape (n_data,), or None
        Events that each row stands for; None if each is one event.
    rows : ndarray of int, shape (n_data,), or None
        Places in the pool of its source; None if it was not drawn from one.
    """

    x: FloatArray
    auxiliary: dict[str, float]
    weights: FloatArray | None = None
    rows: NDArray[np.int64] | None = None


def largest_window(cut: WindowCut, n_expected: float) -> int:
    """Events of the largest window a toy may have: far up the Poisson tail for windows cut by time."""
    return round(n_expected if cut is WindowCut.COUNT else n_expected + 10 * n_expected**0.5 + 10)


class ToySource:
    """Throws the toys of one kind of windows.

    They come from the bundle's pool. A statistic that can generate healthy windows (`Thrower`) throws them
    itself.

    Parameters
    ----------
    bundle : StoredBundle
        Whose pool they come from.
    kind : WindowKind
        What windows they are: cut by count they have exactly their events, by time a Poisson number.
    truth : Truth
        Where they are thrown.
    pool : Sample, optional
        Events to draw from, instead of the bundle's pool.

    Raises
    ------
    InputError
        If there is no such parameter or too few events.

    Attributes
    ----------
    pool : Sample
        The events that they are drawn from, at their truth.
    """

    def __init__(
        self,
        bundle: StoredBundle,
        kind: WindowKind,
        truth: Truth = NOMINAL,
        pool: Sample | None = None,
    ) -> None:
        self._kind = kind
        self._truth = truth
        self._measured = [
            entry
            for entry in bundle.manifest.nuisances
            if entry.sigma is not None and entry.name not in kind.free and entry.concerns(kind.cut)
        ]
        self.pool = bundle.pool_sample if pool is None else pool
        self._rate = 1.0
        self._shares: FloatArray | None = None
        self._thrower: PreparedStatistic | None = None
        if bundle.manifest.is_of_channels:
            test = prepare_statistic(bundle, kind)
            if test.throws_toys:
                self._thrower = test
                return
        if truth.name:
            entry = bundle.manifest.nuisance(truth.name)
            if entry is None or not entry.concerns(kind.cut):
                known = ", ".join(e.name for e in bundle.manifest.nuisances if e.concerns(kind.cut))
                raise InputError(
                    f"windows cut by {kind.cut} do not depend on the nuisance parameter {truth.name!r}",
                    fix=f"For such windows the bundle has: {known or 'none'}",
                )
            self._shift(bundle, entry)
        needed = 2 * largest_window(kind.cut, kind.n_expected * self._rate)
        n_pool = int(self.pool.n_events)
        if n_pool < needed:
            raise InputError(
                f"{n_pool} events are too few for toys of {kind.n_expected * self._rate:.0f}",
                where=str(bundle.path) if truth.sample is None else f"events at {truth.name} = {truth.nu:g}",
                fix=f"Give at least {needed}, or ask for smaller windows",
            )

    def throw(self, seed: int, index: int) -> Toy:
        """Draw one window.

        Events are drawn without replacement, so that a toy is distributed exactly as a fresh window is. Each
        toy has a random stream of its own: it does not depend on how many others are thrown, or where.

        Parameters
        ----------
        seed, index : int
            Seed of the table and number of the toy.

        Returns
        -------
        Toy
        """
        rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(index,)))
        if self._thrower is not None:
            x, weights = self._thrower.throw(rng)
            return Toy(x, {}, weights)
        n = round(self._kind.n_expected)
        if self._kind.cut is WindowCut.TIME:
            n = max(1, int(rng.poisson(self._kind.n_expected * self._rate)))
        rows, counts = self._draw(n, rng)
        measured = {}
        for entry in self._measured:
            truth = self._truth.nu if entry.name == self._truth.name else 0.0
            measured[entry.name] = float(rng.normal(truth, entry.sigma or 0.0))
        return Toy(self.pool.x[rows], measured, counts, rows)

    def _draw(self, n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], FloatArray | None]:
        """Draw events of the pool; for counted rows draw the counts, in a time that depends on the rows."""
        if self.pool.counts is None:
            return rng.choice(len(self.pool.x), size=n, replace=False, p=self._shares), None
        drawn = self.pool.draw_counts(n, rng)
        rows = np.flatnonzero(drawn)
        return rows, drawn[rows].astype(np.float64)

    def _shift(self, bundle: StoredBundle, entry: NuisanceEntry) -> None:
        """Change the pool to the truth."""
        nu = self._truth.nu
        if entry.kind == "normalisation":
            self._rate = math.exp(nu)
            return
        is_reweighted = self._truth.sample is None and entry.transform is None
        if is_reweighted or self._kind.cut is WindowCut.TIME:
            ratio = np.exp(taylor_model(bundle, entry).log_ratio(self.pool.x, nu))
            if is_reweighted:
                self._shares = ratio / ratio.sum()
            if self._kind.cut is WindowCut.TIME:
                self._rate = float(ratio.mean())
        if self._truth.sample is not None:
            self.pool = Sample(self._truth.sample)
        elif entry.transform is not None:
            transform = find_transformation(entry.transform, bundle.manifest.features)
            self.pool = Sample(transform(self.pool.x, nu))
