"""Coverage-guided fuzzing for a fixed budget; ``FUZZ_SECONDS`` sets it for each target."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from .targets import TARGETS

ROOT = Path(__file__).parents[2]
SECONDS = int(os.environ.get("FUZZ_SECONDS", "30"))


@pytest.mark.long
@pytest.mark.parametrize("name", list(TARGETS))
def test_the_fuzzer_finds_nothing(name: str, tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris, of the extra fuzz, is not installed")
    options = [
        f"-max_total_time={SECONDS}",
        "-rss_limit_mb=2048",
        "-timeout=20",
        "-max_len=16384",
        f"-artifact_prefix={tmp_path}/",
        "-print_final_stats=1",
    ]
    told = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.atheris_targets", name, *options],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    stats = [line for line in told.stderr.splitlines() if line.startswith("stat::number_of_executed_units")]
    print(name, *stats)  # noqa: T201
    assert told.returncode == 0, told.stderr[-4000:]
    assert stats
