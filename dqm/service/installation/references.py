"""References of a new installation: built, calibrated and certified as ``dqm reference`` does it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

from dqm.alarm import ample_toys
from dqm.errors import BundleError, InputError
from dqm.events import WindowCut
from dqm.reference import (
    CertificateStatus,
    Light,
    Recipe,
    StoredBundle,
    Workers,
    advise_window,
    calibrate,
    certify,
    choose_reference_size,
    create_bundle,
    find_certificate,
    open_bundle,
    write_certificate,
)
from dqm.service.installation.good_run import ChamberRun
from dqm.service.offline.feature_files import RunEvents
from dqm.service.offline.run_advice import USUAL_WINDOWS, Budget

__all__ = ["LARGEST_CHOSEN", "build_reference", "check_window", "choose_window", "count_toys"]

LARGEST_CHOSEN = 500.0
"""Events of the largest window that is chosen: larger windows show smaller faults, but later."""

VALIDATED_TOYS = 300
"""Toys of the validation, as ``dqm reference validate`` has them."""

VALIDATED_SEED = 1000
"""Its seed, as there."""

SEED = 1

Showing = Callable[[str, int | None], AbstractContextManager[Callable[[int, int], None]]]
"""Shows what is being done: its name and the total in, what is told the number done and the total out."""


def choose_window(
    n_events: int, cut: WindowCut, p_threshold: float, largest: float = LARGEST_CHOSEN
) -> float:
    """Choose the largest of the usual windows that a run allows.

    Parameters
    ----------
    n_events : int
        Events of the run.
    cut : WindowCut
        What closes the windows.
    p_threshold : float
        p below which a window counts.
    largest : float
        Events of the largest window that is wanted.

    Raises
    ------
    InputError
        If the run allows none of them.
    """
    looked_at = [advise_window(n_events, size, cut, p_threshold) for size in USUAL_WINDOWS]
    usable = [one for one in looked_at if one.n_expected <= largest]
    for light in (Light.GREEN, Light.AMBER):
        allowed = [one.n_expected for one in usable if one.light is light]
        if allowed:
            return max(allowed)
    least = min(looked_at, key=lambda one: one.n_needed)
    raise InputError(
        f"a run of {n_events} events allows no window: those of {least.n_expected:g} need {least.n_needed}",
        fix="Give a longer run; 'dqm reference advise' shows what a run allows",
    )


def check_window(n_events: int, window: float, cut: WindowCut, p_threshold: float) -> None:
    """Refuse windows for which a run is too short; parameters as of `choose_window`, raises `InputError`."""
    advice = advise_window(n_events, window, cut, p_threshold)
    if advice.light is Light.RED:
        raise InputError(
            f"a run of {n_events} events is too short for windows of {window:g}: they need {advice.n_needed}",
            fix="Give smaller windows, or a longer run",
        )


def count_toys(n_streams: int, windows_per_hour: float) -> int:
    """Give the toys that the usual false-alarm budget asks for."""
    budget = Budget.of(n_streams, 1.0, windows_per_hour)
    return ample_toys(budget.thresholds.p_threshold)


def build_reference(
    run: ChamberRun,
    path: Path,
    *,
    window: float,
    cut: WindowCut,
    n_toys: int,
    most_of_splits: int,
    workers: Workers,
    showing: Showing,
) -> CertificateStatus:
    """Build, calibrate and certify the reference of a chamber; finished steps are not repeated.

    Parameters
    ----------
    run : ChamberRun
        Its events.
    path : Path
        Directory of the bundle.
    window : float
        Events expected in a window.
    cut : WindowCut
        What closes the windows.
    n_toys : int
        Toys of the null table.
    most_of_splits : int
        Most of them if they are of fresh splits.
    workers : Workers
        Who throws the toys.
    showing : callable
        Shows the progress of each step.

    Returns
    -------
    CertificateStatus
        Its certificate.

    Raises
    ------
    InputError
        If the run is too short, or the test refuses it.
    BundleError
        If the certificate has a red line: the daemon would not start with it.
    WorkerError
        If the workers are lost; finished toys are kept.
    """
    recipe = _recipe(run.events, window, cut, run.rate_hz)
    bundle = _open_or_create(run.events, recipe, path)
    kind = bundle.manifest.kind
    with showing(f"{path.stem}: toys", n_toys) as progress:
        bundle = calibrate(
            bundle,
            n_toys,
            kind=kind,
            seed=SEED,
            most_of_splits=most_of_splits,
            workers=workers,
            progress=progress,
        )
    status = find_certificate(path, bundle.manifest)
    if status.certificate is None:
        threshold = Budget.of(1, 1.0, 60.0).thresholds.p_threshold
        with showing(f"{path.stem}: certificate", None) as progress:
            found = certify(
                bundle,
                VALIDATED_TOYS,
                kind=kind,
                seed=VALIDATED_SEED,
                threshold=threshold,
                workers=workers,
                progress=progress,
            )
        write_certificate(path, found.certificate)
        status = find_certificate(path, bundle.manifest)
    _refuse_red(status, path.stem)
    return status


def _recipe(run: RunEvents, window: float, cut: WindowCut, rate_hz: float | None) -> Recipe:
    return Recipe(
        features=run.names,
        n_reference=choose_reference_size(run.n_events, window),
        n_expected=window,
        seed=SEED,
        cut=cut,
        statistic="several",
        rate_hz=rate_hz,
    )


def _open_or_create(run: RunEvents, recipe: Recipe, path: Path) -> StoredBundle:
    """Open the bundle of an interrupted attempt, if it has the same recipe and run; otherwise make it."""
    if path.exists():
        bundle = open_bundle(path)
        m = bundle.manifest
        known = (m.features, m.n_reference, m.n_expected, m.cut, m.seed, m.rate_hz, list(m.sources))
        wanted = (
            recipe.features, recipe.n_reference, recipe.n_expected, recipe.cut, recipe.seed, recipe.rate_hz,
            list(run.sources),
        )  # fmt: skip
        if known == wanted:
            return bundle
        shutil.rmtree(path)
    return create_bundle(run.x, recipe, path, run.sources)


def _refuse_red(status: CertificateStatus, name: str) -> None:
    red = status.certificate.lines_of(Light.RED) if status.certificate else ()
    if red:
        told = "; ".join(f"{line.name}: {line.meaning} ({line.found})" for line in red)
        raise BundleError(
            f"the certificate of its reference is red: {told}",
            where=name,
            fix=f"{red[0].action}; then run 'dqm init' again",
        )
