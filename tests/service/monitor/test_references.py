"""A daemon whose stream has several references: type of run and conditions choose between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Event
from typing import Any

import httpx
import numpy as np
import pytest

from dqm.alarm import Cause
from dqm.config import load_daemon
from dqm.errors import ConfigError
from dqm.events import Quality, Verdict, Window
from dqm.reference import Bundle
from dqm.service.monitor.daemon import Daemon
from dqm.stream import Sender
from tests.service.small import (
    N_WINDOW,
    beam_bundle,
    beam_events,
    healthy_events,
    wait_until,
    window_of,
)

from .test_daemon import running, stored

pytestmark = pytest.mark.slow

Site = Callable[[str], Daemon]


@pytest.fixture(scope="module")
def beam(once: Callable[..., Path]) -> Path:
    return once("beam.dqmref", beam_bundle)


@pytest.fixture
def write(bundle: Bundle, beam: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Writes a configuration; COSMICS and BEAM stand for the bundles."""
    path = tmp_path / "daemon.toml"

    def make(stream: str) -> Path:
        stream = stream.replace("COSMICS", str(bundle.path)).replace("BEAM", str(beam))
        path.write_text(
            f'[daemon]\nlisten = ["ipc://{tmp_path}/w.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 1\n'
            f'[[streams]]\nname = "chamber-1"\nunjudged_seconds = 0.1\n{stream}\n'
        )
        return path

    return make


@pytest.fixture
def sender(tmp_path: Path) -> Iterator[Sender]:
    with Sender(f"ipc://{tmp_path}/w.ipc") as opened:
        yield opened


def send(sender: Sender, *windows: Window) -> None:
    for window in windows:
        sender.send(window)
    assert sender.confirm(60.0)


def get(daemon: Daemon, path: str) -> httpx.Response:
    return httpx.get(f"http://{daemon.http_address}{path}", trust_env=False, headers={"Accept": "text/html"})


def outline(verdict: Verdict) -> tuple[int, Quality, str]:
    return verdict.window.run, verdict.quality, verdict.bundle


def test_each_window_is_judged_by_the_reference_for_its_run_and_all_that_shows_it_says_so(
    write: Callable[[str], Path], sender: Sender, bundle: Bundle, beam: Path, tmp_path: Path
) -> None:
    path = write('bundles = { cosmics = "COSMICS", beam = "BEAM" }')
    reload, beam_id = Event(), Bundle.read(beam).identifier
    with (
        Daemon(
            load_daemon(path, environ={}), read_again=lambda: load_daemon(path, environ={}), reload=reload
        ) as daemon,
        running(daemon),
    ):
        narrow = beam_events(N_WINDOW, 9)
        send(sender, window_of(run=1), window_of(narrow, run=2, run_type="beam"))
        send(sender, window_of(narrow, run=3))
        send(sender, window_of(run=4, run_type="pedestal"))
        detail: Any = get(daemon, "/api/v1/streams/chamber-1/windows/2/0").json()
        assert (detail["verdict"]["bundle"], detail["bundle"]["identifier"]) == (beam_id, beam_id)
        assert detail["bundle"]["judges"] == "runs of type beam"
        shown: Any = get(daemon, "/api/v1/streams/chamber-1").json()
        assert shown["bundles"] == [bundle.identifier, beam_id]
        page = get(daemon, "/streams/chamber-1").text
        assert "runs of type cosmics" in page
        assert "runs of type beam" in page
        assert "The last one was judged by <code>none of them</code>" in page
        assert f"<td><code>{beam_id[:8]}</code></td>" in page
        assert "no reference for runs of type pedestal" in get(daemon, "/streams/chamber-1").text

        def is_told() -> bool:
            alarm: Any = get(daemon, f"/api/v1/alarms/chamber-1/{Cause.UNJUDGED}").json()
            return "1 window: no reference for runs of type pedestal" in alarm["text"]

        wait_until(is_told, "the alarm of windows that nothing judges")

        write('[[streams.references]]\nbundle = "BEAM"\nconditions = { hv = [-2.0, -1.0] }\n'
              '[[streams.references]]\nbundle = "COSMICS"\nrun_types = ["cosmics"]')  # fmt: skip
        reload.set()
        wait_until(lambda: not reload.is_set(), "the reload has begun")
        wait_until(lambda: "hv = -2 to -1" in get(daemon, "/streams/chamber-1").text, "the new references")
        send(sender, window_of(narrow, run=5, conditions={"hv": -1.5}), window_of(run=6))
    cosmics_id = bundle.identifier
    assert list(map(outline, stored(tmp_path))) == [
        (1, Quality.GOOD, cosmics_id),
        (2, Quality.GOOD, beam_id),
        (3, Quality.BAD, cosmics_id),
        (4, Quality.NULL, ""),
        (5, Quality.GOOD, beam_id),
        (6, Quality.GOOD, cosmics_id),
    ]


def test_bundles_of_one_stream_with_different_features_are_refused(
    write: Callable[[str], Path], tmp_path: Path
) -> None:
    beam_bundle(tmp_path / "other.dqmref", ("a", "c"))
    path = write('bundles = { cosmics = "COSMICS", beam = "other.dqmref" }')
    words = r"stream 'chamber-1' have different features: only small.dqmref has b; only other.dqmref has c"
    with pytest.raises(ConfigError, match=words):
        Daemon(load_daemon(path, environ={}))


def test_windows_with_nan_are_judged_where_the_stream_takes_them(
    write: Callable[[str], Path], sender: Sender, tmp_path: Path
) -> None:
    path = write('bundle = "COSMICS"\nlargest_nan_share = 0.05')
    with Daemon(load_daemon(path, environ={})) as daemon, running(daemon):
        x = healthy_events(N_WINDOW + 1, 3)
        x[7, 1] = np.nan
        worse = healthy_events(N_WINDOW + 3, 3)
        worse[:3, 1] = np.nan
        far = healthy_events(N_WINDOW, 3)
        far[:6, 1] = np.nan
        send(sender, window_of(x), window_of(worse, seq=1), window_of(far, seq=2))
        detail: Any = get(daemon, "/api/v1/streams/chamber-1/windows/7/1").json()["verdict"]
        assert (detail["nan"]["feature"], detail["nan"]["n_dropped"], detail["quality"]) == ("b", 3, "Bad")
        assert "NaN in 4.8 % of b, 0 % in the reference" in get(daemon, "/windows/chamber-1/7/1").text
    one, other = stored(tmp_path)
    assert (one.quality, one.result.n_data) == (Quality.MEDIUM, N_WINDOW + 1), "the reference has none"
    assert one.result.remarks[-1] == f"the shape is tested without 1 event of {N_WINDOW + 1} with NaN"
    assert other.quality is Quality.BAD
