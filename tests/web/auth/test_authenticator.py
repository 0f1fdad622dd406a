"""Who may read and who may change: by password, by proxy, from here and from elsewhere."""

from __future__ import annotations

import asyncio
import base64
import threading
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from dqm.alarm import Cause
from dqm.errors import DqmError
from dqm.web import Authenticator, HttpServer, add_user, create_app, remove_user
from dqm.web.auth.authenticator import _read_basic
from dqm.web.auth.users import UserFile
from dqm.web.problems import BusyError
from tests.world import CHEAP, PASSWORDS, Browser, World

ELSEWHERE, PROXY = "192.0.2.7", "10.1.2.3"
PATH = "/alarms/chamber-2/differs/acknowledge"
API = f"/api/v1{PATH}"
SIGNED = {"comment": "HV trips"}
BEHIND = {"proxy_header": "X-Remote-User", "proxies": [PROXY]}


def acknowledged_by(world: World) -> str | None:
    found = world.queries.alarm("chamber-2", Cause.DIFFERS).acknowledged
    return found.user if found else None


def audit(world: World) -> list[tuple[str, str, str]]:
    return [(row["user"], row["action"], row["target"]) for row in world.alarm_service.history.actions()]


def sign_ins(world: World) -> dict[str, float]:
    get = world.metrics.registry.get_sample_value
    return {o: get("dqm_sign_ins_total", {"outcome": o}) or 0.0 for o in ("accepted", "refused", "throttled")}


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", ["127.0.0.1", "127.8.0.1", "::1", "::ffff:127.0.0.1"])
def test_on_this_host_everybody_reads(world: World, address: str) -> None:
    principal = Browser(world, address=address)
    for path in ("/", "/alarms", "/api/v1/overview", "/metrics", "/healthz", "/help"):
        assert principal.get(path).status_code == 200


@pytest.mark.parametrize("address", [ELSEWHERE, "2001:db8::1", "::ffff:192.0.2.7", ""])
def test_from_elsewhere_reading_needs_a_user(world: World, address: str) -> None:
    stranger = Browser(world, address=address)
    for path in ("/", "/alarms?show=all", "/streams/chamber-2", "/help", "/nothing"):
        answer = stranger.get(path)
        assert (answer.status_code, answer.content) == (303, b"")
    assert stranger.get("/alarms?show=all").headers["location"] == "/login?next=/alarms%3Fshow%3Dall"
    program = Browser(world, address=address, as_program=True)
    known = Browser(world, address=address, as_program=True, user="maria")
    for path in ("/api/v1/overview", "/api/v1/openapi.json", "/metrics", "/events"):
        answer = program.get(path)
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.headers["www-authenticate"].startswith("Basic realm=")
        assert "chamber" not in answer.text
        if path != "/events":
            assert known.get(path).status_code == 200
    assert stranger.get("/healthz").status_code == 200
    assert stranger.get("/login").status_code == 200


def test_a_browser_is_never_asked_by_a_window_of_its_own(world: World) -> None:
    answer = Browser(world, address=ELSEWHERE).get("/events", headers={"Accept": "text/event-stream"})
    assert answer.status_code == 401
    assert "www-authenticate" not in answer.headers


def test_metrics_can_be_left_open(world: World) -> None:
    stranger = Browser(world, address=ELSEWHERE, authenticator=world.authenticator(metrics="open"))
    assert stranger.get("/metrics").status_code == 200
    assert stranger.get("/").status_code == 303
    assert stranger.post("/metrics").status_code == 401


def test_strangers_learn_that_the_daemon_is_well_or_stuck_and_nothing_else(world: World) -> None:
    for silence, status, word in [(0.1, 200, "ok"), (31.0, 503, "stuck")]:
        app = create_app(
            world.metrics, lambda silence=silence: silence, queries=world.queries,
            authenticator=world.authenticator(),
        )  # fmt: skip

        def ask(address: str, name: str = "127.0.0.1:8787", app: Any = app, **request: Any) -> httpx.Response:
            transport = httpx.ASGITransport(app, client=(address, 40000))
            client = httpx.AsyncClient(transport=transport, base_url=f"http://{name}")
            return asyncio.run(client.get("/healthz", **request))

        for address, name in [(ELSEWHERE, "monitor"), (ELSEWHERE, ELSEWHERE), ("127.0.0.1", "evil.example")]:
            answer = ask(address, name)
            assert (answer.status_code, answer.json()) == (status, {"status": word})
        for known in (ask("127.0.0.1"), ask(ELSEWHERE, auth=("maria", PASSWORDS["maria"]))):
            assert known.status_code == status
            assert known.json()["streams"][0] == "chamber-1"
            assert known.json()["seconds_since_progress"] == silence


