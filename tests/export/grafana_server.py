"""A stand-in for Grafana over real HTTP: the calls dqm makes, answered as Grafana's API documents them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar
from urllib.parse import parse_qs, urlsplit

TOKEN = "glsa_secret"  # noqa: S105 - of this stand-in
Json = dict[str, Any]


class RefusalError(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class FakeGrafana:
    """What the server knows; `prefix` is the path it is served under, `status` an answer to everything."""

    def __init__(self, prefix: str = "") -> None:
        self.prefix = prefix
        self.folders: dict[str, Json] = {}
        self.sources: dict[str, Json] = {}
        self.dashboards: dict[str, Json] = {}
        self.annotations: dict[int, Json] = {}
        self.writes: list[str] = []
        self.status: int | None = None
        self.url = ""

    def answer(self, method: str, path: str, query: dict[str, list[str]], body: Json) -> Any:
        """Route a call; raise `RefusalError` as Grafana would."""
        if self.status is not None:
            raise RefusalError(self.status, "as the test wants it")
        if not path.startswith(f"{self.prefix}/api/"):
            raise RefusalError(404, "Not found")
        path = path.removeprefix(f"{self.prefix}/api")
        for pattern, name in self.ROUTES.items():
            wanted, _, rest = pattern.partition(" ")
            found = re.fullmatch(rest, path)
            if method == wanted and found:
                if method != "GET":
                    self.writes.append(f"{method} {path}")
                return getattr(self, name)(*found.groups(), body=body, query=query)
        raise RefusalError(404, "Not found")

    ROUTES: ClassVar[dict[str, str]] = {
        "GET /folders/([^/]+)": "get_folder",
        "POST /folders": "create_folder",
        "PUT /folders/([^/]+)": "update_folder",
        "GET /datasources/uid/([^/]+)": "get_source",
        "POST /datasources": "create_source",
        "PUT /datasources/uid/([^/]+)": "update_source",
        "GET /dashboards/uid/([^/]+)": "get_dashboard",
        "POST /dashboards/db": "save_dashboard",
        "GET /annotations": "find_annotations",
        "POST /annotations": "add_annotation",
        r"PUT /annotations/(\d+)": "update_annotation",
    }

    def get_folder(self, uid: str, **_: object) -> Json:
        return _found(self.folders, uid, "folder not found")

    def create_folder(self, body: Json, **_: object) -> Json:
        if body["uid"] in self.folders:
            raise RefusalError(412, "a folder with that UID already exists")
        self.folders[body["uid"]] = {"id": len(self.folders) + 1, "version": 1, **body}
        return self.folders[body["uid"]]

    def update_folder(self, uid: str, body: Json, **_: object) -> Json:
        folder = _found(self.folders, uid, "folder not found")
        if not body.pop("overwrite", False) and body.get("version") != folder["version"]:
            raise RefusalError(412, "the folder has been changed by someone else")
        folder |= body | {"version": folder["version"] + 1}
        return folder

    def get_source(self, uid: str, **_: object) -> Json:
        return _found(self.sources, uid, "Data source not found")

    def create_source(self, body: Json, **_: object) -> Json:
        if any(source["name"] == body["name"] for source in self.sources.values()):
            raise RefusalError(409, "data source with the same name already exists")
        new = {"id": len(self.sources) + 1, "version": 1, "readOnly": False, **body}
        self.sources[body["uid"]] = new
        return {"message": "Datasource added", "datasource": new}

    def update_source(self, uid: str, body: Json, **_: object) -> Json:
        source = _found(self.sources, uid, "Data source not found")
        if source["readOnly"]:
            raise RefusalError(403, "Cannot update read-only data source")
        source |= body | {"version": source["version"] + 1}
        return {"message": "Datasource updated", "datasource": source}

    def get_dashboard(self, uid: str, **_: object) -> Json:
        return _found(self.dashboards, uid, "Dashboard not found")

    def save_dashboard(self, body: Json, **_: object) -> Json:
        _found(self.folders, body["folderUid"], "folder not found")
        dashboard = body["dashboard"]
        old = self.dashboards.get(dashboard["uid"])
        if old and not body.get("overwrite"):
            raise RefusalError(412, "The dashboard has been changed by someone else")
        version = old["dashboard"]["version"] + 1 if old else 1
        self.dashboards[dashboard["uid"]] = {
            "dashboard": {**dashboard, "id": 7, "version": version},
            "meta": {"folderUid": body["folderUid"], "version": version},
        }
        return {"status": "success", "uid": dashboard["uid"], "version": version}

    def find_annotations(self, query: dict[str, list[str]], **_: object) -> list[Json]:
        found = [a for a in self.annotations.values() if set(query["tags"]) <= set(a["tags"])]
        return sorted(found, key=lambda a: -a["time"])[: int(query["limit"][0])]

    def add_annotation(self, body: Json, **_: object) -> Json:
        if not body["text"]:
            raise RefusalError(400, "text field should not be empty")
        identifier = len(self.annotations) + 1
        self.annotations[identifier] = {
            "timeEnd": body["time"],
            **{k: v for k, v in body.items() if v},
            "id": identifier,
        }
        return {"message": "Annotation added", "id": identifier}

    def update_annotation(self, identifier: str, body: Json, **_: object) -> Json:
        if int(identifier) not in self.annotations:
            raise RefusalError(404, "annotation not found")
        self.annotations[int(identifier)] |= body
        return {"message": "Annotation updated"}


def _found(things: dict[str, Json], uid: str, message: str) -> Json:
    if uid not in things:
        raise RefusalError(404, message)
    return things[uid]


@contextmanager
def serve(grafana: FakeGrafana) -> Iterator[FakeGrafana]:
    """Answer over HTTP; the address is in ``grafana.url``."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # header and body in one packet

        def handle_any(self) -> None:
            length = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(length) or "{}")
            split = urlsplit(self.path)
            status, content = 401, {"message": "Invalid API key"}
            if self.headers.get("Authorization") == f"Bearer {TOKEN}":
                try:
                    status, content = (
                        200,
                        grafana.answer(self.command, split.path, parse_qs(split.query), body),
                    )
                except RefusalError as refusal:
                    status, content = refusal.status, {"message": str(refusal)}
            text = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        do_GET = do_POST = do_PUT = handle_any  # noqa: N815 - as http.server wants them

        def log_message(self, *_: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    grafana.url = f"http://127.0.0.1:{server.server_port}{grafana.prefix}"
    try:
        yield grafana
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
