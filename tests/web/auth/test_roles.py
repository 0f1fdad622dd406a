"""What each role may do: every changing route with every role, and what pages offer."""

from __future__ import annotations

import base64
import errno
from dataclasses import dataclass
from typing import Any, get_args

import httpx
import pytest
from starlette.routing import Mount, Route

from dqm.alarm import (
    AcknowledgeAlarm,
    AddMask,
    Cause,
    CertifyCommand,
    Command,
    LabelFault,
    Scope,
    ShelveAlarm,
)
from dqm.config import Role, WebSection
from dqm.web import Authenticator
from dqm.web.app import create_routes
from dqm.web.auth.roles import NEEDED, role_of_groups
from dqm.web.auth.users import UserFile, add_user, set_role
from tests.world import CHEAP, Browser, World

PASSWORD = "correct horse"  # noqa: S105 - of a test
ALARM = "/alarms/chamber-2/differs"
MASK = "3f9a21c7"


@dataclass(frozen=True)
class Change:
    """A route that changes something, and a request that it takes."""

    path: str
    needed: Role
    action: str
    fields: dict[str, str]

    @property
    def address(self) -> str:
        known = {"{stream}": "chamber-2", "{cause}": "differs", "{identifier}": MASK, "{run}": "7"}
        path = self.path
        for name, value in known.items():
            path = path.replace(name, value)
        return path

    @property
    def right(self) -> str:
        """What the table of roles calls it."""
        return self.action if self.action in NEEDED else "users"

    @property
    def body(self) -> dict[str, Any]:
        numbers = {"hours", "identifier", "known"}
        return self.fields | {key: int(value) for key, value in self.fields.items() if key in numbers}


COMMENT, REASON = {"comment": "x"}, {"reason": "x"}
OF_ALARM = "/alarms/{stream}/{cause}"
OF_RUN = "/certification/{run}"
CHANGES = (
    Change(f"{OF_ALARM}/acknowledge", Role.SHIFTER, "acknowledge", COMMENT),
    Change(f"{OF_ALARM}/shelve", Role.SHIFTER, "shelve", REASON | {"hours": "8"}),
    Change(f"{OF_ALARM}/unshelve", Role.SHIFTER, "unshelve", COMMENT),
    Change("/alarms/{stream}/changed/accept", Role.SHIFTER, "accept", COMMENT),
    Change(
        "/alarms/groups/acknowledge",
        Role.SHIFTER,
        "acknowledge",
        COMMENT | {"group": "muon/station-1", "cause": "differs"},
    ),
    Change("/masks", Role.EXPERT, "mask", REASON | {"streams": "chamber-3"}),
    Change("/masks/{identifier}/remove", Role.EXPERT, "unmask", COMMENT),
    Change(f"{OF_RUN}/amend", Role.EXPERT, "amend", COMMENT | {"stream": "chamber-2", "quality": "Good"}),
    Change(
        f"{OF_RUN}/label",
        Role.EXPERT,
        "label",
        COMMENT | {"stream": "chamber-2", "fault": "HV trip", "known": "1"},
    ),
    Change(f"{OF_RUN}/withdraw", Role.EXPERT, "withdraw", COMMENT | {"identifier": "1"}),
    Change(f"{OF_RUN}/sign", Role.EXPERT, "sign", COMMENT | {"decision": "bad", "known": "1"}),
    Change("/users/role", Role.ADMIN, "set role", COMMENT | {"name": "jo", "role": "viewer"}),
    Change("/users/sign-out", Role.ADMIN, "sign out user", COMMENT | {"name": "jo"}),
    Change("/users/remove", Role.ADMIN, "remove user", COMMENT | {"name": "jo"}),
)
FOR_EVERYBODY = {"/login", "/logout"}
COMPARING = {"/compare", "/compare/{identifier}/cancel"}
"""They change nothing but what the machine does; see `test_a_comparison_needs_a_role`."""

SIDES = {"a_stream": "chamber-1", "a_runs": "7", "b_stream": "chamber-2", "b_runs": "7"}
BODY = {"first": {"stream": "chamber-1", "runs": "7"}, "second": {"stream": "chamber-2", "runs": "7"}}


@pytest.fixture
def staffed(world: World) -> World:
    """A user of each role, a raised alarm, a mask, and a label."""
    for role in Role:
        add_user(world.users, role, PASSWORD, CHEAP, role)
    world.raise_alarm()
    world.alarm_service.apply(AddMask(MASK, "chamber-4", "gas leak"), "maria")
    world.queries.certification.apply(LabelFault(Scope(7, "chamber-2", 0, 0), "HV trip", "seen"), "maria")
    return world


