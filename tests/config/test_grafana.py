from __future__ import annotations

from pathlib import Path

import pytest

from dqm.config import GrafanaSection, check_url, read_token, validate
from dqm.errors import ConfigError


@pytest.mark.parametrize(
    "url", ["http://localhost:3000", "https://monitor.example.org/grafana", "http://[::1]:3000"]
)
def test_addresses_of_servers_are_taken(url: str) -> None:
    assert check_url(url + "/") == url


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("localhost:3000", "must be http://HOST:PORT"),
        ("ftp://localhost", "must be http://HOST:PORT"),
        ("http://localhost:port", "must be http://HOST:PORT"),
        ("http://", "must be http://HOST:PORT"),
        ("http://admin:secret@localhost:3000", "must hold no user, password"),
        ("http://localhost:3000?token=1", "must hold no user, password"),
    ],
)
def test_other_addresses_are_refused(url: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        check_url(url)


def test_the_section_says_where_and_what(tmp_path: Path) -> None:
    section = GrafanaSection.model_validate(
        {"url": "http://localhost:3000/", "token_file": "token"}, context={"base": tmp_path}
    )
    assert section == GrafanaSection(url="http://localhost:3000", token_file=tmp_path / "token")
    assert section.annotations
    with pytest.raises(
        ConfigError, match=r"url: must hold no user.*\n.*tokenfile: unknown key; did you mean"
    ):
        validate(GrafanaSection, {"url": "http://a:b@c", "tokenfile": "x"}, "[grafana]")


def test_a_token_is_read_from_a_file_or_the_environment(tmp_path: Path) -> None:
    file = tmp_path / "token"
    file.write_text("glsa_1\n")
    file.chmod(0o640)
    assert read_token(file, {"DQM_GRAFANA_TOKEN": "glsa_2"}) == "glsa_1"
    assert read_token(None, {"DQM_GRAFANA_TOKEN": "glsa_2"}) == "glsa_2"


def test_a_token_that_is_missing_or_open_to_all_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="token: the token cannot be read: No such file"):
        read_token(file)
    file.write_text("glsa_1")
    file.chmod(0o644)
    with pytest.raises(ConfigError, match=r"everybody can read this token. Run 'chmod o="):
        read_token(file)
    with pytest.raises(ConfigError, match="no token for Grafana"):
        read_token(None, {})


@pytest.mark.parametrize("text", ["", "two\nlines-secret", "sp ace-secret", "umläut-secret"])
def test_what_is_no_token_is_not_shown(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_text(text)
    file.chmod(0o600)
    with pytest.raises(ConfigError, match="this is not a token") as caught:
        read_token(file)
    assert "secret" not in str(caught.value)
