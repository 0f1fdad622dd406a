"""The way of a window as docs/design/window.md tells it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import CodeType, FrameType

from dqm.config import load_daemon
from dqm.events import EventBatch, Origin, Quality, Verdict
from dqm.reference import Bundle
from dqm.service.monitor.daemon import Daemon
from dqm.stream import CountCutter, RunLabel, Sender
from tests.names import code_of, names_in_first_column
from tests.service.small import FEATURES, N_WINDOW, faulty_events, wait_until

DOCUMENT = Path(__file__).parents[3] / "docs" / "design" / "window.md"
POLL_MS = 100


@contextmanager
def first_calls(names: dict[CodeType, str]) -> Iterator[list[str]]:
    """Collect the names of functions in the order in which they are called first, in this thread."""
    called: list[str] = []

    def notice(frame: FrameType, event: str, _argument: object) -> None:
        name = names.get(frame.f_code)
        if event == "call" and name is not None and name not in called:
            called.append(name)

    before = sys.getprofile()
    sys.setprofile(notice)
    try:
        yield called
    finally:
        sys.setprofile(before)


def test_a_window_passes_these_functions_in_this_order(bundle: Bundle, tmp_path: Path) -> None:
    told = names_in_first_column(DOCUMENT.read_text())
    files = {code_of(name).co_filename for name in told}
    assert f"{len(told)} functions in {len(files)} files" in DOCUMENT.read_text()
    address = f"ipc://{tmp_path}/windows.ipc"
    config = tmp_path / "daemon.toml"
    config.write_text(
        f'[daemon]\nlisten = ["{address}"]\nhttp = "127.0.0.1:0"\nworkers = 0\n'
        f'[alarm]\nk = 1\nn = 1\n[[streams]]\nname = "chamber-1"\nbundle = "{bundle.path}"\n'
    )
    cutter = CountCutter(
        N_WINDOW, RunLabel(run=7, run_type="cosmics", origin=Origin.SIMULATED), {"1": "chamber-1"}
    )
    with (
        Daemon(load_daemon(config, environ={})) as daemon,
        Sender(address) as sender,
        first_calls({code_of(name): name for name in told}) as called,
    ):
        (window,) = cutter.push(EventBatch("1", FEATURES, faulty_events(N_WINDOW, 1)))
        sender.send(window)
        verdicts: list[Verdict] = []

        def is_judged() -> bool:
            sender.pump()
            verdicts.extend(daemon.step(POLL_MS))
            return bool(verdicts)

        wait_until(is_judged, "a verdict")
    assert [verdict.quality for verdict in verdicts] == [Quality.BAD]
    assert called == told
