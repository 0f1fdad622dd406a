"""Pieces of configurations of other servers in the documents: the servers themselves take them."""

from __future__ import annotations

import re
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest

from dqm.reference import StoredBundle
from tests.waiting import wait_until

from .installation import running
from .test_commands import PAGES
from .walk import ROOT

NGINX = re.compile(r"^```nginx\n(.*?)^```$", re.DOTALL | re.MULTILINE)
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
ENVELOPE = """
daemon off; pid {folder}/pid; error_log stderr;
events {{}}
http {{
  access_log off;
  client_body_temp_path {folder}; proxy_temp_path {folder}; fastcgi_temp_path {folder};
  uwsgi_temp_path {folder}; scgi_temp_path {folder};
  server {{ listen 127.0.0.1:{port};
{piece}
  }}
}}
"""
Require = Callable[[str], Path]


def found(pattern: re.Pattern[str]) -> list[str]:
    return [piece for page in PAGES for piece in pattern.findall((ROOT / page).read_text())]


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def write_nginx(folder: Path, piece: str, port: int = 80) -> Path:
    path = folder / "nginx.conf"
    path.write_text(ENVELOPE.format(folder=folder, piece=piece, port=port))
    return path


@contextmanager
def nginx(program: Path, configuration: Path) -> Iterator[None]:
    process = subprocess.Popen([program, "-c", configuration, "-p", configuration.parent])
    try:
        yield
    finally:
        process.terminate()
        process.wait(20.0)


@pytest.mark.parametrize("piece", found(NGINX), ids=lambda piece: piece.split("{")[0].strip())
def test_nginx_takes_what_the_documents_show(piece: str, require_program: Require, tmp_path: Path) -> None:
    told = subprocess.run(
        [require_program("nginx"), "-t", "-c", write_nginx(tmp_path, piece), "-p", tmp_path],
        capture_output=True, text=True, check=False, timeout=60.0,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr


@pytest.mark.slow
def test_the_page_is_seen_through_nginx(
    require_program: Require, bundle: StoredBundle, tmp_path: Path
) -> None:
    program, piece, port = require_program("nginx"), found(NGINX)[0], free_port()
    with running(tmp_path, bundle) as address:
        assert "127.0.0.1:8787" in piece
        configuration = write_nginx(tmp_path, piece.replace("127.0.0.1:8787", address), port)
        with nginx(program, configuration), httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:

            def answers() -> bool:
                try:
                    return client.get("/healthz").status_code < 500
                except httpx.TransportError:
                    return False

            wait_until(answers, "nginx answers")
            shown = client.get("/")
            assert (shown.status_code, "chamber-2" in shown.text) == (200, True)


@pytest.mark.parametrize("piece", found(YAML), ids=lambda piece: piece.split(":")[0])
def test_prometheus_takes_what_the_documents_show(
    piece: str, require_program: Require, tmp_path: Path
) -> None:
    path = tmp_path / "prometheus.yml"
    path.write_text(piece)
    (tmp_path / "dqm-password").write_text("secret\n")
    told = subprocess.run(
        [require_program("promtool"), "check", "config", path],
        capture_output=True, text=True, check=False, timeout=60.0,
    )  # fmt: skip
    assert told.returncode == 0, told.stderr
