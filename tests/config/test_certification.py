"""Keys of ``[certification]`` and ``[registry]``."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.alarm import sign_off_rules
from dqm.config import DaemonConfig, load_daemon
from dqm.errors import ConfigError
from dqm.service.monitor.reload import find_settled

STREAM = '[[streams]]\nname = "chamber-1"\nbundle = "b"\n'


def load(folder: Path, text: str) -> DaemonConfig:
    path = folder / "daemon.toml"
    path.write_text(text + STREAM)
    return load_daemon(path)


def test_rules_are_as_configured(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "[certification]\nlargest_bad_share = 0.1\nleast_covered_share = 0.5\nlargest_left_out_share = 0.25\n"
        'required = ["chamber-*"]\nsigners = ["maria"]\nfaults = [" HV trip "]\n',
    )
    rules = sign_off_rules(config.certification)
    assert (rules.largest_bad_share, rules.least_covered_share, rules.largest_left_out_share) == (
        0.1,
        0.5,
        0.25,
    )
    assert (rules.required, rules.signers, rules.faults) == (("chamber-*",), {"maria"}, ("HV trip",))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (
            '[certification]\nrequired = ["trigger"]\n',
            "certification.required: no stream is called 'trigger'",
        ),
        ("[certification]\nlargest_bad_share = 1.5\n", "less than or equal to 1"),
        ('[certification]\nfaults = ["a\\u202eb"]\n', "invisible characters"),
        ("[certification]\nlargest_bad_shares = 0.1\n", "largest_bad_share"),
        ('[registry]\ntoken_file = "t"\n', "registry.url"),
        ('[registry]\nurl = "https://u:p@example.org"\n', "must hold no user, password"),
        ('[registry]\nurl = "http://example.org"\ntoken_file = "t"\n', "is not https"),
        ('[registry]\nurl = "https://example.org"\ntimeout_seconds = 0\n', "greater than 0"),
    ],
)
def test_mistakes_are_told(tmp_path: Path, text: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(tmp_path, text)
    assert told in str(refused.value)


def test_a_reload_changes_the_rules_and_not_the_registry(tmp_path: Path) -> None:
    before = load(tmp_path, "")
    assert find_settled(before, load(tmp_path, "[certification]\nlargest_bad_share = 0.1\n")) == []
    assert find_settled(before, load(tmp_path, '[registry]\nurl = "https://example.org"\n')) == ["registry"]
