"""What a comparison on the page costs the windows that are judged meanwhile.

``python -m tests.studies.comparison_load [--rounds 4] [--windows 300]``

A real daemon with one worker for each core gets windows as fast as it takes them, in rounds: one without, one
with a comparison that runs all the time. The time until all are judged and stored is told for each, and the
permutations that the comparison has done. The rounds alternate, because other work of the machine comes and
goes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

import httpx

from dqm.reference import Recipe, calibrate, create_bundle
from dqm.stream import Sender
from dqm.web import add_user
from tests.cli.program import logged, start_dqm
from tests.ports import free_port
from tests.service.small import FEATURES, healthy_events, window_of
from tests.waiting import WAIT_SECONDS, get, wait_until

N_EVENTS = 500
KEPT_RUNS = (1, 2)
USER = ("maria", "correct horse")


def make_bundle(path: Path) -> None:
    recipe = Recipe(
        FEATURES, n_reference=5000, n_expected=N_EVENTS, width=2.5, penalty=1e-7, centers=300, seed=3
    )
    bundle = create_bundle(healthy_events(20_000, 1), recipe, path)
    calibrate(bundle, 150, kind=bundle.manifest.kind, seed=5)


def configure(folder: Path, n_cores: int) -> tuple[str, str]:
    """Write the configuration; gives the addresses of windows and of the page."""
    address, http = f"ipc://{folder}/windows.ipc", f"127.0.0.1:{free_port()}"
    add_user(folder / "users.toml", *USER)
    (folder / "daemon.toml").write_text(
        f'[daemon]\nlisten = ["{address}"]\nhttp = "{http}"\nworkers = {n_cores}\n'
        f'[web]\nusers = "users.toml"\n[keep]\ngood_share = 1.0\n'
        f'[[streams]]\nname = "chamber-1"\nbundle = "{folder}/x.dqmref"\n'
    )
    return address, f"http://{http}"


def judge(address: str, run: int, n_windows: int) -> float:
    """Send windows of a run and wait until all are judged and stored; gives the time, s."""
    windows = [
        window_of(healthy_events(N_EVENTS, 10_000 * run + seq), run=run, seq=seq) for seq in range(n_windows)
    ]
    with Sender(address) as sender:
        begin = time.perf_counter()
        for window in windows:
            sender.send(window)
        assert sender.flush(10 * WAIT_SECONDS)
        return time.perf_counter() - begin


def start_comparison(url: str, n_permutations: int) -> str:
    sides = {
        name: {"stream": "chamber-1", "runs": str(run)}
        for name, run in zip(("first", "second"), KEPT_RUNS, strict=True)
    }
    answer = httpx.post(
        f"{url}/api/v1/compare", json=sides | {"permutations": n_permutations}, auth=USER, trust_env=False
    )
    answer.raise_for_status()
    identifier = answer.json()["identifier"]
    wait_until(lambda: done(url, identifier) > 0, "it goes on", 600.0)
    return str(identifier)


def done(url: str, identifier: str) -> int:
    return int(get(f"{url}/api/v1/compare/{identifier}").json()["done"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--windows", type=int, default=300)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_bundle(folder / "x.dqmref")
        address, url = configure(folder, os.cpu_count() or 1)
        daemon = start_dqm("run", "daemon.toml", cwd=folder, log=folder / "daemon.log")
        try:
            wait_until(lambda: logged(folder / "daemon.log", "ready") is not None, "the daemon is ready")
            for run in KEPT_RUNS:
                judge(address, run, 20)
            alone, beside = [], []
            for k in range(options.rounds):
                alone.append(judge(address, 10 + 2 * k, options.windows))
                identifier = start_comparison(url, 10_000 - k)
                before = done(url, identifier)
                beside.append(judge(address, 11 + 2 * k, options.windows))
                n = done(url, identifier) - before
                httpx.post(f"{url}/api/v1/compare/{identifier}/cancel", json={}, auth=USER, trust_env=False)
                print(f"{alone[-1]:.2f} s alone, {beside[-1]:.2f} s beside a comparison, {n} permutations")  # noqa: T201
            ratio = statistics.median(b / a for a, b in zip(alone, beside, strict=True))
            print(f"median ratio {ratio:.3f}, load {os.getloadavg()[0]:.1f}")  # noqa: T201
        finally:
            daemon.terminate()
            daemon.wait(WAIT_SECONDS)


if __name__ == "__main__":
    main()
