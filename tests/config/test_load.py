from __future__ import annotations

import importlib
import tomllib
from pathlib import Path
from typing import Annotated, Literal

import pytest
from pydantic import BaseModel, ConfigDict, Field

from dqm.config import find_problems, load_collector, load_daemon, parse_value, validate
from dqm.errors import ConfigError
from dqm_collectors.simulate import SimulateCollector
from dqm_collectors.slow_control.epics import EpicsSource
from dqm_collectors.slow_control.file import FileSource
from dqm_collectors.slow_control.sockets import SocketSource

DAEMON = """
[daemon]
http = "127.0.0.1:8001"

[[streams]]
name = "chamber-1"
bundle = "references/one"
"""
COLLECTOR = """
[collector]
name = "tdc"

[window]
events = 500

[options]
inputs = ["run.csv"]

[streams]
"1" = "chamber-1"
"""
CONFIGS = Path(__file__).parents[2] / "configs"


@pytest.fixture
def daemon(tmp_path: Path) -> Path:
    path = tmp_path / "daemon.toml"
    path.write_text(DAEMON)
    return path


@pytest.fixture
def collector(tmp_path: Path) -> Path:
    path = tmp_path / "collector.toml"
    path.write_text(COLLECTOR)
    return path


def test_what_the_file_leaves_out_has_its_default(daemon: Path) -> None:
    config = load_daemon(daemon, environ={})
    assert config.daemon.http == "127.0.0.1:8001"
    assert config.daemon.listen == ("tcp://127.0.0.1:5565",)
    assert (config.quality.medium_p, config.quality.bad_p, config.quality.min_events) == (None, None, 50)
    assert config.streams[0].stale_seconds == 600.0


def test_paths_start_from_the_file(daemon: Path) -> None:
    config = load_daemon(daemon, environ={})
    assert config.streams[0].bundle == daemon.parent / "references" / "one"
    assert config.daemon.data_dir == daemon.parent / "data"
    elsewhere = load_daemon(daemon, {"daemon.data_dir": "/var/lib/dqm"}, {})
    assert elsewhere.daemon.data_dir == Path("/var/lib/dqm")


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(daemon: Path) -> None:
    environ = {"DQM_DAEMON__HTTP": "127.0.0.1:8002", "DQM_DAEMON__THREADS": "7"}
    assert load_daemon(daemon, environ=environ).daemon.http == "127.0.0.1:8002"
    config = load_daemon(daemon, {"daemon.http": "127.0.0.1:8003"}, environ)
    assert (config.daemon.http, config.daemon.threads) == ("127.0.0.1:8003", 7)


