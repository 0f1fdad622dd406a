"""Building a bundle from events taken in the controlled regime."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dqm.errors import InputError, PluginError, format_count, format_names
from dqm.events import FloatArray, WindowCut
from dqm.events.finite import is_count
from dqm.nplm import FeatureKind
from dqm.nplm.feature_kind import ordered_features
from dqm.nplm.samples import MOST_COUNTED, Sample, merge
from dqm.reference.features import choose_kinds, refuse_useless
from dqm.reference.manifest import CountedRows, Manifest, NanRows, Source, check_names
from dqm.reference.prepared_statistic import LEAVE_ALONE, fingerprint
from dqm.reference.processes import one_thread
from dqm.reference.splits import refuse_sizes
from dqm.reference.statistic import PreparedStatistic, Settings, find_statistic
from dqm.reference.stored_bundle import StoredBundle, array_file, write_bundle

__all__ = ["ChosenTest", "Recipe", "choose_test", "create_bundle", "drop_nan"]


USUAL_CENTERS = 300


TuningProgress = Callable[[int, int | None], None]
"""Told while a statistic chooses its settings: what is done, and how much there is, None if not known."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a bundle from events.

    Parameters
    ----------
    features : tuple of str
        Names of the columns of the events.
    n_reference : int
        Events of the reference; the rest becomes the pool for toys.
    n_expected : float
        Events expected in a window, N(R_0).
    centers : int, optional
        Centres, drawn from the reference; by default 300, or as many as there are distinct events.
    width, penalty, loss
        Settings of `dqm.nplm.KernelTest`; by default those that the statistic usually has.
    seed : int
        Splits the events and draws the centres.
    cut : WindowCut
        What closes the windows.
    statistic : str
        Entry point of the test, group ``dqm.statistics``.
    rate_hz : float, optional
        Rate of events while the detector was live, Hz.
    nan : NanRows, optional
        Rows with NaN that were dropped, see `drop_nan`.
    kinds : mapping of str to str
        What some features are, see `dqm.nplm.FeatureKind.parse`. The kinds of the others are found. Only the
        statistic ``several`` takes kinds.
    counts : str, optional
        Column of the windows that says how many events a row stands for, if rows are counted.
    settings : mapping
        Settings of the statistic by name, also those of a plugin; the others have their usual values.
    conditions : mapping of str to (float, float)
        Smallest and largest value of conditions of the detector while the events were taken, by name.

    Notes
    -----
    The usual settings of a single kernel are in `dqm.nplm.KernelTest`. The published configuration has the
    logistic loss, width 4.5 and 2000 centres.
    """

    features: tuple[str, ...]
    n_reference: int
    n_expected: float
    width: float | None = None
    penalty: float | None = None
    centers: int | None = None
    seed: int = 1
    loss: str | None = None
    cut: WindowCut = WindowCut.COUNT
    statistic: str = "kernel"
    rate_hz: float | None = None
    nan: NanRows | None = None
    kinds: Mapping[str, str] = field(default_factory=dict)
    counts: str | None = None
    settings: Mapping[str, object] = field(default_factory=dict)
    conditions: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @property
    def given_settings(self) -> dict[str, object]:
        """All settings that are given."""
        named = {"width": self.width, "penalty": self.penalty, "loss": self.loss}
        return {name: value for name, value in named.items() if value is not None} | dict(self.settings)


def create_bundle(
    events: FloatArray,
    recipe: Recipe,
    path: Path,
    sources: Sequence[Source] = (),
    counts: FloatArray | None = None,
    *,
    progress: TuningProgress = lambda _done, _total: None,
) -> StoredBundle:
    """Split events into reference and pool, draw the centres, try the test once, write the bundle.

    Parameters
    ----------
    events : ndarray, shape (n_events, d)
        Events of the controlled regime, raw features.
    recipe : Recipe
        What to make of them.
    path : Path
        Directory to create.
    sources : sequence of Source
        Files the events came from.
    counts : ndarray, shape (n_events,), optional
        Events that each row stands for: whole numbers, >= 0. Rows without events say which bins exist. The
        recipe names the column.
    progress : callable
        Told while the statistic chooses its settings.

    Returns
    -------
    StoredBundle
        Not yet calibrated: its null table is empty.

    Raises
    ------
    InputError
        If there are too few events, a count is not a whole number, or the test refuses them.
    BundleError
        If `path` exists or cannot be written, or no such statistic is installed.
    """
    _check_recipe(recipe, events)
    sample, bins = _check_counts(events, counts, recipe)
    n_events = int(sample.n_events)
    refuse_sizes(
        n_events, recipe.n_reference, recipe.n_expected, cut=recipe.cut, is_counted=counts is not None
    )
    rng = np.random.default_rng(recipe.seed)
    chosen = choose_test(sample, recipe, rng, progress)
    reference = chosen.reference
    pool = chosen.pool
    centers = chosen.centers
    settings = chosen.settings
    test = chosen.make(reference, centers)
    _try(test, pool, recipe, reference.x, rng)
    arrays = {"reference": reference.x, "centers": centers, "pool": pool.x}
    files = {kind: array_file(kind, values) for kind, values in arrays.items()}
    named = {files[kind].name: values for kind, values in arrays.items()}
    ready = test.prepared
    prepared = {kind: array_file(kind, values) for kind, values in ready.items()}
    manifest = Manifest(
        features=recipe.features,
        statistic=recipe.statistic,
        settings=settings,
        cut=recipe.cut,
        n_expected=recipe.n_expected,
        rate_hz=recipe.rate_hz,
        conditions=dict(recipe.conditions),
        nan=recipe.nan,
        seed=recipe.seed,
        sources=tuple(sources),
        software={name: version(name) for name in ("dqm", "numpy", "torch")},
        prepared=prepared,
        counts=recipe.counts,
        counted=_keep_counts(reference, pool, bins, named),
        **files,
    )
    named |= {prepared[kind].name: values for kind, values in ready.items()}
    return write_bundle(path, manifest, named)


@dataclass(frozen=True, slots=True, eq=False)
class ChosenTest:
    """The test of a run, as a bundle has it.

    Parameters
    ----------
    recipe : Recipe
        What it was made by.
    reference, pool : Sample
        Parts of the run.
    centers : ndarray, shape (m, d)
        Kernel centres, of the reference.
    settings : dict
        Settings of the statistic.
    """

    recipe: Recipe
    reference: Sample
    pool: Sample
    centers: FloatArray
    settings: Settings

    @property
    def ordered_features(self) -> list[bool]:
        """Which features have an order; those that have none may be constant in a reference."""
        kinds = self.settings.get("kinds")
        given = [str(kind) for kind in kinds] if isinstance(kinds, tuple) else []
        return ordered_features(given, len(self.recipe.features))

    def make(
        self, reference: Sample, centers: FloatArray, *, few_windows: bool | None = None
    ) -> PreparedStatistic:
        """Set it up for this reference, or for another one of the same run."""
        return find_statistic(self.recipe.statistic).make(
            reference.x,
            self.settings,
            n_expected=self.recipe.n_expected,
            centers=centers,
            counts=reference.counts,
            few_windows=few_windows,
        )


def choose_test(
    sample: Sample,
    recipe: Recipe,
    rng: np.random.Generator,
    progress: TuningProgress = lambda _done, _total: None,
) -> ChosenTest:
    """Split a run into reference and pool, and choose the centres and settings of the test.

    Parameters
    ----------
    sample : Sample
        Events of the run.
    recipe : Recipe
        What to make of them.
    rng : numpy.random.Generator
        Splits the events, and draws the centres.
    progress : callable
        As in `create_bundle`.

    Raises
    ------
    InputError
        If no test can use the features, or the statistic refuses what is given.
    """
    kinds = _choose_kinds(recipe, sample)
    ordered = ordered_features([str(kind) for kind in (kinds or {}).values()], len(recipe.features))
    reference, pool = sample.split([recipe.n_reference], rng, ordered)
    refuse_useless(reference.x, recipe.features, kinds)
    n_centers = _count_centers(recipe, len(np.unique(reference.x, axis=0)))
    centers = reference.choose_rows(n_centers, rng)
    shuffled = Sample(np.concatenate([reference.x, pool.x])) if sample.counts is None else sample
    with one_thread():  # small matrices: more threads wait for each other
        settings = _choose_settings(recipe, kinds, shuffled, n_centers, rng, progress)
    return ChosenTest(recipe, reference, pool, centers, settings)


def drop_nan(
    x: FloatArray, features: Sequence[str], where: str | None = None
) -> tuple[FloatArray, NanRows | None]:
    """Take the events without NaN, and count the others.

    Parameters
    ----------
    x : ndarray, shape (n_events, d)
        Events; may have NaN.
    features : sequence of str
        Names of the columns.
    where : str, optional
        Their file, for the message.

    Returns
    -------
    x : ndarray
        Events without NaN.
    rows : NanRows or None
        For `Recipe`; None if no event has NaN.

    Raises
    ------
    InputError
        If every event has NaN.
    """
    is_nan = np.isnan(x)
    dropped = is_nan.any(axis=1)
    if not dropped.any():
        return x, None
    if dropped.all():
        raise _no_numbers(is_nan, features, where)
    counts = dict(zip(features, map(int, is_nan.sum(axis=0)), strict=True))
    return x[~dropped], NanRows(n_rows=len(x), n_dropped=int(dropped.sum()), counts=counts)


def _no_numbers(is_nan: NDArray[np.bool_], features: Sequence[str], where: str | None) -> InputError:
    """Make the error for events of which each has NaN."""
    events = format_count(len(is_nan), "event")
    empty = [name for name, column in zip(features, is_nan.T, strict=True) if column.all()]
    rest = [name for name in features if name not in empty]
    if not empty:
        what = f"each of {events} has NaN in one of {format_names(features)}"
        return InputError(what, where=where, fix="Give fewer features: only events without NaN are used")
    what = f"{format_names(empty)} {'has' if len(empty) == 1 else 'have'} no number in {events}, only NaN"
    leave_out = f", or leave it out: --features {','.join(rest)}" if rest else ""
    return InputError(what, where=where, fix=f"Give a run with numbers{leave_out}")


def _check_counts(
    events: FloatArray, counts: FloatArray | None, recipe: Recipe
) -> tuple[Sample, FloatArray | None]:
    """Make a sample of rows and counts, each row once; also give all rows, including those without events."""
    if (counts is None) != (recipe.counts is None):
        raise InputError(
            "counts are given, but their column has no name" if recipe.counts is None else "no counts given",
            fix="Give both: Recipe(counts=...) and the counts, or neither",
        )
    if counts is None:
        return Sample(events), None
    if not find_statistic(recipe.statistic).takes_counts:
        raise InputError(
            f"the statistic {recipe.statistic} takes no rows that stand for several events",
            fix="Choose kernel or several",
        )
    sample = Sample.check(events, counts, "table of counted rows")
    wrong = ~is_count(sample.weights)
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        raise InputError(
            f"row {row + 1} stands for {sample.weights[row]:g} events, which is not a whole number",
            fix="Give histograms of events, without weights: what varies by chance must be counts",
        )
    if sample.n_events >= MOST_COUNTED:
        raise InputError(
            f"{sample.n_events:.0f} events in all", fix=f"Give fewer than {MOST_COUNTED}: a shorter run"
        )
    grouped = merge(sample, sample.take(slice(0, 0)))
    return grouped.filled, grouped.x


def _try(
    test: PreparedStatistic, pool: Sample, recipe: Recipe, reference: FloatArray, rng: np.random.Generator
) -> None:
    """Test a first window, so that what cannot be tested or explained is not built."""
    n = max(1, round(recipe.n_expected))
    window = Sample(pool.x[:n]) if pool.counts is None else pool.split([n], rng)[0]
    before = fingerprint([reference])
    outcome = test.evaluate(window.x, weights=window.counts)
    if outcome.converged:
        test.learned_ratio(outcome, len(reference))
    if fingerprint([reference]) != before:
        raise PluginError(f"{test.label} changed the reference in place", fix=LEAVE_ALONE)


def _keep_counts(
    reference: Sample, pool: Sample, bins: FloatArray | None, named: dict[str, FloatArray]
) -> CountedRows | None:
    """Describe the arrays of counted rows, and add them to those to be written; None for single events."""
    if reference.counts is None or pool.counts is None or bins is None:
        return None
    arrays = {"counts": reference.counts, "poolcounts": pool.counts, "bins": bins}
    files = {kind: array_file(kind, values) for kind, values in arrays.items()}
    named |= {files[kind].name: values for kind, values in arrays.items()}
    return CountedRows(
        reference=files["counts"],
        pool=files["poolcounts"],
        bins=files["bins"],
        n_reference=int(reference.n_events),
        n_pool=int(pool.n_events),
    )


def _count_centers(recipe: Recipe, n_distinct: int) -> int:
    if recipe.centers is None:
        return min(USUAL_CENTERS, n_distinct)
    if recipe.centers > n_distinct:
        raise InputError(
            f"{recipe.centers} centres asked for, the reference has {n_distinct} distinct events",
            fix=f"Ask for at most {n_distinct}",
        )
    return recipe.centers


def _choose_kinds(recipe: Recipe, sample: Sample) -> dict[str, FeatureKind] | None:
    """Choose the kind of each feature; None for a test that takes all features as they are.

    Bins of histograms are numbers with distances, so all their features are smooth.
    """
    has_kinds = find_statistic(recipe.statistic).takes_kinds
    if recipe.kinds and (sample.counts is not None or not has_kinds):
        takes = "histograms" if has_kinds else f"the statistic {recipe.statistic!r}"
        raise InputError(
            f"a kind of the feature {next(iter(recipe.kinds))!r} with {takes}, which takes all features as "
            "they are",
            fix="Leave it out" if has_kinds else "Leave it out, or take the statistic 'several'",
        )
    if not has_kinds:
        return None
    if sample.counts is not None:
        return dict.fromkeys(recipe.features, FeatureKind())
    return {one.feature: one.kind for one in choose_kinds(sample.x, recipe.features, recipe.kinds)}


def _choose_settings(
    recipe: Recipe,
    kinds: Mapping[str, FeatureKind] | None,
    shuffled: Sample,
    n_centers: int,
    rng: np.random.Generator,
    progress: TuningProgress,
) -> Settings:
    """Take the settings of the recipe; a setting that the statistic chooses itself is refused."""
    plugin = find_statistic(recipe.statistic)
    given = recipe.given_settings
    if not plugin.is_tunable:
        return plugin.choose_settings(given)
    tuned = plugin.tune(
        shuffled,
        [str(kind) for kind in (kinds or {}).values()],
        n_reference=recipe.n_reference,
        n_expected=recipe.n_expected,
        n_centers=n_centers,
        rng=rng,
        is_poisson=recipe.cut is WindowCut.TIME,
        given=given,
        progress=progress,
    )
    twice = [name for name in given if name in tuned]
    for name in twice:
        if not np.all(np.asarray(tuned[name]) == np.asarray(given[name])):
            raise InputError(f"{plugin.label} chooses its setting {name!r} itself", fix="Leave it out")
    return plugin.choose_settings({name: given[name] for name in given if name not in twice}, tuned)


def _check_recipe(recipe: Recipe, events: FloatArray) -> None:
    """Refuse names that do not fit the columns, and windows of no size; raises `InputError`."""
    names = recipe.features
    if len(names) != events.shape[1]:
        raise InputError(
            f"{format_count(len(names), 'feature')} for {format_count(events.shape[1], 'column')}: "
            f"{', '.join(names)}",
            fix="Name every column of the events once",
        )
    check_names(names)
    if recipe.counts is not None:
        check_names([recipe.counts], "column of counts")
    names = (*names, *([] if recipe.counts is None else [recipe.counts]))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise InputError(f"two features are named {twice[0]!r}", fix="Name every column differently")
    if not 10 <= recipe.n_expected < 1e9:
        raise InputError(f"the window size is {recipe.n_expected:g}", fix="A window takes 10 events or more")