def test_a_page_of_another_site_reads_nothing_by_a_name_of_its_own(world: World) -> None:
    for metrics in ("login", "open"):
        browser = Browser(world, authenticator=world.authenticator(metrics=metrics, names=["dqm.example"]))
        answer = browser.get("/metrics", headers={"Host": "rebound.example"})
        assert answer.status_code == 421
        assert "dqm_" not in answer.text
        assert browser.get("/metrics", headers={"Host": "dqm.example:8787"}).status_code == 200


# --- changing -----------------------------------------------------------------------------------------------


def test_a_change_needs_a_user_even_on_this_host(world: World) -> None:
    world.raise_alarm()
    principal = Browser(world)
    page = principal.get("/alarms/chamber-2/differs").text
    assert "<form" not in page
    assert 'href="/login?next=/alarms/chamber-2/differs">Sign in</a> to do this.' in page
    form = SIGNED | {"token": principal.token()}
    for referer, after in [
        ("http://127.0.0.1:8787/alarms?show=all", "/alarms"),
        ("http://[", "/"),
        ("", "/"),
    ]:
        answer = principal.post(PATH, data=form, headers={"Referer": referer})
        assert answer.status_code == 401
        assert f'name="next" value="{after}"' in answer.text
    assert "A change needs a user" in answer.text
    assert 'name="password"' in answer.text
    told = Browser(world, as_program=True).post(API, json=SIGNED)
    assert (told.status_code, told.json()["detail"]) == (401, "a change needs a user")
    assert "DQM_PASSWORD" in told.json()["fix"]
    assert acknowledged_by(world) is None


def test_without_users_nobody_changes_anything_and_what_to_do_is_told(world: World) -> None:
    world.raise_alarm()
    authenticator = Authenticator(None)
    answer = Browser(world, as_program=True, user="maria", authenticator=authenticator).post(API, json=SIGNED)
    assert answer.status_code == 403
    assert answer.json()["detail"] == "nobody may change anything: no users are configured"
    assert "dqm users add" in answer.json()["fix"]
    principal = Browser(world, authenticator=authenticator)
    assert principal.get("/").status_code == 200
    assert "Nobody may change anything" in principal.get("/alarms/chamber-2/differs").text
    assert "Sign in</a>" not in principal.get("/").text
    assert Browser(world, authenticator=authenticator).post("/login", data={"token": "x"}).status_code == 403
    assert acknowledged_by(world) is None


@pytest.mark.parametrize("address", ["127.0.0.1", ELSEWHERE])
def test_a_program_acts_in_the_name_it_has_proved(world: World, address: str) -> None:
    world.raise_alarm()
    program = Browser(world, as_program=True, user="jo", address=address)
    assert program.post(API, json=SIGNED).json()["acknowledged"]["user"] == "jo"
    assert audit(world)[-1] == ("jo", "acknowledge", "chamber-2 differs")
    assert program.post(API, json=SIGNED | {"user": "maria"}).status_code == 422


WRONG = (
    "Basic", "Basic !", "Bearer abc", "Basic " + base64.b64encode(b"maria").decode(),
    "Basic " + base64.b64encode(b"maria:wrong horse").decode(),
    "Basic " + base64.b64encode(b"maria:correct horse ").decode(),
    "Basic " + base64.b64encode(b"nobody:correct horse").decode(),
    "Basic " + base64.b64encode(b":").decode(), "Basic " + base64.b64encode(b"\xff:\xff").decode(),
)  # fmt: skip


def test_a_wrong_password_is_refused_even_to_read(world: World) -> None:
    world.raise_alarm()
    program = Browser(world, as_program=True)
    for n, header in enumerate(WRONG):
        program.move(f"127.0.0.{n + 1}")
        headers = {"Authorization": header}
        assert program.post(API, json=SIGNED, headers=headers).status_code == 401
        assert program.get("/api/v1/overview", headers=headers).status_code == 401
    assert acknowledged_by(world) is None


