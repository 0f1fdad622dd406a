"""Conditions of a simulated chamber in physical units; faults and slow variations that change them."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Annotated, Any, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from dqm_collectors.chamber.geometry import DRIFT_VELOCITY_MM_PER_NS, N_CHAMBERS, WIRES_PER_CHAMBER

__all__ = [
    "NOMINAL_STRIP_V",
    "NOMINAL_THRESHOLD_MV",
    "Conditions",
    "Fault",
    "ScalarKnob",
    "Variation",
    "conditions_at",
    "vary",
]

NOMINAL_STRIP_V = -1200.0
NOMINAL_THRESHOLD_MV = 100.0

Wire = Annotated[int, Field(ge=0, lt=WIRES_PER_CHAMBER)]
Delay = Annotated[float, Field(ge=-500, le=500)]
Probability = Annotated[float, Field(ge=0, le=1)]


class Conditions(BaseModel):
    """Conditions of one chamber; the defaults are those of a healthy chamber, tuned to real spectra.

    Wires are numbered from 0 to 63 as in the electronics: channel number modulo 64, starting from 0. The
    values cannot be changed; `model_copy` gives other conditions.

    Examples
    --------
    >>> from dqm_collectors.chamber.conditions import Conditions
    >>> Conditions().strip_voltage_v
    -1200.0
    >>> lowered = Conditions(strip_voltage_v=-900.0, dead_wires=(3, 17))
    >>> lowered.strip_fraction
    0.75
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    rate_hz: float = Field(60.0, gt=0, le=1e5, description="muons through the chamber, Hz, (0, 1e5]")
    strip_voltage_v: float = Field(
        NOMINAL_STRIP_V, ge=-2000, le=0, description="voltage of the cathode strips, V, [-2000, 0]"
    )
    threshold_mv: float = Field(
        NOMINAL_THRESHOLD_MV, ge=10, le=1000, description="front-end threshold, mV, [10, 1000]"
    )
    drift_velocity_mm_per_ns: float = Field(
        DRIFT_VELOCITY_MM_PER_NS, ge=0.02, le=0.1, description="drift velocity, mm/ns, [0.02, 0.1]"
    )
    t0_ns: tuple[Delay, Delay, Delay, Delay] = Field(
        (0.0, 0.0, 0.0, 0.0), description="delay of the signals of layers 1 to 4, ns, [-500, 500]"
    )
    dead_wires: tuple[Wire, ...] = Field((), description="wires without signal, 0 to 63")
    noisy_wires: dict[Wire, Annotated[float, Field(ge=0, le=1e6)]] = Field(
        default_factory=dict, description="extra noise by wire 0 to 63, Hz, [0, 1e6]"
    )
    illumination_slope: float = Field(
        0.0,
        ge=-0.9,
        le=0.9,
        description="relative excess of muons at the last cell, and lack of them at the first, [-0.9, 0.9]",
    )
    noise_rate_hz: float = Field(
        10.0, ge=0, le=1e5, description="noise of each wire at nominal threshold, Hz, [0, 1e5]"
    )
    resolution_mm: float = Field(0.3, ge=0, le=5, description="resolution of one hit, mm, [0, 5]")
    efficiency: Probability = Field(0.985, description="probability of a signal in a crossed cell, [0, 1]")
    dead_time_ns: float = Field(
        80.0, ge=0, le=500, description="dead time of a wire after a hit, ns, [0, 500]"
    )
    afterpulse_probability: Probability = Field(0.03, description="probability of a second pulse, [0, 1]")
    delta_ray_probability: Probability = Field(
        0.07, description="probability of an early electron at nominal threshold, [0, 1]"
    )
    crosstalk_probability: Probability = Field(
        0.015, description="probability of a hit in a neighbouring cell at nominal threshold, [0, 1]"
    )
    shower_probability: Probability = Field(0.015, description="probability of a second particle, [0, 1]")

    @property
    def strip_fraction(self) -> float:
        """Strip voltage over its nominal value."""
        return self.strip_voltage_v / NOMINAL_STRIP_V

    @property
    def threshold_fraction(self) -> float:
        """Threshold over its nominal value."""
        return self.threshold_mv / NOMINAL_THRESHOLD_MV


def _check_scalar(knob: str) -> str:
    scalars = [name for name, field in Conditions.model_fields.items() if isinstance(field.default, float)]
    if knob not in scalars:
        raise ValueError(f"no knob {knob!r} with a single number; known are {', '.join(scalars)}")
    return knob


ScalarKnob = Annotated[str, AfterValidator(_check_scalar)]


class Variation(BaseModel):
    """A slow change of all chambers that is not a fault, such as that of the weather or the gas system."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    knob: ScalarKnob = Field(description="name of one of the conditions that are single numbers")
    amplitude: float = Field(ge=0, lt=1, description="amplitude relative to the value of the knob, [0, 1)")
    period_seconds: float = Field(gt=0, description="length of one period, s, > 0")
    phase: float = Field(0.0, description="phase at the start of the source, in periods")

    def factor(self, seconds: float) -> float:
        """Value relative to its mean, at a time in seconds since the source started."""
        return 1 + self.amplitude * math.sin(2 * math.pi * (seconds / self.period_seconds + self.phase))


class Fault(BaseModel):
    """A fault: one condition of one chamber has a wrong value for some time."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    chamber: int = Field(ge=0, lt=N_CHAMBERS, description="chamber, 0 to 3")
    knob: str = Field(description="name of one of the conditions")
    value: Any = Field(description="value of the knob during the fault, in its own unit")
    start: float = Field(ge=0, description="start of the fault, seconds after the source started, >= 0")
    stop: float = Field(
        float("inf"), description="end of the fault, seconds after the source started; default: never"
    )

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.knob not in Conditions.model_fields:
            raise ValueError(f"no knob {self.knob!r}; known are {', '.join(Conditions.model_fields)}")
        Conditions.model_validate({self.knob: self.value})
        if self.stop <= self.start:
            raise ValueError(f"the fault stops at {self.stop} s, not after its start at {self.start} s")
        return self


def conditions_at(base: Conditions, faults: Iterable[Fault], chamber: int, seconds: float) -> Conditions:
    """Return the conditions of a chamber at one moment.

    Parameters
    ----------
    base : Conditions
        Conditions without faults.
    faults : iterable of Fault
        Faults of any chamber; a later one overrides an earlier one of the same knob.
    chamber : int
        Chamber, 0 to 3.
    seconds : float
        Time since the source started.

    Returns
    -------
    Conditions
    """
    turned = {f.knob: f.value for f in faults if f.chamber == chamber and f.start <= seconds < f.stop}
    return Conditions.model_validate(base.model_dump() | turned) if turned else base


def vary(base: Conditions, variations: Iterable[Variation], seconds: float) -> Conditions:
    """Return the conditions with their slow variations at one moment; those of the same knob multiply.

    Parameters
    ----------
    base : Conditions
        Mean conditions.
    variations : iterable of Variation
        Slow variations.
    seconds : float
        Time since the source started.

    Returns
    -------
    Conditions

    Raises
    ------
    pydantic.ValidationError
        If a value is outside its range.
    """
    factors: dict[str, float] = {}
    for variation in variations:
        factors[variation.knob] = factors.get(variation.knob, 1.0) * variation.factor(seconds)
    turned = {knob: getattr(base, knob) * factor for knob, factor in factors.items()}
    return Conditions.model_validate(base.model_dump() | turned) if turned else base
