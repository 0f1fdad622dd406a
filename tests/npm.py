"""Packages of npm that tests need."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

__all__ = ["install_package"]


def install_package(folder: Path, package: str) -> None:
    """Install a package; skip the test where that cannot be done, or fail if ``DQM_REQUIRE_ALL=1``."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund", "--prefix", folder, package],  # noqa: S607
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        reason = f"npm cannot install {package}: {error}"
        if os.environ.get("DQM_REQUIRE_ALL") == "1":
            pytest.fail(f"{reason}, and DQM_REQUIRE_ALL=1 forbids to skip")
        pytest.skip(reason)
