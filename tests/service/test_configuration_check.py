"""What the check of a configuration says beside its mistakes."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.service.configuration_check import find_notes

STREAM = '[[streams]]\nname = "a"\nbundle = "none"\n'


@pytest.mark.parametrize(
    ("alarm", "notes"),
    [
        ("", []),
        ('drift_test = "run"\nruns_per_shift = 3.0', []),
        (
            "runs_per_shift = 3.0",
            ['alarm.runs_per_shift = 3 has no effect without alarm.drift_test = "run"'],
        ),
        (
            'drift_test = "run"\ndrift_share = 0.0',
            ['alarm.drift_test = "run" has no effect with alarm.drift_share = 0'],
        ),
    ],
)
def test_what_has_no_effect_is_noted(alarm: str, notes: list[str], tmp_path: Path) -> None:
    config = tmp_path / "daemon.toml"
    config.write_text(f"{STREAM}[alarm]\n{alarm}\n")
    assert find_notes(config, {}) == [f"{config}: {note}" for note in notes]
