"""``dqm compare --two --from``: kept windows against each other."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.reference import StoredBundle
from dqm.store import GOOD_WINDOWS, WINDOWS, VerdictStore, WindowKeeper, store_url
from tests.service.small import N_WINDOW, faulty_events, healthy_events, window_of
from tests.world import verdict_of

from .conftest import Told
from .program import json_lines
from .test_online import write_daemon

Dqm = Callable[..., Told]
COMPARE = ("compare", "--two", "--from", "daemon.toml", "--permutations", 49, "--processes", 1)


@pytest.fixture
def config(tmp_path: Path, bundle: StoredBundle) -> Path:
    """Runs 10 and 11 of chamber-1 are Good, run 12 is Bad; all events are kept."""
    from dqm.config import load_daemon

    path = write_daemon(tmp_path, bundle.path if isinstance(bundle, StoredBundle) else bundle)
    (tmp_path / "data").mkdir()
    daemon = load_daemon(path).daemon
    keepers = [WindowKeeper(daemon.data_dir / folder, 10**8) for folder in (GOOD_WINDOWS, WINDOWS)]
    identifier = StoredBundle.read(load_daemon(path).streams[0].ordered_references[0].bundle).identifier
    with VerdictStore(store_url(daemon)) as store:
        for run in (10, 11, 12):
            for seq in range(3):
                verdict = verdict_of(seq=seq, run=run, p=0.5 if run < 12 else 1e-9, bundle=identifier)
                store.append(verdict)
                x = (healthy_events if run < 12 else faulty_events)(N_WINDOW, 10 * run + seq)
                keepers[run == 12].keep(window_of(x, run=run, seq=seq), verdict)
    return path


@pytest.mark.slow
@pytest.mark.usefixtures("config")
def test_runs_are_compared_with_p_maps_and_the_reference(dqm: Dqm, tmp_path: Path) -> None:
    (far,) = json_lines(dqm(*COMPARE, "chamber-1:10-11", "chamber-1:12", "--json").out)
    assert (far["first"], far["second"]) == ("chamber-1, runs 10, 11", "chamber-1, run 12")
    assert far["taken"] == ["6 of 6 windows that were Good", "3 of 3 windows that were Medium or Bad"]
    assert (far["n_first"], far["n_second"]) == (6 * N_WINDOW, 3 * N_WINDOW)
    assert far["p"] == pytest.approx(1 / 50)
    told = dqm(*COMPARE, "chamber-1:10", "chamber-1:11", "--plot", "x.svg")
    assert told.code == 0, told.err
    assert "chamber-1, run 10: 180 events of 3 of 3 windows that were Good" in told.out
    drawn = (tmp_path / "x.svg").read_text()  # words are comments beside their outlines
    assert [word for word in ("<!-- A -->", "<!-- B -->", "reference of A and B") if word not in drawn] == []


@pytest.mark.usefixtures("config")
def test_windows_are_compared(dqm: Dqm) -> None:
    (found,) = json_lines(dqm(*COMPARE, "chamber-1:10:2", "chamber-1:12:0", "--json", "--features", "b").out)
    assert found["first"] == "chamber-1, run 10, window 2"
    assert (found["n_first"], found["features"]) == (N_WINDOW, ["b"])


@pytest.mark.usefixtures("config")
@pytest.mark.parametrize(
    ("given", "message"),
    [
        (("chamber-9:10", "chamber-1:12"), "no stream 'chamber-9'. Choose one of chamber-1"),
        (("chamber-1", "chamber-1:12"), "'chamber-1' names no kept windows. Write STREAM:RUNS"),
        (("chamber-1:10:x", "chamber-1:12"), "'chamber-1:10:x' names no kept windows"),
        (("chamber-1:13", "chamber-1:12"), "chamber-1, run 13: no window was judged"),
        (("chamber-1:10", "chamber-1:10-11"), "in common, of 180 and 360"),
        (("chamber-1:10", "chamber-1:12", "--kept", "bad"), "no choice 'bad'. Choose one of fair, good"),
        (
            ("chamber-1:10", "chamber-1:12", "--counts", "n"),
            "--counts cannot be given with --from, which has no files",
        ),
        (
            ("chamber-1:10", "chamber-1:11", "chamber-1:12"),
            "two files to compare with each other, got 3",
        ),
    ],
)
def test_what_cannot_be_compared_is_refused(dqm: Dqm, given: tuple[str, ...], message: str) -> None:
    told = dqm(*COMPARE, *given)
    assert (told.code, told.out) == (2, "")
    assert message in " ".join(told.err.split())


def test_kept_windows_are_only_for_two(dqm: Dqm, config: Path) -> None:
    assert "--from needs --two" in dqm("compare", "x.dqmref", "x.csv", "--from", config).err
    assert "--kept needs --from" in dqm("compare", "--two", "x.csv", "y.csv", "--kept", "good").err