def test_the_environment_of_the_process_is_read(daemon: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DQM_DAEMON__LIMITS__MAX_EVENTS", "123")
    assert load_daemon(daemon).daemon.limits.max_events == 123


def test_a_key_may_be_a_credential_of_systemd(daemon: Path) -> None:
    overrides = {"daemon.keys": "keys", "daemon.key": "$CREDENTIALS_DIRECTORY/daemon.secret"}
    config = load_daemon(daemon, overrides, {"CREDENTIALS_DIRECTORY": "/run/credentials/dqm"})
    assert config.daemon.keys == daemon.parent / "keys"
    assert config.daemon.key == Path("/run/credentials/dqm/daemon.secret")
    (problem,) = find_problems(daemon, overrides, {})
    assert "$CREDENTIALS_DIRECTORY is not set: systemd sets it" in problem


def test_variables_for_others_are_left_alone(daemon: Path) -> None:
    load_daemon(daemon, environ={"DQM_REQUIRE_ALL": "1", "DQM_COLLECTOR__RUN": "5", "HOME": "/"})


def test_a_collector_keeps_its_options(collector: Path) -> None:
    config = load_collector(collector, {"options.seed": 3}, {"DQM_COLLECTOR__RUN": "591"})
    assert config.options == {"inputs": ["run.csv"], "seed": 3}
    assert config.collector.run == 591
    assert config.streams == {"1": "chamber-1"}


def test_all_mistakes_are_told_at_once_each_with_its_place(daemon: Path) -> None:
    daemon.write_text(
        """
        [daemon]
        htpp = "127.0.0.1:8001"
        threads = 0
        [quality]
        bad_p = 0.5
        medium_p = 0.01
        [[streams]]
        name = "a"
        bundle = "b"
        [[streams]]
        name = "no/name"
        stale_second = 5
        """
    )
    environ = {"DQM_DAEMON__QUEUE_WINDOWS": "many"}
    problems = find_problems(daemon, {"daemon.http": "127.0.0.1:9100"}, environ)
    expected = [
        f"{daemon}: daemon.htpp: unknown key; did you mean 'http'?",
        f"{daemon}: daemon.threads: input should be greater than or equal to 1, got 0",
        "environment DQM_DAEMON__QUEUE_WINDOWS: daemon.queue_windows: input should be a valid integer",
        "command line: daemon.http: port 9100 is in the range 9100 to 9999",
        f"{daemon}: quality: bad_p = 0.5 must be less than medium_p = 0.01",
        f"{daemon}: streams[1].references: one of bundle, bundles and references must be given",
        f"{daemon}: streams[1].name: string should match pattern",
        f"{daemon}: streams[1].stale_second: unknown key; did you mean 'stale_seconds'?",
    ]
    assert len(problems) == len(expected)
    for beginning in expected:
        assert any(line.startswith(beginning) for line in problems), (beginning, problems)
    with pytest.raises(ConfigError, match="8 mistakes in the configuration"):
        load_daemon(daemon, {"daemon.http": "127.0.0.1:9100"}, environ)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}rolling = 10", "streams[0].rolling: must be a table: [streams.rolling], got 10"),
        ("{}limits = 10", "streams[0].limits: must be a table: [streams.limits], got 10"),
        ("{}references = 10", "streams[0].references: must be tables: [[streams.references]], got 10"),
        ("{}references = [1]", "streams[0].references[0]: must be tables: [[streams.references]], got 1"),
        ("alarm = 3\n{}", "alarm: must be a table: [alarm], got 3"),
        ("streams = [3]", "streams[0]: must be tables: [[streams]], got 3"),
        ("{}bad_channels = 3", 'streams[0].bad_channels: must be a list, as in ["a", "b"], got 3'),
    ],
)
def test_a_section_that_is_given_as_a_value_is_told_how_it_is_written(
    daemon: Path, text: str, words: str
) -> None:
    daemon.write_text(text.format(DAEMON))
    assert f"{daemon}: {words}" in find_problems(daemon, environ={})


def test_a_stream_may_be_named_once(daemon: Path) -> None:
    daemon.write_text(DAEMON + DAEMON.split("\n\n")[1])
    assert find_problems(daemon, environ={}) == [
        f"{daemon}: streams: each name may be used once; used twice: chamber-1"
    ]


def test_an_unknown_section_names_its_neighbour(daemon: Path) -> None:
    daemon.write_text(DAEMON + "\n[qualty]\n")
    assert find_problems(daemon, environ={}) == [f"{daemon}: qualty: unknown key; did you mean 'quality'?"]
    daemon.write_text(DAEMON)
    assert find_problems(daemon, environ={"DQM_DEAMON__HTTP": "x"}) == [
        "environment DQM_DEAMON__HTTP: deamon: unknown key; did you mean 'daemon'?"
    ]


def test_what_is_no_table_cannot_be_set_into(daemon: Path) -> None:
    assert find_problems(daemon, {"streams.chamber-1.bundle": "x"}, {}) == [
        "command line: streams.chamber-1.bundle is not a key that can be set outside the file"
    ]


