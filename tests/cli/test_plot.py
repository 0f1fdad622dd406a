"""``dqm plot``: figures and ROOT files of what the store holds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import uproot

from dqm.config import load_daemon
from dqm.events import Quality, TestResult
from dqm.reference import StoredBundle
from dqm.store import STORE_FILE, VerdictStore, sqlite_url, store_url
from tests.world import START, explanation_of, verdict_of

from .conftest import Told
from .test_online import write_daemon

Dqm = Callable[..., Told]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A run of chamber-1: windows 0, 1 and 3 are Good, 2 is Bad. Others: a later run, no event, channels."""
    path = tmp_path / STORE_FILE
    with VerdictStore(sqlite_url(path)) as opened:
        for seq in range(4):
            times = {"start": START + 10 * seq, "end": START + 10 * seq + 10}
            opened.append(verdict_of(seq=seq, p=1e-9 if seq == 2 else 0.5, **times))
        opened.append(verdict_of(run=8, start=None, end=None))
        nothing = TestResult(0, 0.0, reason="no event")
        opened.append(replace(verdict_of(stream="chamber-2"), result=nothing, quality=Quality.NULL))
        channels = replace(explanation_of(), ranking=(), pairs=(), occupancy=explanation_of().pairs[0])
        opened.append(replace(verdict_of(stream="chamber-1.channels", p=1e-9), explanation=channels))
    return path


BAD_WINDOW = ("--stream", "chamber-1", "--run", 7, "--window", 2)


@pytest.mark.parametrize(
    ("options", "said", "words"),
    [
        (BAD_WINDOW, "chamber-1, run 7, window 2", ["p = 1e-09", "significance (sigma)", "theta"]),
        (("--stream", "chamber-1", "--run", 7), "4 windows", ["chamber-1, run 7", "Good: 3", "Bad: 1"]),
        (("--stream", "chamber-2"), "1 window", ["chamber-2, run 7", "Null: 1"]),
        (("--stream", "chamber-1.channels", "--window", 0), "chamber-1.channels, run 7, window 0", ["theta"]),
        (("--run", 7), "3 streams", ["run 7", "chamber-1", "Bad"]),
        (("--stream", "chamber-1"), "1 window", ["chamber-1, run 8", "Good: 1"]),
    ],
)
def test_windows_streams_and_runs_are_drawn(
    dqm: Dqm, store: Path, tmp_path: Path, options: tuple[object, ...], said: str, words: list[str]
) -> None:
    told = dqm("plot", store, "-o", "x.svg", *options)
    assert (told.code, told.out) == (0, f"x.svg: {said}\n"), told.err
    drawn = (tmp_path / "x.svg").read_text()  # words are comments beside their outlines
    assert [word for word in words if word not in drawn] == []


def test_the_reference_is_drawn_beside_windows(dqm: Dqm, bundle: Path, tmp_path: Path) -> None:
    config = write_daemon(tmp_path, bundle)
    identifier = StoredBundle.read(bundle).identifier
    (tmp_path / "data").mkdir()
    with VerdictStore(store_url(load_daemon(config).daemon)) as opened:
        for seq in range(4):
            opened.append(verdict_of(seq=seq, bundle=identifier))
    told = dqm("plot", config, "--stream", "chamber-1", "-o", "x.svg")
    assert (told.code, told.err) == (0, "")
    drawn = (tmp_path / "x.svg").read_text()
    assert "like the reference" in drawn
    bands = drawn.count("FillBetweenPolyCollection")
    assert bands == 3, "of p, t and the number of events"
    config.write_text(config.read_text().replace(f'"{bundle}"', '"gone.dqmref"'))
    told = dqm("plot", config, "--stream", "chamber-1", "-o", "y.svg")
    assert told.code == 0
    assert "warning: a reference is not drawn" in told.err
    assert (tmp_path / "y.svg").read_text().count("FillBetweenPolyCollection") == 2


def test_maps_are_written_as_histograms_of_root(dqm: Dqm, store: Path, tmp_path: Path) -> None:
    told = dqm("plot", store, "-o", "maps.root", *BAD_WINDOW)
    assert told.code == 0, told.err
    explanation = explanation_of()
    with uproot.open(tmp_path / "maps.root") as file:
        assert len(file.keys(recursive=False)) == len(explanation.maps) + len(explanation.pairs)
        for made in (*explanation.maps, *explanation.pairs):
            folder = "-".join(made.features)
            for name, values in (
                ("window", made.data),
                ("reference", made.reference),
                ("fitted", made.fitted),
            ):
                found = file[f"{folder}/{name}"]
                np.testing.assert_allclose(found.values(), values, rtol=1e-5)
                np.testing.assert_allclose(found.axis(0).edges(), made.edges[0], rtol=1e-5)
            np.testing.assert_allclose(file[f"{folder}/reference"].errors(), made.reference_error, rtol=1e-5)


@pytest.mark.parametrize(
    ("file", "options", "words"),
    [
        ("x.gif", ("--run", 7), "no figure has the ending '.gif'. Choose one of .pdf, .png, .svg\n"),
        ("x.gif", BAD_WINDOW, "no figure has the ending '.gif'. Choose one of .pdf, .png, .svg, .root\n"),
        ("x.root", ("--run", 7), "x.root: a ROOT file holds the maps of a window. Add --window N"),
        ("x.png", ("--window", 2), "--window: a window needs its stream. Add --stream NAME"),
        ("x.png", ("--run", 9), "run 9 has no windows"),
        ("x.png", ("--stream", "nix"), "no window of stream 'nix' is stored"),
        (
            "x.png",
            ("--stream", "nix", "--run", 7, "--window", 2),
            "is stored. Streams with windows: chamber-1, chamber-1.channels, chamber-2",
        ),
        ("x.png", ("--stream", "chamber-1", "--run", 9), "chamber-1: run 9 has no windows"),
        ("x.png", ("--stream", "chamber-1", "--run", 7, "--window", 9), "no window 9 of run 7"),
        (
            "x.png",
            ("--stream", "chamber-1", "--run", 7, "--window", 1),
            "no maps are kept of window 1 of run 7",
        ),
        ("no/x.png", ("--run", 7), "no/x.png: its directory does not exist. mkdir -p no"),
        ("no/x.root", BAD_WINDOW, "no/x.root: cannot write: No such file or directory"),
    ],
)
def test_what_cannot_be_drawn_is_told_and_leaves_nothing(
    dqm: Dqm, store: Path, tmp_path: Path, file: str, options: tuple[object, ...], words: str
) -> None:
    told = dqm("plot", store, "-o", file, *options)
    assert (told.code, words in told.err) == (2, True), told
    assert sorted(path.name for path in tmp_path.iterdir()) == [STORE_FILE]


@pytest.mark.parametrize("name", ["chamber-1/7/2", "http://127.0.0.1:8787/windows/chamber-1/7/2"])
def test_the_name_that_the_page_gives_a_window_leads_to_the_options(dqm: Dqm, name: str) -> None:
    told = dqm("plot", name, "-o", "m.svg")
    assert told.code == 2
    assert "Write 'dqm plot CONFIG --stream chamber-1 --run 7 --window 2'" in told.err


def test_what_is_looked_for_as_export_is_named(dqm: Dqm) -> None:
    told = dqm("export", "chamber-1/7/2", "-o", "maps.root")
    words = " ".join(told.err.replace("│", " ").split())
    assert told.code == 2
    assert "No such command 'export'. Maps of a window as ROOT histograms: 'dqm plot CONFIG --stream" in words
    assert "'dqm certify export'" in words
    other = dqm("exprt")
    assert "Did you mean 'report'?" in other.err
