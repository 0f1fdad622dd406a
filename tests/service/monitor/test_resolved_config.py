"""What follows from a configuration and its bundles."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.alarm import Cause
from dqm.alarm.thresholds import CERTAIN_P
from dqm.config import DaemonConfig, StreamSection
from dqm.errors import ConfigError
from dqm.events import WindowCut
from dqm.reference import Bundle, WindowKind, calibrate
from dqm.service.monitor.resolved_config import ResolvedConfig, check_references, resolve
from tests.service.small import bare_bundle


def resolve_stream(path: Path, **keys: object) -> ResolvedConfig:
    stream = {"name": "a", "bundle": str(path)} | keys
    return resolve(DaemonConfig.model_validate({"streams": [stream]}))


@pytest.mark.parametrize("n_expected", [60.0, 90.0])
def test_a_bundle_built_for_windows_cut_by_count_expects_a_number_of_those_cut_by_time(
    tmp_path: Path, n_expected: float
) -> None:
    made = bare_bundle(tmp_path / "b.dqmref")
    kind = WindowKind(cut=WindowCut.TIME, n_expected=n_expected)
    calibrate(made, 100, kind=kind, seed=5, n_processes=1)
    found = resolve_stream(made.path)
    (reference,) = found.references["a"]
    assert reference.facts.n_expected == n_expected
    assert found.thresholds.false_alarms_per_shift[Cause.RATE] == pytest.approx(0.1, rel=1e-3)
    assert found.limits["a"].bad_rate_p == found.thresholds.rate_p
    (facts,) = found.bundle_facts["a"]
    assert facts.windows == f"{n_expected:g} events cut by time"


def test_a_rolling_reference_beside_counted_rows_is_refused_with_them(
    bundle: Bundle,
) -> None:
    stream = StreamSection.model_validate({"name": "a", "bundle": str(bundle.path), "rolling": {}})
    check_references(stream, [bundle.manifest])
    counted = bundle.manifest.model_copy(update={"counts": "n"})
    with pytest.raises(ConfigError, match="streams a: rolling: its bundle is of counted rows"):
        check_references(stream, [counted])


def test_a_number_that_no_bundle_expects_is_bad_where_it_is_certain(bundle: Bundle) -> None:
    found = resolve_stream(bundle.path)
    (reference,) = found.references["a"]
    assert reference.facts.n_expected is None
    assert found.limits["a"].bad_rate_p == CERTAIN_P
    assert resolve_stream(bundle.path, expected_rate_hz=50.0).limits["a"].bad_rate_p > CERTAIN_P