def test_the_kind_follows_from_the_file(collector: Path, daemon: Path) -> None:
    assert find_problems(collector, environ={}) == []
    assert find_problems(daemon, environ={}) == []
    collector.write_text('[collector]\nname = "tdc"\n[window]\nevent = 5\n')
    assert find_problems(collector, environ={}) == [
        f"{collector}: window.event: unknown key; did you mean 'events'?"
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"[daemon\n", r"not valid TOML: .*line 1"), (b"\xff\xfe", "not a text file in UTF-8")],
)
def test_a_file_that_is_no_toml_is_named(daemon: Path, content: bytes, message: str) -> None:
    daemon.write_bytes(content)
    with pytest.raises(ConfigError, match=rf"daemon\.toml: {message}"):
        load_daemon(daemon, environ={})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    assert find_problems(tmp_path / "none.toml") == [
        f"{tmp_path}/none.toml: cannot be read: No such file or directory. "
        "Correct it, or name the TOML file of the daemon or the collector"
    ]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("500", 500),
        ("0.5", 0.5),
        ("true", True),
        ('"x"', "x"),
        ('["a", "b"]', ["a", "b"]),
        ("tcp://127.0.0.1:5565", "tcp://127.0.0.1:5565"),
        ("", ""),
        ("1\nother = 2", "1\nother = 2"),
    ],
)
def test_values_are_read_as_toml_where_they_are(text: str, value: object) -> None:
    assert parse_value(text) == value


class Options(BaseModel):
    model_config = ConfigDict(extra="forbid")

    inputs: tuple[Path, ...]
    rate_hz: float = 1.0


def test_any_model_gets_the_same_hints() -> None:
    assert validate(Options, {"inputs": ["a"]}, "x.toml: options").rate_hz == 1.0
    based = validate(Options, {"inputs": ["a", "/b"]}, "x.toml: options", Path("/data"))
    assert based.inputs == (Path("/data/a"), Path("/b"))
    with pytest.raises(ConfigError) as caught:
        validate(Options, {"input": ["a"], "rate_hz": "fast"}, "x.toml: options")
    for line in (
        "x.toml: options: inputs: must be given",
        "x.toml: options: input: unknown key; did you mean 'inputs'?",
        "x.toml: options: rate_hz: input should be a valid number, unable to parse string as a number, got",
    ):
        assert line in str(caught.value)


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("*.toml")), ids=lambda path: path.name)
def test_examples_have_no_mistakes(path: Path) -> None:
    assert find_problems(path, environ={}) == []


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("collector-*.toml")), ids=lambda path: path.name)
def test_options_in_examples_are_those_of_the_collector(path: Path) -> None:
    project = tomllib.loads((CONFIGS.parent / "pyproject.toml").read_text())["project"]
    config = load_collector(path, environ={})
    module, _, name = project["entry-points"]["dqm.collectors"][config.collector.name].partition(":")
    options = getattr(importlib.import_module(module), name).Options
    assert validate(options, config.options, str(path), path.parent)


def test_commented_examples_of_slow_control_are_right(tmp_path: Path) -> None:
    text = (CONFIGS / "collector-simulate.toml").read_text()
    begin, end = text.index("# [[options.variations]]"), text.index("# chamber = ")
    lines = [line.removeprefix("#").strip() for line in text[begin:end].splitlines()]
    path = tmp_path / "collector.toml"
    path.write_text(text[:begin] + "\n".join(lines) + "\n" + text[end:])
    options = validate(SimulateCollector.Options, load_collector(path, environ={}).options, "options")
    assert (options.variations[0].phase, options.measurements["drift_velocity"].every_seconds) == (0.25, 10.0)
    text = (CONFIGS / "collector-slow-control.toml").read_text()
    for name, source in (("socket", SocketSource), ("epics", EpicsSource)):
        begin = text.index(f'# source = "{name}"')
        lines = [
            line.removeprefix("#").strip() for line in text[begin : text.index("\n\n", begin)].splitlines()
        ]
        written = tomllib.loads("\n".join(["[slow_control]", *lines]))["slow_control"]
        assert validate(source.Options, written["options"], name)


