"""``dqm init``: from a collector and a good run to a monitor that can be started."""

from __future__ import annotations

import re
import shlex
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from dqm.cli.nuisances import LARGEST_WINDOW, MOST_TOYS
from dqm.cli.output import say
from dqm.cli.parallel import ProcessesOption, open_workers
from dqm.cli.progress import progress_bar
from dqm.cli.settings import Features, parse_settings, split_names
from dqm.config import NAME_PATTERN, installed_plugins, parse_value, removing_if_empty
from dqm.errors import ConfigError, DqmError, format_count
from dqm.events import SMALLEST_WINDOW, WindowCut

if TYPE_CHECKING:
    from dqm.service.installation import Detector, GoodRun, Layout, Windows, Workplace

__all__ = ["init"]

Answer = TypeVar("Answer")

MOST_OF_NAME = 24
"""Characters of a name: those of chambers follow in the names of streams."""

USUAL_PER_HOUR = 60.0
"""Windows in an hour, where the good run has no times; as ``[alarm] windows_per_hour``."""


def init(
    directory: Annotated[Path, typer.Argument(metavar="DIR", help="Directory to make.")],
    collector: Annotated[
        str | None, typer.Option(help="What reads the detector: tdc, beam, replay, kafka or another.")
    ] = None,
    inputs: Annotated[
        list[Path] | None,
        typer.Option("--input", metavar="FILE", help="What it reads: file, directory or pipe; repeatable."),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Option of the collector, value as in TOML; repeatable."
        ),
    ] = None,
    run: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="Good run: input of the collector, or a Parquet file of 'dqm extract'; repeatable.",
        ),
    ] = None,
    features: Features = None,
    window: Annotated[
        float | None,
        typer.Option(
            min=SMALLEST_WINDOW,
            max=LARGEST_WINDOW,
            help="Events in a window; default: the largest that the run allows.",
        ),
    ] = None,
    cut: Annotated[
        WindowCut, typer.Option(help="What closes the windows; with time a dead chamber is seen by its rate.")
    ] = WindowCut.COUNT,
    toys: Annotated[
        int | None,
        typer.Option(
            min=100, max=MOST_TOYS, help="Toys in the null table; default: what the false-alarm budget needs."
        ),
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Name for streams and units; default: that of the directory.")
    ] = None,
    listen: Annotated[str, typer.Option(help="Address for windows.")] = "tcp://127.0.0.1:5565",
    http: Annotated[str, typer.Option(help="Address of the page.")] = "127.0.0.1:8787",
    user: Annotated[
        str, typer.Option(help="User that the units run as; default: you, or dqm if you are root.")
    ] = "",
    processes: ProcessesOption = None,
) -> None:
    """Make a first installation: configurations, references, units of systemd; say what comes next.

    On a terminal it asks for what no option says. After an interruption the same command continues where it
    was.
    """
    from dqm.service.installation import Layout, Workplace, check_addresses, read_good_run
    from dqm.service.installation.workplace import find_place, refuse_taken

    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: workers end with it
    place_of_all = find_place(directory)
    refuse_taken(place_of_all)
    name = _check_name(name or place_of_all.name)
    check_addresses(listen, http)
    detector = _ask_for_detector(collector, inputs or [], option or [], run or [])
    for path in detector.missing_inputs:
        say(f"note: {path} is not there yet", err=True)
    with removing_if_empty(place_of_all.parent), Workplace(directory, detector.key_of_run) as place:
        if place.goes_on:
            say(f"{directory}: continues where it was interrupted")
        with progress_bar("good run: events", None) as progress:
            found = read_good_run(detector, place.folder, split_names(features), progress)
        say(_describe(found))
        if features is None and _is_asked():
            found = _ask_for_features(found, lambda names: read_good_run(detector, place.folder, names))
        if features is not None or _is_asked():
            detector = detector.sending(found.features)
        windows = _choose_windows(found, window, cut)
        layout = Layout(
            place.directory,
            name,
            tuple(one.chamber for one in found.chambers),
            listen,
            http,
            user,
            detector.written_directories,
        )
        _make(place, layout, detector, found, windows, toys=toys, processes=processes)
    _say_what_comes_next(layout)


def _check_name(name: str) -> str:
    if not re.fullmatch(NAME_PATTERN, name) or len(name) > MOST_OF_NAME:
        raise ConfigError(
            f"{name!r} cannot be in the names of streams and units",
            where="--name",
            fix=f"Give 1 to {MOST_OF_NAME} letters, digits, '.', '_' and '-'",
        )
    return name


def _ask_for_detector(
    collector: str | None, inputs: list[Path], option: list[str], run: list[Path]
) -> Detector:
    """Take options; ask for the rest on a terminal, and raise `ConfigError` with all of it elsewhere."""
    from dqm.service.installation import Detector, required_options, try_good_run

    installed = ", ".join(installed_plugins("dqm.collectors"))
    missing = ["--collector"] if collector is None and not _is_asked() else []
    if collector is None and not missing:
        collector = _ask_until(f"What reads the detector ({installed})", _check_collector, default="replay")
    options: dict[str, object] = {"inputs": list(inputs)} if inputs else {}
    options |= parse_settings(option)
    needed = required_options(collector) if collector else {}
    unknown = {key: meaning for key, meaning in needed.items() if key not in options}
    if not _is_asked():
        shown = {key: "--input" if key == "inputs" else f"--set {key}=..." for key in unknown}
        missing += [f"{shown[key]} ({meaning})" for key, meaning in unknown.items()]
        missing += [] if run else ["--run"]
    if missing or collector is None:
        raise ConfigError(
            f"{', '.join(missing)} must be given",
            fix="Give them; on a terminal 'dqm init' asks for them",
        )
    if unknown:
        options = _ask_for_options(collector, options, unknown)
    if run:
        return Detector(collector, options, tuple(run))

    def open_run(answer: str) -> Detector:
        detector = Detector(collector, options, tuple(Path(part).expanduser() for part in _split(answer)))
        try_good_run(detector)
        return detector

    return _ask_until("Files of a good run, for the reference", open_run)


