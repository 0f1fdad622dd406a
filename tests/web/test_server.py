from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Semaphore

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from dqm.errors import ConfigError
from dqm.export import Metrics
from dqm.web import HttpServer, create_app
from tests.world import World


class Silence:
    """Seconds since the last progress, as the test wants them."""

    seconds = 0.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def silence() -> Silence:
    return Silence()


@pytest.fixture
def server(silence: Silence) -> Iterator[HttpServer]:
    metrics = Metrics({"chamber-1": ("3f9a",)}, lambda: 0.0, "0.1.0")
    running = HttpServer(create_app(metrics, silence, longest_silence_seconds=30.0), "127.0.0.1", 0)
    running.start()
    yield running
    running.stop()


@pytest.fixture
def client(server: HttpServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=f"http://{server.address}", timeout=60.0, trust_env=False) as opened:
        yield opened


def test_metrics_are_served_as_prometheus_asks(client: httpx.Client) -> None:
    plain = client.get("/metrics")
    assert plain.status_code == 200
    assert plain.headers["content-type"].startswith("text/plain; version=")
    names = {family.name for family in text_string_to_metric_families(plain.text)}
    assert "dqm_window_quality" in names
    opened = client.get("/metrics", headers={"Accept": "application/openmetrics-text; version=1.0.0"})
    assert opened.headers["content-type"].startswith("application/openmetrics-text")
    assert opened.text.endswith("# EOF\n")


def test_health_tells_progress_and_streams(client: httpx.Client, silence: Silence) -> None:
    silence.seconds = 1.5
    answer = client.get("/healthz")
    assert answer.status_code == 200
    assert answer.json() == {"status": "ok", "seconds_since_progress": 1.5, "streams": ["chamber-1"]}


def test_a_loop_that_stands_still_is_unhealthy(client: httpx.Client, silence: Silence) -> None:
    silence.seconds = 31.0
    answer = client.get("/healthz")
    assert answer.status_code == 503
    assert answer.json()["reason"] == "no progress for 31 s, at most 30 s allowed"


def test_health_and_metrics_answer_while_pages_take_all_threads(world: World) -> None:
    asked, end = Semaphore(0), Event()
    queries = world.queries
    overview = queries.overview()

    def wait(_: object) -> object:
        asked.release()
        end.wait(60.0)
        return overview

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(60) as users:
        patch.setattr(type(queries), "overview", wait)
        running = HttpServer(create_app(world.metrics, lambda: 0.0, queries=queries), "127.0.0.1", 0)
        running.start()
        try:
            pages = [
                users.submit(httpx.get, f"http://{running.address}/", trust_env=False, timeout=60.0)
                for _ in range(60)
            ]
            for _ in range(40):  # as many threads as there are
                assert asked.acquire(timeout=60.0)
            with httpx.Client(base_url=f"http://{running.address}", timeout=60.0, trust_env=False) as client:
                assert client.get("/healthz").status_code == 200
                assert client.get("/metrics").status_code == 200
            assert not any(page.done() for page in pages)
        finally:
            end.set()
            running.stop()


@pytest.mark.parametrize(("method", "path"), [("GET", "/metrics"), ("GET", "/none"), ("POST", "/metrics")])
def test_every_answer_has_the_security_headers(client: httpx.Client, method: str, path: str) -> None:
    headers = client.request(method, path).headers
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["content-security-policy"].startswith("default-src 'none'")
    assert "server" not in headers


def test_only_reading_is_possible(client: httpx.Client) -> None:
    assert client.post("/metrics").status_code == 405
    assert client.get("/").status_code == 404


def test_a_port_in_use_is_reported(server: HttpServer) -> None:
    host, port = server.address.split(":")
    app = create_app(Metrics({}, lambda: 0.0, ""), lambda: 0.0)
    with pytest.raises(ConfigError, match=rf"{server.address} is already in use"):
        HttpServer(app, host, int(port))


def test_a_host_of_another_machine_is_reported() -> None:
    app = create_app(Metrics({}, lambda: 0.0, ""), lambda: 0.0)
    with pytest.raises(ConfigError, match="cannot listen at"):
        HttpServer(app, "192.0.2.1", 0)


def test_a_stopped_server_frees_its_port() -> None:
    app = create_app(Metrics({}, lambda: 0.0, ""), lambda: 0.0)
    first = HttpServer(app, "::1", 0)
    first.start()
    host, port = first.address.rsplit(":", 1)
    assert httpx.get(f"http://{host}:{port}/healthz", trust_env=False).status_code == 200
    first.stop()
    HttpServer(app, "::1", int(port)).stop()
