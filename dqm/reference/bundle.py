"""A bundle for a script or a notebook: build, calibrate, save and open it, evaluate windows with it.

A bundle is always a directory: parallel processes open it there and share its memory, and finished toys are
kept beside it. A bundle built from arrays is in a temporary directory, which is removed with the object.
`Bundle.save` writes a copy to a path of the user's choice.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from numpy.typing import ArrayLike

from dqm.errors import BundleError, InputError
from dqm.events import Window, WindowCut
from dqm.nplm.samples import Sample
from dqm.reference.array_window import Measured, make_window
from dqm.reference.build import Recipe, create_bundle
from dqm.reference.calibration import calibrate, origin_remark
from dqm.reference.certificate import find_certificate, write_certificate
from dqm.reference.constraints import ReadingPolicy
from dqm.reference.evaluator import Evaluation, Evaluator
from dqm.reference.manifest import WindowKind, WindowRange
from dqm.reference.processes import Processes, one_thread
from dqm.reference.splits import OriginName, choose_reference_size
from dqm.reference.statistic_interface import SettingValue
from dqm.reference.stored_bundle import StoredBundle, write_bundle
from dqm.reference.window_range import calibrate_range

__all__ = ["Bundle", "build_bundle", "open_bundle"]


class Bundle(StoredBundle):
    """A reference bundle to work with; made by `build_bundle` and `open_bundle`."""

    def __repr__(self) -> str:
        """Say what it is, where and for which windows."""
        tables = [f"{entry.kind} ({entry.toys.shape[0]} toys)" for entry in self.manifest.null]
        return (
            f"<Bundle {self.identifier}, {self._where}: features {', '.join(self.manifest.features)}; "
            f"windows of {self.manifest.kind}; calibrated for {', '.join(tables) or 'none'}>"
        )

    def calibrate(
        self,
        n_toys: int,
        *,
        window: float | tuple[float, float] | None = None,
        cut: Literal["count", "time"] | None = None,
        free: Sequence[str] = (),
        seed: int | None = None,
        origin: OriginName = "auto",
        n_processes: int = 1,
        progress: Callable[[int, int], None] | None = None,
    ) -> Self:
        """Test healthy toys, from which p is read, and keep them in the bundle as a null table.

        The bundle changes in place, and so does its directory if it was opened from one. A second call for
        more toys keeps those that exist.

        Parameters
        ----------
        n_toys : int
            Toys, at least 100. p cannot be read below ``1 / (n_toys + 1)``: beyond, a tail is fitted.
        window : float or tuple of float, optional
            Events expected in a window, or the smallest and the largest number of them; by default what the
            bundle was built for.
        cut : {"count", "time"}, optional
            What closes the windows; by default what the bundle was built for.
        free : sequence of str
            Nuisance parameters without the measurement that they should have.
        seed : int, optional
            Seed of the toys; by default the bundle's.
        origin : {"auto", "pool", "splits"}
            What toys are made of: windows from the pool, tested against the bundle's own reference; or fresh
            splits of all events, each with a reference of its own, which a small pool needs.
        n_processes : int
            Parallel processes. More than one only where the script is guarded by
            ``if __name__ == "__main__":``. The result does not depend on it.
        progress : callable, optional
            Told the toys done and the total.

        Returns
        -------
        Bundle
            This one.

        Raises
        ------
        InputError
            If the bundle has too few events for such toys, or a number is out of range.
        BundleError
            If the fit of a toy does not converge, or the directory cannot be written.

        Warns
        -----
        UserWarning
            If the bundle has so few events that p is uncertain, however many toys there are.
        """
        low, high = window if isinstance(window, tuple) else (None, window)
        kind = WindowKind(
            cut=self.manifest.cut if cut is None else WindowCut(cut),
            n_expected=self.manifest.n_expected if high is None else high,
            free=tuple(free),
        )
        seed = self.manifest.seed if seed is None else seed
        progress = progress or (lambda _done, _total: None)
        workers = Processes(n_processes)
        if low is None:
            calibrated = calibrate(
                self, n_toys, kind=kind, seed=seed, origin=origin, workers=workers, progress=progress
            )
        else:
            window_range = WindowRange(cut=kind.cut, low=low, high=kind.n_expected, free=kind.free)
            calibrated, _ = calibrate_range(
                self,
                n_toys,
                window_range=window_range,
                seed=seed,
                origin=origin,
                workers=workers,
                progress=progress,
            )
        self._become(calibrated)
        remark = origin_remark(self, kind)
        if remark:
            warnings.warn(f"{self._where}: {remark}", UserWarning, stacklevel=2)
        return self

    def evaluate(
        self,
        x: ArrayLike | Window,
        *,
        names: Sequence[str] | None = None,
        n_expected: float | None = None,
        measured: Mapping[str, Measured] | None = None,
        weights: ArrayLike | None = None,
    ) -> Evaluation:
        """Test a window.

        The first call prepares the test; later calls use it.

        Parameters
        ----------
        x : array_like, shape (n_events, n_features), or Window
            Events in raw features, in the order of the bundle's. A `Window` carries all the rest itself.
        names : sequence of str, optional
            Names of the columns, if they are others or in another order.
        n_expected : float, optional
            Events expected when all is well, rate times live time: such a window is cut by time. Without it
            the window is cut by count.
        measured : mapping, optional
            Measurement of each of the bundle's nuisance parameters: a value, with the error that the bundle
            was made for, or a pair of value and error. None if there is none: the parameter is fitted freely,
            which takes a null table of its own (`calibrate` with ``free=[...]``).
        weights : array_like, shape (n_events,), optional
            Events that each row stands for, if the bundle was built with them: contents of bins at `x`.

        Returns
        -------
        Evaluation
            `t`; `p` with its interval `p_low` to `p_high`, `p_method` and `z`; `remarks`. Where `p` is None,
            `reason` says why: a fit that did not converge, a measurement with too large an error.

        Raises
        ------
        InputError
            If the array cannot be used, a measurement is missing or unknown, or the bundle is not calibrated
            for windows of this size.
        BundleError
            If the bundle is not calibrated at all, or its files were altered.

        Examples
        --------
        >>> import numpy
        >>> import dqm
        >>> rng = numpy.random.default_rng(1)
        >>> bundle = dqm.build_bundle(rng.normal(size=(4000, 2)), window=100, centers=50)
        >>> evaluation = bundle.calibrate(200).evaluate(rng.normal(size=(100, 2)) + [0.0, 0.5])
        >>> evaluation.p < 0.01
        True
        >>> evaluation.p_low < evaluation.p < evaluation.p_high
        True
        >>> print(evaluation.explain())  # doctest: +ELLIPSIS
        departs mostly in x2 (... %); seen by a kernel of width ...
        """
        if isinstance(x, Window):
            if any(given is not None for given in (names, n_expected, measured, weights)):
                raise InputError(
                    "names, n_expected, measured or weights are given beside a Window",
                    fix="Leave them out: the window has its own",
                )
            return self._test(x, ReadingPolicy())
        window, free = make_window(
            self.manifest,
            Sample.check(x, weights, "window"),
            names=names,
            n_expected=n_expected,
            measured=measured or {},
        )
        self._check_calibrated(window, free)
        return self._test(window, ReadingPolicy(unmeasured="free" if free else "null"))

    def save(self, path: str | Path, *, overwrite: bool = False) -> None:
        """Write a copy, which `open_bundle` and the command line can read; nothing is left if it fails.

        Parameters
        ----------
        path : str or Path
            Directory to create.
        overwrite : bool
            Replace an existing bundle in a single step.

        Raises
        ------
        BundleError
            If there is something already, or it cannot be written.
        """
        self.verify()
        target = Path(path)
        if target.exists() and not overwrite:
            raise BundleError(
                "exists already", where=str(path), fix="Choose another name, or give overwrite=True"
            )
        status = find_certificate(self.path, self.manifest)
        write_bundle(target, self.manifest, self._arrays, overwrite=overwrite)
        if status.certificate is not None:
            write_certificate(target, status.certificate)

    @property
    def _where(self) -> str:
        return "not saved" if self._owner else str(self.path)

    @cached_property
    def _evaluator(self) -> Evaluator:
        return Evaluator(self)

    def _become(self, other: Self) -> None:
        """Take over what was added to the directory."""
        self.manifest = other.manifest
        self.identifier = other.identifier
        self._arrays = other._arrays
        self.__dict__.pop("_evaluator", None)

    def _test(self, window: Window, policy: ReadingPolicy) -> Evaluation:
        with one_thread():
            evaluation = self._evaluator.evaluate(window, policy)
        self.verify()
        return evaluation

    def _check_calibrated(self, window: Window, free: tuple[str, ...]) -> None:
        """Refuse what no null table covers."""
        if not self.manifest.null:
            raise BundleError(
                "the bundle is not calibrated: without toys there is no p",
                where=self._where,
                fix="Call bundle.calibrate(n_toys) first, with 1000 toys or more",
            )
        n_expected = float(window.n_events) if window.n_expected is None else window.n_expected
        kind = WindowKind(cut=window.cut, n_expected=n_expected, free=free)
        if not self.manifest.judges(kind):
            known = self.manifest.judged
            call = f"window={n_expected:g}, cut={str(kind.cut)!r}" + (f", free={list(free)}" if free else "")
            raise InputError(
                f"no null table for windows of {kind} (calibrated: {known})",
                where=self._where,
                fix=f"Cut it in this way, or call bundle.calibrate(n_toys, {call})",
            )


class _TemporaryDirectory:
    """A directory that is removed when nothing refers to this object any more, or Python ends."""

    def __init__(self) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="dqm-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


def open_bundle(path: str | Path) -> Bundle:
    """Open a bundle and verify every checksum.

    Parameters
    ----------
    path : str or Path
        Directory of the bundle.

    Returns
    -------
    Bundle

    Raises
    ------
    BundleError
        If it is not a bundle, of a newer version, incomplete or altered.

    Examples
    --------
    >>> import numpy
    >>> import dqm
    >>> rng = numpy.random.default_rng(1)
    >>> built = dqm.build_bundle(rng.normal(size=(4000, 2)), window=100, centers=50)
    >>> built.calibrate(100).save("healthy.dqmref")
    >>> bundle = dqm.open_bundle("healthy.dqmref")
    >>> window = rng.normal(size=(100, 2))
    >>> bundle.evaluate(window).p == built.evaluate(window).p
    True
    """
    return Bundle.read(Path(path))


def build_bundle(
    x: ArrayLike,
    *,
    window: float,
    features: Sequence[str] | None = None,
    n_reference: int | None = None,
    width: float | None = None,
    penalty: float | None = None,
    centers: int | None = None,
    loss: Literal["logistic", "likelihood"] | None = None,
    statistic: str | None = None,
    kinds: Mapping[str, str] | None = None,
    cut: Literal["count", "time"] = "count",
    seed: int = 1,
    weights: ArrayLike | None = None,
    settings: Mapping[str, SettingValue] | None = None,
) -> Bundle:
    """Make a bundle from events taken when all was well; `Bundle.calibrate` comes next.

    Parameters
    ----------
    x : array_like, shape (n_events, n_features)
        Events in raw features.
    window : float
        Events expected in a window, N(R_0), at least 10.
    features : sequence of str, optional
        Names of the columns; ``x1``, ``x2``, ... by default.
    n_reference : int, optional
        Events of the reference; the rest, disjoint from it, is the pool that toys are drawn from. By default
        those of ten windows, or half of all events of a short run or of histograms, as the command line
        chooses.
    width : float, optional
        Kernel width of a single test, in standard deviations of the reference; 2.5 by default.
    penalty : float, optional
        Its penalty lambda, in Falkon's normalisation; 1e-7 by default.
    centers : int, optional
        Kernel centres, drawn from the reference; by default 300, or all of it.
    loss : {"logistic", "likelihood"}, optional
        Loss that it minimises; the likelihood by default, which nuisance parameters need.
    statistic : str, optional
        The test, by its entry point; by default ``several``, which chooses its kernels itself, or ``kernel``
        if a width, a penalty or a loss is given.
    kinds : mapping of str to str, optional
        What some features are: ``smooth``, ``heavy``, ``steps`` or ``categories``, with special values after
        a colon, as in ``"smooth:-999,0"``. The statistic ``several`` looks at the others itself.
    cut : {"count", "time"}
        What closes the windows: a number of events or a stretch of time.
    seed : int
        Splits the events and draws the centres.
    weights : array_like, shape (n_events,), optional
        Events that each row stands for, whole numbers: contents of all bins of a histogram, centred at `x`.
    settings : mapping of str to number, text or several of these, optional
        Settings of the statistic by name; those of a plugin, too. The others have their usual values.

    Returns
    -------
    Bundle
        Not calibrated. It is in a temporary directory until it is saved.

    Raises
    ------
    InputError
        If the events cannot be used or are too few, or a number is out of range.

    Examples
    --------
    >>> import numpy
    >>> import dqm
    >>> healthy = numpy.random.default_rng(1).normal(size=(4000, 2))
    >>> bundle = dqm.build_bundle(healthy, window=100, features=["drift_time", "angle"])
    >>> len(bundle.reference), len(bundle.pool)
    (1000, 3000)
    """
    sample = Sample.check(x, weights, "sample")
    if n_reference is None:
        n_reference = choose_reference_size(int(sample.n_events), window, in_bins=weights is not None)
    names = [f"x{k + 1}" for k in range(sample.x.shape[1])] if features is None else features
    given = {"width": width, "penalty": penalty, "loss": loss}
    single: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    recipe = Recipe(
        features=tuple(names),
        n_reference=n_reference,
        n_expected=window,
        centers=centers,
        seed=seed,
        cut=WindowCut(cut),
        statistic=statistic or ("kernel" if single else "several"),
        kinds=kinds or {},
        counts=None if weights is None else "events",
        settings=settings or {},
        **single,
    )
    directory = _TemporaryDirectory()
    path = directory.path / "bundle"
    create_bundle(sample.x, recipe, path, counts=sample.counts)
    return Bundle.read(path, owner=directory)