def _check_collector(answer: str) -> str:
    from dqm.service.installation import required_options

    required_options(answer)
    return answer


def _ask_for_options(
    collector: str, options: Mapping[str, object], unknown: Mapping[str, str]
) -> dict[str, object]:
    """Ask for options until the collector takes all of them; the answers before are proposed again."""
    from dqm.service.collector.sources import open_source, refuse_missing_inputs

    texts: dict[str, str] = {}
    while True:
        for key, meaning in unknown.items():
            texts[key] = str(typer.prompt(f"{key}: {meaning}", default=texts.get(key)))
        try:
            asked = {key: _read_option(key, text) for key, text in texts.items()}
            refuse_missing_inputs(open_source(collector, {**options, **asked}), "inputs")
        except DqmError as error:
            _say_wrong(error)
        else:
            return {**options, **asked}


def _read_option(key: str, text: str) -> object:
    return [str(Path(part).expanduser()) for part in _split(text)] if key == "inputs" else parse_value(text)


def _split(text: str) -> list[str]:
    """Split what a shell would split."""
    try:
        return shlex.split(text)
    except ValueError as error:
        raise ConfigError(
            f"{text!r} has a quotation mark without a second one", fix="Add it, or leave it out"
        ) from error


def _ask_until(question: str, read: Callable[[str], Answer], default: str | None = None) -> Answer:
    """Ask until an answer can be used, and give what it means."""
    while True:
        answer = str(typer.prompt(question, default=default))
        try:
            return read(answer)
        except DqmError as error:
            _say_wrong(error)


def _say_wrong(error: DqmError) -> None:
    say(f"error: {error}", err=True)


def _is_asked() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


def _ask_for_features(found: GoodRun, read: Callable[[tuple[str, ...] | None], GoodRun]) -> GoodRun:
    usual = ",".join(found.features)
    return _ask_until(
        "Features, separated by commas",
        lambda answer: found if answer == usual else read(split_names(answer)),
        default=usual,
    )


def _choose_windows(found: GoodRun, window: float | None, cut: WindowCut) -> Windows:
    from dqm.service.installation import Windows, check_window, choose_window
    from dqm.service.offline.run_advice import Budget

    if window is not None:
        return Windows.of(found.chambers, cut, window)
    threshold = Budget.of(len(found.chambers), 1.0, USUAL_PER_HOUR).thresholds.p_threshold
    chosen = Windows.of(found.chambers, cut, choose_window(found.fewest_events, cut, threshold))
    if not _is_asked():
        return chosen

    def read(answer: str) -> Windows:
        n_events = parse_value(answer)
        if not isinstance(n_events, int | float) or not SMALLEST_WINDOW <= n_events <= LARGEST_WINDOW:
            raise ConfigError(
                f"{answer!r} is no number of events",
                fix=f"Give a number of at least {SMALLEST_WINDOW}, or nothing for the default",
            )
        check_window(found.fewest_events, n_events, cut, threshold)
        return Windows.of(found.chambers, cut, n_events)

    return _ask_until("Events in a window", read, default=f"{chosen.n_events:g}")


def _make(
    place: Workplace,
    layout: Layout,
    detector: Detector,
    found: GoodRun,
    windows: Windows,
    *,
    toys: int | None,
    processes: int | None,
) -> None:
    """Write everything, then calibrate. Mistakes are found before the calibration, which takes minutes."""
    from dqm.reference.splits import most_of_splits
    from dqm.service.installation import build_reference, check_installation, count_toys, write_configuration

    write_configuration(place.folder, layout, detector, windows)
    n_toys = toys or count_toys(len(layout.streams), windows.per_hour or USUAL_PER_HOUR)
    most = n_toys if toys else most_of_splits(n_toys)
    fewer = f" ({most} if they are of fresh splits)" if most < n_toys else ""
    sizes = f"windows of {windows.n_events:g} events, {n_toys} toys{fewer}"
    say(f"{sizes}; after Ctrl-C the same command continues")
    with open_workers(processes, None, ship=False) as workers:
        for one in found.chambers:
            stream = layout.streams[one.chamber]
            status = build_reference(
                one,
                place.folder / layout.bundle(stream),
                window=windows.expected_of(one.chamber),
                cut=windows.cut,
                n_toys=n_toys,
                most_of_splits=most,
                workers=workers,
                showing=progress_bar,
            )
            say(f"{stream}: reference certified, {status.certificate.light if status.certificate else '-'}")
    check_installation(place.folder)
    place.finish()


def _describe(found: GoodRun) -> str:
    parts = [
        f"{one.chamber}: {format_count(one.events.n_events, 'event')}"
        + (f", {one.rate_hz:.3g} Hz" if one.rate_hz else "")
        for one in found.chambers
    ]
    return f"good run: chamber {'; '.join(parts)}\nfeatures: {', '.join(found.features)}"


def _say_what_comes_next(layout: Layout) -> None:
    say(f"{layout.directory}: ready. Next:")
    width = max(len(command) for command, _ in layout.first_commands)
    for command, meaning in layout.first_commands:
        say(f"  {command:{width}}   # {meaning}")
    say("As services of systemd, as root:")
    for command in layout.service_commands:
        say(f"  {command}")
