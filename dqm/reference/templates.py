"""Known faults: learning what they look like, and finding the one that a window looks like."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from dqm.config import FAULT_PATTERN
from dqm.errors import BundleError, InputError
from dqm.events import FloatArray, Likeness
from dqm.nplm import Normalisation, NuisanceFit, Shape, Template, learn_template
from dqm.nplm.kernel_test import USUAL_WIDTH
from dqm.reference.manifest import NullTableEntry, Source, TemplateEntry
from dqm.reference.nuisances import nuisances_for
from dqm.reference.statistic import Outcome
from dqm.reference.stored_bundle import AnyBundle, StoredBundle, array_file

__all__ = ["KnownFaults", "LabelledSample", "learn_templates"]

MAX_EVENTS = 50_000
"""Most labelled and healthy events from which a template is learned; more need memory and add little."""

RATE = "rate of the fault"
"""Parameter; a bundle's own parameters cannot have its name or those of strengths."""

STRENGTH = 3.0
"""Sigma of the strength of a template, in units of the labelled run's strength: wide, and centred at 0."""

RATE_SIGMA = 1.0
"""Sigma of the log of the rate that a fault may have."""

FREE_SIGMA = 1e3
"""Used instead of an infinite sigma, so that a free parameter which a fault imitates does not diverge."""

UNKNOWN = 0.25
"""Prior share of anomalous windows without a known fault."""

IMPERFECTION = 0.1
"""One sigma of the share of a departure that the right template leaves unexplained: strengths differ from
those learned, and kernels smooth (measured in ``tests/studies/fault_templates.py``)."""


@dataclass(frozen=True, slots=True)
class LabelledSample:
    """Events taken under a known fault.

    Parameters
    ----------
    fault : str
        What the shift crew calls it; several samples of one fault are several strengths of it.
    x : ndarray, shape (n, d)
        Events in the bundle's features.
    sources : tuple of Source
        Files they came from.
    """

    fault: str
    x: FloatArray
    sources: tuple[Source, ...] = ()


def learn_templates(
    bundle: AnyBundle,
    samples: Sequence[LabelledSample],
    *,
    width: float | None = None,
    max_events: int = MAX_EVENTS,
    seed: int = 1,
    progress: Callable[[int, int], None] = lambda _done, _total: None,
) -> AnyBundle:
    """Learn what known faults look like and add that to the bundle.

    Parameters
    ----------
    bundle : StoredBundle
        Its directory is written to. Faults are compared with its pool and checked with its reference; its
        null tables stay.
    samples : sequence of LabelledSample
        The faults; earlier templates of the same ones are replaced.
    width : float, optional
        Kernel sigma, in standard deviations; by default that of the bundle's test, or 2.5.
    max_events : int
        Labelled and healthy events to learn from, of each; fewer are faster and tell less.
    seed : int
        Splits the samples.
    progress : callable
        Told samples done and samples in all.

    Returns
    -------
    StoredBundle

    Raises
    ------
    InputError
        If a sample cannot be used, or does not differ from the reference.
    BundleError
        If the directory cannot be written.
    """
    bundle.refuse_counted("templates of faults")
    for sample in samples:
        if not re.fullmatch(FAULT_PATTERN, sample.fault) or not sample.fault.isprintable():
            raise InputError(
                f"{sample.fault!r} cannot name a fault",
                fix="Give 1 to 64 characters, none of them invisible or for control",
            )
    known = bundle.manifest.settings.get("width")
    usual = known if isinstance(known, int | float) else USUAL_WIDTH  # a test of several widths has no one
    chosen = float(usual) if width is None else width
    learned = []
    for done, sample in enumerate(samples):
        progress(done, len(samples))
        rng = np.random.default_rng([seed, done])
        try:
            template, gain = learn_template(
                sample.x[rng.permutation(len(sample.x))[:max_events]],
                bundle.pool[:max_events],
                bundle.reference,
                bundle.centers,
                width=chosen,
                rng=rng,
            )
        except InputError as error:
            raise InputError(error.what, where=f"fault {sample.fault!r}", fix=error.fix) from error
        arrays = template.arrays()
        files = {kind: array_file(kind, values) for kind, values in arrays.items()}
        entry = TemplateEntry(
            fault=sample.fault, width=chosen, gain=gain, arrays=files, sources=sample.sources
        )
        learned.append((entry, arrays))
    progress(len(samples), len(samples))
    return bundle.add_templates(learned)