@given(st.text(max_size=60) | st.binary(max_size=40).map(lambda b: "Basic " + base64.b64encode(b).decode()))
def test_any_header_is_read_or_refused(header: str) -> None:
    try:
        name, password = _read_basic(header)
    except DqmError:
        return
    assert ":" not in name
    assert base64.b64decode(header.split(" ", 1)[1]).decode() == f"{name}:{password}"


# --- signing in and out -------------------------------------------------------------------------------------


def test_whoever_signs_in_acts_in_that_name_until_they_sign_out(world: World) -> None:
    world.raise_alarm()
    browser = Browser(world)
    answer = browser.sign_in("maria", PASSWORDS["maria"], next="/alarms?show=all")
    assert (answer.status_code, answer.headers["location"]) == (303, "/alarms?show=all")
    for path in ("/", "/alarms", "/masks", "/help", "/streams/chamber-1", "/nothing"):
        assert "<b>maria</b>" in browser.get(path).text
        assert "Sign out" in browser.get(path).text
    assert browser.post(PATH, data=SIGNED | {"token": browser.token("/masks")}).status_code == 303
    assert acknowledged_by(world) == "maria"
    kept = dict(browser._client.cookies)
    assert browser.post("/logout", data={"token": browser.token("/masks")}).headers["location"] == "/"
    assert "maria</b>" not in browser.get("/").text
    for name, value in kept.items():
        browser._client.cookies.set(name, value, domain="127.0.0.1")
    assert browser.post(PATH, data=SIGNED | {"token": kept["dqm_token"]}).status_code == 401
    assert audit(world) == [
        ("maria", "sign-in", "127.0.0.1"), ("maria", "acknowledge", "chamber-2 differs"),
        ("maria", "sign-out", "127.0.0.1"),
    ]  # fmt: skip
    assert sign_ins(world) == {"accepted": 1.0, "refused": 0.0, "throttled": 0.0}


def test_a_session_ends_with_the_shift(world: World) -> None:
    browser = Browser(world, user="maria", authenticator=world.authenticator(session_hours=8.0))
    world.clock.time += 8 * 3600 - 1
    assert "<b>maria</b>" in browser.get("/").text
    world.clock.time += 2
    assert "<b>maria</b>" not in browser.get("/").text


@pytest.mark.parametrize("change", ["removed", "new password", "file open to others"])
def test_a_session_ends_with_its_password(world: World, change: str) -> None:
    browser = Browser(world, user="maria")
    program = Browser(world, as_program=True, user="maria")
    assert program.get("/api/v1/overview").status_code == 200
    if change == "removed":
        remove_user(world.users, "maria")
    elif change == "new password":
        add_user(world.users, "maria", "another one", CHEAP)
    else:
        world.users.chmod(0o604)
    assert "<b>maria</b>" not in browser.get("/").text
    assert program.post(API, json=SIGNED).status_code == 401


def test_a_new_sign_in_gives_a_new_session_and_a_new_token(world: World) -> None:
    browser = Browser(world)
    browser._client.cookies.set("dqm_session", "chosen-by-somebody-else", domain="127.0.0.1")
    before = browser.token()
    assert browser.sign_in("maria", PASSWORDS["maria"]).status_code == 303
    assert browser._client.cookies["dqm_session"] != "chosen-by-somebody-else"
    assert browser.token("/masks") != before


@pytest.mark.parametrize(
    "after",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "javascript:alert(1)",
        "",
        "/login",
        "/a\nb",
    ],
)
def test_after_signing_in_one_stays_here(world: World, after: str) -> None:
    assert Browser(world).sign_in("jo", PASSWORDS["jo"], next=after).headers["location"] == "/"


def test_a_wrong_password_is_told_without_saying_what_is_wrong(world: World) -> None:
    with capture_logs() as logs:
        answers = [Browser(world).sign_in(name, "secret-typo") for name in ("maria", "nobody", "")]
    assert [answer.status_code for answer in answers] == [401, 401, 401]
    texts = [answer.text.split("<main")[1] for answer in answers]
    assert "Wrong name or password" in texts[0]
    assert "secret-typo" not in "".join(texts)
    assert [entry["user"] for entry in logs] == ["maria", "not known", "not known"]
    assert "secret-typo" not in str(logs)
    assert sign_ins(world)["refused"] == 3
    assert audit(world) == []


