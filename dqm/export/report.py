"""Reports: a run or a reference bundle as one HTML file that needs no other file."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from dqm.alarm import AlarmChange
from dqm.alarm.quality import choose_worst
from dqm.events import Condition, Origin, Quality, RunRecord, Verdict
from dqm.events.summary import summarise
from dqm.export import map_charts, report_charts
from dqm.export.charts import Figure
from dqm.export.flags import describe_state
from dqm.export.rendering import template_text
from dqm.export.run_windows import read_run_windows
from dqm.export.views import describe_bundle
from dqm.nplm.ratio import borders
from dqm.reference import Bundle, find_certificate
from dqm.store import AlarmStore, VerdictStore
from dqm.stream import identity_of

__all__ = ["report_bundle", "report_run"]

_N_WORST = 5
_N_PAIRS = 3


@dataclass(frozen=True, slots=True)
class _StreamSummary:
    name: str
    counts: dict[Quality, int]
    n_lost: int
    smallest_p: float | None
    bundles: tuple[str, ...]
    run: RunRecord | None
    run_state: str
    conditions: tuple[_ConditionSummary, ...]


@dataclass(frozen=True, slots=True)
class _ConditionSummary:
    name: str
    first: Condition
    last: Condition
    lowest: float | None
    highest: float | None
    n_changes: int


def report_run(
    store: VerdictStore,
    history: AlarmStore,
    run: int,
    *,
    version: str,
    now: float,
    streams: Iterable[str] = (),
) -> str:
    """Report a run.

    Parameters
    ----------
    store : VerdictStore
        Its windows.
    history : AlarmStore
        Its alarms.
    run : int
        Run number.
    version : str
        Version of dqm.
    now : float
        Date of the report, Unix seconds.
    streams : iterable of str
        Streams that should be there, besides those that are.

    Returns
    -------
    str
        HTML; scripts, styles and data are within it.

    Raises
    ------
    InputError
        If the run has no windows.
    """
    windows = read_run_windows(store, run, streams, verdicts=store.select(run=run))
    windows.refuse_empty()
    everything = windows.verdicts
    borders = windows.borders
    flags = windows.flag()
    p = [verdict.result.p for verdict in everything if verdict.result.p is not None]
    return template_text(
        "report-run.html",
        version=version,
        now=now,
        run=run,
        run_types=sorted({verdict.window.run_type for verdict in everything} - {""}),
        origins=sorted({verdict.window.origin for verdict in everything} - {Origin.LIVE}),
        start=flags[0].start,
        end=max(flag.end for flag in flags),
        has_times=all(verdict.window.start is not None for verdict in everything),
        n_windows=len(everything),
        counts=_count(everything),
        streams=[
            _summarise_stream(name, [span.verdict for span in found], borders.get(name))
            for name, found in windows.spans.items()
        ],
        n_open=sum(record.ended_at is None for record in borders.values()),
        reasons=sorted({record.why for record in borders.values()} - {""}),
        n_borders=len(borders),
        timeline=report_charts.timeline(flags),
        signed=windows.journal.sign_off,
        since_signed=windows.journal.since_sign_off,
        amendments=windows.journal.amendments,
        n_p=len(p),
        p_values=report_charts.p_values(p),
        changes=_changes(history, everything),
        worst=[
            _show(store.find(*identity_of(one.window)) or one) for one in choose_worst(everything, _N_WORST)
        ],
    )


def report_bundle(bundle: Bundle, *, version: str, now: float) -> str:
    """Describe a bundle.

    Parameters
    ----------
    bundle : Bundle
        Opened.
    version : str
        Version of dqm.
    now : float
        Date of the report, Unix seconds.

    Returns
    -------
    str
        HTML; scripts, styles and data are within it.
    """
    manifest = bundle.manifest
    tables = [(str(column.kind), bundle.toys(column)[:, 0]) for column in manifest.null]
    return template_text(
        "report-bundle.html",
        version=version,
        now=now,
        origins=[],
        path=bundle.path.name,
        manifest=manifest,
        bundle=describe_bundle(bundle.identifier, manifest, status=find_certificate(bundle.path, manifest)),
        n_pool=manifest.n_pool,
        n_centers=len(bundle.centers),
        spectra=_spectra(bundle),
        tables=[(kind, len(t), report_charts.null_table(t)) for kind, t in tables],
    )


def _spectra(bundle: Bundle) -> list[Figure]:
    """Draw each feature of the reference; of counted rows the counts of its windows in all."""
    if bundle.manifest.counts is not None and bundle.manifest.is_of_channels:
        (name,) = bundle.manifest.features
        total = bundle.reference.sum(axis=0)
        edges = np.arange(len(total) + 1, dtype=np.float64) - 0.5
        return [report_charts.histogram(total, edges, name, bundle.manifest.counts)]
    sample = bundle.reference_sample
    if bundle.bins is None:
        binned = [np.histogram(column, bins=40) for column in sample.x.T]
    else:
        columns = zip(sample.x.T, map(borders, bundle.bins.T), strict=True)
        binned = [np.histogram(x, bins=edges, weights=sample.counts) for x, edges in columns]
    return [
        report_charts.histogram(counts.astype(float), edges, name, "events")
        for name, (counts, edges) in zip(bundle.manifest.features, binned, strict=True)
    ]


def _count(verdicts: Sequence[Verdict]) -> dict[Quality, int]:
    counts = Counter(verdict.quality for verdict in verdicts)
    return {quality: counts[quality] for quality in Quality}


def _summarise_stream(name: str, verdicts: Sequence[Verdict], run: RunRecord | None) -> _StreamSummary:
    return _StreamSummary(
        name=name,
        counts=_count(verdicts),
        n_lost=sum(verdict.window.n_lost for verdict in verdicts),
        smallest_p=min((v.result.p for v in verdicts if v.result.p is not None), default=None),
        bundles=tuple(sorted({verdict.bundle for verdict in verdicts} - {""})),
        run=run,
        run_state=describe_state(run),
        conditions=tuple(_summarise_conditions(verdicts)),
    )


def _summarise_conditions(verdicts: Sequence[Verdict]) -> Iterable[_ConditionSummary]:
    values: dict[str, list[Condition]] = {}
    for verdict in verdicts:
        for name, value in verdict.window.conditions.items():
            values.setdefault(name, []).append(value)
    for name, seen in values.items():
        numbers = [value for value in seen if not isinstance(value, str)]
        yield _ConditionSummary(
            name=name,
            first=seen[0],
            last=seen[-1],
            lowest=min(numbers, default=None),
            highest=max(numbers, default=None),
            n_changes=sum(one != other for one, other in pairwise(seen)),
        )


def _changes(history: AlarmStore, verdicts: Sequence[Verdict]) -> list[AlarmChange]:
    """Find what happened to the alarms of these streams while they were judged."""
    moments = [verdict.judged_at for verdict in verdicts]
    streams = {verdict.window.stream for verdict in verdicts}
    found = history.changes(since=min(moments), until=max(moments) + 1.0)
    return [change for change in found if change.alarm.stream in streams]


def _show(verdict: Verdict) -> dict[str, object]:
    explanation = verdict.explanation
    return {
        "window": summarise(verdict),
        "explanation": explanation,
        "figures": map_charts.maps(explanation) if explanation else [],
        "pair_figures": map_charts.pair_maps(explanation.pairs[:_N_PAIRS]) if explanation else [],
        "occupancy_figures": (
            map_charts.occupancy(explanation.occupancy) if explanation and explanation.occupancy else []
        ),
    }