@dataclass(frozen=True, slots=True)
class _Fault:
    """A known fault: what fits it, and the names of its strengths."""

    name: str
    strengths: tuple[str, ...]
    fit: NuisanceFit

    def gain(self, x: FloatArray, measured: Mapping[str, float]) -> float:
        """Give Delta, less 2 for each strength fitted (Akaike); minus infinity for the fault's opposite."""
        own = dict.fromkeys((RATE, *self.strengths), 0.0)
        delta, values = self.fit.fit(x, {**measured, **own})
        if math.isnan(delta) or sum(values[name] for name in self.strengths) <= 0:
            return -math.inf
        return delta - 2 * len(self.strengths)


class KnownFaults:
    """Compares anomalous windows of one kind with the templates of a bundle.

    A fault is a parameter that deforms the reference: ``s f``, f its template and s its strength, or
    ``sum_i s_i f_i`` if it was learned at several. It is fitted together with the bundle's nuisance
    parameters and a rate. The rest of t, which measures the whole departure, is unexplained.

    Parameters
    ----------
    bundle : StoredBundle
        With its templates.
    entry : NullTableEntry
        Null table of the windows.
    """

    def __init__(self, bundle: StoredBundle, entry: NullTableEntry) -> None:
        names = dict.fromkeys(entry.fault for entry in bundle.manifest.templates)
        self._faults = [_fault(bundle, entry, name) for name in names]

    def compare(
        self, x: FloatArray, outcome: Outcome, t_healthy: FloatArray
    ) -> tuple[tuple[Likeness, ...], float]:
        """Compare a window with every fault.

        Parameters
        ----------
        x : ndarray, shape (n_data, d)
            Its events, the reference's features.
        outcome : Outcome
            What the test gave for it.
        t_healthy : ndarray
            Its t in healthy windows.

        Returns
        -------
        likenesses : tuple of Likeness
            Faults and their probabilities, the most probable first; empty without templates.
        unlike : float
            Probability that it is none of them. All together are 1.

        Notes
        -----
        A priori a window has no known fault with probability `UNKNOWN`, and all faults are equally probable.
        Faults with log likelihood ratios Delta_k / 2 share in proportion to ``exp(Delta_k / 2 T)``, where the
        temperature T allows for templates that are wrong by a share `IMPERFECTION` of the departure. With u
        the share of the departure that the best leaves unexplained, known faults have a half-normal density
        in u, of a sigma that unites the imperfection with the spread of t in healthy windows, and unknown
        ones a flat density.
        """
        if not self._faults:
            return (), 1.0
        measured = {name: r.measured or 0.0 for name, r in outcome.nuisances.items()}
        gains = np.array([fault.gain(x, measured) for fault in self._faults])
        best = float(gains.max())
        if best == -math.inf:
            return tuple(Likeness(fault.name, 0.0) for fault in self._faults), 1.0
        mean, spread = float(t_healthy.mean()), float(t_healthy.std(ddof=1))
        departure = max(outcome.t - mean, spread)
        left = (outcome.tau - best - mean) / departure
        sigma = min(math.hypot(IMPERFECTION, spread / departure), math.sqrt(2 / math.pi))
        density = math.sqrt(2 / math.pi) / sigma * math.exp(-0.5 * (max(left, 0.0) / sigma) ** 2)
        unlike = UNKNOWN / (UNKNOWN + (1.0 - UNKNOWN) * density)
        temperature = 1.0 + IMPERFECTION * departure / 2
        shares = np.exp((gains - best) / (2 * temperature))
        shares *= (1.0 - unlike) / shares.sum()
        order = np.argsort(-shares, kind="stable")
        return tuple(Likeness(self._faults[k].name, float(shares[k])) for k in order), unlike


def _fault(bundle: StoredBundle, entry: NullTableEntry, name: str) -> _Fault:
    entries = [entry for entry in bundle.manifest.templates if entry.fault == name]
    try:
        templates = [Template.from_arrays(bundle.model(entry), entry.width) for entry in entries]
    except InputError as error:
        raise BundleError(
            f"template of {name!r}: {error}",
            where=str(bundle.path),
            fix="Learn it again with 'dqm reference templates'",
        ) from error
    shapes = [Shape(f"strength {k} of the fault", STRENGTH, template) for k, template in enumerate(templates)]
    nuisances = [
        replace(nuisance, sigma=min(nuisance.sigma, FREE_SIGMA))
        for nuisance in nuisances_for(bundle, entry.kind)
    ]
    parameters = [*nuisances, Normalisation(RATE, RATE_SIGMA), *shapes]
    fit = NuisanceFit(bundle.reference, entry.kind.n_expected, parameters)
    return _Fault(name, tuple(shape.name for shape in shapes), fit)
