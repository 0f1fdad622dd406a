"""Grafana over its HTTP API: upload of dashboards, and annotations.

Only this module uses `grafana_client` and knows its errors.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

from dqm.errors import DqmError, GrafanaError
from dqm.export.answers import bounded_adapter

__all__ = ["Annotation", "Grafana", "PushOutcome", "Step", "dashboard_files", "push"]

FOLDER = {"uid": "dqm", "title": "dqm"}
SOURCE_UID = "dqm-prometheus"
SOURCE_URL = "http://localhost:9090"
TIMEOUT_SECONDS = 5.0
MOST_ANNOTATIONS = 100
MOST_BYTES = 64_000_000
"""Longest answer."""
NOT_FOUND = 404
"""Status of an answer."""

TOO_MANY_REQUESTS = 429
"""Status of an answer."""

_Json = dict[str, Any]
_FIXES = {
    401: "The token is wrong or has expired: make a new one for the service account",
    403: "The service account needs the role Admin to push, Editor to annotate; what was provisioned from a "
    "file can only be changed there",
    404: "Is this the address of a Grafana, with its path if it is served under one?",
}


class PushOutcome(StrEnum):
    """What a push did with one item."""

    CREATED = "created"
    CHANGED = "changed"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True)
class Step:
    """One item that was pushed.

    Parameters
    ----------
    what : str
        Kind and title: ``dashboard dqm: stream``.
    outcome : PushOutcome
        What was done, or would be done.
    """

    what: str
    outcome: PushOutcome


@dataclass(frozen=True, slots=True)
class Annotation:
    """A mark over an interval of time.

    Parameters
    ----------
    start, end : float
        From when to when, Unix seconds; equal while the end is open.
    tags : tuple of str
        Tags by which it is found.
    text : str
        Its text, HTML.
    identifier : int or None
        Number given by Grafana; None before that.
    """

    start: float
    end: float
    tags: tuple[str, ...]
    text: str
    identifier: int | None = None


class Grafana:
    """A Grafana server; the first method that is called connects to it.

    Parameters
    ----------
    url : str
        Its address, see `dqm.config.check_url`.
    token : str
        Token of a service account.
    timeout_seconds : float
        Longest wait for an answer.
    """

    def __init__(self, url: str, token: str, timeout_seconds: float = TIMEOUT_SECONDS) -> None:
        from grafana_client.api import GrafanaApi  # takes a quarter of a second, and few commands need it
        from niquests.adapters import HTTPAdapter
        from niquests.exceptions import ContentDecodingError

        parts = urlsplit(url)
        host = parts.hostname or ""
        path = parts.path.strip("/")
        self.url = url
        self._api = GrafanaApi(
            auth=token,
            host=f"[{host}]" if ":" in host else host,
            port=parts.port,
            url_path_prefix=f"{path}/" if path else "",
            protocol=parts.scheme,
            timeout=timeout_seconds,
        )
        adapter = bounded_adapter(HTTPAdapter, MOST_BYTES, ContentDecodingError)
        for scheme in ("http://", "https://"):
            self._api.client.s.mount(scheme, adapter())

    def close(self) -> None:
        """Close the connections."""
        self._api.client.s.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def push_folder(self, folder: Mapping[str, str], *, dry_run: bool) -> PushOutcome:
        """Create or update the folder with this ``uid`` and ``title``."""
        with self._asking("folder"):
            old = _or_none(lambda: self._api.folder.get_folder(folder["uid"]))
            if old is None:
                if not dry_run:
                    self._api.folder.create_folder(folder["title"], folder["uid"])
                return PushOutcome.CREATED
            if old["title"] == folder["title"]:
                return PushOutcome.UNCHANGED
            if not dry_run:
                self._api.folder.update_folder(folder["uid"], folder["title"], overwrite=True)
            return PushOutcome.CHANGED

    def push_source(self, url: str | None, *, dry_run: bool) -> PushOutcome:
        """Create or update the data source for Prometheus at `url`; None leaves an existing one as it is."""
        with self._asking("data source"):
            old = _or_none(lambda: self._api.datasource.get_datasource_by_uid(SOURCE_UID))
            if old is None:
                if not dry_run:
                    self._api.datasource.create_datasource(_source(url or SOURCE_URL))
                return PushOutcome.CREATED
            if url in (None, old["url"]):
                return PushOutcome.UNCHANGED
            if not dry_run:
                self._api.datasource.update_datasource_by_uid(SOURCE_UID, {**old, "url": url})
            return PushOutcome.CHANGED

    def push_dashboard(self, dashboard: _Json, folder_uid: str, *, dry_run: bool) -> PushOutcome:
        """Create the dashboard in this folder, or overwrite it if it differs."""
        with self._asking(f"dashboard {dashboard['uid']}"):
            old = _or_none(lambda: self._api.dashboard.get_dashboard(dashboard["uid"]))
            if old is not None and _is_there(old, dashboard, folder_uid):
                return PushOutcome.UNCHANGED
            if not dry_run:
                self._api.dashboard.update_dashboard(
                    {
                        "dashboard": {**dashboard, "id": None},
                        "folderUid": folder_uid,
                        "overwrite": True,
                        "message": "pushed by dqm",
                    }
                )
        return PushOutcome.CREATED if old is None else PushOutcome.CHANGED

    def find_annotations(self, tags: Sequence[str]) -> list[Annotation]:
        """Give the latest annotations that have all these tags, the newest first."""
        with self._asking("annotations"):
            found = self._api.annotations.find_annotations(
                tags=list(tags), ann_type="annotation", limit=MOST_ANNOTATIONS
            )
            return [
                Annotation(
                    one["time"] / 1000.0,
                    (one.get("timeEnd") or one["time"]) / 1000.0,
                    tuple(one["tags"]),
                    one["text"],
                    one["id"],
                )
                for one in found
            ]

    def write_annotation(self, annotation: Annotation) -> None:
        """Add an annotation, or change the one with this number."""
        values = {
            "time_from": round(1000.0 * annotation.start),
            "time_to": round(1000.0 * annotation.end),
            "tags": list(annotation.tags),
            "text": annotation.text,
        }
        with self._asking("annotations"):
            if annotation.identifier is None:
                self._api.annotations.add_annotation(**values)
            else:
                self._api.annotations.update_annotation(annotation.identifier, **values)

    @contextmanager
    def _asking(self, what: str) -> Iterator[None]:
        """Translate errors of the libraries that are used."""
        from grafana_client.client import GrafanaException
        from niquests.exceptions import RequestException

        try:
            yield
        except GrafanaException as error:
            if error.status_code == 0:
                raise self._silence(error) from None
            raise GrafanaError(
                f"{what}: refused with {error.status_code}: {error.message}",
                where=self.url,
                fix=_FIXES.get(error.status_code),
                is_final=error.status_code < 500 and error.status_code != TOO_MANY_REQUESTS,
            ) from None
        except RequestException as error:
            raise self._silence(error) from None
        except (KeyError, TypeError) as error:  # the answer lacks what was looked for
            raise GrafanaError(
                f"{what}: this is not how Grafana answers",
                where=self.url,
                fix=_FIXES[NOT_FOUND],
                is_final=True,
            ) from error

    def _silence(self, error: Exception) -> GrafanaError:
        return GrafanaError(
            f"does not answer: {type(error).__name__}",
            where=self.url,
            fix="Check the address, and that it runs",
        )


def dashboard_files() -> Path:
    """Folder of dashboards, rules and runbook: inside the installed package, or beside it in a checkout."""
    package = Path(__file__).parents[1]
    for folder in (package / "dashboards", package.parent / "dashboards"):
        if (folder / "grafana" / "dashboards").is_dir():
            return folder
    raise DqmError("the dashboards are missing from this installation", fix="Install dqm again")


def push(grafana: Grafana, prometheus: str | None = None, *, dry_run: bool = False) -> Iterator[Step]:
    """Upload folder, data source and dashboards to Grafana; what is up to date is left alone.

    Parameters
    ----------
    grafana : Grafana
        Where to.
    prometheus : str, optional
        Address of Prometheus as Grafana sees it; if left out, that of an existing data source is kept.
    dry_run : bool
        Look only.

    Yields
    ------
    Step
        What was done, as it is done.

    Raises
    ------
    GrafanaError
        If the server refuses or does not answer.
    """
    yield Step(f"folder {FOLDER['title']}", grafana.push_folder(FOLDER, dry_run=dry_run))
    yield Step(f"data source {SOURCE_UID}", grafana.push_source(prometheus, dry_run=dry_run))
    for file in sorted((dashboard_files() / "grafana" / "dashboards").glob("*.json")):
        dashboard = json.loads(file.read_text(encoding="utf-8"))
        outcome = grafana.push_dashboard(dashboard, FOLDER["uid"], dry_run=dry_run)
        yield Step(f"dashboard {dashboard['title']}", outcome)


def holds(stored: object, wanted: object, key: str = "") -> bool:
    """Tell whether everything that is wanted is stored.

    Grafana adds numbers and defaults of its own, and newer ones raise the version of the schema: that is no
    difference.
    """
    if key == "schemaVersion" and isinstance(stored, int) and isinstance(wanted, int):
        return stored >= wanted
    if isinstance(stored, dict) and isinstance(wanted, dict):
        return all(name in stored and holds(stored[name], value, name) for name, value in wanted.items())
    if isinstance(stored, list) and isinstance(wanted, list):
        return len(stored) == len(wanted) and all(map(holds, stored, wanted))
    return stored == wanted


def _is_there(old: _Json, dashboard: _Json, folder_uid: str) -> bool:
    return old["meta"].get("folderUid") == folder_uid and holds(old["dashboard"], dashboard)


def _source(url: str) -> _Json:
    return {
        "uid": SOURCE_UID,
        "name": "dqm Prometheus",
        "type": "prometheus",
        "access": "proxy",
        "url": url,
        "jsonData": {"httpMethod": "POST", "timeInterval": "15s"},
    }


def _or_none(ask: Callable[[], _Json]) -> _Json | None:
    """Give the answer, or None if Grafana has no such item."""
    from grafana_client.client import GrafanaClientError

    try:
        return ask()
    except GrafanaClientError as error:
        if error.status_code == NOT_FOUND:
            return None
        raise