@pytest.mark.parametrize(
    "headers",
    [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "http://evil.example"}, {"Origin": "null"}],
)
def test_another_site_can_neither_sign_in_nor_out_nor_use_a_browsers_password(
    world: World, headers: dict[str, str]
) -> None:
    world.raise_alarm()
    browser = Browser(world, user="maria")
    token = browser.token("/masks")
    form = {"token": token, "user": "jo", "password": PASSWORDS["jo"]}
    assert browser.post("/login", data=form, headers=headers).status_code == 403
    assert browser.post("/logout", data={"token": token}, headers=headers).status_code == 403
    assert browser.post("/login", data=form | {"token": "x"}).status_code == 403
    assert browser.post("/logout", data={"token": "x"}).status_code == 403
    assert "<b>maria</b>" in browser.get("/").text
    program = Browser(world, as_program=True, user="maria")
    assert program.post(API, json=SIGNED, headers=headers).status_code == 403
    assert acknowledged_by(world) is None


# --- proxies ------------------------------------------------------------------------------------------------


def test_a_proxy_names_the_user(world: World) -> None:
    world.raise_alarm()
    authenticator = world.authenticator(**BEHIND)
    told = {"X-Remote-User": " Anna M\u00fcller ".encode(), "X-Forwarded-For": "1.2.3.4, 192.0.2.9"}
    program = Browser(world, as_program=True, address=PROXY, authenticator=authenticator)
    assert program.post(API, json=SIGNED, headers=told).json()["acknowledged"]["user"] == "Anna M\u00fcller"
    page = Browser(world, address=PROXY, authenticator=authenticator).get("/masks", headers=told).text
    assert "<b>Anna M\u00fcller</b>" in page
    assert "Sign out" not in page
    assert 'name="reason"' in page


@pytest.mark.parametrize("address", ["127.0.0.1", ELSEWHERE, "10.1.2.4", "::ffff:10.1.2.4"])
def test_nobody_else_is_believed(world: World, address: str) -> None:
    world.raise_alarm()
    told = {"X-Remote-User": "anna", "X-Forwarded-For": PROXY, "Forwarded": f"for={PROXY}"}
    program = Browser(world, as_program=True, address=address, authenticator=world.authenticator(**BEHIND))
    assert program.post(API, json=SIGNED, headers=told).status_code == 401
    assert program.get("/api/v1/overview", headers=told).status_code == (
        200 if address == "127.0.0.1" else 401
    )
    assert acknowledged_by(world) is None


def test_the_server_itself_believes_nobody_either(world: World) -> None:
    app = create_app(
        world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator(**BEHIND)
    )
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    lie = {"X-Remote-User": "anna", "X-Forwarded-For": PROXY, "X-Forwarded-Proto": "https"}
    url = f"http://{server.address}/api/v1/masks"
    answer = httpx.post(url, json={"reason": "x", "streams": "*"}, headers=lie, trust_env=False)
    server.stop()
    assert answer.status_code == 401
    assert world.alarm_service.masks() == ()


@pytest.mark.parametrize(
    "headers",
    [
        [("X-Remote-User", "anna"), ("X-Remote-User", "admin")], [("X-Remote-User", "a\x00b")],
        [("X-Remote-User", "x" * 65)],
    ],
)  # fmt: skip
def test_a_proxy_that_names_no_one_user_is_told_so(world: World, headers: list[tuple[str, str]]) -> None:
    program = Browser(world, as_program=True, address=PROXY, authenticator=world.authenticator(**BEHIND))
    answer = program.post(API, json=SIGNED, headers=[*headers, ("Content-Type", "application/json")])
    assert (answer.status_code, answer.json()["where"]) == (403, "x-remote-user")


def test_what_comes_through_a_proxy_on_this_host_comes_from_elsewhere(world: World) -> None:
    authenticator = world.authenticator(proxy_header="X-Remote-User", proxies=["127.0.0.1"])
    assert (
        Browser(world, as_program=True, authenticator=authenticator).get("/api/v1/overview").status_code
        == 401
    )
    assert (
        Browser(world, as_program=True, authenticator=authenticator, address="::1").get("/").status_code
        == 200
    )


