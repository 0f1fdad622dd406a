"""A target by apprise: real mail, a real webhook, and no word of its address anywhere."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from dqm.errors import ConfigError, NoticeError
from dqm.export.notice_sender import send_within
from dqm.export.notice_target import NoticeTarget
from dqm.export.notice_text import NoticeMessage
from tests.ports import free_port
from tests.receivers import TOKEN, mail_server, webhook

MESSAGE = NoticeMessage(
    "dqm: P1 rate: chamber-2", "Seen: p < 1e-15 & <b>30</b> *events* [x](http://e)\nDo: look"
)


@pytest.fixture(autouse=True)
def _no_secret_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """What reaches the handlers of the root logger is in the log of the daemon."""
    caplog.set_level(logging.DEBUG)


def reason_of(url: str) -> str:
    with pytest.raises(NoticeError) as refusal:
        NoticeTarget("hook", url).send(MESSAGE)
    return refusal.value.what


def test_a_mail_arrives_as_text_that_is_shown_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with mail_server(tmp_path / "mail") as server:
        NoticeTarget("mail", server.url).send(MESSAGE)
        (mail,) = server.mails()
    assert mail["Subject"] == MESSAGE.title
    assert "crew@example.org" in mail["To"]
    plain, shown = mail.get_body(("plain",)), mail.get_body(("html",))
    assert shown is not None
    assert "&lt;b&gt;30&lt;/b&gt;" in shown.get_content()
    assert plain is None or "p < 1e-15" in plain.get_content()
    assert TOKEN not in caplog.text


def test_a_webhook_gets_title_and_text(caplog: pytest.LogCaptureFixture) -> None:
    with webhook() as hook:
        NoticeTarget("hook", hook.url).send(MESSAGE)
        (got,) = hook.seen
    assert (got["title"], got["message"]) == (MESSAGE.title, MESSAGE.body)
    assert caplog.text == ""


@pytest.mark.parametrize("status", [302, 401, 404, 500, 503])
def test_the_status_of_an_answer_is_told_and_a_redirect_is_no_success(
    status: int, caplog: pytest.LogCaptureFixture
) -> None:
    with webhook() as hook:
        hook.status = status
        assert reason_of(hook.url) == f"it answered with HTTP status {status}"
    assert TOKEN not in caplog.text


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("json://127.0.0.1:{port}/{token}", "the connection was refused"),
        ("mailto://127.0.0.1:{port}?from=a@example.org&to=b@example.org&mode=insecure&name={token}",
         "the connection was refused"),
        ("json://no-such-host.invalid/{token}", "its host is not found"),
        ("mmost://no-such-host.invalid/{token}", "its host is not found"),
        ("slack://{token}/b", None),
    ],
)  # fmt: skip
def test_why_nothing_was_sent_is_told_without_the_address(
    url: str, reason: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    address = url.format(port=free_port(), token=TOKEN.replace("-", ""))
    if reason is None:
        with pytest.raises(ConfigError) as refusal:
            NoticeTarget("chat", address)
        assert "slack://" in str(refusal.value)
        assert TOKEN.replace("-", "") not in str(refusal.value)
    else:
        assert reason_of(address) == reason
    assert TOKEN.replace("-", "") not in caplog.text


@pytest.mark.parametrize(
    "url", [f"nosuch://user:{TOKEN}@host/{TOKEN}", TOKEN, f"mailto://user:{TOKEN}@", "://"]
)
def test_an_address_that_apprise_does_not_know_is_refused_without_being_shown(
    url: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ConfigError, match=r"^notify\.targets\.mail: apprise does not know") as refusal:
        NoticeTarget("mail", url)
    assert TOKEN not in str(refusal.value) + caplog.text + "".join(capfd.readouterr())


def test_a_receiver_that_does_not_answer_has_a_deadline() -> None:
    with webhook() as hook:
        hook.hold.clear()
        with pytest.raises(NoticeError, match=r"^no answer within 0\.3 s$"):
            send_within(NoticeTarget("hook", hook.url), MESSAGE, 0.3)
        hook.hold.set()
