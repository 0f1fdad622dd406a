"""Windows that the daemon kept and people labelled with a fault; templates are learned from them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from dqm.alarm import Amendment, Overlay
from dqm.config import DaemonConfig
from dqm.errors import InputError
from dqm.events import FloatArray, WindowHeader
from dqm.export.flags import take_spans
from dqm.reference import LabelledSample, Source, drop_nan
from dqm.store import (
    GOOD_WINDOWS,
    WINDOWS,
    CertificationStore,
    KeptWindow,
    VerdictStore,
    read_kept,
    store_url,
)

__all__ = ["find_labelled", "make_sample"]


def find_labelled(config: DaemonConfig, stream: str) -> dict[str, list[KeptWindow]]:
    """Find the kept windows of a stream that are labelled with a fault.

    A label by time concerns the windows whose middle it covers. If there are several labels, the last one
    counts.

    Parameters
    ----------
    config : DaemonConfig
        Of the daemon that kept them.
    stream : str
        One of its streams.

    Returns
    -------
    dict of str to list of KeptWindow
        By fault, of all runs; faults in the order of their first window.

    Raises
    ------
    InputError
        If nothing is labelled, or no labelled window was kept.
    StoreError
        If windows, verdicts or labels cannot be read.
    """
    with VerdictStore(store_url(config.daemon), create=False) as store:
        labels = CertificationStore(store.database).labels(stream)
        if not labels:
            raise InputError(
                f"no window of stream {stream!r} is labelled",
                fix="Label windows on the page /certification/RUN, or by 'dqm certify label'",
            )
        found: dict[str, list[KeptWindow]] = {}
        for run in sorted({label.scope.run for label in labels}):
            for fault, window in _label(store, stream, run, labels, _kept(config, stream, run)):
                found.setdefault(fault, []).append(window)
    if not found:
        raise InputError(
            f"no labelled window of stream {stream!r} was kept",
            fix="Windows without a label give way to newer ones: label soon, and give [keep] "
            "windows_megabytes more room. Good windows are kept by [keep] good_share",
        )
    return found


def make_sample(
    stream: str, fault: str, windows: Sequence[KeptWindow], features: Sequence[str]
) -> LabelledSample:
    """Put the windows of a fault together.

    Parameters
    ----------
    stream, fault : str
        Whose windows they are, and what they show.
    windows : sequence of KeptWindow
        At least one.
    features : sequence of str
        Columns to use.

    Returns
    -------
    LabelledSample
        With one source for each run.

    Raises
    ------
    InputError
        If a window lacks a feature.
    """
    for window in windows:
        missing = [name for name in features if name not in window.names]
        if missing:
            raise InputError(
                f"run {window.run} window {window.seq} has no {missing[0]!r}, but {', '.join(window.names)}",
                where=str(window.path),
                fix="Take a bundle of the same features, or withdraw the label",
            )
    x = [window.x[:, [window.names.index(name) for name in features]] for window in windows]
    runs = dict.fromkeys(window.run for window in windows)
    sources = tuple(
        _source(
            f"{stream}, run {run}", [part for part, one in zip(x, windows, strict=True) if one.run == run]
        )
        for run in runs
    )
    events, _ = drop_nan(np.concatenate(x), features)
    return LabelledSample(fault, events, sources)


def _source(name: str, samples: Sequence[FloatArray]) -> Source:
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(x).tobytes() for x in samples))
    return Source(name=name, sha256=digest.hexdigest(), n_events=sum(map(len, samples)))


def _kept(config: DaemonConfig, stream: str, run: int) -> Iterator[KeptWindow]:
    for directory in (WINDOWS, GOOD_WINDOWS):
        yield from read_kept(config.daemon.data_dir / directory, stream, [run])


def _label(
    store: VerdictStore, stream: str, run: int, labels: Sequence[Amendment], kept: Iterable[KeptWindow]
) -> Iterator[tuple[str, KeptWindow]]:
    """Give the kept windows of a run that are labelled, each with its fault."""
    spans = take_spans(store.outline(run, stream), by_judgement=True)
    middles = {span.verdict.window.seq: span.middle for span in spans}
    overlay = Overlay(labels)
    for window in kept:
        middle = middles.get(window.seq)  # None if its verdict is deleted: no label by time is known to fit
        label = overlay.label(WindowHeader(stream, run, window.seq), middle)
        if label is not None:
            yield label.fault, window
