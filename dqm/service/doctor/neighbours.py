"""The programs around the daemon: Dask, Prometheus, Grafana, receivers of messages, systemd."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dqm.config import DaemonConfig, NotifySection, read_target_url, read_token
from dqm.errors import ConfigError, DqmError, NoticeError, WorkerError, format_count
from dqm.service.doctor.diagnosis import Diagnosis, amber, green, red
from dqm.service.doctor.running import ANSWER_SECONDS, ask_json

__all__ = [
    "USUAL_PROMETHEUS",
    "look_at_cluster",
    "look_at_grafana",
    "look_at_notify",
    "look_at_prometheus",
    "look_at_units",
]

USUAL_PROMETHEUS = "http://localhost:9090"

_JOB = "dqm"
_AN_ALERT = "DqmDown"
_SETTLED = {"offline", "unknown", ""}


def look_at_prometheus(url: str | None, http: str | None, offsets: dict[str, float]) -> Iterator[Diagnosis]:
    """Look whether Prometheus scrapes the daemon and has its rules.

    Parameters
    ----------
    url : str or None
        Its address; None: not given, so the usual one is tried.
    http : str or None
        Address of the daemon; None if it is not known.
    offsets : dict of str to float
        Gets how far the clock of Prometheus is ahead of ours.
    """
    place = url or USUAL_PROMETHEUS
    try:
        answer, date, _ = ask_json(f"{place}/api/v1/targets", state="active")
    except DqmError as error:
        if url is not None:
            yield red(
                "prometheus",
                f"{place}: {error.what}",
                "Start Prometheus, or give its address by --prometheus",
            )
        else:
            yield amber(
                "prometheus",
                f"none at {place}: nobody watches the daemon itself",
                "Give its address by --prometheus, or '--prometheus none'; see docs/dashboards.md",
            )
        return
    offsets["Prometheus"] = date - time.time() + 0.5  # the header has whole seconds
    targets = [one for one in _list(answer, "activeTargets") if one.get("labels", {}).get("job") == _JOB]
    yield from _look_at_targets(place, targets, http)
    rules, _, _ = ask_json(f"{place}/api/v1/rules", type="alert")
    names = {rule.get("name") for group in _list(rules, "groups") for rule in group.get("rules", ())}
    if _AN_ALERT not in names:
        yield amber(
            "prometheus",
            f"{place} does not have the alerts on the daemon",
            "Add the rules that 'dqm dashboards path' shows, prometheus/rules/*.yml, to its configuration",
        )


def _look_at_targets(place: str, targets: list[dict[str, Any]], http: str | None) -> Iterator[Diagnosis]:
    port = urlsplit(http).port if http else None
    ours = [one for one in targets if port is None or urlsplit(str(one.get("scrapeUrl"))).port == port]
    if not ours:
        what = f"no target of the job '{_JOB}'" + (f" has the port {port}" if port and targets else "")
        yield red(
            "prometheus", f"{place} has {what}", "Add the daemon to scrape_configs, see docs/dashboards.md"
        )
        return
    down = [one for one in ours if one.get("health") != "up"]
    if down:
        why = str(down[0].get("lastError") or "not scraped yet")
        yield red(
            "prometheus",
            f"{place} cannot scrape {down[0].get('scrapeUrl')}: {why}",
            "Is it the daemon's name and port? From other hosts it needs a user with the role viewer",
        )
    else:
        yield green("prometheus", f"{place} scrapes {ours[0].get('scrapeUrl')}")


def _list(answer: dict[str, Any], key: str) -> list[dict[str, Any]]:
    data = answer.get("data")
    found = data.get(key) if isinstance(data, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []


def look_at_cluster(address: str | None) -> Iterator[Diagnosis]:
    """Connect to the scheduler whose workers test the windows, if there is one, and count its workers."""
    if address is None:
        return
    from dqm.reference import open_cluster

    try:
        with open_cluster(address) as cluster:
            threads = cluster.threads()
    except WorkerError as error:
        yield red("cluster", f"{address}: {error.what}", error.fix or "See the message")
        return
    if threads:
        found = f"{format_count(len(threads), 'worker')} with {format_count(sum(threads.values()), 'thread')}"
        yield green("cluster", f"{address} has {found}")
    else:
        yield amber(
            "cluster",
            f"{address} has no workers: the daemon tests all windows itself",
            f"Start some: 'dask worker {address}'",
        )


def look_at_grafana(config: DaemonConfig) -> Iterator[Diagnosis]:
    """Look whether Grafana has the dashboards as they are; raises `DqmError` if it cannot be asked."""
    section = config.grafana
    if section is None:
        return
    from dqm.export.grafana import Grafana, PushOutcome, push

    with Grafana(section.url, read_token(section.token_file), ANSWER_SECONDS) as grafana:
        steps = list(push(grafana, dry_run=True))
    others = [
        f"{one.what}: {_WORDS[one.outcome]}" for one in steps if one.outcome is not PushOutcome.UNCHANGED
    ]
    if others:
        yield amber(
            "grafana", f"{section.url}: {'; '.join(others)}", f"Run 'dqm dashboards push --url {section.url}'"
        )
    else:
        yield green("grafana", f"{section.url} has folder, data source and dashboards as they are")


_WORDS = {"created": "missing", "changed": "different"}


def look_at_notify(section: NotifySection | None) -> Iterator[Diagnosis]:
    """Connect to each receiver of messages, and send nothing."""
    if section is None:
        yield amber(
            "mail",
            "the daemon tells nobody of alarms",
            "Add a table [notify], see docs/alarms.md, unless Alertmanager does it",
        )
        return
    from dqm.export.notice_target import NoticeTarget

    for name, target in section.targets.items():
        try:
            is_known = NoticeTarget(name, read_target_url(name, target)).reach(ANSWER_SECONDS)
        except (ConfigError, NoticeError) as error:
            yield red(
                "mail", f"target {name}: {error.what}", "Correct it; 'dqm notify test CONFIG' sends a message"
            )
            continue
        if is_known:
            yield green("mail", f"target {name} answers; nothing was sent")
        else:
            yield amber(
                "mail",
                f"target {name} cannot be checked without a message",
                "'dqm notify test CONFIG' sends one",
            )


def look_at_units(config: Path) -> Iterator[Diagnosis]:
    """Look at the unit of systemd that runs a configuration; says nothing where systemd does not run."""
    program = shutil.which("systemctl")
    if program is None or _ask(program, "is-system-running").strip() in _SETTLED:
        return
    keys = ("Id", "ActiveState", "SubState", "Result", "NRestarts", "UnitFileState", "ExecStart")
    told = _ask(program, "show", "dqm*", "--all", *(f"--property={key}" for key in keys))
    units = [dict(re.findall(r"^(\w+)=(.*)$", block, re.MULTILINE)) for block in told.split("\n\n")]
    ours = [unit for unit in units if str(config.resolve()) in re.split(r"[\s;]+", unit.get("ExecStart", ""))]
    if not ours:
        yield amber(
            "systemd",
            f"no unit runs {config.resolve()}: after a reboot nothing starts it",
            "Install the units that 'dqm init' wrote, or those of systemd/README.md",
        )
    for unit in ours:
        yield from _look_at_unit(unit)


def _look_at_unit(unit: dict[str, str]) -> Iterator[Diagnosis]:
    name = unit["Id"]
    state = unit.get("ActiveState", "")
    if state != "active":
        yield red(
            "systemd",
            f"{name} is {state} ({unit.get('SubState', '')}, result {unit.get('Result', '')})",
            f"See 'systemctl status {name}' and 'journalctl -u {name}', then 'systemctl start {name}'",
        )
    elif unit.get("UnitFileState") not in ("enabled", "enabled-runtime"):
        yield amber("systemd", f"{name} does not start with the machine", f"Run 'systemctl enable {name}'")
    else:
        restarts = unit.get("NRestarts", "0")
        again = "" if restarts == "0" else f", started again {restarts} times by itself: see its journal"
        yield green("systemd", f"{name} is active and enabled{again}")


def _ask(program: str, *arguments: str) -> str:
    told = subprocess.run(  # noqa: S603 - our own arguments
        [program, *arguments], capture_output=True, text=True, check=False, timeout=4 * ANSWER_SECONDS
    )
    return told.stdout
