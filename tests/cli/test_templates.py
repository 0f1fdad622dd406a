"""Teaching a bundle known faults, and being told what a window looks like: as a user does."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.service.small import N_WINDOW, healthy_events, write_csv

from .conftest import Told

Dqm = Callable[..., Told]


def test_a_bundle_learns_faults_from_files(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(bundle, tmp_path / "ref")
    write_csv(tmp_path / "late.csv", healthy_events(1000, 40) + 0.8)
    write_csv(tmp_path / "wide.csv", healthy_events(1000, 41) * 1.6)
    before = json.loads(dqm("reference", "show", "ref", "--json").out)
    told = dqm(
        "reference", "templates", "ref", "--fault", "late trigger=late.csv", "--fault", "noise=wide.csv"
    )
    assert told.code == 0
    assert "late trigger" in told.out
    after = json.loads(dqm("reference", "show", "ref", "--json").out)
    assert after["parent"] == before["identifier"]
    assert [entry["fault"] for entry in after["templates"]] == ["late trigger", "noise"]
    assert [entry["sources"][0]["name"] for entry in after["templates"]] == ["late.csv", "wide.csv"]
    assert after["null"] == before["null"]
    assert "late.csv (1000 events)" in dqm("reference", "show", "ref").out
    write_csv(tmp_path / "fine.csv", healthy_events(N_WINDOW, 44))
    write_csv(tmp_path / "again.csv", healthy_events(10 * N_WINDOW, 43) + 0.9)
    told = dqm("compare", "ref", "fine.csv", "again.csv", "--window", N_WINDOW, "--json")
    fine, *again = (json.loads(line)["explained"] for line in told.out.splitlines())
    assert fine == "", "what agrees is not explained"
    assert any(text.startswith("looks like late trigger, ") for text in again)
    assert "looks like late trigger, " in dqm("compare", "ref", "again.csv", "--window", N_WINDOW).out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ((), "no fault is given"),
        (("--fault", "late"), "'late' is not NAME=FILE"),
        (("--fault", "late=no.csv"), "no.csv"),
        (("--fault", "none=healthy.csv"), "fault 'none': the labelled events do not differ"),
        (("--fault", f"{'x' * 65}=late.csv"), "cannot name a fault"),
    ],
)
def test_what_cannot_be_learned_is_told_and_changes_nothing(
    dqm: Dqm, bundle: Path, tmp_path: Path, options: tuple[str, ...], message: str
) -> None:
    shutil.copytree(bundle, tmp_path / "ref")
    write_csv(tmp_path / "healthy.csv", healthy_events(1000, 42))
    write_csv(tmp_path / "late.csv", healthy_events(1000, 40) + 0.8)
    before = dqm("reference", "show", "ref", "--json").out
    told = dqm("reference", "templates", "ref", *options)
    assert told.code == 2
    assert message in told.err
    assert "Traceback" not in told.err
    assert dqm("reference", "show", "ref", "--json").out == before
