"""How often the lines of a certificate are amber and red: for steady runs, and for runs that are not.

``python -m tests.studies.certificates OUTPUT`` writes ``certificates.md`` into OUTPUT. Each run is new: 4000
events of two correlated features, 400 of them in the reference, windows of 60, 500 toys. Of a run that
changes, the second half is moved in one feature; of a drifting one, the mean moves from beginning to end.
"""

from __future__ import annotations

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from dqm.events import FloatArray
from dqm.reference import LaterRun, Light, Processes, Recipe, calibrate, certify, create_bundle
from tests.service.small import FEATURES, N_WINDOW, healthy_events

N_EVENTS, N_REFERENCE, N_TOYS, THRESHOLD = 4000, 400, 500, 0.02
CASES = ("steady", "changes by 0.5", "changes by 1", "drifts by 1", "later run moved by 0.3")


def run_of(case: str, seed: int) -> FloatArray:
    """Events of a run."""
    x = healthy_events(N_EVENTS, seed)
    if case.startswith("changes"):
        x[N_EVENTS // 2 :, 1] += float(case.split()[-1])
    if case.startswith("drifts"):
        x[:, 1] += np.linspace(0.0, float(case.split()[-1]), N_EVENTS)
    return x


def lights(case: str, seed: int, folder: Path) -> dict[str, Light]:
    """Certify one bundle."""
    recipe = Recipe(
        FEATURES, n_reference=N_REFERENCE, n_expected=N_WINDOW, width=2.0, penalty=1e-5, centers=80, seed=seed
    )
    bare = create_bundle(run_of(case, seed), recipe, folder / f"{seed}.dqmref")
    bundle = calibrate(bare, N_TOYS, kind=bare.manifest.kind, seed=seed, workers=Processes(1))
    shift = np.array([0.0, float(case.split()[-1])]) if case.startswith("later") else 0.0
    later = LaterRun("later", healthy_events(60 * N_WINDOW, 10_000 + seed) + shift)
    made = certify(
        bundle, 300, kind=bundle.manifest.kind, seed=20_000 + seed, threshold=THRESHOLD, workers=Processes(1),
        later=[later],
    )  # fmt: skip
    return {line.name: line.light for line in made.certificate.lines}


def main() -> None:
    """Count lights, write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    parser.add_argument("--runs", type=int, default=20, help="runs of each case")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    rows = []
    for number, case in enumerate(CASES):
        counts: Counter[tuple[str, Light]] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for run in range(options.runs):
                counts.update(lights(case, 100 * number + run + 1, Path(folder)).items())
        names = list(dict.fromkeys(name for name, _ in counts))
        for name in names:
            amber, red = counts[name, Light.AMBER], counts[name, Light.RED]
            if amber or red or case == "steady":
                rows.append(f"| {case} | {name} | {amber} | {red} |")
        (options.output / "certificates.md").write_text(
            "\n".join(
                [f"| run ({options.runs} of each) | line | amber | red |", "|---|---|---|---|", *rows, ""]
            )
        )


if __name__ == "__main__":
    main()
