"""Files and bundles made once with the command line itself; no test may write to them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import Once
from tests.service.small import N_WINDOW, faulty_events, healthy_events, write_csv

from .program import call_dqm

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
) -> Callable[..., Told]:
    """Run a command within this process, from its entry point to its exit code, in an empty directory."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, columns: int = 200) -> Told:
        code = call_dqm(*arguments, columns=columns)
        return Told(code, *capsys.readouterr())

    return call


@pytest.fixture(scope="session")
def folder(once: Once) -> Path:
    """``healthy.csv`` to make references of, and ``mixed.csv``: of chamber-1 and the faulty chamber-2."""

    def write(folder: Path) -> None:
        folder.mkdir()
        write_csv(folder / "healthy.csv", healthy_events(4000, 1))
        both = [healthy_events(3 * N_WINDOW, 300), faulty_events(3 * N_WINDOW, 2)]
        chambers = ["chamber-1", "chamber-2"] * 3 * N_WINDOW
        write_csv(folder / "mixed.csv", np.stack(both, axis=1).reshape(-1, 2), chambers)

    return once("events", write)


@pytest.fixture(scope="session")
def bare(folder: Path, once: Once) -> Path:
    """A bundle that is not calibrated."""

    def build(path: Path) -> None:
        with chdir(folder):
            assert call_dqm("reference", "build", "healthy.csv", "-o", path, *BUILD) == 0

    return once("bare.dqmref", build)


@pytest.fixture(scope="session")
def bundle(bare: Path, once: Once) -> Path:
    """The same, calibrated in one go."""

    def calibrate(path: Path) -> None:
        shutil.copytree(bare, path)
        assert call_dqm("reference", "calibrate", path, "--toys", N_TOYS, "--processes", 1) == 0

    return once("ref.dqmref", calibrate)