def test_options_of_slow_control_in_the_example_are_those_of_the_source() -> None:
    path = CONFIGS / "collector-slow-control.toml"
    section = load_collector(path, environ={}).slow_control
    assert section is not None
    assert section.source == "file"
    options = validate(FileSource.Options, section.options, str(path), path.parent)
    assert options.path == CONFIGS / "../data/readings.jsonl"
    assert {name: r.sigma for name, r in section.nuisances["drift_velocity"].readings.items()} == {
        "pressure": None,
        "temperature": 0.2,
    }


def test_mistakes_in_slow_control_are_told_with_their_place(collector: Path) -> None:
    collector.write_text(
        COLLECTOR
        + """
        [slow_control]
        sources = "file"
        [slow_control.nuisances.a]
        [slow_control.nuisances.b]
        readings.pressure = { nominal = 963.0, slope = 0.0 }
        readings.humidity = { nominal = 40.0, slop = 1.0, sigma = -1.0 }
        [slow_control.nuisances.c]
        readings.pressure = { nominal = 963.0, slope = 1.0, sigma = 0.0 }
        [slow_control.nuisances."d e"]
        readings.pressure = { nominal = 963.0, slope = 1.0 }
        """
    )
    problems = find_problems(collector, environ={})
    begin = f"{collector}: slow_control."
    expected = [
        f"{begin}source: must be given",
        f"{begin}sources: unknown key; did you mean 'source'?",
        f"{begin}nuisances.a.readings: must be given",
        f"{begin}nuisances.b.readings.pressure: slope must not be 0: such a reading says nothing about",
        f"{begin}nuisances.b.readings.humidity.slope: must be given",
        f"{begin}nuisances.b.readings.humidity.slop: unknown key; did you mean 'slope'?",
        f"{begin}nuisances.b.readings.humidity.sigma: input should be greater than or equal to 0, got -1.0",
        f"{begin}nuisances.c: sigma is 0, and so is that of every reading",
        f"{begin}nuisances.d e.[key]: string should match pattern",
    ]
    for beginning in expected:
        assert any(line.startswith(beginning) for line in problems), (beginning, problems)
    assert len(problems) == len(expected)


def test_there_is_an_example_for_each_situation() -> None:
    assert {path.stem for path in CONFIGS.glob("*.toml")} == {
        "daemon",
        "collector-beam",
        "collector-files",
        "collector-kafka",
        "collector-replay",
        "collector-simulate",
        "collector-slow-control",
        "collector-tdc",
        "collector-histograms",
    }


def test_the_file_of_the_other_program_is_told(tmp_path: Path) -> None:
    collector, daemon = tmp_path / "collector.toml", tmp_path / "daemon.toml"
    collector.write_text('[collector]\nname = "replay"\n[streams]\n0 = "a"\n')
    daemon.write_text('[[streams]]\nname = "a"\nbundle = "b"\n')
    with pytest.raises(
        ConfigError, match=r"collector\.toml: is the file of a collector. Name that of the daemon"
    ):
        load_daemon(collector, environ={})
    with pytest.raises(ConfigError, match=r"daemon\.toml: is the file of a daemon. Name that of a collector"):
        load_collector(daemon, environ={})


class _Choices(BaseModel):
    names: tuple[str, ...] = ()
    table: dict[str, int] = {}
    take: Literal["first", "last"] | Annotated[int, Field(ge=0)] | None = None


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"names": "x"}, """names: must be a list, as in ["a", "b"], got 'x'"""),
        ({"table": "x"}, "table: must be a table, as in {a = 1}, got 'x'"),
        (
            {"take": "biggest"},
            "x: take: input should be 'first' or 'last', got 'biggest'; or: input should be",
        ),
    ],
)
def test_a_value_of_another_kind_is_told_in_words_of_toml(data: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError) as told:
        validate(_Choices, data, "x")
    assert said in str(told.value)
    assert "mistakes" not in str(told.value)
