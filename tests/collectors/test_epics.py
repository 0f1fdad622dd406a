"""EPICS variables, from a real server on the loopback."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import caproto.client.common
import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from dqm.errors import ConfigError
from dqm_collectors.slow_control import epics
from dqm_collectors.slow_control.epics import EpicsSource
from tests.ports import free_port
from tests.waiting import wait_until

# caproto's own thread gives up with an exception when a server goes in the moment it is found
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception in thread activate_subscriptions:pytest.PytestUnhandledThreadExceptionWarning"
)

PROGRAM = Path(__file__).with_name("ioc.py")
INVALID, MAJOR = 3, 2
PVS = {"pressure": "GAS:PRESSURE", "temperature": "GAS:TEMPERATURE"}
T = 1_700_000_000.0


class Ioc:
    """The server, as a process that can be killed and started again."""

    def __init__(self, log: Path) -> None:
        self._log = log
        self.start()

    def start(self) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, PROGRAM], stdin=subprocess.PIPE, stdout=log, stderr=log, text=True
            )

    def set(self, pv: str, **change: float) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([pv, change]) + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


@pytest.fixture
def ioc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Ioc]:
    for name, value in {
        "EPICS_CA_ADDR_LIST": "127.0.0.1",
        "EPICS_CA_AUTO_ADDR_LIST": "NO",
        "EPICS_CA_SERVER_PORT": free_port(socket.SOCK_DGRAM),
        "EPICS_CA_REPEATER_PORT": free_port(socket.SOCK_DGRAM),
        "EPICS_CAS_AUTO_BEACON_ADDR_LIST": "NO",
        "EPICS_CAS_BEACON_ADDR_LIST": "127.0.0.1",
    }.items():
        monkeypatch.setenv(name, str(value))
    monkeypatch.setattr(caproto.client.common, "MAX_RETRY_SEARCHES_INTERVAL", 0.2)  # the client waits for it
    ioc = Ioc(tmp_path / "ioc.log")
    yield ioc
    ioc.kill()


def source_of(**options: object) -> EpicsSource:
    return EpicsSource(EpicsSource.Options.model_validate({"pvs": PVS, "refresh_seconds": 3600} | options))


def test_values_arrive_with_their_times_and_so_do_changes(ioc: Ioc) -> None:
    with source_of(sigmas={"pressure": 0.4}) as source:
        wait_until(lambda: source.latest(None).keys() == PVS.keys(), "both values")
        first = source.latest(None)["pressure"]
        assert (first.value, first.sigma) == (963.0, 0.4)
        assert source.latest(None)["temperature"].sigma is None
        ioc.set("GAS:PRESSURE", value=970.5, timestamp=first.time + 10)
        wait_until(lambda: source.latest(None)["pressure"].value == 970.5, "the change")
        assert source.latest(None)["pressure"].time == pytest.approx(first.time + 10, abs=1e-5)
        assert source.latest(first.time + 9)["pressure"] == first


def test_a_lost_server_gives_no_new_readings_until_it_is_back(ioc: Ioc) -> None:
    with source_of(refresh_seconds=0.1) as source:
        wait_until(lambda: source.latest(None).keys() == PVS.keys(), "both values")
        ioc.set("GAS:PRESSURE", value=970.5, timestamp=T + 3e8)
        wait_until(lambda: source.latest(None)["pressure"].value == 970.5, "the change")
        last = source.latest(None)
        ioc.kill()
        wait_until(lambda: not any(pv.connected for pv in source._pvs), "the end of the connection")
        assert source.latest(None) == last
        ioc.start()
        ioc.set("GAS:PRESSURE", value=955.0, timestamp=T + 4e8)
        wait_until(lambda: source.latest(None)["pressure"].value == 955.0, "a value of the new server")
        wait_until(
            lambda: source.latest(None)["temperature"].time > last["temperature"].time, "the other too"
        )


def test_after_long_without_a_server_everything_is_set_up_anew(
    ioc: Ioc, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(epics, "LOST_ROUNDS", 2)
    with source_of(refresh_seconds=0.1) as source:
        wait_until(lambda: source.latest(None).keys() == PVS.keys(), "both values")
        first = source._context
        ioc.kill()
        wait_until(lambda: source._context is not first, "another context")
        ioc.start()
        ioc.set("GAS:PRESSURE", value=955.0, timestamp=T + 4e8)
        wait_until(lambda: source.latest(None)["pressure"].value == 955.0, "a value of the new server")


def test_a_value_that_stays_the_same_does_not_get_old(ioc: Ioc) -> None:
    with source_of(refresh_seconds=0.1) as source:
        wait_until(lambda: source.latest(None).keys() == PVS.keys(), "both values")
        later = source.latest(None)["temperature"].time + 60
        ioc.set("GAS:TEMPERATURE", timestamp=later)
        wait_until(
            lambda: source.latest(None)["temperature"].time == pytest.approx(later, abs=1e-5), "its time"
        )
        assert source.latest(None)["temperature"].value == 21.0


def test_an_invalid_value_is_no_reading(ioc: Ioc) -> None:
    with source_of(refresh_seconds=0.1) as source:
        wait_until(lambda: source.latest(None).keys() == PVS.keys(), "both values")
        first = source.latest(None)["pressure"]
        ioc.set("GAS:PRESSURE", value=0.0, severity=INVALID, timestamp=first.time + 1)
        ioc.set("GAS:TEMPERATURE", value=35.0, severity=MAJOR, timestamp=first.time + 2)
        wait_until(lambda: source.latest(None)["temperature"].value == 35.0, "an alarm that is a value")
        assert source.latest(None)["pressure"] == first
        ioc.set("GAS:PRESSURE", value=960.0, timestamp=first.time + 3)
        wait_until(lambda: source.latest(None)["pressure"].value == 960.0, "a valid value")


@pytest.mark.usefixtures("ioc")
def test_what_is_no_number_is_refused() -> None:
    with capture_logs() as logs, source_of(pvs={"gas": "GAS:NAME"}) as source:
        wait_until(lambda: source.n_refused > 0, "the refusal")
    assert source.latest(None) == {}
    assert (logs[0]["pv"], logs[0]["reason"]) == ("GAS:NAME", "[b'ArCO2'] is not a number")


@pytest.mark.usefixtures("ioc")
def test_variables_nobody_serves_hinder_no_one() -> None:
    with source_of(pvs={"pressure": "GAS:PRESSURE", "other": "GAS:NOTHING"}) as source:
        wait_until(lambda: source.latest(None) != {}, "the value that there is")
        assert source.latest(None).keys() == {"pressure"}


def test_what_will_come_is_known_beforehand() -> None:
    assert source_of(sigmas={"pressure": 0.4}).announced == {"pressure": 0.4, "temperature": None}


def test_without_caproto_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "caproto.threading.client", None)
    with pytest.raises(ConfigError, match=r"needs caproto. Install it: pip install '\.\[epics\]'"):
        source_of().__enter__()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pvs": {}}, "at least 1 item"),
        ({"pvs": {"gas pressure": "P"}}, "should match pattern"),
        ({"pvs": {"a": "P", "b": "P"}}, "each variable may be used once; used twice: P"),
        ({"sigmas": {"presure": 0.4}}, "no reading 'presure' in pvs, which has pressure, temperature"),
        ({"sigmas": {"pressure": 0}}, "greater than 0"),
        ({"refresh_seconds": 0}, "greater than or equal to 0.1"),
    ],
)
def test_mistakes_in_the_options_are_told(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        source_of(**options)
