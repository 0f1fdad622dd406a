"""The daemon that runs: its ports, its answers, and how old its last windows are."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

import httpx

from dqm.alarm import Activity
from dqm.config import DaemonConfig, is_local, url_on_host
from dqm.errors import DqmError, format_count, format_names
from dqm.export.answers import get_plain
from dqm.service.doctor.diagnosis import Diagnosis, amber, green, red

__all__ = ["ANSWER_SECONDS", "Answers", "ask_daemon", "ask_json", "look_at_daemon", "look_at_listeners"]

ANSWER_SECONDS = 5.0
"""Longest wait for any answer."""

LARGEST_ANSWER_BYTES = 64_000_000

MOST_NAMED = 5


@dataclass(frozen=True, slots=True)
class Answers:
    """What a daemon says.

    Parameters
    ----------
    url : str
        Its address.
    health, overview : dict
        As of ``/healthz`` and ``/api/v1/overview``; the latter is empty for somebody who may not read.
    ahead : float
        How far its clock is ahead of ours, s.
    """

    url: str
    health: dict[str, Any]
    overview: dict[str, Any] = field(default_factory=dict)
    ahead: float = 0.0

    @property
    def bundles(self) -> dict[str, set[str]]:
        """Bundles that the daemon uses, by stream."""
        return {one["name"]: set(one["bundles"]) for one in self.overview.get("streams", ())}


def ask_json(url: str, **query: str) -> tuple[dict[str, Any], float, int]:
    """Ask for JSON; give it, the time that the server's header has (our own if none), and the status.

    Raises
    ------
    DqmError
        If nobody answers, or the answer is not a JSON object.
    """
    try:
        answer = get_plain("GET", url, params=query, most_bytes=LARGEST_ANSWER_BYTES, seconds=ANSWER_SECONDS)
        content = answer.json()
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise DqmError(f"no answer: {error or type(error).__name__}", where=url) from None
    except ValueError:
        raise DqmError("the answer is not JSON", where=url, fix="Is this its address?") from None
    if not isinstance(content, dict):
        raise DqmError("the answer is not a JSON object", where=url, fix="Is this its address?")
    return content, _date_of(answer), answer.status_code


def _date_of(answer: httpx.Response) -> float:
    from email.utils import parsedate_to_datetime

    try:
        return parsedate_to_datetime(answer.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return time.time()


def ask_daemon(config: DaemonConfig) -> Answers | None:
    """Ask the daemon of a configuration for its state.

    Returns
    -------
    Answers or None
        None if its port is chosen when it starts.

    Raises
    ------
    DqmError
        If it does not answer.
    """
    url = url_on_host(config.daemon.http)
    if url is None:
        return None
    try:
        health, _, _ = ask_json(f"{url}/healthz")
    except DqmError as error:
        fix = error.fix or "Start it: 'dqm run', or 'systemctl start' of its unit"
        raise DqmError(error.what, where=error.where, fix=fix) from None
    overview, _, status = ask_json(f"{url}/api/v1/overview")
    if status != HTTPStatus.OK or "streams" not in overview:
        return Answers(url, health)
    return Answers(url, health, overview, float(overview["time"]) - time.time())


def look_at_daemon(config: DaemonConfig, answers: Answers, now: float) -> Iterator[Diagnosis]:
    """Check what the daemon says about itself and its streams."""
    if answers.health.get("status") != "ok":
        yield red(
            "daemon",
            f"it is stuck: {answers.health.get('reason', 'no reason given')}",
            "Look at the end of its log, and start it again",
        )
    elif not answers.overview:
        yield amber(
            "daemon", f"it answers at {answers.url}, and does not let you read", "Run it on the daemon's host"
        )
        return
    else:
        yield green("daemon", f"it answers at {answers.url}, version {answers.overview['version']}")
    yield from _look_at_streams(
        config, answers.overview.get("streams", ()), answers.overview.get("time", now)
    )
    if answers.overview.get("turned_away"):
        peers = [f"{peer['address']}: {peer['what']}" for peer in answers.overview["turned_away"]]
        told = format_names(peers, MOST_NAMED, separator="; ")
        yield amber(
            "daemon",
            f"turned away in the last 10 minutes: {told}",
            "A collector needs a key that the daemon has",
        )
    for one in answers.overview.get("untold", ()):
        yield red("mail", f"target {one['target']} could not be told of alarms: {one['reason']}", _TRY_NOTIFY)


_TRY_NOTIFY = "Correct it, then try it: 'dqm notify test CONFIG' sends a message"


def _look_at_streams(config: DaemonConfig, streams: Any, now: float) -> Iterator[Diagnosis]:
    known = {one["name"]: one for one in streams}
    missing = sorted({one.name for one in config.streams} - known.keys())
    if missing and known:
        yield amber(
            "windows", f"the daemon does not know {format_names(missing, MOST_NAMED)}", "Reload the daemon"
        )
    silent = []
    unseen = []
    ages = []
    for name, stream in known.items():
        last = stream["last"]
        if stream["activity"] == Activity.IDLE:
            continue
        if last is None:
            unseen.append(name)
            continue
        age = now - last["judged_at"]
        ages.append(age)
        if stream["activity"] == Activity.SILENT:
            silent.append(f"{name} ({age:.0f} s)")
    if silent:
        yield red(
            "windows",
            f"silent, no window for too long: {format_names(silent, MOST_NAMED)}",
            "Is a run on? Does the collector run, and does it reach the daemon?",
        )
    if unseen:
        yield amber(
            "windows",
            f"no window ever, or none in this run: {format_names(unseen, MOST_NAMED)}",
            "Start the collector; 'dqm check' of its configuration says what is wrong with it",
        )
    if not silent and not unseen:
        of_runs = f"the last is {min(ages):.0f} to {max(ages):.0f} s old" if ages else "no run is on"
        yield green("windows", f"{format_count(len(known), 'stream')}: {of_runs}")


def look_at_listeners(config: DaemonConfig) -> Iterator[Diagnosis]:
    """Connect to each address for windows, and hang up."""
    open_to = []
    for address in config.daemon.listen:
        if address.endswith(":0"):
            continue
        try:
            connect(address)
        except OSError as error:
            yield red("ports", f"nobody listens at {address}: {error.strerror or error}", "Start the daemon")
        else:
            open_to.append(address + ("" if is_local(address) else ", for other hosts with keys"))
    if open_to:
        yield green("ports", f"windows are taken at {'; '.join(open_to)}")


def connect(address: str) -> None:
    """Connect to ``tcp://HOST:PORT`` or ``ipc://PATH`` and hang up; raises `OSError`."""
    if address.startswith("ipc://"):
        with socket.socket(socket.AF_UNIX) as asking:
            asking.settimeout(ANSWER_SECONDS)
            asking.connect(address.removeprefix("ipc://"))
        return
    host, _, port = address.removeprefix("tcp://").rpartition(":")
    everywhere = {"0.0.0.0": "127.0.0.1", "[::]": "::1"}  # noqa: S104 - where it listens, not where we do
    place = everywhere.get(host, host.strip("[]"))
    with socket.create_connection((place, int(port)), timeout=ANSWER_SECONDS):
        pass
