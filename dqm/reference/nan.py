"""Events with NaN in a feature: how many a healthy window has, and the test of this number."""

from __future__ import annotations

import numpy as np
from scipy import stats

from dqm.events import SMALLEST_P, FloatArray, NanResult
from dqm.reference.manifest import Manifest

__all__ = ["compare_nan"]


def compare_nan(x: FloatArray, manifest: Manifest) -> NanResult | None:
    """Test the number of events with NaN in each feature against that of the reference.

    The share in the reference is known from a finite sample. So the number follows the beta-binomial
    distribution, with the beta distribution of Jeffreys' prior. Both tails count, and p is multiplied by the
    number of features.

    Parameters
    ----------
    x : ndarray, shape (n_events, n_features)
        Events in the features of the reference; may have NaN.
    manifest : Manifest
        Of the reference.

    Returns
    -------
    NanResult or None
        Of the feature that departs most; None without events.
    """
    n_events = len(x)
    if not n_events:
        return None
    counts = np.isnan(x).sum(axis=0)
    known = np.array([manifest.nan_counts.get(name, 0) for name in manifest.features])
    n_known = manifest.n_built
    model = stats.betabinom(n_events, known + 0.5, n_known - known + 0.5)
    p = np.minimum(1.0, 2.0 * np.minimum(model.sf(counts - 1), model.cdf(counts)))
    worst = int(np.argmin(p))
    return NanResult(
        feature=manifest.features[worst],
        share=float(counts[worst] / n_events),
        expected_share=float(known[worst] / n_known),
        n_dropped=int(np.isnan(x).any(axis=1).sum()),
        p=max(SMALLEST_P, min(1.0, float(p[worst]) * len(p))),
    )
