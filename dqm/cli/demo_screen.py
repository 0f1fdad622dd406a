"""The demonstration on a terminal: one row a stream, or one line a window where nobody watches."""

from __future__ import annotations

import os
import signal
import time
import webbrowser
from collections.abc import Callable
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dqm.alarm import Alarm, describe_p
from dqm.cli.progress import progress_bar
from dqm.cli.tables import open_console
from dqm.cli.verdicts import quality_mark, quality_text, write_p
from dqm.demo.demonstration import (
    CHAMBERS,
    FAULTS,
    SECONDS,
    USER,
    Demonstration,
    Injection,
    learn_known_faults,
    make_directory,
    prepare_reference,
)
from dqm.errors import escape_text
from dqm.events import Quality, Verdict

__all__ = ["show_demonstration"]

REFRESH_SECONDS = 0.5
LAST_WINDOWS = 24


def show_demonstration(duration: float | None, directory: Path | None) -> bool:
    """Prepare the reference, run the demonstration on the screen and sum it up.

    Parameters
    ----------
    duration : float or None
        Seconds to scale the timeline to and to end after; None: 180, without end.
    directory : Path or None
        Where configurations, logs and verdicts go; None: the user's state directory.

    Returns
    -------
    bool
        Whether both faults were seen and the healthy chambers stayed good.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: no process of it may be left behind
        signal.signal(number, signal.default_int_handler)
    console = open_console()
    where = directory or _user_directory("XDG_STATE_HOME", "~/.local/state")
    cache = _user_directory("XDG_CACHE_HOME", "~/.cache")
    for each in (where, cache):
        make_directory(each)
    with progress_bar("reference: healthy toys", None) as progress:
        bundle = prepare_reference(cache, progress)
    with progress_bar("reference: known faults", None) as progress:
        learn_known_faults(bundle, progress)
    seconds = SECONDS if duration is None else duration
    with Demonstration(bundle, where.absolute(), seconds) as running:
        running.start_daemon()
        with console.status("starting the daemon ..."):
            _wait_until(running, lambda: running.is_listening)
        console.print(f"The page: http://{running.http}/  (metrics at /metrics)", style="bold")
        console.print(f"To acknowledge alarms there, sign in as {USER}, password {running.password}")
        console.print(f"Configurations, logs and verdicts in {running.directory}")
        _show_page(console, f"http://{running.http}/")
        running.start_collectors()
        with console.status("starting the collectors ..."):
            _wait_until(running, lambda: running.is_running)
        verdicts = _watch(console, running, seconds, endless=duration is None)
        alarmed = {alarm.stream for alarm in running.raised_alarms()}
    return _summarise(console, verdicts, alarmed)


def _show_page(console: Console, url: str) -> None:
    """Open the page, if somebody sits at a screen."""
    if console.is_terminal and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(url)


def _wait_until(running: Demonstration, is_ready: Callable[[], bool]) -> None:
    while not is_ready():
        running.check_processes()
        time.sleep(0.1)


def _watch(
    console: Console, running: Demonstration, seconds: float, *, endless: bool
) -> dict[str, list[Verdict]]:
    """Show the streams until the time is over, or Ctrl-C."""
    begin = time.monotonic()
    verdicts = running.verdicts()
    told = 0
    raised: list[Alarm] = []
    with Live(console=console, auto_refresh=False, transient=not console.is_terminal) as live:
        try:
            while (elapsed := time.monotonic() - begin) < seconds or endless:
                verdicts = running.verdicts()
                raised, known = running.raised_alarms(), len(raised)
                for alarm in raised[known:]:
                    seen = escape_text(alarm.text)
                    console.print(f"ALARM {alarm.stream}, {alarm.cause}: {seen}", style="bold red")
                scaled = elapsed * SECONDS / seconds
                if console.is_terminal:
                    live.update(_screen(verdicts, scaled, elapsed), refresh=True)
                else:
                    told = _tell_new(console, verdicts, told)
                time.sleep(REFRESH_SECONDS)
        except KeyboardInterrupt:
            console.print("stopped")
    return verdicts


def _screen(verdicts: dict[str, list[Verdict]], timeline: float, elapsed: float) -> Group:
    """Lay out one row a stream."""
    table = Table(box=SIMPLE)
    for name in ("stream", "quality"):
        table.add_column(name, no_wrap=True)
    for name in ("p", "Z", "age", "windows"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("last windows", no_wrap=True)
    table.add_column("injected fault")
    now = time.time()
    for number, chamber in enumerate(CHAMBERS):
        seen = verdicts[chamber]
        last = seen[-1] if seen else None
        z = last.result.z if last else None
        marks = Text.assemble(*(quality_mark(v.quality) for v in seen[-LAST_WINDOWS:]))
        faults = [f.label for f in FAULTS if f.chamber == number and f.seconds <= timeline]
        table.add_row(
            chamber,
            quality_text(last.quality if last else Quality.NULL),
            write_p(last.result) if last else "-",
            "-" if z is None else f"{z:.1f}",
            f"{now - last.judged_at:.0f} s" if last else "no window yet",
            str(len(seen)),
            marks,
            Text(", ".join(faults), style="yellow"),
        )
    next_fault = min((f for f in FAULTS if f.seconds > timeline), key=lambda f: f.seconds, default=None)
    return Group(Text(f"dqm demo, {elapsed:.0f} s; {_announcement(next_fault, timeline, elapsed)}"), table)


def _announcement(fault: Injection | None, timeline: float, elapsed: float) -> str:
    if fault is None:
        return "both faults are on. Ctrl-C ends it"
    wait = (fault.seconds - timeline) * (elapsed / timeline if timeline else 1.0)
    return f"next: {fault.label} in {CHAMBERS[fault.chamber]} in {wait:.0f} s"


def _tell_new(console: Console, verdicts: dict[str, list[Verdict]], told: int) -> int:
    """Where nobody watches: one line for each window."""
    everything = sorted((v for seen in verdicts.values() for v in seen), key=lambda v: v.judged_at)
    for v in everything[told:]:
        said = v.reason or describe_p(v.result.p or 1.0)
        console.print(f"{v.window.stream} window {v.window.seq}: {v.quality}, {said}")
    return len(everything)


def _summarise(console: Console, verdicts: dict[str, list[Verdict]], alarmed: set[str]) -> bool:
    """Say what was seen and whether it is what was injected."""
    faulty = {CHAMBERS[fault.chamber]: fault.label for fault in FAULTS}
    as_expected = True
    for chamber, seen in verdicts.items():
        counts = ", ".join(f"{n} {q}" for q in Quality if (n := sum(v.quality is q for v in seen)))
        as_expected &= bool(seen) and (chamber in alarmed) == (chamber in faulty)
        outcome = "alarm" if chamber in alarmed else "no alarm"
        truth = f"injected: {faulty[chamber]}" if chamber in faulty else "healthy"
        console.print(f"{chamber}: {outcome} ({truth}); windows: {counts or 'none'}")
    console.print("as it should be" if as_expected else "NOT as it should be")
    return as_expected


def _user_directory(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser() / "dqm" / "demo"
