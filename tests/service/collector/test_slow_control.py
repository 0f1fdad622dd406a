"""Readings become measurements, and measurements reach the headers of windows."""

from __future__ import annotations

import json
import math
import socket
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from threading import Event

import numpy as np
import pytest
from pydantic import BaseModel
from structlog.testing import capture_logs

from dqm.config import CalibrationSection, SlowControlSection, load_collector
from dqm.errors import ConfigError, FileError, InputError
from dqm.events import EventBatch, Measurement, Origin, Reading, Window
from dqm.service.collector.collect import collect
from dqm.service.collector.slow_control import SlowControl, measure
from dqm.stream.wire import header_of
from tests.service.small import window_of

from .test_collect import receiving

VELOCITY = {
    "sigma": 0.002,
    "readings": {
        "pressure": {"nominal": 963.0, "slope": -1e-4, "sigma": 0.4},
        "temperature": {"nominal": 21.0, "slope": 3e-3},
    },
}
PRESSURE, TEMPERATURE = Reading("pressure", 973.0, 9.0, 100.0), Reading("temperature", 20.0, 0.5, 90.0)
BOTH = {"pressure": PRESSURE, "temperature": TEMPERATURE}


class Gauges:
    """A source of readings that gives what a test tells it."""

    class Options(BaseModel):
        model_config = {"extra": "forbid"}

        announce: dict[str, float | None] | None = None

    readings: Mapping[str, Reading] = {}
    error: InputError | None = None
    events: tuple[str, ...] = ()

    def __init__(self, options: Options) -> None:
        self.announced = options.announce

    def __enter__(self) -> Gauges:
        Gauges.events += ("entered",)
        return self

    def __exit__(self, *_: object) -> None:
        Gauges.events += ("left",)

    def latest(self, until: float | None) -> Mapping[str, Reading]:
        if Gauges.error is not None:
            raise Gauges.error
        return {name: r for name, r in Gauges.readings.items() if until is None or r.time <= until}


class Clockless:
    """Events without times."""

    origin = Origin.LIVE

    class Options(BaseModel):
        fail: bool = False

    def __init__(self, options: Options) -> None:
        self.fail = options.fail

    def __iter__(self) -> Iterator[EventBatch]:
        yield EventBatch("0", ("a",), np.zeros((20, 1)))
        if self.fail:
            raise InputError("the detector is gone")


@pytest.fixture
def gauges(monkeypatch: pytest.MonkeyPatch) -> type[Gauges]:
    points = [
        EntryPoint("gauges", f"{__name__}:Gauges", "dqm.slow_control"),
        EntryPoint("clockless", f"{__name__}:Clockless", "dqm.collectors"),
    ]
    monkeypatch.setattr(
        "dqm.config.plugins.entry_points", lambda group: [p for p in points if p.group == group]
    )
    monkeypatch.setattr(Gauges, "readings", BOTH)
    monkeypatch.setattr(Gauges, "error", None)
    monkeypatch.setattr(Gauges, "events", ())
    return Gauges


def section(source: str = "gauges", nuisances: object = None, **options: object) -> SlowControlSection:
    nuisances = {"drift_velocity": VELOCITY} if nuisances is None else nuisances
    return SlowControlSection.model_validate({"source": source, "options": options, "nuisances": nuisances})


# the calibration


def test_a_nuisance_is_linear_in_its_readings_and_as_old_as_the_oldest() -> None:
    found = measure("drift_velocity", CalibrationSection.model_validate(VELOCITY), BOTH)
    assert found.name == "drift_velocity"
    assert found.value == pytest.approx(-1e-4 * 10 - 3e-3, rel=1e-12)
    # the sigma of the configuration replaces that of the pressure, the temperature has its own
    assert found.sigma == pytest.approx(
        math.sqrt(0.002**2 + (1e-4 * 0.4) ** 2 + (3e-3 * 0.5) ** 2), rel=1e-12
    )
    assert found.time == 90.0


@pytest.mark.parametrize(
    ("readings", "message"),
    [
        ({"pressure": PRESSURE}, "no reading of temperature"),
        (
            {**BOTH, "temperature": Reading("temperature", 20.0, None, 90.0)},
            r"temperature has no error. Give it one: "
            r"\[slow_control.nuisances.drift_velocity.readings.temperature\] sigma",
        ),
        ({**BOTH, "pressure": Reading("pressure", math.inf, 0.4, 1.0)}, "too large or too small"),
        ({**BOTH, "temperature": Reading("temperature", 1.0, math.inf, 1.0)}, "too large or too small"),
    ],
)
def test_without_all_it_needs_there_is_no_measurement(readings: Mapping[str, Reading], message: str) -> None:
    with pytest.raises(InputError, match=message):
        measure("drift_velocity", CalibrationSection.model_validate(VELOCITY), readings)


