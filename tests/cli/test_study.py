"""``dqm study power``: measured once, resumed, and peers that win come first; ``dqm study clipping``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import get_type_hints

import pytest

from dqm.cli import study
from dqm.service.offline import power_study
from dqm.service.offline.power_study import PowerPlan, PowerRow, compare_power, sort_rows
from tests.service.small import healthy_events, write_csv

from .conftest import Told

Dqm = Callable[..., Told]
SMALL = PowerPlan(("chi-squared", "mmd-nystroem"), ((300, 50),), 40, 10, ("wires", "counts"))


def test_a_study_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "power.jsonl"
    first = compare_power(SMALL, kept, n_processes=1)
    lines = kept.read_text().splitlines()
    assert len(lines) == 4
    kept.write_text("\n".join([*lines[:3], lines[3][:20]]) + "\n")  # cut short
    measured = []
    monkeypatch.setattr(power_study, "measure", lambda unit: measured.append(unit) or json.loads(lines[3]))
    rows, _, refused = compare_power(SMALL, kept, n_processes=1)
    assert len(measured) == 1
    assert (rows, refused) == (first[0], {})
    compare_power(replace(SMALL, seed=2), kept, n_processes=1)
    assert len(measured) == 5, "another seed is another study"


def test_all_statistics_see_the_same_windows_and_a_seed_gives_the_same(tmp_path: Path) -> None:
    one = compare_power(SMALL, tmp_path / "a.jsonl", n_processes=1)[0]
    two = compare_power(SMALL, tmp_path / "b.jsonl", n_processes=1)[0]
    assert one == two
    hot = next(row for row in one if row.fault == "one ten times hot")
    assert hot.n_faulty == 10
    assert hot.power.keys() == {"chi-squared", "mmd-nystroem"}


def test_rows_where_a_peer_wins_come_first() -> None:
    rows = [
        PowerRow("f", name, 300, 50, {"several": own, "kernel": 0.1, "energy": other}, 10)
        for name, own, other in [("behind", 0.9, 0.5), ("ahead", 0.2, 0.8), ("equal", 0.5, 0.5)]
    ]
    assert [row.fault for row in sort_rows(rows)] == ["ahead", "equal", "behind"]


@pytest.mark.parametrize("name", ["symmetrised", "one-step", "falkon", "neural"])
def test_other_forms_of_nplm_are_no_peers(name: str) -> None:
    row = PowerRow("f", "seen by it", 300, 50, {"kernel": 0.1, name: 0.9, "energy": 0.5}, 10)
    assert row.peers_lead == pytest.approx(-0.4)


def test_channels_are_counted_where_events_have_one(tmp_path: Path) -> None:
    plan = PowerPlan(("channels",), ((5000, 500),), 60, 30, ("wires", "counts"))
    rows, _, refused = compare_power(plan, tmp_path / "power.jsonl", n_processes=1)
    power = {row.fault: row.power["channels"] for row in rows}
    assert power.keys() == {"one dead", "one ten times hot", "four side by side dead"}
    assert min(power.values()) > 0.9, "8 hits are expected of each wire"
    assert refused == {("channels", "these events have no channel"): {"counts"}}


def test_the_help_names_what_is_measured_by_default() -> None:
    (option,) = get_type_hints(study.power, include_extras=True)["statistic"].__metadata__
    assert f"default: {', '.join(PowerPlan().statistics)}. " in option.help


def test_the_command_writes_a_table_and_a_figure(
    dqm: Dqm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PowerPlan, "quick", lambda names, seed: replace(SMALL, statistics=names, seed=seed))
    told = dqm("study", "power", "out", "--quick", "--statistic", "chi-squared", "--processes", 1)
    assert told.code == 0, told.err
    table = (tmp_path / "out" / "power.md").read_text()
    assert table.splitlines()[0] == "| events | N_R, window | fault | chi-squared |"
    assert "| wires | 300, 50 | one ten times hot |" in table
    assert table.strip() in told.out
    assert (tmp_path / "out" / "power.png").stat().st_size > 1000
    wrong = dqm("study", "power", "out", "--quick", "--statistic", "nothing", "--processes", 1)
    assert (wrong.code, "unknown statistic 'nothing'" in wrong.err) == (2, True)


def test_sizes_and_kinds_of_events_can_be_chosen(dqm: Dqm, tmp_path: Path) -> None:
    given = ["--quick", "--statistic", "chi-squared", "--family", "counts", "--processes", "1"]
    told = dqm("study", "power", tmp_path / "out", *given, "--size", "200,20", "--size", "400,20")
    assert told.code == 0
    units = [json.loads(line)["unit"] for line in (tmp_path / "out/power.jsonl").read_text().splitlines()]
    assert [json.loads(unit)[1:4] for unit in units] == [["counts", 200, 20], ["counts", 400, 20]]


@pytest.mark.parametrize(
    ("option", "given", "message"),
    [
        ("--size", "2000", "'2000' is not a size"),
        ("--size", "100,200", "a window has at least 10, and not more than the reference"),
        ("--family", "chambers", "There are: chamber, "),
    ],
)
def test_unknown_sizes_and_kinds_of_events_are_refused(
    dqm: Dqm, tmp_path: Path, option: str, given: str, message: str
) -> None:
    told = dqm("study", "power", tmp_path / "out", option, given)
    assert told.code == 2
    assert message in told.err
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_the_power_of_networks_is_measured_when_it_is_asked_for(
    dqm: Dqm, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dqm.nplm.neural import NeuralTest

    plan = PowerPlan(("neural",), ((60, 20),), 20, 5, ("counts",))
    monkeypatch.setattr(PowerPlan, "quick", lambda names, seed: replace(plan, statistics=names, seed=seed))
    few = partial(NeuralTest.choose_clipping, n_windows=10)  # of 60
    monkeypatch.setattr(NeuralTest, "choose_clipping", few)
    told = dqm("study", "power", "out", "--quick", "--statistic", "neural", "--processes", 1)
    assert (told.code, "note:" in told.err) == (0, False), told.err
    (row,) = [
        line for line in told.out.splitlines() if line.startswith("| counts | 60, 20 | mean 10 % high |")
    ]
    assert re.search(r"\*\*[01]\.\d\d\*\*", row)


def test_the_clipping_of_a_run_is_chosen_and_shown(dqm: Dqm, tmp_path: Path) -> None:
    write_csv(tmp_path / "run.csv", healthy_events(400, 1))
    small = ("--window", 20, "--events", 100, "--windows", 10, "--features", "a")
    told = dqm("study", "clipping", "run.csv", "-o", "out", *small, "--set", "layers=1", "--set", "starts=1")
    assert told.code == 0, told.err
    table = (tmp_path / "out" / "clipping.md").read_text()
    assert table.splitlines()[0] == "| clipping | windows | mean t - 4 | KS p with chi-square |"
    assert table.count("**") == 2
    assert "chosen: clipping " in told.out
    for wrong, message in [
        (("--events", 390), "400 events do not make a reference of 390 and two windows of 20"),
        (("--set", "clipping=3"), "no setting 'clipping' here"),
        (("--set", "layers=0"), "a layer has 0 neurons"),
    ]:
        told = dqm("study", "clipping", "run.csv", "-o", "out", *small, *wrong)
        assert (told.code, told.out) == (2, "")
        assert message in told.err
