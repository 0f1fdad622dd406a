"""What dqm init writes as text: TOML that reads back, and units that systemd accepts."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqm.errors import ConfigError
from dqm.service.installation import Detector, Layout
from dqm.service.installation.toml_text import write_keys
from dqm.service.installation.units import UnitPlaces, write_units
from tests.service.small import healthy_events, write_csv

SCALARS = (
    st.booleans()
    | st.integers(-(2**63), 2**63 - 1)
    | st.floats(allow_nan=False)
    | st.text(st.characters(codec="utf-8", exclude_characters="\x00"))
)
TABLES = st.dictionaries(
    st.text(st.characters(codec="utf-8")),
    st.recursive(SCALARS, lambda one: st.lists(one) | st.dictionaries(st.text(), one), max_leaves=6),
)


@settings(max_examples=40)
@given(TABLES)
def test_values_read_back_as_they_were_written(table: dict[str, object]) -> None:
    assert tomllib.loads(write_keys(table)) == table


@pytest.fixture
def places(tmp_path: Path) -> UnitPlaces:
    (tmp_path / "data").mkdir()
    return UnitPlaces(tmp_path, "west", Path(sys.executable).with_name("dqm"), "root")


def test_systemd_accepts_the_units_of_an_installation(
    require_program: Callable[[str], Path], places: UnitPlaces, tmp_path: Path
) -> None:
    folder = tmp_path / "units"
    write_units(folder, places, daemon="daemon.toml", collector="collector.toml")
    program = require_program("systemd-analyze")
    for name in UnitPlaces.names("west"):
        told = subprocess.run([program, "verify", folder / name], capture_output=True, text=True, check=False)
        assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def test_units_have_the_paths_of_their_installation(places: UnitPlaces, tmp_path: Path) -> None:
    write_units(tmp_path / "units", places, daemon="daemon.toml", collector="collector.toml")
    monitor, collector = ((tmp_path / "units" / name).read_text() for name in UnitPlaces.names("west"))
    assert f"ExecStart={places.program} run {tmp_path}/daemon.toml\n" in monitor
    assert f"ReadWritePaths={tmp_path}/data\n" in monitor
    assert f"ExecStart={places.program} collect {tmp_path}/collector.toml\n" in collector
    for text in (monitor, collector):
        assert "%i" not in text
        assert "/opt/dqm" not in text
        assert "User=root\n" in text
        assert "Group=" not in text


def test_the_collector_may_write_where_its_options_say_that_it_writes(
    require_program: Callable[[str], Path], places: UnitPlaces, tmp_path: Path
) -> None:
    write_csv(tmp_path / "run.csv", healthy_events(10, 1))
    options = {"inputs": [tmp_path / "*.csv"], "state": tmp_path / "state" / "west.state"}
    detector = Detector("files", options, (tmp_path / "run.csv",))
    assert detector.written_directories == (tmp_path / "state",)
    layout = Layout(tmp_path, "west", ("0",), user="dqm", written=detector.written_directories)
    assert f"install -d -o dqm -m 700 {tmp_path}/state" in layout.service_commands
    (tmp_path / "state").mkdir()
    assert f"chown dqm {tmp_path}/state" in layout.service_commands
    write_units(
        tmp_path / "units", replace(places, written=layout.written), daemon="d.toml", collector="c.toml"
    )
    monitor, collector = (tmp_path / "units" / name for name in UnitPlaces.names("west"))
    assert f"\nReadWritePaths={tmp_path}/state\n" in collector.read_text()
    assert "/state\n" not in monitor.read_text()
    program = require_program("systemd-analyze")
    told = subprocess.run([program, "verify", collector], capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")
    reads = {"inputs": [tmp_path / "*.csv"]}
    assert Detector("replay", reads, (tmp_path / "run.csv",)).written_directories == ()


def test_a_home_directory_can_be_read_only_if_something_lies_there(tmp_path: Path) -> None:
    for number, place in enumerate((Path("/srv/dqm"), Path("/home/maria/dqm"))):
        places = UnitPlaces(place, "west", Path("/opt/dqm/bin/dqm"), "dqm")
        folder = tmp_path / str(number)
        write_units(folder, places, daemon="daemon.toml", collector="collector.toml")
        wanted = "read-only" if place.is_relative_to("/home") else "yes"
        assert f"ProtectHome={wanted}\n" in (folder / "dqm-west.service").read_text()


@pytest.mark.parametrize("name", ["my dqm", "100%", 'a"b', "a$b", "a\\b"])
def test_a_path_that_a_unit_would_read_otherwise_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="cannot be in a unit"):
        UnitPlaces(Path("/srv") / name, "west", Path("/opt/dqm/bin/dqm"), "dqm")