def test_behind_https_cookies_are_secure_and_another_name_is_served(world: World) -> None:
    authenticator = world.authenticator(proxies=[PROXY], names=["DQM.example.org"])
    browser = Browser(world, address=PROXY, authenticator=authenticator)
    headers = {"Host": "dqm.example.org", "X-Forwarded-Proto": "https", "Origin": "https://dqm.example.org"}
    page = browser.get("/login", headers=headers)
    assert "Secure" in page.headers["set-cookie"]
    token = page.text.split('name="token" value="')[1].split('"')[0]
    form = {"token": token, "user": "maria", "password": PASSWORDS["maria"]}
    headers["Cookie"] = page.headers["set-cookie"].partition(";")[0]
    answer = browser.post("/login", data=form, headers=headers)
    assert answer.status_code == 303
    assert all("Secure" in cookie for cookie in answer.headers.get_list("set-cookie"))
    assert browser.get("/login", headers={"Host": "other.example.org"}).status_code == 421


# --- how often ----------------------------------------------------------------------------------------------


def test_failures_from_an_address_make_it_wait(world: World) -> None:
    authenticator = world.authenticator(proxies=[PROXY])
    program = Browser(world, as_program=True, address=ELSEWHERE, authenticator=authenticator)

    def guess(n: int, **request: Any) -> int:
        wrong = base64.b64encode(f"user-{n}:guess".encode()).decode()
        headers = {"Authorization": f"Basic {wrong}"} | request
        return program.get("/api/v1/overview", headers=headers).status_code

    assert [guess(n) for n in range(6)] == [401] * 5 + [429]
    answer = program.post("/login", data={"token": "x"})
    assert answer.status_code == 403  # no form, no guess
    elsewhere = Browser(
        world, as_program=True, user="maria", address="192.0.2.8", authenticator=authenticator
    )
    assert elsewhere.get("/api/v1/overview").status_code == 200
    fresh = Browser(world, as_program=True, user="jo", address=PROXY, authenticator=authenticator)
    blocked = fresh.get("/api/v1/masks", headers={"X-Forwarded-For": f"6.6.6.6, {ELSEWHERE}"})
    assert (blocked.status_code, blocked.headers["retry-after"]) == (429, "1")
    assert blocked.headers["content-type"] == "application/problem+json"
    assert blocked.json()["detail"] == "too many failed sign-ins"
    world.clock.time += 1.0
    assert [guess(7), guess(8)] == [401, 429]
    world.clock.time += 2.0
    assert fresh.get("/api/v1/masks", headers={"X-Forwarded-For": ELSEWHERE}).status_code == 200
    assert sign_ins(world) == {"accepted": 2.0, "refused": 6.0, "throttled": 3.0}


def test_hosts_of_one_ipv6_network_wait_together(world: World) -> None:
    authenticator = world.authenticator()
    outcomes = []
    program = Browser(world, as_program=True, authenticator=authenticator)
    for n in range(7):
        program.move(f"2001:db8::{n + 1:x}")
        outcomes.append(program.get("/", headers={"Authorization": "Basic bWFyaWE6eA=="}).status_code)
    assert outcomes == [401] * 5 + [429] * 2
    other = Browser(
        world, as_program=True, address="2001:db8:0:1::1", user="maria", authenticator=authenticator
    )
    assert other.get("/api/v1/overview").status_code == 200


def test_guesses_from_everywhere_make_a_user_wait_but_nobody_who_is_known(
    world: World,
) -> None:
    world.raise_alarm()
    authenticator = world.authenticator()
    known = Browser(world, as_program=True, user="maria", address="192.0.2.1", authenticator=authenticator)
    assert known.get("/api/v1/overview").status_code == 200
    browser = Browser(world, user="maria", authenticator=authenticator)
    outcomes = []
    guesser = Browser(world, as_program=True, authenticator=authenticator)
    for n in range(12):
        guesser.move(f"198.51.100.{n}")
        outcomes.append(guesser.get("/", headers={"Authorization": "Basic bWFyaWE6eA=="}).status_code)
    assert outcomes == [401] * 10 + [429] * 2
    assert known.post(API, json=SIGNED).status_code == 200
    assert "<b>maria</b>" in browser.get("/").text
    assert Browser(world, authenticator=authenticator).sign_in("maria", PASSWORDS["maria"]).status_code == 303
    for n in range(10):
        guesser.move(f"203.0.113.{n}")
        assert guesser.get("/", headers={"Authorization": "Basic am86eA=="}).status_code == 401
    answer = Browser(world, authenticator=authenticator).sign_in("jo", PASSWORDS["jo"])
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "1")
    assert "Try again in 1 s" in answer.text
    world.clock.time += 1.0
    assert Browser(world, authenticator=authenticator).sign_in("jo", PASSWORDS["jo"]).status_code == 303


