"""The unit files, as systemd itself reads them."""

from __future__ import annotations

import configparser
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.config import load_collector, load_daemon

ROOT = Path(__file__).parents[1]
UNITS = ROOT / "systemd"
SERVICES = ("dqm@.service", "dqm-collector@.service")
MOST_EXPOSED = 2.0

Require = Callable[[str], Path]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Unit files whose program exists on this machine."""
    program = Path(sys.executable).with_name("dqm")
    for path in UNITS.glob("dqm*"):
        (tmp_path / path.name).write_text(path.read_text().replace("/opt/dqm/bin/dqm", str(program)))
    return tmp_path


def section_of(name: str) -> dict[str, list[str]]:
    """Keys of ``[Service]``; systemd adds up what is given twice."""
    keys: dict[str, list[str]] = {}
    text = (UNITS / name).read_text().split("[Service]")[1].split("[Install]")[0]
    for key, value in re.findall(r"^(\w+)=(.*)$", text, re.MULTILINE):
        keys.setdefault(key, []).append(value)
    return keys


@pytest.mark.parametrize("unit", [*SERVICES, "dqm.target"])
def test_systemd_finds_nothing_to_complain_of(require_program: Require, installed: Path, unit: str) -> None:
    command = [require_program("systemd-analyze"), "verify", installed / unit]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (told.returncode, told.stdout, told.stderr) == (0, "", "")


def exposure(program: Path, unit: Path) -> float:
    command = [program, "security", "--offline=yes", f"--threshold={int(10 * MOST_EXPOSED)}", unit]
    told = subprocess.run(command, capture_output=True, text=True, check=False)
    assert told.returncode == 0, told.stdout + told.stderr
    found = re.search(r"Overall exposure level for \S+: ([\d.]+)", told.stdout)
    assert found
    return float(found[1])


@pytest.mark.parametrize(("unit", "most"), [("dqm@.service", 1.3), ("dqm-collector@.service", 1.3)])
def test_little_is_exposed(require_program: Require, installed: Path, unit: str, most: float) -> None:
    assert exposure(require_program("systemd-analyze"), installed / unit) <= most


def test_little_is_exposed_with_a_gpu(require_program: Require, installed: Path) -> None:
    service = installed / "dqm@.service"
    drop_in = (UNITS / "gpu.conf").read_text()
    service.write_text(service.read_text().replace("[Install]", f"{drop_in}\n[Install]"))
    assert exposure(require_program("systemd-analyze"), service) <= MOST_EXPOSED


def test_the_user_can_be_made(require_program: Require, tmp_path: Path) -> None:
    file = tmp_path / "usr" / "lib" / "sysusers.d" / "dqm.conf"
    file.parent.mkdir(parents=True)
    (tmp_path / "etc").mkdir()
    shutil.copy(UNITS / "sysusers.conf", file)
    told = subprocess.run(
        [require_program("systemd-sysusers"), f"--root={tmp_path}"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    assert re.search(
        r"^dqm:x:\d+:\d+:Data-quality monitor:/var/lib/dqm:", (tmp_path / "etc/passwd").read_text()
    )
    assert {*section_of(SERVICES[0])["User"], *section_of(SERVICES[1])["User"]} == {"dqm"}


def test_what_is_known_to_break_the_daemon_is_not_set() -> None:
    keys = section_of("dqm@.service")
    assert "MemoryDenyWriteExecute" not in keys, "torch compiles kernels"
    assert "~@resources" not in " ".join(keys["SystemCallFilter"]), "threads are pinned"
    assert keys["OOMPolicy"] == ["continue"], (
        "a worker killed for memory is replaced, not the end of the daemon"
    )
    assert keys["KillMode"] == ["mixed"], "the daemon ends its workers after their tests"
    gpu = configparser.ConfigParser(strict=False)
    gpu.read(UNITS / "gpu.conf")
    assert gpu["Service"]["PrivateDevices"] == "no"


def test_the_watchdog_waits_longer_than_the_longest_test(tmp_path: Path) -> None:
    config = tmp_path / "daemon.toml"
    config.write_text('[[streams]]\nname = "a"\nbundle = "b"\n')
    longest = load_daemon(config, environ={}).daemon.longest_test_seconds
    assert int(section_of("dqm@.service")["WatchdogSec"][0]) >= 2 * longest


def test_the_environment_of_the_units_sets_keys_that_exist(tmp_path: Path) -> None:
    (tmp_path / "west.toml").write_text('[[streams]]\nname = "a"\nbundle = "b"\n')
    (tmp_path / "tdc.toml").write_text('[collector]\nname = "tdc"\n[window]\nevents = 9\n')
    variables = {}
    for service in SERVICES:
        for line in section_of(service)["Environment"]:
            name, _, value = line.replace("%S", "/var/lib").replace("%i", "west").partition("=")
            variables[name] = value
    assert load_daemon(tmp_path / "west.toml", environ=variables).daemon.data_dir == Path("/var/lib/dqm/west")
    spool = load_collector(tmp_path / "tdc.toml", environ=variables).collector.spool
    assert spool == Path("/var/lib/dqm-collector/west")


@pytest.mark.parametrize("service", SERVICES)
def test_what_the_services_write_is_for_their_user_alone(service: str) -> None:
    keys = section_of(service)
    assert keys["UMask"] == ["0077"]
    assert keys["StateDirectoryMode"] == keys["RuntimeDirectoryMode"] == ["0700"]