def signed_in(world: World, role: Role, authenticator: Authenticator | None = None) -> Browser:
    browser = Browser(world, authenticator=authenticator)
    assert browser.sign_in(role, PASSWORD).status_code == 303
    return browser


def program(role: Role) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{role}:{PASSWORD}".encode()).decode()}


def state(world: World, authenticator: Authenticator) -> object:
    journal = world.queries.certification.journal(7)
    alarms, accounts = world.alarm_service, authenticator.accounts.all()
    return alarms.alarms(), alarms.masks(), alarms.for_rolling_references(), accounts, journal


def last_action(world: World) -> tuple[str, str, str]:
    row = world.alarm_service.history.actions()[-1]
    return row["user"], row["action"], row["target"]


def test_every_route_that_changes_something_is_tried_here(world: World) -> None:
    routes = create_routes(world.queries, world.authenticator())
    paths = {route.path for route in routes if isinstance(route, Route) and route.methods != {"GET", "HEAD"}}
    assert paths == {change.path for change in CHANGES} | FOR_EVERYBODY | COMPARING
    assert [route.path for route in routes if isinstance(route, Mount)] == ["/api/v1"]
    described = Browser(world).get("/api/v1/openapi.json").json()["paths"]
    assert {path for path, methods in described.items() if set(methods) - {"get"}} == {
        change.path for change in CHANGES
    } | COMPARING


def test_every_command_on_alarms_needs_a_role() -> None:
    actions = {command.action for command in (*get_args(Command), *get_args(CertifyCommand))}
    assert actions <= set(NEEDED)
    assert all(role is not Role.VIEWER for role in NEEDED.values())


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.action)
@pytest.mark.parametrize("by", ["form", "program"])
def test_a_change_needs_its_role(staffed: World, role: Role, change: Change, by: str) -> None:
    if change.action == "unshelve":
        staffed.alarm_service.apply(ShelveAlarm("chamber-2", Cause.DIFFERS, "x", 8.0), "maria")
    authenticator = staffed.authenticator()
    Browser(staffed, user="jo", authenticator=authenticator)  # whom admins sign out
    browser = signed_in(staffed, role, authenticator)
    before = state(staffed, authenticator)
    answer: httpx.Response
    if by == "form":
        answer = browser.post(change.address, data={"token": browser.token("/login")} | change.fields)
        told = answer.text
    else:
        client = Browser(staffed, as_program=True, authenticator=authenticator)
        answer = client.post(f"/api/v1{change.address}", json=change.body, headers=program(role))
        told = "" if answer.is_success else answer.json()["detail"]
    if role.includes(change.needed):
        assert answer.status_code == (303 if by == "form" else 200), answer.text
        assert state(staffed, authenticator) != before
        assert last_action(staffed)[:2] == (role, change.action)
        return
    assert answer.status_code == 403
    assert f"his needs the role {change.needed}; that of {role} is {role}" in told
    if by == "program":
        assert answer.headers["content-type"] == "application/problem+json"
        assert "www-authenticate" not in answer.headers
    assert state(staffed, authenticator) == before
    user, action, target = last_action(staffed)
    assert (user, action) == (role, f"{change.right} refused")
    of_run = ("run 7 chamber-2: Good", "run 7 chamber-2: HV trip", "run 7, entry 1", "run 7: bad")
    of_alarm = ("chamber-2 differs", "chamber-2 changed", "muon/station-1 differs", "chamber-3", MASK)
    assert target in (*of_run, *of_alarm, "jo", "jo (viewer)")


@pytest.mark.parametrize("role", Role)
@pytest.mark.parametrize("by", ["form", "program"])
def test_a_comparison_needs_a_role(staffed: World, role: Role, by: str) -> None:
    """Whoever has it hears that nothing is kept, or that there is no such comparison."""
    browser, client = signed_in(staffed, role), Browser(staffed, as_program=True)
    token = browser.token("/login")
    for path, fields, body, status in (
        ("/compare", SIDES, BODY, 409),
        ("/compare/0123456789ab/cancel", {}, {}, 404),
    ):
        answer = (
            browser.post(path, data={"token": token} | fields)
            if by == "form"
            else client.post(f"/api/v1{path}", json=body, headers=program(role))
        )
        assert answer.status_code == (status if role.includes(Role.SHIFTER) else 403), answer.text
    if not role.includes(Role.SHIFTER):
        assert last_action(staffed) == (role, "compare refused", "0123456789ab")
    offered = 'method="post" action="/compare"' in browser.get("/compare").text
    assert offered == role.includes(Role.SHIFTER)