def test_one_password_is_verified_at_a_time_and_few_wait(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticator = world.authenticator()
    going_on, most, lock = [0], [0], threading.Lock()
    release = threading.Event()

    def verify(_self: UserFile, _name: str, _password: str) -> None:
        with lock:
            going_on[0] += 1
            most[0] = max(most[0], going_on[0])
        assert release.wait(60)
        with lock:
            going_on[0] -= 1

    monkeypatch.setattr(UserFile, "verify", verify)
    outcomes: list[type[Exception]] = []

    def attempt(n: int) -> None:
        try:
            authenticator.check_password(f"user-{n}", "x", f"192.0.2.{n}")
        except DqmError as error:
            outcomes.append(type(error))
            if isinstance(error, BusyError) and len(outcomes) == 12:
                release.set()

    threads = [threading.Thread(target=attempt, args=[n]) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert most == [1]
    assert sum(kind is BusyError for kind in outcomes) == 12
    assert len(outcomes) == 20


def test_a_password_that_was_right_is_not_hashed_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[str] = []
    verify = UserFile.verify

    def counted(self: UserFile, name: str, password: str) -> str | None:
        verified.append(name)
        return verify(self, name, password)

    monkeypatch.setattr(UserFile, "verify", counted)
    program = Browser(world, as_program=True, user="maria")
    for _ in range(5):
        assert program.get("/api/v1/overview").status_code == 200
    assert verified == ["maria"]


def test_a_user_changes_so_much_a_minute(world: World) -> None:
    world.raise_alarm()
    authenticator = world.authenticator(changes_per_minute=3)
    maria = Browser(world, as_program=True, user="maria", authenticator=authenticator)
    assert [maria.post(API, json=SIGNED).status_code for _ in range(4)] == [200, 200, 200, 429]
    answer = maria.post("/api/v1/masks", json={"reason": "x", "streams": "*"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "20")
    assert answer.json()["detail"] == "maria has changed too much in a minute"
    browser = Browser(world, user="maria", authenticator=authenticator)
    page = browser.post("/masks", data={"token": browser.token("/masks"), "reason": "x", "streams": "*"})
    assert (page.status_code, page.headers["retry-after"]) == (429, "20")
    assert "Try again in 20 s" in page.text
    assert browser.get("/").status_code == 200
    jo = Browser(world, as_program=True, user="jo", authenticator=authenticator)
    assert jo.post("/api/v1/masks", json={"reason": "x", "streams": "*"}).status_code == 200
    world.clock.time += 20.0
    assert maria.post("/api/v1/masks", json={"reason": "x", "streams": "*"}).status_code == 200
    assert browser.post("/logout", data={"token": browser.token("/masks")}).status_code == 303


def test_a_sign_in_that_cannot_be_written_down_is_none(world: World) -> None:
    browser = Browser(world)
    token = browser.token()
    world.store.close()
    world.users.with_name("x.sqlite").write_bytes(b"no database")
    form = {"token": token, "user": "maria", "password": PASSWORDS["maria"]}
    answer = browser.post("/login", data=form)
    assert answer.status_code == 503
    assert "dqm_session" not in answer.headers.get("set-cookie", "")


def test_every_path_but_a_few_is_authenticated(world: World) -> None:
    stranger = Browser(world, address=ELSEWHERE, as_program=True)
    paths = stranger_paths(Browser(world))
    assert len(paths) > 12
    for path in paths:
        for method in ("GET", "POST", "PUT", "DELETE", "OPTIONS"):
            answer = stranger.ask(method, path, headers={"Sec-Fetch-Site": "same-origin"})
            assert answer.status_code == 401, (method, path)


def stranger_paths(browser: Browser) -> list[str]:
    """Paths of the API, and of the pages."""
    described = browser.get("/api/v1/openapi.json").json()["paths"]
    return [f"/api/v1{path}" for path in described] + ["/", "/alarms", "/masks", "/events", "/nothing"]
