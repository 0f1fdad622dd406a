"""Prometheus and Alertmanager as processes, and a webhook that listens to them."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests import waiting
from tests.ports import free_port
from tests.waiting import wait_until

DASHBOARDS = Path(__file__).parents[2] / "dashboards"
SCRAPE = "250ms"


def ask(address: str, path: str, params: Mapping[str, object]) -> httpx.Response:
    return waiting.get(f"http://{address}{path}", params=dict(params))


def get(address: str, path: str, **params: object) -> Any:
    answer = ask(address, path, params)
    assert answer.status_code == 200, answer.text
    return answer.json()["data"]


@contextmanager
def running(program: Path, *arguments: str, address: str, log: Path) -> Iterator[None]:
    """Start a program and wait until it answers."""
    with log.open("wb") as file:
        process = subprocess.Popen([program, *arguments], stdout=file, stderr=file, cwd=log.parent)

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()
        try:
            return ask(address, "/-/ready", {}).status_code == 200
        except httpx.TransportError:
            return False

    try:
        wait_until(is_ready, f"{program.name} is ready")
        yield
    finally:
        process.terminate()
        process.wait(60)


@contextmanager
def prometheus(program: Path, folder: Path, target: str, alertmanager: str | None) -> Iterator[str]:
    """Run the example configuration, faster, and give its address."""
    config = yaml.safe_load((DASHBOARDS / "prometheus" / "prometheus.yml").read_text())
    config["global"] |= {"scrape_interval": SCRAPE, "evaluation_interval": SCRAPE, "scrape_timeout": SCRAPE}
    config["rule_files"] = [str(DASHBOARDS / "prometheus" / "rules" / "*.yml")]
    config["scrape_configs"][0]["static_configs"] = [{"targets": [target]}]
    config["alerting"]["alertmanagers"] = (
        [{"static_configs": [{"targets": [alertmanager]}]}] if alertmanager else []
    )
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = ("--config.file=prometheus.yml", "--storage.tsdb.path=tsdb", f"--web.listen-address={address}")
    with running(program, *options, address=address, log=folder / "prometheus.log"):
        yield address


@contextmanager
def alertmanager(program: Path, folder: Path, webhook: str) -> Iterator[str]:
    """Run the example configuration with all receivers at the webhook, and give its address."""
    config = yaml.safe_load((DASHBOARDS / "alertmanager" / "alertmanager.yml").read_text())
    for receiver in config["receivers"]:
        name = receiver["name"]
        receiver.clear()
        receiver |= {"name": name, "webhook_configs": [{"url": f"http://{webhook}/{name}"}]}
    config["route"]["group_wait"] = "0s"
    (folder / "alertmanager.yml").write_text(yaml.safe_dump(config))
    address = f"127.0.0.1:{free_port()}"
    options = (
        "--config.file=alertmanager.yml",
        "--storage.path=alertmanager",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
    )
    with running(program, *options, address=address, log=folder / "alertmanager.log"):
        yield address


@contextmanager
def webhook() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Listen as a pager does; gives the address and the alerts heard, each with its ``receiver``."""
    heard: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            message = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            heard.extend(alert | {"receiver": message["receiver"]} for alert in message["alerts"])
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}", heard
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
