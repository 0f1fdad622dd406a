"""Generated events with which the power of statistics is measured: healthy ones and faults.

The chamber is that of the collector ``simulate``. Signals in one dimension are those of the papers on NPLM:
an exponential distribution with an excess in its bulk, in its tail, and spread over it. The others are
of the kinds that monitors meet: counts, ticks, heavy tails, values for "not measured", numbers of wires.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dqm.events import FloatArray
from dqm.service.collector.sources import open_source
from dqm.service.offline.run_advice import SIMULATED_FAULTS

__all__ = ["FAMILIES", "Family"]

Draw = Callable[[int, np.random.Generator], FloatArray]
"""Draws n events, shape (n, d)."""

CHAMBER_FEATURES = ("t_1", "t_2", "t_3", "t_4", "theta")
N_WIRES = 64


@dataclass(frozen=True, slots=True)
class Family:
    """Healthy events of one kind, and what may go wrong with them.

    Parameters
    ----------
    name : str
        For tables.
    healthy : callable
        Draws healthy events.
    faults : mapping of str to callable
        Draws events of each fault.
    channel : int, optional
        Column that is the number of a channel.
    """

    name: str
    healthy: Draw
    faults: Mapping[str, Draw]
    channel: int | None = None


def _simulate(conditions: Mapping[str, object]) -> Draw:
    def draw(n: int, rng: np.random.Generator) -> FloatArray:
        seed = int(rng.integers(2**31))
        options = {"chambers": [0], "rate_hz": 1000.0, "seed": seed, "conditions": dict(conditions)}
        parts: list[FloatArray] = []
        for batch in open_source("simulate", options):
            parts.append(batch.x[:, [batch.names.index(name) for name in CHAMBER_FEATURES]])
            if sum(map(len, parts)) >= n:
                break
        return np.concatenate(parts)[:n]

    return draw


def _beside_two(column: Callable[[int, np.random.Generator], NDArray[Any]]) -> Draw:
    """Put a feature beside two others that are correlated and healthy."""

    def draw(n: int, rng: np.random.Generator) -> FloatArray:
        z = rng.normal(size=(n, 2))
        others = [z[:, 0], 0.6 * z[:, 0] + 0.8 * z[:, 1]]
        return np.column_stack([*others, column(n, rng).astype(np.float64)])

    return draw


def _ticks(late: float) -> Draw:
    return _beside_two(lambda n, rng: np.floor(rng.uniform(0.0, 400.0, n) / 25.0) * 25.0 + late)


def _sentinels(share: float) -> Draw:
    return _beside_two(lambda n, rng: np.where(rng.random(n) < share, -999.0, rng.normal(50.0, 5.0, n)))


def _wires(factor: float, n: int = 1) -> Draw:
    weights = np.ones(N_WIRES)
    weights[20 : 20 + n] = factor
    shares = weights / weights.sum()
    return _beside_two(lambda n, rng: rng.choice(N_WIRES, n, p=shares))


def _exponential(share: float, signal: Callable[[int, np.random.Generator], FloatArray]) -> Draw:
    def draw(n: int, rng: np.random.Generator) -> FloatArray:
        n_signal = int(rng.binomial(n, share))
        events = np.concatenate([rng.exponential(size=n - n_signal), signal(n_signal, rng)])
        return rng.permutation(events)[:, None]

    return draw


FAMILIES = (
    Family("chamber", _simulate({}), {name: _simulate(knobs) for name, knobs in SIMULATED_FAULTS.items()}),
    Family(
        "exponential",
        _exponential(0.0, lambda n, rng: rng.exponential(size=n)),
        {
            "excess in the tail, 2 %": _exponential(0.02, lambda n, rng: rng.normal(6.4, 0.16, n)),
            "excess in the bulk, 10 %": _exponential(0.10, lambda n, rng: rng.normal(1.6, 0.16, n)),
            "broad excess, 20 %": _exponential(0.20, lambda n, rng: rng.gamma(3.0, 1.0, n)),
        },
    ),
    Family(
        "counts",
        _beside_two(lambda n, rng: rng.poisson(5.0, n)),
        {"mean 10 % high": _beside_two(lambda n, rng: rng.poisson(5.5, n))},
    ),
    Family("ticks", _ticks(0.0), {"one tick late": _ticks(25.0)}),
    Family(
        "heavy tails",
        _beside_two(lambda n, rng: rng.standard_cauchy(n)),
        {"moved by half a width": _beside_two(lambda n, rng: rng.standard_cauchy(n) + 0.5)},
    ),
    Family("not measured", _sentinels(0.03), {"twice as often": _sentinels(0.06)}),
    Family(
        "wires",
        _wires(1.0),
        {
            "one dead": _wires(0.0),
            "one ten times hot": _wires(10.0),
            "four side by side dead": _wires(0.0, 4),
        },
        channel=2,
    ),
)
"""In the order of the tables."""
