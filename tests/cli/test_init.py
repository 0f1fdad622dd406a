"""``dqm init``: from a good run to a monitor with windows on its page."""

from __future__ import annotations

import os
import pty
import re
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pytest

from dqm.cli.init import _ask_for_detector
from dqm.config import load_collector, load_daemon
from tests.faults.conftest import mounted
from tests.ports import free_port
from tests.service.small import N_WINDOW, faulty_events, healthy_events, write_csv
from tests.waiting import get, wait_until

from .conftest import Told
from .program import ENVIRONMENT, PROGRAM, WAIT_SECONDS, start_dqm

Dqm = Callable[..., Told]
QUICK = ("--window", N_WINDOW, "--toys", 100, "--processes", 1)
N_BAD = 5


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Folder with a good run and a run of tonight, whose last windows are faulty."""
    write_csv(tmp_path / "good.csv", healthy_events(2000, 1))
    tonight = np.concatenate([healthy_events(2 * N_WINDOW, 2), faulty_events(N_BAD * N_WINDOW, 3)])
    write_csv(tmp_path / "tonight.csv", tonight)
    return tmp_path


def arguments(name: str) -> tuple[object, ...]:
    given = ("--collector", "replay", "--input", "tonight.csv", "--run", "good.csv")
    return ("init", name, *given, *QUICK)


def printed_commands(text: str) -> list[list[str]]:
    """Give the arguments of the commands that are printed to be run by hand."""
    lines = re.findall(r"^  dqm (.*?) +# ", text, re.MULTILINE)
    return [shlex.split(line) for line in lines]


@pytest.mark.slow
def test_the_printed_commands_give_a_monitor_with_windows_on_its_page(dqm: Dqm, run: Path) -> None:
    addresses = ("--listen", f"ipc://{run}/w.ipc", "--http", f"127.0.0.1:{free_port()}")
    told = dqm(*arguments("west"), *addresses)
    assert told.code == 0, told.err
    assert [path.name for path in run.iterdir() if path.name.startswith(".")] == []
    for name in ("daemon.toml", "collector.toml"):
        checked = dqm("check", f"west/{name}")
        assert checked.code == 0, checked.err
    daemon, collector, doctor = printed_commands(told.out)
    url = f"http://{load_daemon(run / 'west/daemon.toml', environ={}).daemon.http}"
    with ExitStack() as stack:
        process = start_dqm(*daemon, cwd=run, log=run / "daemon.log")
        stack.callback(process.wait)
        stack.callback(process.terminate)
        wait_until(lambda: (run / "w.ipc").exists(), "the daemon listens")
        sent = subprocess.run(
            [PROGRAM, *collector],
            cwd=run,
            env=ENVIRONMENT,
            capture_output=True,
            timeout=WAIT_SECONDS,
            check=False,
        )
        assert sent.returncode == 0, sent.stderr
        page = get(f"{url}/streams/west").text
        assert "Bad" in page
        windows = get(f"{url}/api/v1/streams/west/windows").json()["windows"]
        assert [one["quality"] for one in windows[:N_BAD]] == ["Bad"] * N_BAD
        examined = dqm(*doctor, "--prometheus", "none")
        assert examined.code == 0, examined.out
    assert load_collector(run / "west/collector.toml", environ={}).options["inputs"] == [
        str(run / "tonight.csv")
    ]


@pytest.mark.long
def test_columns_that_are_no_features_are_left_out_of_windows_too(dqm: Dqm, run: Path) -> None:
    for file, n in (("good.csv", 2000), ("tonight.csv", 3 * N_WINDOW)):
        rows = [f"{a!r},{b!r},text" for a, b in healthy_events(n, 1).tolist()]
        (run / file).write_text("\n".join(["a,b,comment", *rows, ""]))
    told = dqm(*arguments("west"), "--features", "b,a")
    assert told.code == 0, told.err
    config = load_collector(run / "west/collector.toml", environ={})
    assert config.options["features"] == ["b", "a"]


@pytest.mark.long
def test_a_directory_of_files_and_derived_features_are_a_run(dqm: Dqm, run: Path) -> None:
    (run / "runs").mkdir()
    for part in range(2):
        write_csv(run / "runs" / f"part{part}.csv", healthy_events(1000, part))
    usual = ("runs" if one == "good.csv" else one for one in arguments("west"))
    told = dqm(*usual, "--set", 'derive={sum = "a + b"}')
    assert told.code == 0, told.err
    assert "features: a, b, sum" in told.out
    assert load_collector(run / "west/collector.toml", environ={}).options["derive"] == {"sum": "a + b"}
    assert not (run / "west" / "good-run.parquet").exists()


@pytest.mark.long
def test_every_chamber_gets_a_stream_and_a_reference(dqm: Dqm, run: Path) -> None:
    both = np.stack([healthy_events(1500, 1), healthy_events(1500, 5)], axis=1).reshape(-1, 2)
    write_csv(run / "good.csv", both, ["a", "b"] * 1500)
    told = dqm(*arguments("hall"))
    assert told.code == 0, told.err
    config = load_daemon(run / "hall/daemon.toml", environ={})
    assert [(one.name, one.group) for one in config.streams] == [("hall-a", "hall"), ("hall-b", "hall")]
    assert load_collector(run / "hall/collector.toml", environ={}).streams == {"a": "hall-a", "b": "hall-b"}


@pytest.mark.long
def test_windows_by_time_take_the_rate_of_the_good_run(dqm: Dqm, run: Path) -> None:
    x = healthy_events(2000, 1)
    rows = [f"{0.05 * k!r},{a!r},{b!r}" for k, (a, b) in enumerate(x.tolist())]
    (run / "good.csv").write_text("\n".join(["time,a,b", *rows, ""]))
    told = dqm(*arguments("west"), "--cut", "time")
    assert told.code == 0, told.err
    window = load_collector(run / "west/collector.toml", environ={}).window
    assert window.expected_rate_hz == pytest.approx(20.0, rel=1e-3)
    assert window.seconds == pytest.approx(N_WINDOW / 20.0, rel=1e-3)


@pytest.mark.slow
def test_what_is_killed_leaves_no_installation_and_goes_on_with_the_same_toys(dqm: Dqm, run: Path) -> None:
    command = [*arguments("west"), "--toys", 4000]
    process = start_dqm(*command, cwd=run, log=run / "init.log")
    kept = run / ".west.dqm-init" / "references"
    wait_until(lambda: any(kept.glob("*/.*toys*")) or any(kept.glob("*/*toys*")), "some toys are kept")
    process.kill()
    process.wait()
    assert not (run / "west").exists()
    told = dqm(*arguments("west"))
    assert told.code == 0, told.err
    assert "continues where it was interrupted" in told.out
    assert (run / "west" / "daemon.toml").exists()


@pytest.mark.slow
def test_ctrl_c_ends_it_in_one_line(run: Path) -> None:
    process = start_dqm(*arguments("west"), "--toys", 4000, cwd=run, log=run / "init.log")
    wait_until(lambda: (run / ".west.dqm-init" / "references").exists(), "it builds")
    process.send_signal(signal.SIGINT)
    assert process.wait(WAIT_SECONDS) == 130
    assert (run / "init.log").read_text().splitlines()[-1] == "interrupted"
    assert not (run / "west").exists()


def test_a_full_disk_ends_it_and_leaves_no_installation(dqm: Dqm, run: Path) -> None:
    with mounted(run / "small", "-t", "tmpfs", "-o", "size=64k", "tmpfs"):
        told = dqm(*arguments("small/west"))
        assert told.code == 2
        assert "No space left on device" in told.err
        assert list((run / "small").iterdir()) == []


@pytest.mark.parametrize(
    ("place", "said"), [(".", "is the working directory"), ("a/..", "is the working directory")]
)
def test_the_working_directory_is_not_taken(dqm: Dqm, run: Path, place: str, said: str) -> None:
    (run / "a").mkdir()
    told = dqm(*arguments(place), "--name", "west")
    assert told.code == 2
    assert said in told.err


def test_nothing_is_overwritten(dqm: Dqm, run: Path) -> None:
    (run / "west").mkdir()
    (run / "west" / "mine").write_text("mine")
    told = dqm(*arguments("west"))
    assert (told.code, told.out) == (2, "")
    assert "is there already, and nothing is overwritten" in told.err
    assert [path.name for path in (run / "west").iterdir()] == ["mine"]


def test_all_that_is_missing_is_told_at_once(dqm: Dqm, run: Path) -> None:
    told = dqm("init", "west")
    assert told.code == 2
    assert "--collector, --run must be given" in told.err
    told = dqm("init", "west", "--collector", "kafka")
    for option in ("--set brokers=...", "--set topic=...", "--set group=...", "--run"):
        assert option in told.err
    assert not list(run.glob("*west*"))


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (("--input", "no.csv"), "--input: there is no "),
        (("--run", "no.csv"), "--run no.csv: no such file"),
        (("--run", "few.csv"), "too few"),
        (("--run", "text.csv"), "text.csv"),
        (("--run", "header.csv"), "header.csv: no events"),
        (("--features", "a,z"), "no column 'z'"),
        (("--set", "sped=2"), "did you mean 'speed'"),
        (("--cut", "time"), "the good run has no times"),
        (("--http", "127.0.0.1:9100"), "reserved for Prometheus"),
        (("--listen", "tcp://0.0.0.0:5565"), "can be reached from other hosts"),
        (("--name", "my detector"), "cannot be in the names of streams"),
        (("--window", 1900), "1900"),
    ],
)
def test_what_cannot_be_used_is_refused_and_leaves_nothing(
    dqm: Dqm, run: Path, changed: tuple[object, ...], said: str
) -> None:
    write_csv(run / "few.csv", healthy_events(30, 1))
    (run / "text.csv").write_text("a,b\n1,x\n")
    (run / "header.csv").write_text("a,b\n")
    usual = arguments("west")
    if changed[0] == "--run":  # it is repeatable: in the place of the good one
        usual = tuple(changed[1] if one == "good.csv" else one for one in usual)
        changed = ()
    told = dqm(*usual, *changed)
    assert told.code == 2
    assert said in told.err
    assert not list(run.glob("*west*"))


@pytest.mark.long
def test_a_raw_run_is_read_by_its_collector(dqm: Dqm, tmp_path: Path) -> None:
    from dqm_collectors.chamber.hits import RawHits, write_tdc
    from dqm_collectors.simulate import SimulateCollector

    options = SimulateCollector.Options.model_validate({"chambers": [0], "seconds": 60, "seed": 1})
    write_tdc(RawHits.concatenate(list(SimulateCollector(options).raw_hits())), tmp_path / "raw.csv")
    os.mkfifo(tmp_path / "pipe")
    told = dqm(
        "init", "west", "--collector", "tdc", "--input", "pipe", "--set", 'convention="2021"',
        "--run", "raw.csv", "--features", "t_1,t_2,theta", "--window", 60, "--toys", 100, "--processes", 1,
    )  # fmt: skip
    assert told.code == 0, told.err
    assert (tmp_path / "west" / "good-run.parquet").exists()
    assert dqm("check", "west/collector.toml").code == 0
    assert dqm("reference", "show", "west/references/west.dqmref").code == 0


@pytest.mark.long
def test_a_terminal_is_asked_for_what_no_option_says(run: Path) -> None:
    wrong = ["good.csv", "none.csv", "none.csv", "a,z", "1900"]
    right = ["replay", "tonight.csv", "good.csv", "a,b", str(N_WINDOW)]
    answers = [answer for pair in zip(wrong, right, strict=True) for answer in pair]
    said = talk(("init", "west", "--toys", "100", "--processes", "1"), answers, cwd=run)
    assert "What reads the detector" in said
    assert "Files of a good run" in said
    assert "Features, separated by commas [a,b]" in said
    assert "dqm run west/daemon.toml" in said
    assert load_collector(run / "west/collector.toml", environ={}).window.events == N_WINDOW


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[str]], list[tuple[str, str | None]]]:
    """Let answers come from a terminal; gives the questions with their defaults."""

    def answer(answers: list[str]) -> list[tuple[str, str | None]]:
        questions: list[tuple[str, str | None]] = []
        left = iter(answers)

        def prompt(question: str, default: str | None = None) -> str:
            questions.append((question.partition(":")[0], default))
            return next(left) or default or ""

        monkeypatch.setattr("dqm.cli.init._is_asked", lambda: True)
        monkeypatch.setattr("typer.prompt", prompt)
        return questions

    return answer


def test_a_wrong_answer_is_asked_for_again_and_the_others_stay(
    run: Path,
    asked: Callable[[list[str]], list[tuple[str, str | None]]],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(run)
    (run / "text.csv").write_text("a,b\n1,x\n")
    questions = asked(
        ["repaly", "", "none.csv", "'tonight.csv", "tonight.csv", "none.csv", "text.csv", "good.csv"]
    )
    detector = _ask_for_detector(None, [], [], [])
    assert detector.run == (Path("good.csv"),)
    assert [key for key, _ in questions[2:]] == ["inputs"] * 3 + [
        "Files of a good run, for the reference"
    ] * 3
    assert questions[3] == ("inputs", "none.csv"), "the answer before is proposed"
    reasons = capsys.readouterr().err.splitlines()
    expected = ["'repaly'", "no .*none.csv", "quotation mark", "none.csv: no such file", "text.csv"]
    assert len(reasons) == len(expected)
    for reason, what in zip(reasons, expected, strict=True):
        assert re.match(f"error: .*{what}", reason)


@pytest.mark.usefixtures("run")
def test_addresses_are_looked_at_before_the_run(dqm: Dqm) -> None:
    usual = ("none.csv" if one == "good.csv" else one for one in arguments("west"))
    told = dqm(*usual, "--listen", "tcp://127.0.0.1:99999")
    assert told.code == 2
    assert "--listen, --http: daemon.listen" in told.err
    assert "none.csv" not in told.err


def talk(command: tuple[str, ...], answers: list[str], cwd: Path) -> str:
    """Run a command on a terminal of its own, and answer each question as it comes."""
    ours, its = pty.openpty()
    process = subprocess.Popen(
        [PROGRAM, *command],
        cwd=cwd,
        env=ENVIRONMENT,
        stdin=its,
        stdout=its,
        stderr=its,
        start_new_session=True,
    )
    os.close(its)
    said = ""
    left = iter(answers)
    for text in _read(ours):
        said += text
        if re.search(r": \Z", said):
            os.write(ours, f"{next(left)}\n".encode())
            said += "\n"
    assert process.wait(WAIT_SECONDS) == 0, said
    assert list(left) == []
    return said


def _read(terminal: int) -> Iterator[str]:
    while True:
        try:
            yield os.read(terminal, 65_536).decode()
        except OSError:  # its other end is closed
            os.close(terminal)
            return
