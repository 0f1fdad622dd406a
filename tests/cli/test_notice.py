"""``[notify]`` from the outside: ``dqm check``, ``dqm notify test``, and a daemon that tells of alarms."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.ports import free_port
from tests.receivers import TOKEN, MailServer, Webhook, mail_server, webhook
from tests.waiting import get, wait_until

from .conftest import Told
from .program import logged, start_dqm

Dqm = Callable[..., Told]


@dataclass
class Site:
    """A daemon's configuration with a mail server and a webhook."""

    config: Path
    mail: MailServer
    hook: Webhook

    def write(self, bundle: Path, notify: str = "", stream: str = "") -> None:
        self.config.write_text(
            f'[daemon]\nlisten = ["ipc://{self.config.parent}/w.ipc"]\nhttp = "127.0.0.1:0"\nworkers = 0\n'
            "[notify]\ncollect_seconds = 0.2\npause_seconds = 0\n"
            f'page = "https://dqm.example.org"\n{notify}'
            '[notify.targets.mail]\nurl_file = "mail.url"\n[notify.targets.hook]\n'
            f'[[streams]]\nname = "chamber-1"\nbundle = "{bundle}"\n{stream}'
        )

    def keep(self, url: str, mode: int = 0o600) -> Path:
        file = self.config.parent / "mail.url"
        file.write_text(url + "\n")
        file.chmod(mode)
        return file


@pytest.fixture
def site(tmp_path: Path, bundle: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    with mail_server(tmp_path / "mails") as mail, webhook() as hook:
        made = Site(tmp_path / "daemon.toml", mail, hook)
        made.write(bundle)
        made.keep(mail.url)
        monkeypatch.setenv("DQM_NOTIFY_URL_HOOK", hook.url)
        yield made


def test_a_test_message_goes_to_every_target_and_says_what_became_of_it(dqm: Dqm, site: Site) -> None:
    assert dqm("check", site.config).code == 0
    told = dqm("notify", "test", site.config)
    assert (told.code, told.out) == (0, "mail: sent\nhook: sent\n")
    (mail,) = site.mail.mails()
    assert mail["Subject"] == "dqm: test message"
    assert "This tests the target hook" in site.hook.seen[0]["message"]
    site.hook.status = 404
    told = dqm("notify", "test", site.config)
    assert told.code == 1
    assert told.out == "mail: sent\nhook: not sent: it answered with HTTP status 404\n"
    told = dqm("notify", "test", site.config, "--target", "hook")
    assert (told.code, "mail" in told.out) == (1, False)
    told = dqm("notify", "test", site.config, "--target", "hok")
    assert (told.code, "no target 'hok'. There are mail, hook" in told.err) == (2, True)


def test_mistakes_are_found_by_check_and_no_address_is_shown(
    dqm: Dqm, site: Site, bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = []

    def check(*words: str) -> None:
        for command in (("check", site.config), ("notify", "test", site.config)):
            told = dqm(*command)
            assert told.code in (1, 2)
            said.append(told.out + told.err)
        for word in words:
            assert word in said[-2]

    monkeypatch.setenv("DQM_NOTIFY_URL_HOOK", f"nosuch://x:{TOKEN}@host/{TOKEN}")
    site.keep(TOKEN)
    unknown = "apprise does not know this address: it"
    check(f"hook: {unknown} begins with nosuch://", f"mail: {unknown} does not begin with SERVICE://")
    monkeypatch.delenv("DQM_NOTIFY_URL_HOOK")
    site.keep(site.mail.url, 0o644)
    check("notify.targets.hook: no address. Set url_file, or the environment variable DQM_NOTIFY_URL_HOOK",
          "the address is open to others (mode 0644)")  # fmt: skip
    site.keep("\n\n")
    check("this is not an address: it must be one line")
    (site.config.parent / "mail.url").unlink()
    check("the address cannot be read: No such file or directory")
    site.keep(site.mail.url)
    for wrong, words in {
        f'[notify.targets]\nx = "mailto://u:{TOKEN}@h"\n': "notify.targets.x: must be a table",
        f'[notify.targets.x]\nurl_file = "mailto://u:{TOKEN}@h"\n': "is an address, which is a secret",
        f'[notify.targets.x]\nurl = "mailto://u:{TOKEN}@h"\n': "unknown key; did you mean 'url_file'?",
        'timezone = "Europe/Zuerich"\n': "'Europe/Zuerich' is not a time zone that this machine knows",
        '[[notify.rules]]\ntargets = ["mial"]\n': "rules[0].targets: no target 'mial'; there are mail, hook",
        '[[notify.rules]]\ntargets = ["mail"]\ncauses = ["slient"]\n': "no cause 'slient'. There are differs",
        '[[notify.rules]]\ntargets = ["mail"]\ngroups = ["muon"]\n': "no stream has a group in muon",
        '[[notify.rules]]\ntargets = ["mail"]\nhours = ["8-16"]\n': "notify.rules[0].hours[0]",
        '[[notify.rules]]\ntargets = ["mail"]\nhours = ["08:00-08:00"]\n': "begins when it ends",
    }.items():
        site.write(bundle, wrong)
        monkeypatch.setenv("DQM_NOTIFY_URL_HOOK", site.hook.url)
        told = dqm("check", site.config)
        said.append(told.out + told.err)
        assert (told.code, words in said[-1]) == (1, True), said[-1]
    assert TOKEN not in "".join(said)
    assert site.hook.seen == []
    assert site.mail.mails() == []


@pytest.mark.slow
@pytest.mark.parametrize("n_starts", [1, pytest.param(2, marks=pytest.mark.long)])
def test_a_daemon_tells_of_an_alarm_once_also_over_a_restart_and_shows_who_cannot_be_told(
    site: Site, bundle: Path, n_starts: int
) -> None:
    site.write(bundle, stream="stale_seconds = 0.5\n")
    site.keep(f"json://127.0.0.1:{free_port()}/{TOKEN}")  # nobody listens there
    logs = []
    for n in range(n_starts):
        logs.append(site.config.with_name(f"{n}.log"))
        process = start_dqm(
            "run", site.config, cwd=site.config.parent, log=logs[n], DQM_NOTIFY_URL_HOOK=site.hook.url
        )
        with process:
            wait_until(lambda n=n: logged(logs[n], "ready") is not None, "the daemon")  # type: ignore[misc]
            http = f"http://{logged(logs[n], 'ready')['http']}"  # type: ignore[index]
            wait_until(lambda: len(site.hook.seen) >= 1, "the webhook")
            wait_until(lambda http=http: get(f"{http}/healthz").json()["untold"] != [], "the failure")  # type: ignore[misc]
            (untold,) = get(f"{http}/healthz").json()["untold"]
            assert (untold["target"], untold["reason"]) == ("mail", "the connection was refused")
            shown = [get(f"{http}{path}").text for path in ("/", "/healthz", "/metrics", "/api/v1/overview")]
            assert "mail cannot be told of alarms" in shown[0]
            assert 'dqm_notices_total{outcome="failed",target="mail"}' in shown[2]
            assert "dqm_notify_failing_timestamp_seconds" in shown[2]
            process.send_signal(signal.SIGTERM)
            assert process.wait(60) == 0
        assert TOKEN not in "".join(shown) + logs[n].read_text()
    assert site.hook.titles == ["dqm: P2 silent: chamber-1"]
    assert "https://dqm.example.org/alarms/chamber-1/silent" in site.hook.seen[0]["message"]
    json.loads(logs[0].read_text().splitlines()[-1])
