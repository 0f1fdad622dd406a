"""``dqm run``, ``collect``, ``check`` and ``history``, as processes that talk to each other."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from dqm.reference import open_bundle
from tests.examples import copy_examples
from tests.service.small import N_WINDOW, beam_bundle
from tests.waiting import get, wait_until

from .conftest import Told
from .program import WAIT_SECONDS, json_lines, logged, run_dqm, start_dqm

Dqm = Callable[..., Told]
CONFIGS = Path(__file__).parents[2] / "configs"
STREAMS = ("chamber-1", "chamber-2")


def write_daemon(folder: Path, bundle: Path) -> Path:
    path = folder / "daemon.toml"
    streams = "".join(f'[[streams]]\nname = "{name}"\nbundle = "{bundle}"\n' for name in STREAMS)
    path.write_text(
        f'[daemon]\nlisten = ["ipc://{folder}/windows.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 1\n'
        f"[quality]\nbad_p = 0.001\nmedium_p = 0.01\n{streams}"
    )
    return path


def write_replay(folder: Path, file: Path) -> Path:
    path = folder / "collector.toml"
    path.write_text(
        f'[collector]\nname = "replay"\nrun = 5\nrun_type = "cosmics"\nconnect = "ipc://{folder}/windows.ipc"\n'
        f'[window]\nevents = {N_WINDOW}\n[options]\ninputs = ["{file}"]\n'
    )
    return path


@dataclass(frozen=True)
class Running:
    """A daemon's process."""

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def url(self) -> str:
        """Address of its page."""
        ready = logged(self.log, "ready")
        assert ready is not None
        return f"http://{ready['http']}"

    def get(self, path: str) -> httpx.Response:
        return get(f"{self.url}{path}")

    def n_judged(self) -> int:
        lines = self.get("/metrics").text.splitlines()
        return sum(int(float(line.split()[-1])) for line in lines if line.startswith("dqm_windows_total{"))

    def end(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(WAIT_SECONDS)


@contextmanager
def daemon_of(config: Path, *through: str) -> Iterator[Running]:
    log = config.with_name("daemon.log")
    process = start_dqm("run", config.name, cwd=config.parent, log=log, through=through)
    try:
        wait_until(
            lambda: process.poll() is not None or logged(log, "ready") is not None, "the daemon is ready"
        )
        yield Running(process, log)
    finally:
        process.kill()
        process.wait()


def open_files_limits(pid: int) -> list[str]:
    """Soft and hard limit of a process."""
    limits = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (files,) = (line.split()[3:5] for line in limits if line.startswith("Max open files"))
    return files


@pytest.mark.slow
def test_windows_go_from_a_file_to_the_history(dqm: Dqm, folder: Path, bundle: Path, tmp_path: Path) -> None:
    config = write_daemon(tmp_path, bundle)
    collector = write_replay(tmp_path, folder / "mixed.csv")
    # started first: a replay waits for its daemon
    collecting = start_dqm("collect", collector, cwd=folder, log=tmp_path / "collector.log")
    try:
        with daemon_of(config, "prlimit", "--nofile=256:4096") as daemon:
            assert open_files_limits(daemon.process.pid) == ["4096", "4096"], "it takes what it may have"
            assert collecting.wait(WAIT_SECONDS) == 0
            wait_until(lambda: daemon.n_judged() == 6, "six windows judged")
            metrics = daemon.get("/metrics").text
            assert 'dqm_windows_total{quality="Bad",stream="chamber-2"} 3.0' in metrics
            assert 'dqm_windows_total{quality="Bad",stream="chamber-1"} 0.0' in metrics
            assert 'dqm_stream_idle{stream="chamber-2"} 1.0' in metrics, "the source has ended"
            second = dqm("run", config)
            assert (second.code, second.out) == (2, "")
            assert f"address ipc://{tmp_path}/windows.ipc is already in use" in second.err
            assert daemon.get("/healthz").json()["status"] == "ok"
            assert "libtorch" not in Path(f"/proc/{daemon.process.pid}/maps").read_text(), "its worker has it"
            assert daemon.end() == 0
    finally:
        collecting.kill()
    said = (tmp_path / "collector.log").read_text()
    assert "run 5: 360 events, 6 windows, 6 sent, 0 lost; 0 events after the last window" in said
    assert "Traceback" not in said + daemon.log.read_text()
    verdicts = json_lines(run_dqm("history", config, "--json", cwd=folder).stdout)
    offline = json_lines(dqm("compare", bundle, folder / "mixed.csv", "--window", N_WINDOW, "--json").out)
    same = ("stream", "seq", "n_data", "t", "p", "z", "quality", "reason", "bundle")
    assert sorted([v[key] for key in same] for v in verdicts) == sorted(
        [v[key] for key in same] for v in offline
    )
    assert {(v["run"], v["run_type"], v["origin"]) for v in verdicts} == {(5, "cosmics", "replayed")}


@pytest.fixture(scope="module")
def with_verdicts(folder: Path, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A daemon's configuration beside a store with verdicts in it."""
    from dqm.alarm import QualityLimits
    from dqm.reference import Processes, ReadingPolicy, open_bundle
    from dqm.service.offline.comparison import ComparisonTask, compare, cut_file
    from dqm.store import STORE_FILE, VerdictStore, sqlite_url

    config = write_daemon(tmp_path_factory.mktemp("verdicts"), bundle)
    (config.parent / "data").mkdir()
    opened, limits = open_bundle(bundle), QualityLimits(0.01, 0.001, 1)
    assessment = ComparisonTask(bundle, opened.identifier, limits, ReadingPolicy())
    with VerdictStore(sqlite_url(config.parent / "data" / STORE_FILE)) as store:
        for run in (3, 4):
            windows = cut_file(folder / "mixed.csv", opened.manifest.features, run=run, n_window=N_WINDOW)
            for verdict in compare(assessment, windows, Processes(1)):
                store.append(verdict)
    return config


def test_history_is_a_table(dqm: Dqm, with_verdicts: Path, bundle: Path) -> None:
    told = dqm("history", with_verdicts)
    assert (told.code, told.err) == (0, "")
    assert told.out.count("✗ Bad") == 6
    assert told.out.count("chamber-1 (replayed)") == 6
    assert "differs from the reference: p < 1e-15" in told.out
    assert told.out.count(open_bundle(bundle).identifier[:8]) == 12


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ((), 12),
        (("--stream", "chamber-2"), 6),
        (("--run", "4"), 6),
        (("--quality", "bad", "--run", "3"), 3),
        (("--limit", "5"), 5),
        (("--hours", "1"), 12),
        (("--hours", "0"), 0),
    ],
)
def test_history_can_be_narrowed(
    dqm: Dqm, with_verdicts: Path, options: tuple[str, ...], expected: int
) -> None:
    told = dqm("history", with_verdicts, "--json", *options)
    assert (told.code, len(json_lines(told.out))) == (0, expected)
    if not expected:
        assert dqm("history", with_verdicts, *options).out == "no verdicts match\n"


