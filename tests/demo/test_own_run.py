"""``dqm demo --real``: faults on top of a user's own good run."""

from __future__ import annotations

import tomllib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dqm.alarm import Cause
from dqm.config import CollectorConfig, load_collector
from dqm.demo.faults import choose_faults
from dqm.demo.own_run import HEALTHY, own_scenario, read_own_run
from dqm.errors import InputError
from dqm.events import FloatArray, Origin, WindowCut
from dqm.service.collector.sources import open_source
from dqm.stream import RunLabel, TimeCutter
from tests.cli import program
from tests.cli.program import call_dqm, run_dqm

NAMES = ("energy", "depth", "n_cells")
SECONDS = 60.0


def events(n: int, seed: int = 1) -> FloatArray:
    """Two numbers and a count."""
    rng = np.random.default_rng(seed)
    energy = rng.gamma(9.0, 2.5, n)
    return np.column_stack([energy, rng.normal(2.6, 0.35, n), rng.poisson(12 + 0.6 * energy).astype(float)])


def write(
    path: Path, x: FloatArray, times: FloatArray | None = None, chambers: list[str] | None = None
) -> Path:
    columns: dict[str, object] = {} if times is None else {"time": times}
    columns |= {} if chambers is None else {"chamber": chambers}
    columns |= {name: x[:, k] for k, name in enumerate(NAMES)}
    pq.write_table(pa.table(columns), path)
    return path


def steady_times(n: int) -> FloatArray:
    return np.sort(np.random.default_rng(2).uniform(0.0, n / 50.0, n))


def test_a_run_with_a_steady_rate_is_cut_by_time(tmp_path: Path) -> None:
    x, times = events(9000), steady_times(9000)
    run = read_own_run([write(tmp_path / "good.parquet", x, times)])
    assert (run.cut, run.remark, run.names) == (WindowCut.TIME, "", NAMES)
    assert np.array_equal(run.known, x[:5400])
    assert np.array_equal(
        np.concatenate([part for part, _ in run.windows]), x[5400:][: sum(len(p) for p, _ in run.windows)]
    )
    assert all(((within >= 0) & (within < 1)).all() for _, within in run.windows)


def test_a_run_with_spills_or_without_times_is_cut_by_count_and_says_why(tmp_path: Path) -> None:
    x = events(9000)
    spills = np.floor(steady_times(9000) / 20.0) * 60.0 + np.mod(steady_times(9000), 20.0)
    run = read_own_run([write(tmp_path / "spills.parquet", x, spills)])
    assert run.cut is WindowCut.COUNT
    assert "not steady" in run.remark
    run = read_own_run([write(tmp_path / "bare.parquet", x)])
    assert run.cut is WindowCut.COUNT
    assert "no column time" in run.remark
    assert {len(part) for part, _ in run.windows} == {run.window}


def test_a_run_that_is_too_short_says_how_long_it_must_be(tmp_path: Path) -> None:
    file = write(tmp_path / "short.parquet", events(900))
    with pytest.raises(InputError, match=r"900 events are too few: 8 windows of 100 .* need 2000"):
        read_own_run([file], window=100)
    with pytest.raises(InputError, match="allows no window"):
        read_own_run([write(tmp_path / "tiny.parquet", events(80))])


def test_the_chamber_with_the_most_events_is_taken(tmp_path: Path) -> None:
    x = events(6000)
    file = write(tmp_path / "good.parquet", x, chambers=["a", "b", "b"] * 2000)
    assert len(read_own_run([file]).known) == 2400
    assert len(read_own_run([file], chamber="a").known) == 1200


def test_faults_do_what_they_say() -> None:
    x, rng = events(4000), np.random.default_rng(3)
    faults = {one.name: one for one in choose_faults(x, NAMES, counts_events=True)}
    changed = {name: one.change(x, rng) for name, one in faults.items()}
    assert np.median(changed["shift"][:, 0]) > np.median(x[:, 0]) + 2.0
    assert changed["spread"][:, 1].std() == pytest.approx(1.5 * x[:, 1].std(), rel=0.01)
    low, high = np.quantile(x[:, 2], [0.6, 0.8])
    assert not ((changed["dead-range"][:, 2] >= low) & (changed["dead-range"][:, 2] <= high)).any()
    assert len(changed["extra"]) == pytest.approx(1.3 * len(x), rel=1e-3)
    assert len(changed["missing"]) == pytest.approx(0.6 * len(x), rel=0.1)
    assert [one.cause for one in faults.values()] == [Cause.DIFFERS] * 4 + [Cause.RATE]
    assert not any(np.array_equal(one, x) for one in changed.values())


def test_features_that_are_no_numbers_are_left_alone() -> None:
    x = np.column_stack(
        [np.random.default_rng(1).integers(0, 4, 3000), np.full(3000, 2.0), events(3000)[:, 0]]
    )
    labels = [one.label for one in choose_faults(x, ["module", "fixed", "energy"], counts_events=False)]
    assert all("energy" in label for label in labels[:3])
    with pytest.raises(InputError, match="no feature is a number"):
        choose_faults(x[:, :2], ["module", "fixed"], counts_events=False)


def test_every_window_of_the_scenario_is_whole_and_faults_begin_after_a_third(tmp_path: Path) -> None:
    run = read_own_run([write(tmp_path / "good.parquet", events(9000), steady_times(9000))], window=200)
    scenario = own_scenario(run, tmp_path / "ref", tmp_path, SECONDS)
    assert scenario.streams == (HEALTHY, "shift", "spread", "dead-range", "extra", "missing")
    for name, text in scenario.collectors.items():
        (tmp_path / f"{name}.toml").write_text(text)
        window = CollectorConfig.model_validate(tomllib.loads(text)).window
        assert window.seconds
        assert window.expected_rate_hz
        options = dict(load_collector(tmp_path / f"{name}.toml", environ={}).options) | {"speed": None}
        cutter = TimeCutter(window.seconds, window.expected_rate_hz, RunLabel(1, "demo", Origin.REPLAYED), {})
        found = [one for batch in open_source("replay", options, base=tmp_path) for one in cutter.push(batch)]
        found += cutter.close()
        assert len(found) == len(run.windows)
        assert all(abs((one.n_expected or 0.0) - 200.0) < 0.5 for one in found)
    (begin,) = {fault.seconds for fault in scenario.faults}
    assert begin == pytest.approx(SECONDS / 3, rel=0.15)


def test_options_for_a_run_need_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert call_dqm("demo", "--window", 100) == 2
    assert "--window needs --real" in capsys.readouterr().err


@pytest.mark.long
def test_the_demonstration_on_a_run_of_a_calorimeter_is_as_it_should_be(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "good.parquet", events(12_000), steady_times(12_000))
    homes = {name: str(tmp_path / name) for name in ("XDG_STATE_HOME", "XDG_CACHE_HOME", "HOME")}
    monkeypatch.setattr(program, "ENVIRONMENT", program.ENVIRONMENT | homes)
    monkeypatch.setattr(program, "WAIT_SECONDS", 400.0)
    words = " ".join(run_dqm("demo", "--real", "good.parquet", "--duration", 45, cwd=tmp_path).stdout.split())
    assert "healthy: no alarm (healthy)" in words
    for stream in ("shift", "spread", "dead-range", "extra"):
        assert f"{stream}: alarm differs" in words
    assert words.endswith("as it should be")
    assert "NOT" not in words
