"""The demonstration on a terminal: one row for each stream; without a terminal, one line for each window."""

from __future__ import annotations

import os
import signal
import time
import webbrowser
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.box import SIMPLE
from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text

from dqm.alarm import Alarm, Cause, describe_p
from dqm.cli.progress import progress_bar
from dqm.cli.tables import open_console
from dqm.cli.verdicts import quality_mark, quality_text, write_events
from dqm.demo.demonstration import (
    USER,
    Demonstration,
    claim_directory,
    make_directory,
    mark_directory,
    refuse_foreign,
)
from dqm.demo.scenario import Injection, Scenario
from dqm.demo.simulated import (
    SECONDS,
    learn_known_faults,
    prepare_channels,
    prepare_reference,
    simulated_scenario,
)
from dqm.errors import escape_text, format_count
from dqm.events import Quality, Verdict, write_p

__all__ = ["prepare_directories", "run_scenario", "show_demonstration"]

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
        Whether every fault raised its alarm and no healthy chamber raised any.
    """
    state, cache = prepare_directories(directory)
    seconds = SECONDS if duration is None else duration
    with progress_bar("reference: healthy toys", None) as progress:
        bundle = prepare_reference(cache, progress)
    with progress_bar("reference: known faults", None) as progress:
        learn_known_faults(bundle, progress)
    with progress_bar("reference: channels", None) as progress:
        channels = prepare_channels(cache, progress, seconds)
    return run_scenario(simulated_scenario(bundle, channels, seconds), state, endless=duration is None)


def show_own_run(
    files: list[Path],
    *,
    features: tuple[str, ...] | None,
    chamber: str | None,
    reading: Mapping[str, object],
    window: float | None,
    duration: float | None,
    directory: Path | None,
) -> bool:
    """Prepare a user's own good run, put faults on top of it, run it on the screen and sum it up.

    Parameters
    ----------
    files, features, chamber, reading, window
        As in `dqm.demo.own_run.read_own_run`.
    duration, directory
        As in `show_demonstration`.

    Returns
    -------
    bool
        Whether every fault raised its alarm and the healthy stream raised none.
    """
    from dqm.demo.own_run import own_scenario, prepare_own_reference, read_own_run

    state, cache = prepare_directories(directory)
    run = read_own_run(files, features, chamber, window, reading=reading)
    console = open_console()
    console.print(
        f"reference: the first {format_count(len(run.known), 'event')} of {', '.join(run.names)}; "
        f"then windows of {run.window:g} events, cut by {run.cut}"
    )
    if run.remark:
        console.print(run.remark)
    with progress_bar("reference: healthy toys", None) as progress:
        bundle = prepare_own_reference(run, cache, progress)
    claim_directory(state)  # it writes there
    scenario = own_scenario(run, bundle, state, SECONDS if duration is None else duration)
    return run_scenario(scenario, state, endless=duration is None)


def prepare_directories(directory: Path | None) -> tuple[Path, Path]:
    """Make the directories for configurations, logs and verdicts, and for bundles; Ctrl-C ends all processes.

    Parameters
    ----------
    directory : Path or None
        The first of them; None: the user's state directory, which has a part for demonstrations alone.

    Raises
    ------
    ConfigError
        If one cannot be made, or the given one has files that no demonstration made.
    """
    for number in (signal.SIGTERM, signal.SIGHUP):  # as Ctrl-C: no process of it may be left behind
        signal.signal(number, signal.default_int_handler)
    state = directory or _user_directory("XDG_STATE_HOME", "~/.local/state")
    cache = _user_directory("XDG_CACHE_HOME", "~/.cache")
    for each in (state, cache):
        make_directory(each)
    if directory is None:
        mark_directory(state)
    else:
        refuse_foreign(state)  # before the references, which take minutes
    return state.absolute(), cache


def run_scenario(scenario: Scenario, state: Path, *, endless: bool) -> bool:
    """Run a scenario on the screen and sum it up.

    Parameters
    ----------
    scenario : Scenario
        What to show.
    state : Path
        Where configurations, logs and verdicts go.
    endless : bool
        Whether it goes on after the timeline, until Ctrl-C.

    Returns
    -------
    bool
        Whether every fault raised its alarm and no healthy stream raised any.
    """
    console = open_console()
    with Demonstration(scenario, state) as running:
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
        verdicts = _watch(console, running, endless=endless)
        raised = running.raised_alarms()
    return _summarise(console, scenario, verdicts, raised)


def _show_page(console: Console, url: str) -> None:
    """Open the page, if somebody sits at a screen."""
    if console.is_terminal and any(os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")):
        webbrowser.open(url)


def _wait_until(running: Demonstration, is_ready: Callable[[], bool]) -> None:
    while not is_ready():
        running.check_processes()
        time.sleep(0.1)


def _watch(console: Console, running: Demonstration, *, endless: bool) -> dict[str, list[Verdict]]:
    """Show the streams until the time is over, or Ctrl-C."""
    seconds = running.scenario.seconds
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
                if console.is_terminal:
                    live.update(_screen(running.scenario, verdicts, elapsed), refresh=True)
                else:
                    told = _tell_new(console, verdicts, told)
                time.sleep(REFRESH_SECONDS)
        except KeyboardInterrupt:
            console.print("stopped")
    return verdicts


def _screen(scenario: Scenario, verdicts: dict[str, list[Verdict]], elapsed: float) -> Group:
    """Lay out one row a stream."""
    table = Table(box=SIMPLE)
    for name in ("stream", "quality"):
        table.add_column(name, no_wrap=True)
    for name in ("p", "Z", "events", "age"):
        table.add_column(name, no_wrap=True, justify="right")
    table.add_column("last windows", no_wrap=True)
    table.add_column("injected fault")
    now = time.time()
    for stream in scenario.streams:
        seen = verdicts[stream]
        last = seen[-1] if seen else None
        z = last.result.z if last else None
        marks = Text.assemble(*(quality_mark(v.quality) for v in seen[-LAST_WINDOWS:]))
        fault = scenario.last_fault(stream, elapsed)
        table.add_row(
            stream,
            quality_text(last.quality if last else Quality.NULL),
            write_p(last.result.p, last.result.p_method) if last else "-",
            "-" if z is None else f"{z:.1f}",
            write_events(last.result) if last else "-",
            f"{now - last.judged_at:.0f} s" if last else "no window yet",
            marks,
            Text(fault.label if fault else "", style="yellow"),
        )
    announced = _announcement(scenario.next_fault(elapsed), elapsed)
    return Group(Text(f"dqm demo, {elapsed:.0f} s; {announced}"), table)


def _announcement(fault: Injection | None, elapsed: float) -> str:
    if fault is None:
        return "all faults are on. Ctrl-C ends it"
    return f"next: {fault.label} in {fault.stream} in {fault.seconds - elapsed:.0f} s"


def _tell_new(console: Console, verdicts: dict[str, list[Verdict]], told: int) -> int:
    """Print one line for each window, where no terminal shows the table."""
    everything = sorted((v for seen in verdicts.values() for v in seen), key=lambda v: v.judged_at)
    for v in everything[told:]:
        said = "; ".join(filter(None, (v.reason or describe_p(v.result.p or 1.0), _worst_channel(v))))
        console.print(f"{v.window.stream} window {v.window.seq}: {v.quality}, {said}")
    return len(everything)


def _summarise(
    console: Console, scenario: Scenario, verdicts: dict[str, list[Verdict]], raised: list[Alarm]
) -> bool:
    """Say what was seen and whether it is what was injected."""
    as_expected = True
    for stream, seen in verdicts.items():
        counts = ", ".join(f"{n} {q}" for q in Quality if (n := sum(v.quality is q for v in seen)))
        causes = [cause for cause in Cause if (stream, cause) in {(a.stream, a.cause) for a in raised}]
        fault = scenario.last_fault(stream)
        as_expected &= bool(seen) and (fault.cause in causes if fault else not causes)
        outcome = f"alarm {', '.join(causes)}" if causes else "no alarm"
        truth = f"injected: {fault.label}" if fault else "healthy"
        console.print(f"{stream}: {outcome} ({truth}); windows: {counts or 'none'}")
        if fault is None and causes:
            console.print("  a false alarm, or this part of the run differs from the part before it")
        if fault is not None and fault.cause not in causes:
            console.print(f"  not seen: {_why_unseen(fault, seen)}")
        if fault is not None and fault.channel is not None:
            as_expected &= bool(seen) and _channels_named(seen[-1]) == (fault.channel,)
            console.print(f"  last window: {_worst_channel(seen[-1]) or 'no channel named'}" if seen else "")
    console.print("as it should be" if as_expected else "NOT as it should be")
    return as_expected


def _why_unseen(fault: Injection, seen: list[Verdict]) -> str:
    """Say why a fault raised no alarm, as far as the windows since then show it."""
    begin = next((v.window.start for v in seen if v.window.start is not None), None)
    since = [v for v in seen if begin is not None and (v.window.start or 0.0) >= begin + fault.seconds - 0.5]
    if not since:
        return "no window came after it; take a longer --duration"
    if fault.cause is Cause.RATE and not any(v.result.rate for v in since):
        return "the number of events is not tested in these windows"
    n_bad = sum(v.quality is Quality.BAD for v in since)
    tested = [v.result.rate if fault.cause is Cause.RATE else v.result for v in since]
    smallest = min((one.p for one in tested if one is not None and one.p is not None), default=None)
    p = "no window could be tested" if smallest is None else f"the smallest p is {smallest:.2g}"
    return (
        f"{n_bad} of {format_count(len(since), 'window')} since are Bad, {p}; 2 of the last 3 must count. "
        "Larger windows, of a longer run, see smaller changes: --window"
    )


def _channels_named(verdict: Verdict) -> tuple[int, ...]:
    """Give the channels that depart in a window."""
    found = verdict.result.channels
    return () if found is None else tuple(one.channel for one in found.worst)


def _worst_channel(verdict: Verdict) -> str:
    """Name the channel that departs most; empty if none does."""
    found = verdict.result.channels
    if found is None or not found.worst:
        return ""
    one = found.worst[0]
    seen = format_count(one.hits, "hit")
    return f"wire {one.wire} of layer {one.layer}: {seen} where {one.expected:.0f} are expected"


def _user_directory(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable) or default).expanduser() / "dqm" / "demo"
