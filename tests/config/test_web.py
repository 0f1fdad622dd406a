from __future__ import annotations

import re
from pathlib import Path

import pytest

from dqm.config import OidcSection, Role, WebSection, load_daemon, validate
from dqm.errors import ConfigError

OIDC = {"issuer": "https://sso.example/realms/lab", "client_id": "dqm", "client_secret": "oidc-secret"}
STREAMS = '[[streams]]\nname = "a"\nbundle = "b"\n'


def test_nobody_comes_in_unless_it_says_so() -> None:
    section = WebSection()
    assert not section.has_login
    assert (section.metrics, section.session_hours, section.changes_per_minute) == ("login", 8.0, 30)


def test_users_and_proxies_are_named(tmp_path: Path) -> None:
    keys = {
        "users": "users.toml",
        "proxy_header": "X-Remote-User",
        "proxies": ["10.1.2.3", "fd00:1:2::/48"],
        "names": ["DQM.example.org"],
    }
    section = WebSection.model_validate(keys, context={"base": tmp_path})
    assert section.has_login
    assert section.users == tmp_path / "users.toml"
    assert section.proxy_header == "x-remote-user"
    assert [str(network) for network in section.proxies] == ["10.1.2.3/32", "fd00:1:2::/48"]
    assert section.names == ("dqm.example.org",)
    credential = {"environ": {"CREDENTIALS_DIRECTORY": "/run/credentials/dqm"}}
    found = WebSection.model_validate(
        {"users": "$CREDENTIALS_DIRECTORY/users.toml"}, context=credential
    ).users
    assert found == Path("/run/credentials/dqm/users.toml")


@pytest.mark.parametrize("host", ["127.0.0.1:9000", "localhost", "[::1]:9000"])
def test_a_provider_on_this_host_needs_no_https(host: str) -> None:
    assert OidcSection.model_validate(OIDC | {"issuer": f"http://{host}"}).issuer == f"http://{host}"


def test_roles_include_those_before_them() -> None:
    for n, role in enumerate(Role):
        assert [role.includes(other) for other in Role] == [m <= n for m in range(4)]


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"proxy_header": "X-Remote-User"}, "proxies must list the addresses that may set it"),
        ({"proxy_header": "Cookie", "proxies": ["10.1.2.3"]}, "'Cookie' is also set by clients"),
        ({"proxy_header": "X-Forwarded-For", "proxies": ["10.1.2.3"]}, "is also set by clients"),
        ({"proxy_header": "X Remote", "proxies": ["10.1.2.3"]}, "proxy_header: string should match"),
        ({"proxies": ["10.1.2.3/8"]}, "proxies[0]: value is not a valid"),
        *(
            ({"proxies": [network]}, f"proxies[0]: {network} has {n} addresses, and whoever has one")
            for network, n in [
                ("0.0.0.0/0", 2**32),
                ("128.0.0.0/1", 2**31),
                ("10.0.0.0/8", 2**24),
                ("::/0", 2**128),
                ("fc00::/7", 2**121),
            ]
        ),
        ({"proxy_groups": "X-Forwarded-Groups"}, "proxy_groups: proxy_header must name the header"),
        (
            {"proxy_header": "X-User", "proxy_groups": "x-user", "proxies": ["10.1.2.3"]},
            "proxy_groups: must differ from proxy_header",
        ),
        ({"roles": {"dqm": "expert"}}, "roles: nobody names groups; set proxy_groups, or [web.oidc]"),
        ({"roles": {"dqm": "root"}}, "roles.dqm: input should be 'viewer', 'shifter', 'expert' or 'admin'"),
        ({"unmapped": "expert"}, "unmapped: input should be 'viewer' or 'refuse'"),
        ({"oidc": OIDC | {"issuer": "http://sso.example"}}, "'http://sso.example' is not https"),
        ({"oidc": OIDC | {"issuer": "sso.example"}}, "'sso.example' is not https://HOST"),
        ({"oidc": OIDC | {"issuer": "https://[::1"}}, "is not https://HOST"),
        ({"oidc": OIDC | {"issuer": "https://a:b@sso.example"}}, "must hold no user and no password"),
        ({"oidc": OIDC | {"scopes": ["profile"]}}, "scopes must have 'openid'"),
        ({"oidc": OIDC | {"secret": "x"}}, "oidc.secret: unknown key"),
        ({"proxies": ["proxy"]}, "proxies[0]: value is not a valid"),
        ({"names": ["dqm:8787"]}, "names[0]: string should match"),
        ({"metrics": "closed"}, "metrics: input should be 'login' or 'open'"),
        ({"session_hours": 0}, "session_hours: input should be greater than 0"),
        ({"changes_per_minute": 0}, "changes_per_minute: input should be greater than"),
        ({"user": "users.toml"}, "user: unknown key; did you mean 'users'?"),
    ],
)
def test_what_makes_no_sense_is_refused(keys: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        validate(WebSection, keys, "[web]")


@pytest.mark.parametrize("http", ["127.0.0.1:1", "127.9.9.9:1", "[::1]:1", "localhost:1"])
def test_on_this_host_a_daemon_needs_no_users(tmp_path: Path, http: str) -> None:
    path = tmp_path / "daemon.toml"
    path.write_text(f'[daemon]\nhttp = "{http}"\n{STREAMS}')
    assert load_daemon(path, environ={}).daemon.http == http


@pytest.mark.parametrize("http", ["0.0.0.0:1", "[::]:1", "192.0.2.7:1", "monitor:1"])
@pytest.mark.parametrize(
    ("web", "is_let_in"),
    [
        ("", False),
        ('proxies = ["10.1.2.3"]', False),
        ('users = "users.toml"', True),
        ('proxies = ["10.1.2.3"]\nproxy_header = "X-Remote-User"', True),
        ('[web.oidc]\nissuer = "https://sso.example"\nclient_id = "dqm"\nclient_secret = "s"', True),
    ],
)
def test_beyond_it_somebody_must_be_able_to_sign_in(
    tmp_path: Path, http: str, web: str, is_let_in: bool
) -> None:
    path = tmp_path / "daemon.toml"
    path.write_text(f'[daemon]\nhttp = "{http}"\n[web]\n{web}\n{STREAMS}')
    if is_let_in:
        assert load_daemon(path, environ={}).web.has_login
        return
    with pytest.raises(ConfigError, match="can be reached from other hosts"):
        load_daemon(path, environ={})
