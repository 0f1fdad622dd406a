"""Files and bundles made once with the command line itself; no test may write to them."""

from __future__ import annotations

import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import structlog

from dqm.cli.main import run
from tests.service.small import N_WINDOW, faulty_events, healthy_events, write_csv

from .program import run_dqm

BUILD = ("--events", 400, "--window", N_WINDOW, "--width", 2, "--penalty", 1e-5, "--centers", 80)
N_TOYS = 150


@dataclass(frozen=True)
class Told:
    """What a command said."""

    code: int
    out: str
    err: str


@pytest.fixture
def dqm(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., Told]]:
    """Run a command within this process, from its entry point to its exit code, in an empty directory."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")

    def call(*arguments: object) -> Told:
        monkeypatch.setattr(sys, "argv", ["dqm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run()
        code = end.value.code or 0
        assert isinstance(code, int)
        return Told(code, *capsys.readouterr())

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield call
    structlog.reset_defaults()
    for number, handler in handlers.items():
        signal.signal(number, handler)


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``healthy.csv`` to make references of, and ``mixed.csv``: of chamber-1 and the faulty chamber-2."""
    folder = tmp_path_factory.mktemp("cli")
    write_csv(folder / "healthy.csv", healthy_events(4000, 1))
    both = [healthy_events(3 * N_WINDOW, 300), faulty_events(3 * N_WINDOW, 2)]
    write_csv(
        folder / "mixed.csv", np.stack(both, axis=1).reshape(-1, 2), ["chamber-1", "chamber-2"] * 3 * N_WINDOW
    )
    return folder


@pytest.fixture(scope="session")
def bare(folder: Path) -> Path:
    """A bundle that is not calibrated."""
    run_dqm("reference", "build", "healthy.csv", "-o", "bare.dqmref", *BUILD, cwd=folder)
    return folder / "bare.dqmref"


@pytest.fixture(scope="session")
def bundle(folder: Path, bare: Path) -> Path:
    """The same, calibrated in one go."""
    shutil.copytree(bare, folder / "ref.dqmref")
    run_dqm("reference", "calibrate", "ref.dqmref", "--toys", N_TOYS, "--processes", 1, cwd=folder)
    return folder / "ref.dqmref"
