"""Slow control of the simulated chambers: measurements of knobs that vary slowly."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Annotated

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from dqm.events import Measurement
from dqm_collectors.chamber.conditions import Conditions, ScalarKnob, Variation, vary
from dqm_collectors.chamber.geometry import N_CHAMBERS

__all__ = ["Gauge", "NuisanceName", "read_gauges"]

# the same pattern as for all names in a window's header
NuisanceName = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}$")]


class Gauge(BaseModel):
    """How a nuisance parameter, the logarithm of a knob over its nominal value, is measured."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    knob: ScalarKnob = Field(description="name of one of the conditions that are single numbers")
    sigma: float = Field(gt=0, description="one-sigma error of ln(knob / nominal), > 0")
    every_seconds: float = Field(10.0, gt=0, description="time between readings, s, > 0")


def read_gauges(
    gauges: Mapping[str, Gauge],
    base: Conditions,
    variations: Iterable[Variation],
    seconds: float,
    *,
    start: float,
    seed: int,
) -> tuple[Measurement, ...]:
    """Return the last reading of each gauge at or before a moment.

    Gauges measure variations but no faults: slow control does not explain a fault. The random error of a
    reading depends only on the seed, the gauge and its time, so it does not change when it is read again.

    Parameters
    ----------
    gauges : mapping of str to Gauge
        Gauges by nuisance parameter.
    base : Conditions
        Nominal conditions.
    variations : iterable of Variation
        Slow variations.
    seconds : float
        Time since the source started, >= 0.
    start : float
        Unix time at which the source started, s.
    seed : int
        Seed of the simulation.

    Returns
    -------
    tuple of Measurement
        ``ln(knob / nominal)`` with Gaussian error, dimensionless.
    """
    readings = []
    for number, (name, gauge) in enumerate(gauges.items()):
        count = int(seconds // gauge.every_seconds)
        moment = count * gauge.every_seconds
        true = getattr(vary(base, variations, moment), gauge.knob) / getattr(base, gauge.knob)
        # chambers use [seed, 0] to [seed, 3]
        error = np.random.default_rng([seed, N_CHAMBERS + number, count]).normal(0.0, gauge.sigma)
        readings.append(Measurement(name, math.log(true) + float(error), gauge.sigma, start + moment))
    return tuple(readings)
