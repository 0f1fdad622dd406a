"""Who may ask, and what a browser may do with the answer."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc

import httpx
import pytest
from starlette.responses import Response

from dqm.web.security import SecurityHeaders
from tests.world import PASSWORDS, Browser, World

PATH = "/alarms/chamber-2/differs/acknowledge"
SIGNED = {"comment": "HV trips"}


@pytest.fixture
def raised(world: World) -> World:
    world.raise_alarm("chamber-2")
    return world


def is_acknowledged(world: World) -> bool:
    return any(alarm.acknowledged for alarm in world.alarm_service.alarms())


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("path", [PATH, f"/api/v1{PATH}", "/login"])
def test_the_body_of_a_request_is_never_unpacked(raised: World, path: str, times: int) -> None:
    client = Browser(raised, user="maria", as_program=path.startswith("/api"))
    content = json.dumps(SIGNED | {"padding": " " * 100_000_000}).encode()
    for _ in range(times):
        content = gzip.compress(content, 1)
    headers = {"Content-Type": "application/json", "Content-Encoding": ", ".join(["gzip"] * times)}
    tracemalloc.start()
    try:
        answer = client.post(path, content=content, headers=headers)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 400 <= answer.status_code < 500
    assert peak < 20_000_000
    assert not is_acknowledged(raised)


@pytest.mark.parametrize("path", ["/", "/alarms", "/nothing", "/help"])
def test_pages_may_load_nothing_but_from_here(client: Browser, path: str) -> None:
    answer = client.get(path)
    policy = dict(part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert "unsafe-eval" not in answer.headers["content-security-policy"]
    for name, value in [
        ("cache-control", "no-store"), ("x-content-type-options", "nosniff"), ("x-frame-options", "DENY"),
        ("referrer-policy", "same-origin"), ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
    ]:  # fmt: skip
        assert answer.headers[name] == value
    assert "<script>" not in answer.text
    assert "http://" not in answer.text
    assert "https://" not in answer.text


def test_files_may_be_kept_for_ever_because_their_address_changes(client: Browser) -> None:
    page = client.get("/help").text
    address = page.split('<script src="')[1].split('"')[0]
    assert address.startswith("/static/page.js?v=")
    answer = client.get(address)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-type"].startswith("text/javascript")
    assert client.get("/static/secret").status_code == 404
    assert client.get("/static/..%2Fapp.py").status_code == 404


def test_the_plotting_library_is_that_of_the_installed_package(client: Browser) -> None:
    from importlib.resources import files

    plain = client.get("/static/plotly.min.js", headers={"Accept-Encoding": "identity"})
    packed = client.get("/static/plotly.min.js", headers={"Accept-Encoding": "gzip"})
    assert plain.content == files("plotly").joinpath("package_data/plotly.min.js").read_bytes()
    assert packed.headers["content-encoding"] == "gzip"
    assert packed.content == plain.content


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "127.0.0.1.evil.example",
        "",
        "evil.example:8787",
        "127.0.0.1/healthz?",
        "localhost/login#",
        "maria@127.0.0.1",
        "[::1",
    ],
)
def test_another_name_for_this_machine_is_refused(world: World, client: Browser, host: str) -> None:
    answer = client.get("/", headers={"Host": host})
    assert answer.status_code == 421
    assert "chamber" not in answer.text
    assert client.get("/metrics", headers={"Host": host}).status_code == 421
    assert Browser(world).get("/healthz", headers={"Host": host}).json() == {"status": "ok"}


@pytest.mark.parametrize("host", ["127.0.0.1:1", "[::1]:8787", "192.0.2.7", "localhost", "LOCALHOST:80"])
def test_addresses_and_own_names_are_served(client: Browser, host: str) -> None:
    assert client.get("/", headers={"Host": host}).status_code == 200
    for path in ("/", "/metrics"):
        assert client.get(path, headers={"Host": socket.gethostname()}).status_code == 200
    assert "chamber-1" in client.get("/healthz", headers={"Host": host}).json()["streams"]


@pytest.mark.parametrize("path", ["/masks/", "/alarms/", "/api/v1/masks/", "/api/v1//masks/"])
def test_redirects_lead_to_a_path_of_this_page(world: World, path: str) -> None:
    proxy = "10.1.2.3"
    behind = world.authenticator(proxies=[proxy], names=["dqm.example.org"])
    headers = {"X-Forwarded-Proto": "https", "Host": "dqm.example.org"}
    browser = Browser(world, as_program=True, user="maria", address=proxy, authenticator=behind)
    answer = browser.get(path, headers=headers)
    assert answer.status_code in (307, 404)
    assert answer.headers.get("location", path.rstrip("/")) == path.rstrip("/")
    assert (answer.status_code == 307) == ("//" not in path)


@pytest.mark.parametrize(
    ("location", "led"),
    [
        ("http://127.0.0.1:8787/masks", "/masks"), ("http://127.0.0.1:8787//evil.example/", "/evil.example/"),
        ("http://127.0.0.1:87870/masks", "http://127.0.0.1:87870/masks"),
        ("http://127.0.0.1:8787@evil.example/", "http://127.0.0.1:8787@evil.example/"),
        ("https://sso.example/authorize", "https://sso.example/authorize"), ("/alarms", "/alarms"),
    ],
)  # fmt: skip
def test_only_redirects_to_this_page_are_shortened(location: str, led: str) -> None:
    app = SecurityHeaders(Response(None, 307, {"Location": location}))
    with_host = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://127.0.0.1:8787")
    assert asyncio.run(with_host.get("/")).headers["location"] == led


def form_of(client: Browser) -> dict[str, str]:
    return SIGNED | {"token": client.token("/masks")}


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Sec-Fetch-Site": "none"},
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://[::1"},
        {"Origin": "http://127.0.0.1:9999"},
    ],
)
def test_another_site_cannot_change_anything(raised: World, client: Browser, headers: dict[str, str]) -> None:
    assert client.post(PATH, data=form_of(client), headers=headers).status_code == 403
    told = client.post(f"/api/v1{PATH}", json=SIGNED, headers=headers)
    assert (told.status_code, told.json()["detail"]) == (403, "another site asked for this change")
    assert not is_acknowledged(raised)


def test_a_form_without_the_token_of_the_browser_is_refused(raised: World, client: Browser) -> None:
    form = form_of(client)
    for wrong in (SIGNED, SIGNED | {"token": "x"}, SIGNED | {"token": ""}, SIGNED | {"token": "\u00e9"}):
        answer = client.post(PATH, data=wrong)
        assert answer.status_code == 403
        assert "Reload the page" in answer.text
    assert Browser(raised, user="maria").post(PATH, data=form).status_code == 403
    assert not is_acknowledged(raised)
    assert client.post(PATH, data=form).status_code == 303
    assert is_acknowledged(raised)


def test_what_a_form_of_another_site_could_send_is_no_json(raised: World, client: Browser) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data", ""):
        answer = client.post(f"/api/v1{PATH}", content=b'{"comment":"x"}', headers={"Content-Type": kind})
        assert answer.status_code == 415
    assert client.post(PATH, json=form_of(client)).status_code == 415
    broken = client.post(
        f"/api/v1{PATH}", content=b"{", headers={"Content-Type": "application/json; charset=utf-8"}
    )
    assert broken.status_code == 422
    assert not is_acknowledged(raised)


def test_a_program_that_is_no_browser_may_act(raised: World, client: Browser) -> None:
    answer = client.post(f"/api/v1{PATH}", json=SIGNED, headers={"Sec-Fetch-Site": ""})
    assert answer.status_code == 403  # an empty header is not a missing one
    assert not is_acknowledged(raised)
    program = Browser(raised, as_program=True, user="jo")
    assert program.post(f"/api/v1{PATH}", json=SIGNED).json()["acknowledged"]["user"] == "jo"


def test_a_long_request_is_refused(raised: World, client: Browser) -> None:
    answer = client.post(f"/api/v1{PATH}", json=SIGNED | {"comment": "x" * 20_000})
    assert answer.status_code == 413
    assert client.post(PATH, data=form_of(client) | {"comment": "x" * 20_000}).status_code == 413
    assert not is_acknowledged(raised)


def test_cookies_are_out_of_reach_of_scripts_and_other_sites(world: World) -> None:
    cookies = Browser(world).sign_in("maria", PASSWORDS["maria"]).headers.get_list("set-cookie")
    assert [cookie.partition("=")[0] for cookie in cookies] == ["dqm_token", "dqm_session"]
    for cookie in cookies:
        assert "HttpOnly" in cookie
        assert "SameSite=strict" in cookie
        assert "Secure" not in cookie
    assert "Max-Age=28800" in cookies[1]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "POST"])
def test_pages_answer_no_other_method(client: Browser, method: str) -> None:
    assert client.ask(method, "/streams/chamber-1").status_code == 405
