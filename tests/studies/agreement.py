"""How far t is from that of the plainly written test, in the configurations that are measured for speed.

``python -m tests.studies.agreement`` compares 200 simulated windows of each configuration with
`tests.nplm.truth`: all centres, all events, float64, Newton's method to the end. It takes about ten minutes;
``make test-long`` does the same as a test.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from dqm.nplm import KernelTest
from dqm_collectors.chamber.conditions import Conditions
from tests.benchmarks.inputs import SETTINGS, Setting
from tests.nplm.truth import PlainTest
from tests.studies.simulated_faults import CONDITIONS, events

N_WINDOWS = {name: 104 if name == "healthy" else 16 for name in CONDITIONS}


def differences(setting: Setting, done: Callable[[], None] = lambda: None) -> dict[str, list[float]]:
    """Differences of t, relative to ``max(1, |t|)``, by the condition of the windows."""
    reference = events(Conditions(), setting.n_reference, [1, 7])
    rng = np.random.default_rng(2)
    centers = reference[rng.choice(len(reference), size=setting.centers, replace=False)]
    n_expected, width, penalty, loss = float(setting.n_data), setting.width, setting.penalty, setting.loss
    test = KernelTest(
        reference, n_expected=n_expected, width=width, penalty=penalty, centers=centers, loss=loss
    )
    plain = PlainTest(reference, centers, n_expected, width, penalty, loss)
    found: dict[str, list[float]] = {}
    for k, (name, n) in enumerate(N_WINDOWS.items()):
        x = events(CONDITIONS[name], n * setting.n_data, [99, k])
        found[name] = []
        for window in x.reshape(n, setting.n_data, -1):
            expected = plain.t(window)
            found[name].append((test.evaluate(window).t - expected) / max(1.0, abs(expected)))
            done()
    return found


def main() -> None:
    """Print the largest differences."""
    table = Table("configuration", *N_WINDOWS, "largest")
    with Progress() as bar:
        for name, setting in SETTINGS.items():
            task = bar.add_task(name, total=sum(N_WINDOWS.values()))
            found = differences(setting, lambda task=task: bar.advance(task))
            largest = [float(np.abs(values).max()) for values in found.values()]
            table.add_row(name, *(f"{value:.1e}" for value in [*largest, max(largest)]))
    Console(width=160).print(table)


if __name__ == "__main__":
    main()