def test_a_reading_counts_as_exact_only_if_the_configuration_says_so() -> None:
    exact = {"sigma": 0.002, "readings": {"pressure": {"nominal": 963.0, "slope": -1e-4, "sigma": 0.0}}}
    bare = Reading("pressure", 963.0, None, 1.0)
    found = measure("nu", CalibrationSection.model_validate(exact), {"pressure": bare})
    assert found == Measurement("nu", 0.0, 0.002, 1.0)


# windows


def test_a_window_gets_the_newest_readings_before_its_end(gauges: type[Gauges]) -> None:
    with SlowControl(section(), Path()) as slow_control:
        late = slow_control.attach(window_of(start=90.0, end=100.0, conditions={"trigger": "external"}))
        early = slow_control.attach(window_of(start=80.0, end=95.0))
        without_clock = slow_control.attach(window_of())
    assert [m.time for m in late.auxiliary] == [m.time for m in without_clock.auxiliary] == [90.0]
    assert late.conditions == {"trigger": "external", "pressure": 973.0, "temperature": 20.0}
    assert (early.auxiliary, early.conditions) == ((), {"temperature": 20.0})
    assert gauges.events == ("entered", "left")


@pytest.mark.parametrize(("time", "stays"), [(89.0, False), (91.0, True)])
@pytest.mark.usefixtures("gauges")
def test_of_two_measurements_of_one_parameter_the_newer_counts(time: float, stays: bool) -> None:
    own = (Measurement("other", 1.0, 1.0, 1.0), Measurement("drift_velocity", 0.5, 1.0, time))
    window = SlowControl(section(), Path()).attach(window_of(auxiliary=own))
    found = {m.name: m.value for m in window.auxiliary}
    assert found == {"other": 1.0, "drift_velocity": 0.5 if stays else pytest.approx(-4e-3)}


def test_what_is_missing_is_logged_once_and_so_is_its_end(gauges: type[Gauges]) -> None:
    slow_control = SlowControl(section(), Path())
    with capture_logs() as logs:
        for readings in ({}, {}, {"pressure": PRESSURE}, BOTH, BOTH):
            gauges.readings = readings
            slow_control.attach(window_of())
    assert [(entry["log_level"], entry.get("reason", "")) for entry in logs] == [
        ("warning", "no reading of pressure"),
        ("warning", "no reading of temperature"),
        ("info", ""),
    ]


def test_a_source_that_fails_does_not_stop_the_events(gauges: type[Gauges]) -> None:
    slow_control = SlowControl(section(), Path())
    gauges.error = FileError("is damaged", where="readings.csv.gz")
    with capture_logs() as logs:
        for _ in range(3):
            assert slow_control.attach(window_of()).auxiliary == ()
        gauges.error = None
        assert len(slow_control.attach(window_of()).auxiliary) == 1
    assert [entry.get("reason") for entry in logs] == [
        "readings.csv.gz: is damaged",
        "no reading of pressure",
        None,
        None,
    ]


def test_a_header_takes_the_readings_that_are_needed_first(gauges: type[Gauges]) -> None:
    gauges.readings = {**{f"a-{k}": Reading(f"a-{k}", 1.0, None, 1.0) for k in range(64)}, **BOTH}
    window = SlowControl(section(), Path()).attach(window_of(conditions={"trigger": "external"}))
    assert len(window.conditions) == 64
    assert {"trigger", "pressure", "temperature"} < window.conditions.keys()
    assert header_of(window).conditions == window.conditions


# mistakes that show at the start