def test_without_a_user_nothing_is_compared(staffed: World) -> None:
    client = Browser(staffed, as_program=True)
    assert client.post("/api/v1/compare", json=BODY).status_code == 401
    assert client.get("/api/v1/compare").json() == {"comparisons": []}


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.action)
def test_without_a_user_nothing_is_changed_on_this_host_either(staffed: World, change: Change) -> None:
    authenticator = staffed.authenticator()
    before = state(staffed, authenticator)
    answer = Browser(staffed, as_program=True, authenticator=authenticator).post(
        f"/api/v1{change.address}", json=change.body
    )
    assert answer.status_code == 401
    assert state(staffed, authenticator) == before


@pytest.mark.parametrize("role", Role)
def test_every_role_reads_from_elsewhere(staffed: World, role: Role) -> None:
    client = Browser(staffed, as_program=True, address="192.0.2.7")
    for path in ("/", "/alarms", "/masks", "/metrics", "/api/v1/overview", "/api/v1/alarms"):
        assert client.get(path, headers=program(role)).status_code == 200


@pytest.mark.parametrize("role", Role)
def test_pages_offer_what_the_role_may_do_and_say_what_it_may_not(staffed: World, role: Role) -> None:
    browser = signed_in(staffed, role)
    may_shift, may_mask = role.includes(Role.SHIFTER), role.includes(Role.EXPERT)
    for path in ("/", "/alarms", ALARM):
        page = browser.get(path).text
        assert (f'action="{ALARM}/acknowledge"' in page) == may_shift
        assert (f"This needs the role shifter; your role is {role}." in page) != may_shift
        assert f'<b>{role}</b> <span class="faint">{role}</span>' in page
    assert (f'action="{ALARM}/shelve"' in browser.get(ALARM).text) == may_shift
    staffed.alarm_service.apply(ShelveAlarm("chamber-2", Cause.DIFFERS, "x", 8.0), "maria")
    assert (f'action="{ALARM}/unshelve"' in browser.get(ALARM).text) == may_shift
    page = browser.get("/masks").text
    assert ('action="/masks"' in page) == may_mask
    assert (f'action="/masks/{MASK}/remove"' in page) == may_mask
    assert (f"This needs the role expert; your role is {role}." in page) != may_mask


def test_another_role_counts_at_once_in_sessions_too(staffed: World) -> None:
    browser = signed_in(staffed, Role.EXPERT)
    set_role(staffed.users, "expert", Role.VIEWER)
    form = {"token": browser.token("/login"), "comment": "x"}
    assert browser.post(f"{ALARM}/acknowledge", data=form).status_code == 403
    set_role(staffed.users, "expert", Role.SHIFTER)
    assert browser.post(f"{ALARM}/acknowledge", data=form).status_code == 303


def test_a_refused_change_of_something_strange_is_audited_in_readable_text(staffed: World) -> None:
    client = Browser(staffed, as_program=True)
    path = f"/api/v1/masks/{'%1b%7f' + 'x' * 400}/remove"
    answer = client.post(path, json=COMMENT, headers=program(Role.VIEWER))
    assert answer.status_code == 403
    assert last_action(staffed) == ("viewer", "unmask refused", "??" + "x" * 254)


@pytest.mark.parametrize("role", [None, *Role])
def test_users_are_listed_for_admins_alone(staffed: World, role: Role | None) -> None:
    authenticator = staffed.authenticator()
    browser = signed_in(staffed, role, authenticator) if role else Browser(staffed)
    client = Browser(staffed, as_program=True, authenticator=authenticator)
    told = client.get("/api/v1/users", headers=program(role) if role else {})
    page = browser.get("/users")
    if role is Role.ADMIN:
        accounts = {account["name"]: account for account in told.json()["accounts"]}
        assert list(accounts) == ["admin", "expert", "jo", "maria", "shifter", "viewer"]
        assert accounts["admin"] == {"name": "admin", "role": "admin", "has_password": True, "n_sessions": 1}
        assert 'href="/users"' in browser.get("/").text
        assert "argon2" not in page.text + told.text
        return
    assert "refused" not in str(last_action(staffed))  # only changes are written down
    assert told.status_code == (403 if role else 401)
    assert page.status_code == (403 if role else 303)
    assert 'href="/users"' not in browser.get("/").text
    assert "maria" not in page.text + told.text