def test_history_reads_a_store_by_its_path(dqm: Dqm, with_verdicts: Path, tmp_path: Path) -> None:
    assert (
        len(json_lines(dqm("history", with_verdicts.parent / "data" / "verdicts.sqlite", "--json").out)) == 12
    )
    told = dqm("history", "none.sqlite")
    assert (told.code, told.out) == (2, "")
    assert "none.sqlite: no such file. Check the path, or start the daemon first" in told.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.glob("*.toml")))
def test_examples_pass_the_check(dqm: Dqm, bundle: Path, tmp_path: Path, name: str) -> None:
    copy_examples(tmp_path)
    (tmp_path / "references").mkdir()
    for chamber in ("chamber-0", "chamber-1"):
        (tmp_path / "references" / chamber).symlink_to(bundle)
    told = dqm("check", Path("configs", name))
    first, *judged = told.out.splitlines()
    assert (told.code, first) == (0, f"configs/{name}: no mistakes found")
    if name == "daemon.toml":
        assert judged == [
            f"  chamber-{n}: the shape of windows of 60 events cut by count; their number of events: "
            "not tested: expected_rate_hz is not known; certificate: none"
            for n in range(2)
        ]
        assert told.err.count("bundles are not certified") == 1, "one line for all"
        assert told.err.count("null tables are small for the false-alarm budget") == 1, "one line for all"
        assert '"n_streams": 2' in told.err
        assert "dqm reference calibrate BUNDLE --toys " in told.err
    else:
        assert (judged, told.err) == ([], "")