@pytest.mark.usefixtures("gauges")
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (
            section("gauge"),
            r"\[slow_control\] source: unknown source of readings 'gauge'. Installed",
        ),
        (section(anounce={}), r"\[slow_control.options\]: anounce: unknown key; did you mean 'announce'"),
        (
            section(announce={"presure": 1.0}),
            r"readings.pressure\]: the source has no reading 'pressure'. It has presure: see "
            r"\[slow_control.options\]",
        ),
        (
            section(announce={"pressure": None, "temperature": None}),
            r"readings.temperature\]: the source gives no error of 'temperature'. Give it one:",
        ),
    ],
)
def test_mistakes_that_can_be_known_are_refused_at_the_start(wrong: SlowControlSection, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        SlowControl(wrong, Path())


@pytest.mark.usefixtures("gauges")
def test_errors_come_from_the_source_or_from_the_configuration() -> None:
    SlowControl(section(announce={"pressure": None, "temperature": 0.5, "humidity": None}), Path())


# end to end


def collected(folder: Path, text: str) -> list[Window]:
    path = folder / "collector.toml"
    path.write_text(text.format(address=f"ipc://{folder}/windows.ipc"))
    with receiving(f"ipc://{folder}/windows.ipc") as windows:
        collect(load_collector(path, environ={}), folder, Event())
    return windows


CALIBRATION = """
[slow_control.nuisances.drift_velocity]
sigma = 0.002
[slow_control.nuisances.drift_velocity.readings.pressure]
nominal = 963.0
slope = -1.0e-4
"""


def test_a_replay_has_the_readings_of_its_time(tmp_path: Path) -> None:
    rows = [f"{100 + k},{k % 7}" for k in range(60)]
    (tmp_path / "events.csv").write_text("\n".join(["time,a", *rows, ""]))
    lines = [{"time": t, "name": "pressure", "value": t, "sigma": 0.4} for t in (105, 125, 139.5, 300)]
    (tmp_path / "readings.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    windows = collected(
        tmp_path,
        '[collector]\nname = "replay"\nconnect = "{address}"\n[window]\nevents = 20\n'
        '[options]\ninputs = ["events.csv"]\n'
        '[slow_control]\nsource = "file"\n[slow_control.options]\npath = "readings.jsonl"\n' + CALIBRATION,
    )
    # the windows come from one batch, and end at 119, 139 and 159 s
    assert [[m.time for m in w.auxiliary] for w in windows] == [[105.0], [125.0], [139.5]]
    assert [w.conditions for w in windows] == [{"pressure": 105.0}, {"pressure": 125.0}, {"pressure": 139.5}]
    (first,) = windows[0].auxiliary
    assert (first.name, first.value) == ("drift_velocity", pytest.approx(-1e-4 * (105 - 963)))
    assert first.sigma == pytest.approx(math.hypot(0.002, 1e-4 * 0.4))


class Talking:
    """Events beside a program that sends one reading to a socket; they end once a window has it."""

    origin = Origin.LIVE

    class Options(BaseModel):
        send_to: str

    is_heard: Callable[[], bool]

    def __init__(self, options: Options) -> None:
        self.send_to = options.send_to

    def __iter__(self) -> Iterator[EventBatch]:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(self.send_to)
            client.sendall(b'{"name": "pressure", "value": 973, "sigma": 0.4, "time": 1000}\n')
            for _ in range(3000):
                yield EventBatch("0", ("a",), np.zeros((10, 1)))
                if Talking.is_heard():
                    return
                Event().wait(0.01)


def test_a_collector_takes_readings_from_a_socket(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    point = EntryPoint("talking", f"{__name__}:Talking", "dqm.collectors")
    monkeypatch.setattr(
        "dqm.config.plugins.entry_points",
        lambda group: [point] if group == point.group else entry_points(group=group),
    )
    path, address = tmp_path / "collector.toml", f"ipc://{tmp_path}/windows.ipc"
    path.write_text(
        f'[collector]\nname = "talking"\nconnect = "{address}"\n[window]\nevents = 10\n'
        f'[options]\nsend_to = "{tmp_path}/readings"\n'
        f'[slow_control]\nsource = "socket"\n[slow_control.options]\nlisten = "unix:{tmp_path}/readings"\n'
        + CALIBRATION
    )
    with receiving(address) as windows:
        monkeypatch.setattr(Talking, "is_heard", lambda: any(w.auxiliary for w in windows), raising=False)
        collect(load_collector(path, environ={}), tmp_path, Event())
    (found,) = windows[-1].auxiliary
    assert (found.name, found.value, found.time) == ("drift_velocity", pytest.approx(-1e-3), 1000.0)
    assert windows[-1].conditions == {"pressure": 973.0}
    assert not (tmp_path / "readings").exists()


@pytest.mark.parametrize("fail", [False, True])
def test_the_source_is_closed_at_the_end_however_it_comes(
    tmp_path: Path, gauges: type[Gauges], fail: bool
) -> None:
    text = (
        '[collector]\nname = "clockless"\nconnect = "{address}"\n[window]\nevents = 10\n'
        f'[options]\nfail = {str(fail).lower()}\n[slow_control]\nsource = "gauges"\n'
    )
    if fail:
        with pytest.raises(InputError, match="the detector is gone"):
            collected(tmp_path, text)
    else:
        assert [w.conditions["pressure"] for w in collected(tmp_path, text)] == [973.0, 973.0]
    assert gauges.events == ("entered", "left")


def test_the_simulation_measures_by_itself(tmp_path: Path) -> None:
    windows = collected(
        tmp_path,
        '[collector]\nname = "simulate"\nconnect = "{address}"\n'
        "[window]\nseconds = 4\nexpected_rate_hz = 50\n"
        "[options]\nstart = 1000\nseconds = 12\nchambers = [0, 1]\n[options.measurements.drift_velocity]\n"
        'knob = "drift_velocity_mm_per_ns"\nsigma = 0.002\nevery_seconds = 3\n',
    )
    assert sorted((w.stream, m.name, m.sigma, m.time) for w in windows for m in w.auxiliary) == [
        (stream, "drift_velocity", 0.002, time) for stream in "01" for time in (1003.0, 1006.0, 1009.0)
    ]