def test_an_admin_ends_sessions_removes_users_and_sees_why_something_cannot_be(staffed: World) -> None:
    authenticator = staffed.authenticator()
    jo = Browser(staffed, user="jo", authenticator=authenticator)
    admin = signed_in(staffed, Role.ADMIN, authenticator)
    form = {"token": admin.token("/users"), "name": "jo", "comment": "left the shift"}
    assert admin.post("/users/sign-out", data=form).headers["location"] == "/users"
    assert "<b>jo</b>" not in jo.get("/").text
    answer = admin.post("/users/sign-out", data=form)
    assert (answer.status_code, "&#39;jo&#39; is not signed in" in answer.text) == (409, True)
    assert admin.post("/users/remove", data=form).status_code == 303
    answer = admin.post("/users/remove", data=form)
    assert "no user &#39;jo&#39;" in answer.text
    form["name"] = "maria"
    assert admin.post("/users/role", data=form | {"role": "root"}).status_code == 422
    staffed.users.chmod(0o644)
    client = Browser(staffed, as_program=True, authenticator=authenticator)
    assert client.post("/api/v1/users/remove", json={}, headers=program(Role.ADMIN)).status_code == 401
    staffed.users.chmod(0o600)
    actions = [(row["action"], row["comment"]) for row in staffed.alarm_service.history.actions()][-4:]
    assert actions == [
        ("sign out user failed", "'jo' is not signed in"), ("remove user", "left the shift"),
        ("remove user", "left the shift"), ("remove user failed", "no user 'jo'"),
    ]  # fmt: skip


def test_a_file_of_users_that_the_daemon_may_not_write_is_told(
    staffed: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = Browser(staffed, as_program=True)

    def refuse(_descriptor: int) -> None:
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr("dqm.web.auth.users.os.fsync", refuse)
    body = COMMENT | {"name": "jo", "role": "viewer"}
    answer = client.post("/api/v1/users/role", json=body, headers=program(Role.ADMIN))
    assert (answer.status_code, answer.json()["where"]) == (409, str(staffed.users))
    assert answer.json()["detail"] == "cannot be written: Read-only file system"
    assert last_action(staffed) == ("admin", "set role failed", "jo (viewer)")
    assert UserFile(staffed.users).role("jo") is Role.EXPERT
    assert list(staffed.users.parent.glob(".users*")) == []


@pytest.mark.parametrize(
    ("groups", "unmapped", "role"),
    [
        ([], "viewer", Role.VIEWER), ([], "refuse", None), (["physics"], "refuse", None),
        (["shift", "experts", "shift"], "refuse", Role.EXPERT), (["Shift"], "viewer", Role.VIEWER),
        (["shift", "physics"], "viewer", Role.SHIFTER), ([""], "refuse", None),
    ],
)  # fmt: skip
def test_groups_give_the_highest_of_their_roles(groups: list[str], unmapped: str, role: Role | None) -> None:
    section = WebSection.model_validate(
        {
            "proxy_header": "X-User",
            "proxy_groups": "X-Groups",
            "proxies": ["10.1.2.3"],
            "roles": {"shift": "shifter", "experts": "expert"},
            "unmapped": unmapped,
        }
    )
    assert role_of_groups(groups, section) is role


def test_a_proxy_names_groups(staffed: World) -> None:
    section = {
        "proxy_header": "X-User", "proxy_groups": "X-Groups", "proxies": ["10.1.2.3"],
        "roles": {"shift": "shifter", "Experten-\u00fc": "expert"},
    }  # fmt: skip
    for unmapped in ("viewer", "refuse"):
        authenticator = staffed.authenticator(unmapped=unmapped, **section)
        proxied = Browser(staffed, as_program=True, address="10.1.2.3", authenticator=authenticator)
        reading = 200 if unmapped == "viewer" else 403
        for groups, status, read in [
            ("shift", 403, 200), ("physics , Experten-\u00fc", 200, 200), ("physics", 403, reading),
            ("", 403, reading),
        ]:  # fmt: skip
            headers = [
                ("X-User", "anna"),
                ("X-Groups", groups.encode()),
                ("Content-Type", "application/json"),
            ]
            body = {"reason": "x", "streams": "chamber-1"}
            assert proxied.get("/api/v1/overview", headers=headers).status_code == read
            assert proxied.post("/api/v1/masks", json=body, headers=headers).status_code == status
        lie = [("X-User", "anna"), ("X-Groups", "Experten-\u00fc".encode())]
        elsewhere = Browser(staffed, as_program=True, address="10.1.2.4", authenticator=authenticator)
        assert elsewhere.get("/api/v1/overview", headers=lie).status_code == 401
    assert AcknowledgeAlarm.action in NEEDED
