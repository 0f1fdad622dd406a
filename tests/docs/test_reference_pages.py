"""Commands of reference pages run: in an installation that has what the pages speak of.

Pages that lead a reader from an empty directory to an end are walked by `test_walks`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from dqm.reference import StoredBundle
from tests.world import PASSWORDS

from .installation import running
from .readers_files import write_hits
from .test_commands import PAGES, SHELL, dqm_commands
from .walk import ROOT, commands_of, walk_commands

WALKED = {
    "start", "tutorial", "calorimeter", "inputs", "hunt", "first-run", "silicon-tracker", "pressure",
    "postgresql", "many-hosts",
}  # fmt: skip
"""By `test_walks`."""


@dataclass(frozen=True)
class Reference:
    """How the commands of a page are run.

    Parameters
    ----------
    changes : dict of str to str
        What stands for something of the reader's own, or of another command.
    left_out : dict of str to str
        Beginning of commands that are not run, and why.
    files : callable
        Writes files into the directory of the reader.
    """

    changes: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    files: Callable[[Path], object] = lambda _folder: None


ROOT_ONLY = "changes the machine, as root; tests/test_systemd.py has the units"
SIZE = "takes minutes; its own tests run it"
MASK = '$(dqm alarms masks daemon.toml --json | grep -o -m 1 \'"identifier": *"[^"]*\' | cut -d \'"\' -f 4)'
SIMULATE = 'dqm extract simulate --set "chambers=[0]"'
SHIFTED = "; ".join(
    f"{SIMULATE} -o {name}.parquet --events 6000 --set seed={seed} "
    f"--set 'conditions={{drift_velocity_mm_per_ns = {0.0535 * math.exp(nu):.5f}}}'"
    for seed, (name, nu) in enumerate(
        {"good": 0.0, "low3": -0.03, "low1": -0.01, "high1": 0.01, "high3": 0.03}.items()
    )
)
"""Makes the samples of `docs/nuisances.md`, with the logarithm of the drift velocity over the usual one."""

BUILD_REF = (
    "dqm reference build good.parquet -o ref --features t_1,t_2,t_3,t_4 --window 100 --events 800 "
    "--width 2 --penalty 1e-5 --centers 80"
)
ADD_USER = "printf '%s\\n' 'battery staple' | dqm users add"
MAP = str(ROOT / "configs" / "channels-chamber.csv")

REFERENCE = {
    "administrators": Reference(
        left_out={
            "dqm doctor": "the daemon of this test has no state of its own; tests/service/doctor runs it",
            "dqm notify": "tests/cli/test_notice.py runs it with a receiver",
            "dqm check CONFIG && systemctl": ROOT_ONLY,
        }
    ),
    "alarms": Reference({"configs/daemon.toml": "daemon.toml"}),
    "certification": Reference(
        left_out={
            "dqm reference templates": "the label has just been withdrawn; tests/cli/test_certify.py runs it"
        }
    ),
    "channels": Reference(
        {"configs/channels-chamber.csv": MAP, "--toys 1000": "--toys 200"},
        {"dqm alarms": "needs channels; tests/cli/test_channels.py and tests/cli/test_alarms.py run them"},
        files=lambda folder: write_hits(folder / "run591.csv", 400.0),
    ),
    "experts": Reference(
        {"--known 4": "--known 1"},
        {
            "dqm reference": "needs a long run; docs/first-run.md and docs/tutorial.md run the same commands",
        },
    ),
    "nuisances": Reference(
        {
            "dqm reference nuisance ref drift_velocity": f"{SHIFTED}; {BUILD_REF}; "
            "dqm reference nuisance ref drift_velocity --method kernel",
            "--toys 1000": "--toys 100",
            "--toys 300 --plot validation.png": "--toys 50 --plot validation.png || test $? = 1",
        }
    ),
    "page": Reference(
        {
            "3f9a21c7": MASK,
            "http://127.0.0.1:8787": "http://ADDRESS",
            "-u maria": "-f -u 'maria:correct horse'",
        },
        {"dqm alarms mask CONFIG chamber-2.channels": "needs channels; tests/cli/test_channels.py runs it"},
    ),
    "references": Reference(
        {
            "dqm reference advise": f"{SIMULATE} -o good.parquet --events 6000; dqm reference advise",
            "--window 100,500": "--window 100",
            "dqm reference build good.parquet": "dqm reference build good.parquet "
            "--features t_1,theta --events 400 --width 2 --penalty 1e-5 --centers 80",
        },
        {"dqm reference validate": "needs a later run; tests/cli/test_certificate.py runs it"},
    ),
    "reliability": Reference(
        {"/backup": "backup", "dqm store backup": "mkdir backup; dqm store backup"},
        {
            "dqm store restore": "the daemon must be stopped; tests/cli/test_store.py runs it",
            "dqm store compact": "the daemon must be stopped; tests/cli/test_store.py runs it",
            "pg_": "tests/store/test_backup.py runs both against a server",
        },
    ),
    "shift": Reference(),
    "statistics": Reference(
        left_out={"dqm reference build": SIZE, "dqm study": SIZE, "OMP_NUM_THREADS=1 dqm study": SIZE}
    ),
    "users": Reference({"dqm users add": ADD_USER}),
}  # fmt: skip

ELSEWHERE = {
    "CONTRIBUTING.md": "make runs pytest: CI does",
    "README.md": "tests/smoke.py installs the wheel",
    "docs/installation.md": "tests/smoke.py installs the wheel",
    "docs/histograms.md": "tests/cli/test_histograms.py",
    "docs/cluster.md": "tests/cli/test_cluster.py has a scheduler and workers",
    "docs/dashboards.md": "tests/cli/test_dashboards.py pushes to a server that answers as Grafana does",
    "docs/plugins.md": "tests/cli/test_plugins.py goes from the check to the page",
    "docs/slow-control.md": "tests/service has sockets of slow control",
    "docs/explanations.md": "docs/tutorial.md, tests/cli/test_templates.py, tests/cli/test_certify.py",
    "docs/overview.md": "its commands are those of the other pages",
    "systemd/README.md": f"{ROOT_ONLY}; tests/cli/test_keys.py, docs/users.md",
}
"""Pages whose commands other tests run, and where."""


def runs(page: str) -> str:
    """Text of the files that a page of `ELSEWHERE` names."""
    named = re.findall(r"(?:tests|docs)/[\w/-]+\.(?:py|md)", ELSEWHERE[page])
    if page == "docs/overview.md":
        named = [
            name
            for other in ELSEWHERE
            if other != page
            for name in re.findall(r"tests/\S+\.py", ELSEWHERE[other])
        ]
        named += [f"docs/{name}.md" for name in (*WALKED, *REFERENCE)]
    return "\n".join((ROOT / name).read_text() for name in named)


@pytest.mark.parametrize("page", [page for page in ELSEWHERE if list(dqm_commands(Path(page)))])
def test_commands_and_options_of_a_page_are_in_the_files_that_run_them(page: str) -> None:
    text = runs(page)
    for command in dqm_commands(Path(page)):
        options = [word.partition("=")[0] for word in command if word.startswith("--")]
        words = [word for word in command[:2] if re.fullmatch("[a-z][a-z-]+", word)]
        missing = [word for word in (*words, *options) if not re.search(rf"(?<![\w-]){word}(?![\w-])", text)]
        assert missing == [], f"{page}: dqm {' '.join(command)}"


def shell_commands(page: Path) -> list[str]:
    """Give the commands of a page, those without a prompt as well."""
    text = (ROOT / page).read_text()
    return [*commands_of(text), *SHELL.findall(text)]


def test_every_page_with_commands_is_run_or_says_where_they_are() -> None:
    with_commands = {str(page) for page in PAGES if shell_commands(page)}
    known = {f"docs/{name}.md" for name in [*WALKED, *REFERENCE]}
    assert with_commands == known | ELSEWHERE.keys()


@pytest.mark.long
@pytest.mark.parametrize("name", REFERENCE)
def test_the_commands_of_a_reference_page_run(
    name: str, bundle: StoredBundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = REFERENCE[name]
    monkeypatch.setenv("LOGNAME", "maria")
    monkeypatch.setenv("DQM_PASSWORD", PASSWORDS["maria"])
    found = shell_commands(Path("docs") / f"{name}.md")
    commands = [each for each in found if not each.startswith(tuple(page.left_out))]
    assert all(any(each.startswith(begin) for each in found) for begin in page.left_out)
    with running(tmp_path, bundle) as address:
        page.files(tmp_path)
        for old, new in page.changes.items():
            assert any(old in each for each in commands), old
            commands = [each.replace(old, new) for each in commands]
        commands = [
            re.sub(r"\bCONFIG\b", "daemon.toml", each).replace("ADDRESS", address) for each in commands
        ]
        walk_commands(commands, tmp_path, seconds=600.0)
