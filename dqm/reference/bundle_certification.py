"""Certifying a bundle: everything is measured; `dqm.reference.certificate_lines` says what follows."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.reference import certificate_lines as lines_of
from dqm.reference.certificate import Certificate, CertificateLine, subject_of
from dqm.reference.later_runs import LaterRun, count_later, evaluate_later
from dqm.reference.manifest import NullTableEntry, WindowKind
from dqm.reference.processes import Workers
from dqm.reference.run_blocks import BlockPlan, evaluate_blocks, events_in_order, plan_blocks
from dqm.reference.run_changes import find_change
from dqm.reference.stored_bundle import StoredBundle
from dqm.reference.validation import Validation, find_null_entry, validate

__all__ = ["Certification", "certify"]


@dataclass(frozen=True, slots=True)
class Certification:
    """A certificate, and the toys behind its lines on the null table and on nuisance parameters.

    Parameters
    ----------
    certificate : Certificate
        To be written into the bundle.
    validation : Validation
        Toys at 0 and at shifted nuisance parameters.
    """

    certificate: Certificate
    validation: Validation


def certify(
    bundle: StoredBundle,
    n_toys: int,
    *,
    kind: WindowKind,
    seed: int,
    threshold: float,
    workers: Workers,
    sigmas: tuple[float, ...] = (-2.0, -1.0, 1.0, 2.0),
    samples: Mapping[tuple[str, float], FloatArray] | None = None,
    later: Sequence[LaterRun] = (),
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> Certification:
    """Measure everything that a certificate says about a bundle.

    Parameters
    ----------
    bundle, n_toys, kind, seed, sigmas, samples, workers
        As in `validate`.
    threshold : float
        p below which a window counts for an alarm.
    later : sequence of LaterRun
        Good runs after that of the reference.
    progress : callable
        Told the windows and toys done and the total, as far as it is known.

    Returns
    -------
    Certification

    Raises
    ------
    BundleError, InputError, WorkerError
        As `validate`; also if windows of a later run cannot be tested.
    """
    entry = find_null_entry(bundle, kind)
    if later:
        bundle.refuse_counted("later runs")
    plan = _plan(bundle, kind)
    parts = _Parts(progress)
    shows = [parts.add(count_later(run, kind)) for run in later]
    n_points = 1 + len(samples or {}) + len(sigmas) * bundle.manifest.n_measured(kind.cut)
    show_toys = parts.add(n_points * n_toys)
    show_blocks = parts.add(plan.n_tests if isinstance(plan, BlockPlan) else 0)
    outcomes = [
        evaluate_later(bundle, run, kind=kind, workers=workers, progress=show)
        for run, show in zip(later, shows, strict=True)
    ]
    validation = validate(
        bundle,
        n_toys,
        kind=kind,
        seed=seed,
        sigmas=sigmas,
        samples=samples,
        workers=workers,
        progress=show_toys,
    )
    lines = _block_lines(bundle, entry, plan, seed=seed, workers=workers, progress=show_blocks)
    lines.append(lines_of.table_line(validation))
    if len(validation.points) > 1:
        lines.append(lines_of.nuisance_line(validation))
    if bundle.manifest.counts is None:
        lines.append(lines_of.feature_line(bundle))
    lines.append(lines_of.extrapolation_line(entry, threshold))
    lines += [lines_of.later_line(bundle, entry, outcome) for outcome in outcomes]
    certificate = Certificate(
        subject=subject_of(bundle.manifest),
        windows=str(kind),
        made_at=time.time(),
        lines=tuple(lines),
        software={"dqm": version("dqm")},
    )
    return Certification(certificate, validation)


class _Parts:
    """Progress of several parts, reported as that of one."""

    def __init__(self, progress: Callable[[int, int], None]) -> None:
        self._progress = progress
        self._parts: list[tuple[int, int]] = []

    def add(self, expected: int) -> Callable[[int, int], None]:
        place = len(self._parts)
        self._parts.append((0, expected))

        def show(done: int, total: int) -> None:
            self._parts[place] = (done, total)
            self._progress(sum(done for done, _ in self._parts), sum(total for _, total in self._parts))

        return show


def _plan(bundle: StoredBundle, kind: WindowKind) -> BlockPlan | InputError:
    """Plan to test the run's own windows, or say why it is too short for that."""
    try:
        return plan_blocks(bundle, kind)
    except InputError as error:
        return error


def _block_lines(
    bundle: StoredBundle,
    entry: NullTableEntry,
    plan: BlockPlan | InputError,
    *,
    seed: int,
    workers: Workers,
    progress: Callable[[int, int], None],
) -> list[CertificateLine]:
    """Test the run's own windows."""
    if isinstance(plan, InputError):
        return [lines_of.unmeasured_line(plan, takes_later=bundle.manifest.counts is None)]
    found = evaluate_blocks(bundle, kind=entry.kind, plan=plan, seed=seed, workers=workers, progress=progress)
    change = None
    if plan.is_ordered and not bundle.manifest.is_of_channels:
        parts = np.array_split(events_in_order(bundle)[0], plan.n_blocks)
        change = find_change(parts, bundle.manifest.features)
    lines = [lines_of.uniformity_line(found), lines_of.run_line(bundle, found, change)]
    if bundle.manifest.counts is None:
        lines += [lines_of.split_line(bundle, entry, found), lines_of.support_line(bundle, found)]
    return lines
