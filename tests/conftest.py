"""Fixtures for every test."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import settings

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
