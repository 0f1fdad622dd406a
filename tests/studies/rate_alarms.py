"""The alarm of the number of events: false alarms per shift, and how soon a chamber that dies is told.

``python -m tests.studies.rate_alarms`` prints two tables. Numbers of events are Poisson, so there are as many
windows as it takes; they go through the real test and the real alarm engine. The budget is the default: one
false alarm in eight hours, a tenth of it for the number of events.
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from functools import cache

import numpy as np
from rich.console import Console
from rich.progress import track
from scipy import special

from dqm.alarm import (
    AlarmEngine,
    AlarmState,
    Cause,
    Rules,
    StreamFacts,
    Thresholds,
    alarm_rules,
    derive_thresholds,
)
from dqm.config import DaemonConfig
from dqm.events import Quality, RateResult, TestResult, Verdict, WindowCut, WindowHeader
from dqm.nplm import count_p_value, duration_p_value
from tests.studies.false_alarms import interval

SHIFT_WINDOWS = 480
"""Windows of a stream in a shift of eight hours, one a minute."""

WANDER_SHIFTS = 1
"""The true rate keeps its deviation for so many shifts."""


@dataclass(frozen=True)
class Scenario:
    """How the true rate behaves, and what the test allows for.

    Parameters
    ----------
    n_expected : float
        Events in a window.
    wander : float
        Relative spread of the true rate from shift to shift.
    uncertainty : float
        Relative uncertainty that is configured.
    n_streams : int
        Streams.
    n_shifts : int
        Shifts to simulate.
    """

    n_expected: float
    wander: float
    uncertainty: float
    n_streams: int
    n_shifts: int


SCENARIOS = tuple(
    Scenario(n_expected, wander, uncertainty, n_streams, n_shifts)
    for n_streams, n_shifts in ((1, 400), (50, 12))
    for n_expected in (487.5, 10_000.0)
    for wander, uncertainty in ((0.0, 0.0), (0.0, 0.02), (0.01, 0.0), (0.01, 0.02))
)


@cache
def rules_and_thresholds(n_streams: int, n_expected: float, uncertainty: float) -> tuple[Rules, Thresholds]:
    """Give what the default budget comes to."""
    streams = [{"name": f"s{number}", "bundle": "none"} for number in range(n_streams)]
    config = DaemonConfig.model_validate({"streams": streams})
    facts = StreamFacts(n_expected=n_expected, rate_uncertainty=uncertainty)
    thresholds = derive_thresholds(config, {stream["name"]: facts for stream in streams})
    return alarm_rules(config), thresholds


def set_up(n_streams: int, n_expected: float, uncertainty: float) -> AlarmEngine:
    """Make an engine with the default budget."""
    return AlarmEngine(*rules_and_thresholds(n_streams, n_expected, uncertainty), 0.0)


def verdict_of(stream: str, seq: int, n: int, cut: WindowCut, expected: float, uncertainty: float) -> Verdict:
    """Make a window of which nothing but the number of events is known."""
    test = count_p_value if cut is WindowCut.TIME else duration_p_value
    p, side = test(n, expected, uncertainty)
    p = max(p, 1e-15)
    rate = RateResult(cut, expected, uncertainty, 10.0, p, side * abs(float(special.ndtri(0.5 * p))))
    result = TestResult(n, expected, rate=rate)
    return Verdict(WindowHeader(stream, 1, seq), Quality.GOOD, "", result, "", 0.0, 0.0)


def count_false_alarms(scenario: Scenario, seed: int) -> int:
    """Count passages of the alarm of the number from Normal to Active."""
    rng = np.random.default_rng(seed)
    engine = set_up(scenario.n_streams, scenario.n_expected, scenario.uncertainty)
    found = 0
    for shift in range(scenario.n_shifts):
        for k in range(scenario.n_streams):
            mean = scenario.n_expected * math.exp(scenario.wander * rng.standard_normal())
            for place, n in enumerate(rng.poisson(mean, SHIFT_WINDOWS)):
                seq = shift * SHIFT_WINDOWS + place
                verdict = verdict_of(
                    f"s{k}", seq, int(n), WindowCut.TIME, scenario.n_expected, scenario.uncertainty
                )
                for change in engine.observe(verdict, 60.0 * seq):
                    is_raised = change.alarm.state is AlarmState.ACTIVE
                    found += (
                        is_raised and change.before is AlarmState.NORMAL and change.alarm.cause is Cause.RATE
                    )
    return found


def find_delay(
    fraction: float, cut: WindowCut, n_streams: int, rng: np.random.Generator
) -> tuple[int, float]:
    """Give windows and seconds from the change of the rate to the alarm; windows are healthy before.

    Returns
    -------
    windows : int
        Windows until the alarm; 0 if there is none within an hour.
    seconds : float
        Time until then, s.
    """
    engine = set_up(n_streams, 487.5, 0.02)
    healthy_hz, seconds = 48.75, 0.0
    for seq in range(5):
        engine.observe(verdict_of("s0", seq, 480 + seq, WindowCut.TIME, 487.5, 0.02), 0.0)
    for windows in range(1, 361):
        if cut is WindowCut.TIME:
            n, live = int(rng.poisson(487.5 * fraction)), 10.0
        else:
            n, live = 500, float(rng.gamma(500, 1.0 / (healthy_hz * fraction)))
        seconds += live
        if seconds > 3600.0:
            break
        verdict = verdict_of("s0", 5 + windows, n, cut, healthy_hz * live, 0.02)
        if any(change.alarm.cause is Cause.RATE for change in engine.observe(verdict, seconds)):
            return windows, seconds
    return 0, math.inf


def tell(*cells: str) -> None:
    """Print a row at once: an interruption loses little."""
    sys.stdout.write(f"| {' | '.join(cells)} |\n")
    sys.stdout.flush()


def main() -> None:
    """Print both tables."""
    tell("rate", "windows of 10 s: windows, s", "500 events: windows, s", "with 250 streams")
    tell(*["---"] * 4)
    rng = np.random.default_rng(1)
    for fraction in (1.0, 0.9, 0.8, 0.5, 0.2, 0.1, 0.0):
        cells = []
        for cut, n_streams in ((WindowCut.TIME, 1), (WindowCut.COUNT, 1), (WindowCut.TIME, 250)):
            if fraction == 0.0 and cut is WindowCut.COUNT:
                cells.append("no window comes: `silent`")
                continue
            tries = [find_delay(fraction, cut, n_streams, rng) for _ in range(50)]
            missed = sum(windows == 0 for windows, _ in tries)
            windows, seconds = np.median([t for t in tries if t[0]] or [(0, 0.0)], axis=0)
            share = f" ({missed} of 50 not within an hour)" if missed else ""
            cells.append("none in an hour" if missed == 50 else f"{windows:.0f}, {seconds:.0f}{share}")
        tell(f"{100 * fraction:g} %", *cells)
    sys.stdout.write("\n")
    tell(
        "streams", "events", "true rate wanders by", "uncertainty", "shifts", "false alarms per shift (95 %)"
    )
    tell(*["---"] * 6)
    for number, s in enumerate(track(SCENARIOS, console=Console(stderr=True))):
        found = count_false_alarms(s, number)
        percents = (f"{100 * s.wander:g} %", f"{100 * s.uncertainty:g} %")
        tell(str(s.n_streams), f"{s.n_expected:g}", *percents, str(s.n_shifts), interval(found, s.n_shifts))


if __name__ == "__main__":
    main()
