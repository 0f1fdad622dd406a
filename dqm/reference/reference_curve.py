"""The reference's own events in the bins of maps that were made without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from dqm.events import RatioMap, ReferenceCurve
from dqm.reference.stored_bundle import StoredBundle

__all__ = ["reference_curve"]


def reference_curve(
    bundle: StoredBundle, maps: Sequence[RatioMap], n_events: float, label: str
) -> ReferenceCurve:
    """Count the events of a reference in the bins of maps of single features.

    Parameters
    ----------
    bundle : StoredBundle
        Of events or of histograms.
    maps : sequence of RatioMap
        Maps; the first and the last bin of each contain everything beyond. A feature that the reference does
        not have is left out.
    n_events : float
        Number of events to scale to.
    label : str
        What the curve is called.
    """
    sample = bundle.reference_sample
    names = bundle.manifest.features
    share = sample.weights * (n_events / sample.n_events)
    events = {}
    for ratio_map in maps:
        (name,), (edges,) = ratio_map.features, ratio_map.edges
        if name in names:
            place = np.searchsorted(edges[1:-1], sample.x[:, names.index(name)], side="right")
            events[name] = np.bincount(place, share, len(edges) - 1).astype(np.float64)
    return ReferenceCurve(label, events)
