"""How far t is from that of the plainly written test with a reference of 200 000 events, and what it costs.

``python -m tests.studies.large_reference [--windows 100] [--minutes 30]`` compares simulated windows, half of
them healthy, with `tests.nplm.truth`: all centres, all events, float64, Newton's method to the end. It also
takes the processor time of each window, and of the same window with a reference of 2000 events. It ends after
so many minutes of processor time, and says how many windows it got to.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace

import numpy as np
import torch

from dqm.events import FloatArray
from dqm.nplm import KernelTest
from dqm_collectors.chamber.conditions import Conditions
from tests.benchmarks.inputs import SETTINGS, Setting
from tests.nplm.truth import PlainTest
from tests.studies.simulated_faults import CONDITIONS, events

N_SMALL, N_LARGE = 2000, 200_000
FAULTS = [name for name in CONDITIONS if name != "healthy"]
REPEATS = 3
"""Each window is timed so often; the smallest counts."""


def draw_reference(setting: Setting) -> tuple[FloatArray, FloatArray]:
    """Draw the events of the large reference, and the centres, which are among those of the small one."""
    reference = events(Conditions(), N_LARGE, [1, 7])
    chosen = np.random.default_rng(2).choice(N_SMALL, size=setting.centers, replace=False)
    return reference, reference[chosen]


def make_test(setting: Setting, n_reference: int) -> KernelTest:
    """Set up the test with the first events of the large reference."""
    reference, centers = draw_reference(setting)
    return KernelTest(
        reference[:n_reference],
        n_expected=float(setting.n_data),
        centers=centers,
        width=setting.width,
        penalty=setting.penalty,
        loss=setting.loss,
    )


def timed(test: KernelTest, x: FloatArray) -> tuple[float, float]:
    """Give t and the processor time of a window."""
    took = []
    for _ in range(REPEATS):
        begin = time.process_time()
        found = test.evaluate(x)
        took.append(time.process_time() - begin)
    return found.t, min(took)


class Pair:
    """The test with a small and with a large reference, and the plain one with the large."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.small, self.large = (make_test(setting, n) for n in (N_SMALL, N_LARGE))
        reference, centers = draw_reference(setting)
        self.plain = PlainTest(
            reference, centers, float(setting.n_data), setting.width, setting.penalty, setting.loss
        )

    def compare(self, x: FloatArray) -> tuple[float, float, float, float]:
        """Give the relative difference of t, and the seconds of the small, the large and the plain test."""
        _, small = timed(self.small, x)
        t, large = timed(self.large, x)
        begin = time.process_time()
        expected = self.plain.t(x)
        plain = time.process_time() - begin
        return (t - expected) / max(1.0, abs(expected)), small, large, plain


def main() -> None:
    """Print each window, and then what they add up to."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--windows", type=int, default=100, help="of a configuration, half of them healthy")
    parser.add_argument("--minutes", type=float, default=30.0, help="of processor time, at most")
    parser.add_argument("--only", choices=SETTINGS, help="one configuration alone")
    given = parser.parse_args()
    torch.set_num_threads(1)
    names = [given.only] if given.only else list(SETTINGS)
    pairs = {name: Pair(replace(SETTINGS[name])) for name in names}
    found: dict[tuple[str, str], list[tuple[float, float, float, float]]] = {}
    for k in range(given.windows):
        condition = "healthy" if k % 2 == 0 else FAULTS[k // 2 % len(FAULTS)]
        for name, pair in pairs.items():
            if time.process_time() > 60.0 * given.minutes:
                break
            x = events(CONDITIONS[condition], pair.setting.n_data, [99, k])
            row = pair.compare(x)
            found.setdefault((name, condition), []).append(row)
            print(name, condition, *(f"{value:.3g}" for value in row), flush=True)  # noqa: T201
    for (name, condition), rows in sorted(found.items()):
        difference, small, large, plain = np.array(rows).T
        print(  # noqa: T201
            f"{name}, {condition}: {len(rows)} windows, t differs by at most {np.abs(difference).max():.1e}, "
            f"median {1e3 * np.median(small):.3g} ms and {1e3 * np.median(large):.3g} ms, ratio "
            f"{np.median(large / small):.3g}, at most {(large / small).max():.3g}; "
            f"plain {np.median(plain):.3g} s"
        )


if __name__ == "__main__":
    main()
