"""Signing in with each role, and at a provider, in a real browser, which decides on cookies and redirects."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

from dqm.alarm import AddMask
from dqm.config import Role
from dqm.web import add_user
from tests.conftest import Once
from tests.web.auth.oidc_site import Provider, Site, install_provider, running_provider
from tests.world import CHEAP, World

from .conftest import complaints, set_media, set_width

PASSWORD = "correct horse"  # noqa: S105 - of a test
ALARM = "/alarms/chamber-2/differs"
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def provider(once: Once, require_program: Callable[[str], Path]) -> Iterator[Provider]:
    require_program("npm")
    node = require_program("node")
    with running_provider(node, once("oidc-provider", install_provider)) as running:
        yield running


@pytest.fixture
def site(world: World, provider: Provider, tmp_path: Path, chromium: Chrome) -> Iterator[Site]:
    chromium.get("data:,")
    chromium.delete_all_cookies()
    set_media(chromium, scheme="dark")
    set_width(chromium, 1400)
    complaints(chromium)
    for role in Role:
        add_user(world.users, role, PASSWORD, CHEAP, role)
    world.raise_alarm()
    world.alarm_service.apply(AddMask("3f9a21c7", "chamber-4", "gas leak"), "eva")
    with Site(world, provider, tmp_path).serve() as serving:
        yield serving


def shoot(browser: Chrome, tmp_path: Path, name: str) -> None:
    folder = Path(os.environ.get("DQM_ARTEFACTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    assert browser.save_screenshot(str(folder / f"{name}.png"))


def wait_for(browser: Chrome, is_so: Callable[[], object], what: str) -> None:
    WebDriverWait(browser, 30.0, poll_frequency=0.05).until(lambda _: is_so(), what)


def text(browser: Chrome, selector: str) -> str:
    script = "return document.querySelector(arguments[0])?.innerText ?? ''"
    return str(browser.execute_script(script, selector))


def sign_in_at_provider(browser: Chrome, site: Site, name: str) -> None:
    browser.find_element(By.LINK_TEXT, "Single sign-on").click()
    wait_for(browser, lambda: browser.current_url.startswith(site.provider.issuer), "the provider asks")
    browser.find_element(By.NAME, "login").send_keys(name)
    browser.find_element(By.NAME, "password").send_keys("any")
    browser.find_element(By.CSS_SELECTOR, "button").click()
    wait_for(browser, lambda: "Authorize" in browser.page_source, "it asks whether the daemon may know")
    browser.find_element(By.CSS_SELECTOR, "button").click()


def test_signing_in_and_out_at_a_provider(site: Site, chromium: Chrome, tmp_path: Path) -> None:
    chromium.get(f"{site.url}/login?next={ALARM}")
    shoot(chromium, tmp_path, "sign-in")
    sign_in_at_provider(chromium, site, "anna")
    wait_for(chromium, lambda: chromium.current_url == f"{site.url}{ALARM}", "the alarm's page is shown")
    assert text(chromium, "#who").split() == ["anna", "shifter", "Sign", "out"]
    chromium.find_element(By.CSS_SELECTOR, "#who button").click()
    wait_for(chromium, lambda: chromium.current_url.startswith(site.provider.issuer), "the provider asks")
    chromium.find_element(By.CSS_SELECTOR, "button[value=yes]").click()
    wait_for(chromium, lambda: chromium.current_url.startswith(f"{site.url}/?state="), "the page is back")
    assert text(chromium, "#who") == "Sign in"
    # the provider's own pages ask for fonts from elsewhere
    assert [line for line in complaints(chromium) if line.startswith(site.url)] == []


@pytest.mark.parametrize("role", Role)
def test_pages_look_right_for_each_role(site: Site, chromium: Chrome, tmp_path: Path, role: Role) -> None:
    chromium.get(f"{site.url}/login?next={ALARM}")
    chromium.find_element(By.NAME, "user").send_keys(role)
    chromium.find_element(By.NAME, "password").send_keys(PASSWORD)
    chromium.find_element(By.CSS_SELECTOR, "#content button").click()
    wait_for(chromium, lambda: text(chromium, "#who").split()[:2] == [role, role], "the role is shown")
    buttons = [button.text for button in chromium.find_elements(By.CSS_SELECTOR, "#actions button")]
    assert buttons == (["Acknowledge", "Shelve"] if role.includes(Role.SHIFTER) else [])
    shoot(chromium, tmp_path, f"alarm-{role}")
    chromium.get(f"{site.url}/masks")
    assert bool(chromium.find_elements(By.CSS_SELECTOR, "#new-mask form")) == role.includes(Role.EXPERT)
    shoot(chromium, tmp_path, f"masks-{role}")
    if role is Role.ADMIN:
        chromium.find_element(By.LINK_TEXT, "Users").click()
        wait_for(chromium, lambda: text(chromium, "#user-maria"), "users are listed")
        chromium.find_element(By.CSS_SELECTOR, "#role-maria summary").click()
        shoot(chromium, tmp_path, "users")
    assert complaints(chromium) == []