@pytest.mark.parametrize(
    ("collector", "inputs", "said"),
    [
        ("replay", "run7.csv", "there is no {}/run7.csv. Correct the path"),
        ("replay", "run*.csv", "there is no {}/run*.csv"),
        ("replay", "runs", "{}/runs: there is no file. In a directory, files with these endings count"),
        ("replay", "ev*.csv", ""),
        ("tdc", "run7.csv", "there is no {}/run7.csv. Correct the path, or make it first: a named pipe"),
        ("tdc", "ev*.csv", "there is no {}/ev*.csv"),
        ("tdc", "pipe", ""),
    ],
)
def test_check_tells_inputs_that_are_missing(
    dqm: Dqm, tmp_path: Path, collector: str, inputs: str, said: str
) -> None:
    (tmp_path / "events.csv").write_text("a,b\n1,2\n")
    (tmp_path / "runs").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "c.toml").write_text(
        f'[collector]\nname = "{collector}"\n[window]\nevents = 40\n[options]\ninputs = ["{inputs}"]\n'
        + ('convention = "2021"\n' if collector == "tdc" else "")
    )
    told = dqm("check", "c.toml")
    assert told.code == (1 if said else 0), told.err
    assert said.format(tmp_path) in told.err
    if said:
        started = dqm("collect", "c.toml", "--set", "collector.connect=ipc://none.ipc")
        assert started.code == 2, "it would not have run"


def test_check_notes_files_for_which_a_collector_waits(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[collector]\nname = "files"\n[window]\nevents = 40\n'
        '[options]\ninputs = ["run*.csv"]\nstate = "state.json"\n'
    )
    told = dqm("check", "c.toml")
    assert (told.code, told.out) == (0, "c.toml: no mistakes found\n")
    assert told.err == f"note: c.toml: [options] inputs: {tmp_path}/run*.csv is not there yet\n"
    (tmp_path / "run1.csv").touch()
    assert dqm("check", "c.toml").err == ""


