"""A daemon's page and a real provider of OpenID Connect, both on sockets, and people who use them."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx

from dqm.config import OidcSection, WebSection
from dqm.web import Authenticator, HttpServer, OidcProvider, UserFile, create_app
from tests.npm import install_package
from tests.ports import free_port
from tests.world import CHEAP, World

PACKAGE = "oidc-provider@8.8.1"
SCRIPT = Path(__file__).with_name("provider.mjs")
SECRET = "secret of the daemon at the provider"  # noqa: S105 - of a test
ROLES = {"dqm-shift": "shifter", "dqm-experts": "expert", "dqm-admins": "admin"}


def install_provider(folder: Path) -> None:
    """Install the package, see `install_package`."""
    install_package(folder, PACKAGE)


@dataclass
class Provider:
    """A provider that runs, and the daemon's port that it knows."""

    issuer: str
    daemon_port: int

    def tamper(self, how: str) -> None:
        """Send ID tokens that must be refused, see `provider.mjs`."""
        assert httpx.get(f"{self.issuer}/tamper/{how}", trust_env=False).status_code == 200


@contextmanager
def running_provider(node: Path, folder: Path) -> Iterator[Provider]:
    port = free_port()
    page = f"http://127.0.0.1:{port}"
    process = subprocess.Popen(
        [node, SCRIPT, folder, f"{page}/login/provider/return", f"{page}/"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    assert process.stdout is not None
    told = next(line for line in process.stdout if line.startswith("{"))
    yield Provider(json.loads(told)["issuer"], port)
    process.communicate(timeout=60)


@dataclass
class Site:
    """A daemon's page; with users of its own as well."""

    world: World
    provider: Provider
    folder: Path
    web: dict[str, Any] = field(default_factory=dict)
    oidc: dict[str, Any] = field(default_factory=dict)
    clients: list[httpx.Client] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.provider.daemon_port}"

    @contextmanager
    def serve(self) -> Iterator[Site]:
        secret = self.folder / "secret"
        secret.touch(mode=0o600)
        secret.write_text(f"{SECRET}\n")
        section = OidcSection(
            **{"issuer": self.provider.issuer, "client_id": "dqm", "client_secret": secret} | self.oidc
        )
        world = self.world
        authenticator = Authenticator(
            WebSection(**{"roles": ROLES, "oidc": section} | self.web), UserFile(world.users, CHEAP),
            world.metrics.count_sign_in, world.alarm_service.history.record, world.clock, world.clock,
            provider=OidcProvider(section, world.clock),
        )  # fmt: skip
        app = create_app(world.metrics, lambda: 0.1, queries=world.queries, authenticator=authenticator)
        server = HttpServer(app, "127.0.0.1", self.provider.daemon_port)
        server.start()
        try:
            yield self
        finally:
            for client in self.clients:
                client.close()
            server.stop()

    def audit(self) -> list[tuple[str, str]]:
        return [(row["user"], row["action"]) for row in self.world.alarm_service.history.actions()]


class Person:
    """Somebody with a browser, who follows links and fills in forms."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.client = httpx.Client(
            headers={"Accept": "text/html"}, trust_env=False, timeout=60.0, verify=False  # noqa: S501
        )  # fmt: skip
        site.clients.append(self.client)

    def get(self, path: str) -> httpx.Response:
        return self.client.get(urljoin(self.site.url, path))

    def post(self, path: str, **fields: str) -> httpx.Response:
        form = {"token": self._token()} | fields
        return self.client.post(urljoin(self.site.url, path), data=form, headers={"Origin": self.site.url})

    def _token(self) -> str:
        return self.get("/login").text.split('name="token" value="')[1].split('"')[0]

    def begin(self, after: str = "/") -> httpx.Response:
        """Ask to sign in; gives the redirect to the provider."""
        return self.client.get(f"{self.site.url}/login/provider", params={"next": after})

    def at_provider(self, answer: httpx.Response, name: str) -> str:
        """Sign in at the provider, agree, and give the address that it leads back to."""
        while True:
            while answer.is_redirect:
                address = urljoin(str(answer.url), answer.headers["location"])
                if address.startswith(self.site.url):
                    return address
                answer = self.client.get(address)
            assert answer.status_code == 200, answer.text
            form = re.search(r'<form[^>]*action="([^"]+)"', answer.text)
            assert form, answer.text
            fields = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', answer.text))
            fields |= {"login": name, "password": "any"} if 'name="login"' in answer.text else {}
            answer = self.client.post(urljoin(str(answer.url), unescape(form[1])), data=fields)

    def sign_in(self, name: str, after: str = "/") -> httpx.Response:
        """Sign in, and give the daemon's answer to that."""
        return self.client.get(self.at_provider(self.begin(after), name))

    @property
    def user(self) -> str:
        """Name and role at the head of the page; empty if nobody is signed in."""
        found = re.search(r'<span id="who"><b>([^<]+)</b> <span class="faint">(\w+)', self.get("/").text)
        return f"{found[1]} {found[2]}" if found else ""
