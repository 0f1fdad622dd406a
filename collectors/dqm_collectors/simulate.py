"""Simulated chambers: raw hits under given conditions and faults, reconstructed like real hits."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.conditions import Conditions, Fault, Variation, conditions_at, vary
from dqm_collectors.chamber.gauges import Gauge, NuisanceName, read_gauges
from dqm_collectors.chamber.geometry import N_CHAMBERS, NS_PER_COUNT, Convention, WireMap
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.occupancy import CountingReconstruction
from dqm_collectors.chamber.reconstruction import Reconstruction, free_segments
from dqm_collectors.chamber.segments import FEATURES, Selection
from dqm_collectors.chamber.simulation import simulate_hits
from dqm_collectors.pace import Clock, Sleep, at_speed

__all__ = ["SimulateCollector", "simulate_features"]

MUONS_PER_BLOCK = 20_000
MUON_SPACING_NS = 5000.0
"""Time between muons, large enough that hits of two muons never mix."""


class SimulateCollector:
    """Segments of simulated chambers; each chamber has its own random numbers and muons.

    Parameters
    ----------
    options : SimulateCollector.Options
        Chambers, conditions, faults and speed.
    clock, sleep : callable
        Used when `speed` is given.
    now : callable
        Unix time in seconds, for ``start = "now"``.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid")

        chambers: tuple[Annotated[int, Field(ge=0, lt=N_CHAMBERS)], ...] = Field(
            (0, 1, 2, 3), min_length=1, description="chambers to simulate, 0 to 3"
        )
        conditions: Conditions = Field(Conditions(), description="conditions of the chambers without faults")
        rate_hz: float | None = Field(
            None,
            gt=0,
            le=1e5,
            description="muons in each chamber, Hz, (0, 1e5]; default: that of conditions",
        )
        faults: tuple[Fault, ...] = Field((), description="faults: knob, chamber and time")
        variations: tuple[Variation, ...] = Field(
            (), description="slow sinusoidal variations of all chambers that are not faults"
        )
        measurements: dict[NuisanceName, Gauge] = Field(
            {}, max_length=64, description="slow-control measurement of each nuisance parameter, at most 64"
        )
        seed: int = Field(1, ge=0, description="seed of the random numbers, >= 0")
        seconds: float | None = Field(None, gt=0, description="simulated time, s, > 0; default: without end")
        speed: float | None = Field(
            None, gt=0, description="1: real time, 2: twice as fast; default: as fast as possible"
        )
        start: float | Literal["now"] = Field(0.0, description='Unix time of the start, s, or "now"')
        batch_seconds: float = Field(1.0, gt=0, le=3600, description="length of a batch, s, (0, 3600]")
        channels: bool = Field(
            False, description="whether the hits of every channel are counted and sent beside the segments"
        )
        max_residual_mm: float = Field(
            1.0, gt=0, le=10, description="largest residual of a segment, mm, (0, 10]"
        )

        @property
        def base(self) -> Conditions:
            """Conditions without variations and faults."""
            if self.rate_hz is None:
                return self.conditions
            return self.conditions.model_copy(update={"rate_hz": self.rate_hz})

        @model_validator(mode="after")
        def _check_slow_control(self) -> Self:
            for knob in {variation.knob for variation in self.variations}:
                _check_extremes(self.base, [v for v in self.variations if v.knob == knob])
            for name, gauge in self.measurements.items():
                if getattr(self.base, gauge.knob) == 0:
                    raise ValueError(f"measurements.{name}: {gauge.knob} is 0, which has no logarithm")
            return self

    origin = Origin.SIMULATED

    def __init__(
        self,
        options: Options,
        *,
        clock: Clock = time.monotonic,
        sleep: Sleep = time.sleep,
        now: Clock = time.time,
    ) -> None:
        self.options = options
        self._clock = clock
        self._sleep = sleep
        self._now = now

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield one batch for each chamber and stretch of `batch_seconds`."""
        return at_speed(self._batches(), self.options.speed, self._clock, self._sleep)

    def raw_hits(self) -> Iterator[RawHits]:
        """Yield the words of all chambers block by block, in order of time, numbered as since 2021.

        Yields
        ------
        RawHits
            Words of a time with constant conditions; orbit 0 is the start of the source.
        """
        generators = {c: np.random.default_rng([self.options.seed, c]) for c in self.options.chambers}
        for begin, end in pairwise(self._edges()):
            yield RawHits.concatenate(
                [self._chamber_hits(chamber, begin, end, rng) for chamber, rng in generators.items()]
            )

    def _chamber_hits(self, chamber: int, begin: float, end: float, rng: np.random.Generator) -> RawHits:
        """Simulate one chamber between two times in seconds since the start."""
        base = vary(self.options.base, self.options.variations, (begin + end) / 2)
        conditions = conditions_at(base, self.options.faults, chamber, begin)
        duration = (end - begin) * 1e9
        passage = np.sort(rng.uniform(0, duration, rng.poisson(conditions.rate_hz * (end - begin))))
        first = round(begin * 1e9 / NS_PER_COUNT)
        return simulate_hits(conditions, passage, duration, rng, chamber=chamber, first_count=first).raw

    def _batches(self) -> Iterator[EventBatch]:
        options = self.options
        start = self._now() if options.start == "now" else options.start
        reconstruction = (CountingReconstruction if options.channels else Reconstruction)(
            WireMap.of(Convention.Y2021),
            Selection(max_residual_mm=options.max_residual_mm),
            chambers=options.chambers,
            start=start,
            batch_seconds=options.batch_seconds,
            first_count=0,
        )
        for raw in self.raw_hits():
            for batch in reconstruction.feed(raw):
                yield self._measured(batch, start)
        for batch in reconstruction.finish(start + (options.seconds or 0.0)):
            yield self._measured(batch, start)

    def _measured(self, batch: EventBatch, start: float) -> EventBatch:
        """Add set points, which do not show faults, and the readings at the start of a batch.

        No window with events of the batch ends before its start.
        """
        options = self.options
        set_points = {
            "strip_voltage_set_v": options.base.strip_voltage_v,
            "threshold_set_mv": options.base.threshold_mv,
        }
        batch = replace(batch, conditions={**batch.conditions, **set_points})
        if not options.measurements or batch.start is None:
            return batch
        readings = read_gauges(
            options.measurements,
            options.base,
            options.variations,
            round(batch.start - start, 6),  # Unix times are not more precise
            start=start,
            seed=options.seed,
        )
        return replace(batch, auxiliary=readings)

    def _edges(self) -> Iterator[float]:
        """Yield the edges of blocks in seconds: whole batches, cut where a fault starts or stops."""
        options = self.options
        total = float("inf") if options.seconds is None else options.seconds
        turns = sorted({t for f in options.faults for t in (f.start, f.stop) if 0 < t < total} | {total})
        batches = max(1, int(MUONS_PER_BLOCK / (options.base.rate_hz * options.batch_seconds)))
        if options.speed is not None or options.variations:
            batches = 1
        block = 0
        yield 0.0
        for turn in turns:
            while (edge := (block + 1) * batches * options.batch_seconds) < turn:
                block += 1
                yield edge
            if edge == turn:
                block += 1
            yield turn


def _check_extremes(base: Conditions, variations: list[Variation]) -> None:
    """Refuse variations of one knob that leave its range when all have their largest value."""
    knob = variations[0].knob
    value = getattr(base, knob)
    for sign in (1, -1):
        extreme = value
        for variation in variations:
            extreme *= 1 + sign * variation.amplitude
        Conditions.model_validate({knob: extreme})


def simulate_features(
    conditions: Conditions, n_events: int, rng: np.random.Generator, *, max_residual_mm: float = 1.0
) -> EventBatch:
    """Simulate a number of reconstructed segments for studies, without the empty time between muons.

    Each muon has 5 us, in which noise has its rate in Hz. Rate and pile-up of muons are not simulated.

    Parameters
    ----------
    conditions : Conditions
        Conditions of the chamber.
    n_events : int
        Number of segments, >= 0.
    rng : numpy.random.Generator
        Source of all random numbers.
    max_residual_mm : float
        Largest residual of a segment, mm.

    Returns
    -------
    EventBatch
        Chamber "0", columns `FEATURES`, exactly `n_events` rows, no times.

    Examples
    --------
    >>> import numpy as np
    >>> from dqm_collectors.chamber.conditions import Conditions
    >>> from dqm_collectors.simulate import simulate_features
    >>> healthy = simulate_features(Conditions(), 1000, np.random.default_rng(1))
    >>> healthy.names
    ('t_1', 't_2', 't_3', 't_4', 'theta', 'n_hits')
    >>> low_threshold = simulate_features(Conditions(threshold_mv=50.0), 1000, np.random.default_rng(1))
    >>> bool(low_threshold.x[:, 5].mean() > healthy.x[:, 5].mean())  # more hits in an event
    True
    """
    selection = Selection(max_residual_mm=max_residual_mm)
    wires = WireMap.of(Convention.Y2021)
    parts = [np.empty((0, len(FEATURES)))]
    while (missing := n_events - sum(map(len, parts))) > 0:
        n_muons = min(MUONS_PER_BLOCK, 2 * missing + 100)
        passage = np.arange(n_muons, dtype=np.float64) * MUON_SPACING_NS + 1000
        raw = simulate_hits(conditions, passage, len(passage) * MUON_SPACING_NS, rng).raw
        segments = free_segments(raw.counts, wires.numbers(raw.fpga, raw.channel), selection)
        parts.append(segments.features)
    return EventBatch("0", FEATURES, np.concatenate(parts)[:n_events])