def test_check_tells_all_mistakes_of_a_daemon_at_once(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(
        '[daemon]\nhtpp = "x"\nthreads = 0\n[[streams]]\nname = "a/b"\nbundle = "c"\n'
    )
    told = dqm("check", "d.toml", "--set", "quality.bad_p=2")
    assert (told.code, told.out) == (1, "")
    for words in (
        "d.toml: daemon.htpp: unknown key; did you mean 'http'?",
        "d.toml: daemon.threads: ",
        "d.toml: streams[0].name: ",
        "command line: quality.bad_p: ",
    ):
        assert words in told.err


def test_check_opens_the_bundles(dqm: Dqm, bare: Path, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(
        f'[[streams]]\nname = "a"\nbundle = "none"\n[[streams]]\nname = "b"\nbundle = "{bare}"\n'
    )
    told = dqm("check", "d.toml")
    assert (told.code, told.out) == (1, "")
    missing, uncalibrated = sorted(told.err.splitlines(), key=lambda line: "null table" in line)
    assert missing.startswith(f"d.toml: {tmp_path}/none: no reference bundle: ")
    assert f"{bare}: has no null table: every window would be Null. Run 'dqm reference calib" in uncalibrated


def test_check_says_which_reference_judges_which_windows(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    (tmp_path / "d.toml").write_text(
        f'[[streams]]\nname = "a"\nbundles = {{ cosmics = "{bundle}", beam = "{bundle}" }}\n'
    )
    told = dqm("check", "d.toml")
    assert told.code == 0
    shape = f"by {bundle.name}: the shape of windows of 60 events cut by count"
    assert [line.split(";")[0] for line in told.out.splitlines()[1:]] == [
        f"  a, runs of type cosmics, {shape}",
        f"  a, runs of type beam, {shape}",
    ]


def test_check_refuses_references_of_other_features(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    beam_bundle(tmp_path / "other.dqmref", ("a", "c"))
    (tmp_path / "d.toml").write_text(
        f'[[streams]]\nname = "a"\nreferences = [{{bundle = "{bundle}", run_types = ["beam"]}}, '
        '{bundle = "other.dqmref"}]\n'
    )
    told = dqm("check", "d.toml")
    assert told.code == 1
    assert f"only {bundle.name} has b; only other.dqmref has c" in told.err


def test_check_reads_the_options_of_the_collector(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(
        '[collector]\nname = "simulate"\n[window]\nevents = 60\n[options]\nsed = 1\nspeed = 0\n'
    )
    told = dqm("check", "c.toml")
    assert (told.code, told.out) == (1, "")
    assert "options]: sed: unknown key; did you mean 'seed'?" in told.err
    assert "options]: speed: " in told.err
    told = dqm("check", "c.toml", "--set", "collector.name=nothing")
    assert (told.code, told.out) == (1, "")
    assert (
        "unknown collector 'nothing'. Installed: beam, files, histograms, kafka, replay, simulate, tdc"
        in told.err
    )


SLOW_CONTROL = """
[collector]
name = "simulate"
[window]
events = 60
[slow_control]
source = "epics"
[slow_control.options]
pvs = { pressure = "GAS:PRESSURE" }
[slow_control.nuisances.velocity.readings.pressure]
nominal = 963.0
slope = -1e-4
sigma = 0.4
"""


@pytest.mark.parametrize(
    ("old", "new", "messages"),
    [
        ("", "", []),
        ('"epics"', '"epic"', ["unknown source of readings 'epic'. Installed: epics, file, socket"]),
        ("pvs", "pv", ["[slow_control.options]: pv: unknown key; did you mean 'pvs'?", "pvs: must be given"]),
        (
            "sigma = 0.4",
            "",
            ["velocity.readings.pressure]: the source gives no error of 'pressure'. Give it"],
        ),
        ("{ pressure", "{ presure", ["velocity.readings.pressure]: the source has no reading 'pressure'"]),
    ],
)
def test_check_reads_the_slow_control_section(
    dqm: Dqm, tmp_path: Path, old: str, new: str, messages: list[str]
) -> None:
    (tmp_path / "c.toml").write_text(SLOW_CONTROL.replace(old, new) if old else SLOW_CONTROL)
    told = dqm("check", "c.toml")
    assert told.code == (1 if messages else 0), told.err
    for words in messages:
        assert words in told.err


def test_check_tells_the_mistakes_in_and_around_the_options_of_slow_control(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(SLOW_CONTROL.replace("slope", "slop").replace("pvs", "pv"))
    told = dqm("check", "c.toml")
    for words in ("readings.pressure.slop: unknown key", "[slow_control.options]: pv: unknown key"):
        assert told.err.count(words) == 1
    (tmp_path / "c.toml").write_text(SLOW_CONTROL.replace("[slow_control.options]\npvs", "pvs"))
    assert "slow_control.pvs: unknown key" in dqm("check", "c.toml").err


def test_check_takes_overrides_of_slow_control_into_account(dqm: Dqm, tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_text(SLOW_CONTROL)
    told = dqm("check", "c.toml", "--set", "slow_control.options.refresh_seconds=0")
    assert (told.code, told.out) == (1, "")
    assert "[slow_control.options]: refresh_seconds: input should be greater" in told.err


@pytest.mark.parametrize("command", ["run", "collect", "check", "history"])
def test_a_configuration_that_is_missing_or_no_toml_is_named(dqm: Dqm, tmp_path: Path, command: str) -> None:
    code = 1 if command == "check" else 2
    told = dqm(command, "none.toml")
    assert (told.code, told.out) == (code, "")
    assert "none.toml: cannot be read: No such file or directory" in told.err
    (tmp_path / "bad.toml").write_text("[daemon\n")
    told = dqm(command, "bad.toml")
    assert (told.code, told.out) == (code, "")
    assert "bad.toml: not valid TOML: " in told.err
    assert "at line 1" in told.err


@pytest.mark.parametrize(
    ("command", "override", "message"),
    [
        ("run", "daemon.http", "--set: 'daemon.http' is not KEY=VALUE"),
        (
            "run",
            "daemon.http=127.0.0.1:9100",
            "command line: daemon.http: port 9100 is in the range 9100 to 9999",
        ),
        ("run", "daemon.listen=['tcp://0.0.0.0:5565']", "keys must name a directory"),
        ("run", "daemon.data_dir=daemon.toml", "daemon.toml: cannot make the data directory"),
        ("run", "demon.http=x", "command line: demon: unknown key; did you mean 'daemon'?"),
        ("collect", "window.event=5", "command line: window.event: unknown key; did you mean 'events'?"),
        ("collect", "collector.name=nothing", "unknown collector 'nothing'. Installed: beam,"),
        ("collect", "options.inputs=['none.csv']", "none.csv: "),
    ],
)
def test_what_cannot_run_says_why(
    folder: Path, bundle: Path, tmp_path: Path, dqm: Dqm, command: str, override: str, message: str
) -> None:
    daemon, collector = write_daemon(tmp_path, bundle), write_replay(tmp_path, folder / "mixed.csv")
    told = dqm(command, daemon if command == "run" else collector, "--set", override)
    assert (told.code, told.out) == (2, "")
    assert message in told.err
    left = {path.name for path in tmp_path.iterdir()}
    assert left <= {"daemon.toml", "collector.toml", "windows.ipc"}
