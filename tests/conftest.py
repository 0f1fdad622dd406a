"""Fixtures for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from dqm.reference import StoredBundle
    from tests.world import World

settings.register_profile("dqm", deadline=None, derandomize=True)  # same examples everywhere, however slow
settings.load_profile("dqm")


@pytest.fixture(scope="session")
def require_program() -> Callable[[str], Path]:
    """Path of a program; without it the test is skipped, or fails where ``DQM_REQUIRE_ALL=1``."""

    def find(name: str) -> Path:
        found = shutil.which(name)
        if found is None and os.environ.get("DQM_REQUIRE_ALL") == "1":
            pytest.fail(f"{name} is not installed, and DQM_REQUIRE_ALL=1 forbids to skip")
        if found is None:
            pytest.skip(f"{name} is not installed")
        return Path(found)

    return find


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> StoredBundle:
    """A small bundle that many tests read; none of them may write to it."""
    from tests.service.small import small_bundle  # loads torch

    return small_bundle(tmp_path_factory.mktemp("reference") / "small.dqmref")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two stations of two chambers each; nothing has happened yet."""
    from tests.world import make_world  # loads torch

    made = make_world(
        tmp_path / "x.sqlite",
        {"muon/station-1": ["chamber-1", "chamber-2"], "muon/station-2": ["chamber-3", "chamber-4"]},
    )
    yield made
    made.store.close()
