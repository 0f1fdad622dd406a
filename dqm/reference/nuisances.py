"""Nuisance parameters of a bundle: learning them once, setting them up for the test."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from dqm.config import check_call, find_plugin, label_of, plugin_errors
from dqm.errors import BundleError, InputError, PluginError
from dqm.events import FloatArray
from dqm.nplm import Normalisation, Nuisance, Shape, taylor
from dqm.nplm.transformations import Transformation
from dqm.reference.manifest import NuisanceEntry, Source, Transform, WindowKind, check_names
from dqm.reference.processes import one_thread
from dqm.reference.statistic_plugin import find_statistic
from dqm.reference.stored_bundle import AnyBundle, StoredBundle, array_file

__all__ = [
    "METHODS",
    "Check",
    "add_normalisation",
    "find_transformation",
    "learn_shape",
    "nuisances_for",
    "taylor_model",
]

METHODS = {"network": "Network", "kernel": "Kernel"}
"""Classes of `dqm.nplm.taylor`, which is loaded when it is used: it needs torch."""

HELD_OUT = 0.2
"""Share of every sample that checks a model; it is not used to learn it."""


@dataclass(frozen=True, slots=True)
class Check:
    """A learned log ratio against events it was not learned from, at one nu.

    Parameters
    ----------
    nu : float
        Where.
    gain : float
        Share of the loss saved, see `dqm.nplm.taylor.classification_gain`.
    ratios : tuple of BinnedRatio
        Learned and binned log ratio, for each feature.
    """

    nu: float
    gain: float
    ratios: tuple[taylor.BinnedRatio, ...]


TRANSFORMATIONS = "dqm.transformations"


def find_transformation(transform: Transform, features: tuple[str, ...]) -> Transformation:
    """Load a transformation from the entry points of group ``dqm.transformations``.

    Parameters
    ----------
    transform : Transform
        Its name and the features it changes. The entry point is called with the list of their columns and
        gives a function of events ``(n, d)`` and nu.
    features : tuple of str
        Features of the events, in order.

    Raises
    ------
    BundleError
        If it is not installed.
    InputError
        If a feature does not exist.
    PluginError
        If it is not such a function. The function that is returned raises it as well if its result cannot be
        used.
    """
    unknown = [name for name in transform.features if name not in features]
    if unknown:
        raise InputError(f"no feature {', '.join(unknown)}", fix=f"Choose from {', '.join(features)}")
    factory = find_plugin(TRANSFORMATIONS, transform.name, error=BundleError)
    label = label_of(TRANSFORMATIONS, transform.name)
    check_call(label, factory, "FUNCTION(columns)", 1)
    with plugin_errors(label):
        made = factory([features.index(name) for name in transform.features])
    check_call(f"what {label} gave", made, "FUNCTION(events, nu)", 2)

    def change(x: FloatArray, nu: float) -> FloatArray:
        with plugin_errors(label):
            changed = np.asarray(made(x, nu), dtype=np.float64)
        if changed.shape != x.shape or not np.isfinite(changed).all():
            raise PluginError(
                f"{label} gave events of shape {changed.shape} for {x.shape} at nu = {nu:g}",
                fix="It must give as many events and features, all finite",
            )
        return changed

    return change


def add_normalisation(bundle: AnyBundle, name: str, sigma: float | None) -> AnyBundle:
    """Let the expected number of events change by ``exp(nu)``; only windows cut by time depend on it.

    Parameters
    ----------
    bundle : StoredBundle
        Its directory is written to; its null tables are removed.
    name : str
        Name of the parameter and of its measurement.
    sigma : float or None
        Error of the measurement of nu, > 0; None if there is none.

    Raises
    ------
    InputError
        If no measurement can have the name, or the test takes no nuisance parameters.
    BundleError
        If the directory cannot be written.
    """
    bundle.refuse_channels("nuisance parameter")
    _refuse_other_tests(bundle)
    check_names([name], "nuisance parameter")
    entry = NuisanceEntry(name=name, kind="normalisation", sigma=sigma)
    return bundle.add_nuisance(entry, {})


def learn_shape(
    bundle: AnyBundle,
    name: str,
    sigma: float | None,
    samples: Mapping[float, FloatArray] | Transform,
    *,
    points: tuple[float, ...] = (),
    yields: Mapping[float, float] | None = None,
    order: int = 2,
    method: str = "network",
    seed: int = 1,
    sources: tuple[Source, ...] = (),
    progress: Callable[[int, int], None] | None = None,
) -> tuple[AnyBundle, list[Check]]:
    """Learn how a parameter deforms the reference and add it to the bundle.

    Parameters
    ----------
    bundle : StoredBundle
        Its reference and pool are the events at nu = 0. Its directory is written to; its null tables are
        removed.
    name : str
        Name of the parameter and of its measurement.
    sigma : float or None
        Error of the measurement, > 0, in the unit of the parameter; None if there is none.
    samples : mapping of float to ndarray, or Transform
        Events at some nu, shape (n, d) with the bundle's features; or what makes them of the bundle's own.
    points : tuple of float
        Values of nu to transform to; not used with samples.
    yields : mapping of float to float, optional
        ``N(R_nu) / N(R_0)`` for points where the number of events changes; 1 by default.
    order : int
        1, or 2 with the quadratic term.
    method : {"network", "kernel"}
        What learns.
    seed : int
        Splits the samples and seeds the training.
    sources : tuple of Source
        Files of the samples.
    progress : callable, optional
        Told steps done and steps in all.

    Returns
    -------
    bundle : StoredBundle
        Not calibrated.
    checks : list of Check
        The model compared with the fifth of each sample that was held out.

    Raises
    ------
    InputError
        If the name or a sample cannot be used, a number is out of range, or the test takes no nuisance
        parameters.
    BundleError
        If the directory cannot be written.
    """
    bundle.refuse_counted("nuisance parameter of the shape")
    _refuse_other_tests(bundle)
    check_names([name], "nuisance parameter")
    if method not in METHODS:
        raise InputError(f"unknown method {method!r}", fix=f"Choose one of {', '.join(METHODS)}")
    rng = np.random.default_rng(seed)
    nominal = np.concatenate([bundle.reference, bundle.pool])
    learned, held_out = _split(nominal, rng)
    if isinstance(samples, Transform):
        transform = find_transformation(samples, bundle.manifest.features)
        parts = {nu: (transform(learned, nu), transform(held_out, nu)) for nu in points}
    else:
        parts = {nu: _split(x, rng) for nu, x in samples.items()}
    ratio = yields or {}
    shifted = {
        nu: [taylor.ShiftedSample(nu, x, yield_ratio=ratio.get(nu, 1.0)) for x in pair]
        for nu, pair in parts.items()
    }
    with (
        one_thread()
    ):  # on a busy machine threads wait for each other, after each of thousands of small products
        model = taylor.learn_taylor(
            learned,
            [pair[0] for pair in shifted.values()],
            order=order,
            method=getattr(taylor, METHODS[method])(),
            rng=rng,
            progress=progress,
        )
    checks = [_check(model, held_out, pair[1]) for _, pair in sorted(shifted.items())]
    arrays = model.arrays()
    entry = NuisanceEntry(
        name=name,
        kind="shape",
        sigma=sigma,
        settings=model.settings(),
        arrays={kind: array_file(kind, values) for kind, values in arrays.items()},
        transform=samples if isinstance(samples, Transform) else None,
        sources=sources,
    )
    return bundle.add_nuisance(entry, arrays), checks


def taylor_model(bundle: StoredBundle, entry: NuisanceEntry) -> taylor.TaylorModel:
    """Rebuild the learned log ratio of a shape parameter; raises `BundleError` if it does not fit."""
    try:
        return taylor.TaylorModel.from_arrays(bundle.model(entry), entry.settings)
    except InputError as error:
        raise BundleError(
            f"nuisance parameter {entry.name}: {error}",
            where=str(bundle.path),
            fix="Learn it again with 'dqm reference nuisance'",
        ) from error


def nuisances_for(bundle: StoredBundle, kind: WindowKind) -> list[Nuisance]:
    """Set up the nuisance parameters on which one kind of windows depends."""
    found: list[Nuisance] = []
    for entry in bundle.manifest.nuisances:
        if not entry.concerns(kind.cut):
            continue
        sigma = math.inf if entry.sigma is None or entry.name in kind.free else entry.sigma
        if entry.kind == "shape":
            model = taylor_model(bundle, entry)
            found.append(Shape(entry.name, sigma, model.series if model.order == 2 else model.linear))
        else:
            found.append(Normalisation(entry.name, sigma))
    return found


def _refuse_other_tests(bundle: StoredBundle) -> None:
    """Refuse a test that takes no nuisance parameters; raises `InputError`."""
    plugin = find_statistic(bundle.manifest.statistic)
    if not plugin.takes_nuisances:
        raise InputError(
            f"{plugin.label} takes no nuisance parameters",
            where=str(bundle.path),
            fix="Build the bundle with --statistic several or kernel",
        )


def _split(x: FloatArray, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
    shuffled = x[rng.permutation(len(x))]
    n = round(len(x) * (1 - HELD_OUT))
    return shuffled[:n], shuffled[n:]


def _check(model: taylor.TaylorModel, nominal: FloatArray, sample: taylor.ShiftedSample) -> Check:
    features = range(nominal.shape[1])
    ratios = tuple(taylor.bin_log_ratio(model, nominal, sample, feature) for feature in features)
    return Check(sample.nu, taylor.classification_gain(model, nominal, sample), ratios)
