"""Signing in by OpenID Connect: at the certified provider ``oidc-provider``, over real sockets."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from structlog.testing import capture_logs

from dqm.alarm import Cause
from tests.conftest import Once
from tests.web.auth.oidc_site import SECRET, Person, Provider, Site, install_provider, running_provider
from tests.world import PASSWORDS, World

Serve = Callable[..., Site]


@pytest.fixture(scope="module")
def provider(once: Once, require_program: Callable[[str], Path]) -> Iterator[Provider]:
    require_program("npm")
    node = require_program("node")
    with running_provider(node, once("oidc-provider", install_provider)) as running:
        yield running


@pytest.fixture
def site(world: World, provider: Provider, tmp_path: Path) -> Iterator[Site]:
    with Site(world, provider, tmp_path).serve() as serving:
        yield serving
    provider.tamper("none-of-them")


def test_whoever_signs_in_at_the_provider_acts_in_that_name_with_the_role_of_their_groups(
    site: Site, caplog: pytest.LogCaptureFixture
) -> None:
    site.world.raise_alarm()
    anna = Person(site)
    caplog.set_level(logging.INFO)
    assert 'href="/login/provider?next=/alarms"' in anna.get("/login?next=/alarms").text
    back = anna.at_provider(anna.begin("/alarms?show=all"), "anna")
    begun = anna.client.cookies["dqm_sign_in"]
    answer = anna.client.get(back)
    assert answer.status_code == 200
    code = parse_qs(urlsplit(back).query)["code"][0]
    browsers = ("httpx", "uvicorn.access")  # anna's own, and what the daemon switches off
    told = "".join(record.getMessage() for record in caplog.records if record.name not in browsers)
    assert "/token" in told
    for secret in (SECRET, code, begun, anna.client.cookies["dqm_session"]):
        assert secret not in told + answer.text
    assert 'content="0; url=/alarms?show=all"' in answer.text
    assert anna.user == "anna shifter"
    assert anna.post("/alarms/chamber-2/differs/acknowledge", comment="HV").status_code == 303
    acknowledged = site.world.queries.alarm("chamber-2", Cause.DIFFERS).acknowledged
    assert acknowledged is not None
    assert acknowledged.user == "anna"
    assert anna.post("/masks", streams="*", reason="x").status_code == 403
    assert site.audit() == [("anna", "sign-in"), ("anna", "acknowledge"), ("anna", "mask refused")]
    cookies = answer.headers.get_list("set-cookie")
    session = next(cookie for cookie in cookies if cookie.startswith("dqm_session="))
    assert "HttpOnly" in session
    assert "SameSite=strict" in session
    assert any(c.startswith('dqm_sign_in=""') and "Max-Age=0" in c for c in cookies)


@pytest.mark.parametrize(
    ("name", "role"), [("eva", "expert"), ("one", "shifter"), ("otto", "viewer"), ("nobody-knows", "viewer")]
)
def test_the_highest_role_of_the_groups_counts_and_without_one_one_reads(
    site: Site, name: str, role: str
) -> None:
    person = Person(site)
    person.sign_in(name)
    assert person.user == f"{name} {role}"


def test_users_without_a_mapped_group_can_be_refused(
    world: World, provider: Provider, tmp_path: Path
) -> None:
    with Site(world, provider, tmp_path, web={"unmapped": "refuse"}).serve() as site:
        otto = Person(site)
        answer = otto.sign_in("otto")
        assert answer.status_code == 403
        assert "Otto is in no group that may sign in" in answer.text
        assert otto.user == ""
        anna = Person(site)
        assert anna.sign_in("anna").status_code == 200
        assert site.audit() == [("anna", "sign-in")]


@pytest.mark.parametrize("name", ["wrong", "newline", "x" * 65])
def test_names_and_groups_that_are_none_are_refused(site: Site, name: str) -> None:
    person = Person(site)
    answer = person.sign_in(name)
    assert answer.status_code == 401
    assert "cannot be used" in answer.text
    assert person.user == ""
    assert Person(site).sign_in("anna").status_code == 200


def test_what_is_asked_has_state_nonce_and_a_challenge(site: Site) -> None:
    person = Person(site)
    addresses = [person.begin().headers["location"] for _ in range(2)]
    queries = [parse_qs(urlsplit(address).query) for address in addresses]
    for query in queries:
        assert query["response_type"] == ["code"]
        assert query["code_challenge_method"] == ["S256"]
        assert query["redirect_uri"] == [f"{site.url}/login/provider/return"]
    for key in ("state", "nonce", "code_challenge"):
        assert queries[0][key] != queries[1][key]
        assert len(queries[0][key][0]) >= 20


def test_behind_a_proxy_the_provider_sends_browsers_back_to_https(
    world: World, provider: Provider, tmp_path: Path
) -> None:
    web = {"proxies": ["127.0.0.1"], "names": ["dqm.example.org"]}
    told = {"X-Forwarded-Proto": "https", "Host": "dqm.example.org"}
    with Site(world, provider, tmp_path, web=web).serve() as site:
        answer = Person(site).client.get(f"{site.url}/login/provider?next=/masks", headers=told)
    query = parse_qs(urlsplit(answer.headers["location"]).query)
    assert query["redirect_uri"] == ["https://dqm.example.org/login/provider/return"]
    assert "Secure" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "how", ["signature", "unsigned", "secret", "expired", "audience", "issuer", "nonce", "without", "user"]
)
def test_id_tokens_that_are_not_for_this_sign_in_are_refused(site: Site, how: str) -> None:
    site.provider.tamper(how)
    person = Person(site)
    answer = person.sign_in("anna")
    assert answer.status_code == (503 if how in ("without", "user") else 401)
    assert person.user == ""
    assert "dqm_session" not in str(answer.headers.get_list("set-cookie"))
    assert site.audit() == []
    site.provider.tamper("none-of-them")
    assert person.sign_in("anna").status_code == 200
    assert person.user == "anna shifter"


def test_a_code_is_good_once(site: Site) -> None:
    anna = Person(site)
    back = anna.at_provider(anna.begin(), "anna")
    begun = anna.client.cookies["dqm_sign_in"]
    assert anna.client.get(back).status_code == 200
    thief = Person(site)
    assert thief.client.get(back).status_code == 401
    thief.client.cookies.set("dqm_sign_in", begun, domain="127.0.0.1")
    answer = thief.client.get(back)
    assert answer.status_code == 401
    assert "was used before" in answer.text
    assert thief.user == ""


def test_an_answer_to_another_browser_or_another_sign_in_is_refused(site: Site) -> None:
    anna, eva = Person(site), Person(site)
    back = anna.at_provider(anna.begin(), "anna")
    eva.begin()
    altered = re.sub(r"state=\w+", "state=another", back)
    elsewhere = re.sub(r"iss=[^&]+", "iss=http%3A%2F%2Fevil.example", back)
    assert elsewhere != back
    with capture_logs() as logs:
        for person, address in [(eva, back), (anna, altered), (anna, elsewhere)]:
            begun = person.client.cookies["dqm_sign_in"]
            assert person.client.get(address).status_code == 401
            assert person.user == ""
            person.client.cookies.set("dqm_sign_in", begun, domain="127.0.0.1", path="/login/provider")
    assert anna.client.get(back).status_code == 200
    assert SECRET not in str(logs)


@pytest.mark.parametrize("query", ["error=access_denied", "error=invalid_client&code=x", "code=x", ""])
def test_whatever_else_comes_back_lets_nobody_in_and_does_not_disturb_others(site: Site, query: str) -> None:
    person = Person(site)
    state = parse_qs(urlsplit(person.begin().headers["location"]).query)["state"][0]
    answer = person.get(f"/login/provider/return?state={state}&{query}&error_description=<b>call+me</b>")
    assert answer.status_code == 401
    assert "call me" not in answer.text
    assert person.user == ""
    assert Person(site).sign_in("anna").status_code == 200


def test_failures_make_an_address_wait(site: Site) -> None:
    person = Person(site)
    answers = [person.get("/login/provider/return?state=x&code=x").status_code for _ in range(6)]
    assert answers == [401] * 5 + [429]
    assert person.begin().status_code == 429
    site.world.clock.time += 2.0
    assert person.begin().status_code == 303


@pytest.mark.parametrize("after", ["//evil.example", "https://evil.example", "/\\evil.example", "/login"])
def test_after_the_provider_one_stays_here(site: Site, after: str) -> None:
    anna = Person(site)
    assert 'content="0; url=/"' in anna.sign_in("anna", after=after).text


def test_a_sign_in_that_takes_too_long_is_none(site: Site) -> None:
    anna = Person(site)
    back = anna.at_provider(anna.begin(), "anna")
    site.world.clock.time += 601.0
    assert anna.client.get(back).status_code == 401


def test_a_session_ends_with_the_shift_and_with_the_daemon(site: Site) -> None:
    anna = Person(site)
    anna.sign_in("anna")
    site.world.clock.time += 8 * 3600.0 - 1.0
    assert anna.user == "anna shifter"
    site.world.clock.time += 2.0
    assert anna.user == ""


def test_whoever_signs_out_is_signed_out_at_the_provider_too(site: Site) -> None:
    anna = Person(site)
    anna.sign_in("anna")
    answer = anna.post("/logout")
    assert answer.status_code == 200
    assert anna.user == ""
    found = re.search(r'http-equiv="refresh" content="0; url=([^"]+)"', answer.text)
    assert found
    address = found[1].replace("&amp;", "&")
    assert address.startswith(f"{site.provider.issuer}/session/end?id_token_hint=")
    page = anna.client.get(address)
    fields = dict(re.findall(r'name="(\w+)" value="(\w+)"', page.text)) | {"logout": "yes"}
    answer = anna.client.post(f"{site.provider.issuer}/session/end/confirm", data=fields)
    assert answer.headers["location"].startswith(f"{site.url}/?state=")
    again = anna.client.get(urlsplit(anna.begin().headers["location"]).geturl())
    assert "/interaction/" in again.headers["location"]  # the provider asks who it is
    assert site.audit() == [("anna", "sign-in"), ("anna", "sign-out")]


def test_without_the_provider_the_page_says_so_and_passwords_go_on(
    world: World, provider: Provider, tmp_path: Path
) -> None:
    gone = {"issuer": "http://localhost:1"}
    with Site(world, provider, tmp_path, oidc=gone).serve() as site, capture_logs() as logs:
        person = Person(site)
        for _ in range(3):
            answer = person.begin("/masks")
            assert answer.status_code == 503
            assert "Single sign-on does not answer. Try again later" in answer.text
            assert 'name="next" value="/masks"' in answer.text
        told = [entry["event"] for entry in logs]
        assert told == ["the provider of OpenID Connect cannot be used"]  # and was asked once
        form = {"user": "maria", "password": PASSWORDS["maria"]}
        assert person.post("/login", **form).status_code == 303
        assert person.user == "maria expert"


@pytest.mark.parametrize(
    ("wrong", "why"),
    [({"issuer": "{}/"}, "calls itself"), ({"issuer": "{}/nothing"}, "404"), ({"client_id": "other"}, "")],
)
def test_a_provider_that_is_not_as_configured_lets_nobody_in(
    world: World, provider: Provider, tmp_path: Path, wrong: dict[str, str], why: str
) -> None:
    oidc = {key: value.format(provider.issuer) for key, value in wrong.items()}
    with Site(world, provider, tmp_path, oidc=oidc).serve() as site, capture_logs() as logs:
        answer = Person(site).begin()
        if "issuer" in wrong:
            assert answer.status_code == 503
            assert why in str(logs)
        else:  # the provider says so itself
            assert httpx.get(answer.headers["location"], trust_env=False).status_code == 400


def test_a_wrong_secret_is_told_in_the_log_and_not_to_strangers(
    world: World, provider: Provider, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.touch(mode=0o600)
    other.write_text("not the secret")
    with (
        Site(world, provider, tmp_path, oidc={"client_secret": other}).serve() as site,
        capture_logs() as logs,
    ):
        answer = Person(site).sign_in("anna")
    assert answer.status_code == 503
    assert "invalid_client" not in answer.text
    assert "invalid_client" in str(logs)
    assert "not the secret" not in str(logs) + answer.text
