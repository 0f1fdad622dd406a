"""``dqm check`` names the packages that a configuration needs and lacks, and the extra to install."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.reference import Recipe, calibrate, create_bundle
from tests.service.small import healthy_events

from .conftest import Told

Dqm = Callable[..., Told]

CONFIGS = Path(__file__).parents[2] / "configs"
REPLAY = '[collector]\nname = "replay"\n[window]\nevents = 40\n[options]\ninputs = ["runs"]\n'
EPICS = '[slow_control]\nsource = "epics"\n[slow_control.options]\npvs = { pressure = "GAS:P" }\n'
DAEMON = '[[streams]]\nname = "s"\nbundle = "ref"\n'


@pytest.fixture
def without(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Let packages be missing."""

    def hide(*names: str) -> None:
        found = importlib.util.find_spec
        monkeypatch.setattr(
            "dqm.config.packages.find_spec", lambda name: None if name in names else found(name)
        )

    return hide


@pytest.mark.parametrize(
    ("config", "package", "extra"),
    [
        ("collector-files.toml", "uproot", "root"),
        ("collector-files.toml", "awkward", "root"),
        ("collector-files.toml", "numexpr", "expressions"),
        ("collector-histograms.toml", "uproot", "root"),
        ("collector-kafka.toml", "confluent_kafka", "kafka"),
    ],
)
def test_the_examples_name_what_their_collector_needs(
    dqm: Dqm, without: Callable[..., None], config: str, package: str, extra: str
) -> None:
    assert dqm("check", CONFIGS / config).code == 0
    without(package)
    told = dqm("check", CONFIGS / config)
    assert told.code == 1
    assert f"needs {package}: not installed" in told.err
    assert f"pip install '.[{extra}]'" in told.err


def test_what_is_in_a_directory_and_what_slow_control_needs_are_seen(
    dqm: Dqm, without: Callable[..., None], tmp_path: Path
) -> None:
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "run1.csv").write_text("a,b\n1,2\n")
    (tmp_path / "collector.toml").write_text(REPLAY)
    without("uproot", "awkward", "numexpr", "caproto")
    assert dqm("check", "collector.toml").code == 0, "a CSV file needs none of them"
    (tmp_path / "runs" / "run2.root").write_bytes(b"")
    told = dqm("check", "collector.toml", "--set", "options.select=a > 0")
    assert "needs uproot, awkward, numexpr: not installed" in told.err
    assert "its extras 'expressions' and 'root'" in told.err
    told = dqm("collect", "collector.toml")
    assert told.code == 2, "it does not wait for a file that it can never read"
    assert "pip install '.[root]'" in told.err
    (tmp_path / "runs" / "run2.root").unlink()
    (tmp_path / "collector.toml").write_text(REPLAY + EPICS)
    told = dqm("check", "collector.toml")
    assert told.code == 1
    assert "the source of readings 'epics' needs caproto: not installed" in told.err
    assert "extra 'epics'" in told.err


def test_a_daemon_names_what_its_store_cluster_and_statistic_need(
    dqm: Dqm, without: Callable[..., None], bundle: Path, tmp_path: Path
) -> None:
    shutil.copytree(bundle, tmp_path / "ref")
    (tmp_path / "daemon.toml").write_text(DAEMON)
    without("psycopg", "distributed", "sklearn")
    assert dqm("check", "daemon.toml").code == 0
    overrides = ("--set", "daemon.store=postgresql://db/dqm", "--set", "daemon.scheduler=tcp://head:8786")
    told = dqm("check", "daemon.toml", *overrides)
    assert told.code == 1
    assert "psycopg, distributed: not installed" in told.err
    assert "extras 'cluster' and 'postgres'" in told.err
    shutil.rmtree(tmp_path / "ref")
    recipe = Recipe(("a", "b"), 400, 50, statistic="boosted-trees")
    made = create_bundle(healthy_events(3000, 1), recipe, tmp_path / "ref")
    calibrate(made, 100, kind=made.manifest.kind, seed=1, n_processes=1, origin="pool")
    told = dqm("check", "daemon.toml")
    assert told.code == 1
    assert "the statistic 'boosted-trees' needs sklearn: not installed" in told.err
    assert "extra 'peers'" in told.err
