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
from tests.ports import free_port
from tests.world import PASSWORDS

from .installation import running
from .readers_files import write_histograms, write_hits, write_packages
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
    before : str
        Commands that make what the page begins with.
    files : callable
        Writes files into the directory of the reader.
    """

    changes: dict[str, str] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    before: str = ""
    files: Callable[[Path], object] = lambda _folder: None


ROOT_ONLY = "changes the machine, as root; tests/test_systemd.py has the units"
SIZE = "takes minutes; its own tests run it"
MAY_BE_RED = "|| test $? = 1"
"""After a command whose answer may be negative here."""

MASK = '$(dqm alarms masks daemon.toml --json | grep -o -m 1 \'"identifier": *"[^"]*\' | cut -d \'"\' -f 4)'
SIMULATE = 'dqm extract simulate --set "chambers=[0]"'
GOOD = f"{SIMULATE} -o good.parquet --events 6000"
CHAMBER = "--features t_1,t_2,t_3,t_4,theta --window 100 --events 800 --width 2 --penalty 1e-5 --centers 80"


def shifted(**files: float) -> str:
    """Make samples, each with the logarithm of the drift velocity over the usual one."""
    return "; ".join(
        f"{SIMULATE} -o {name}.parquet --events 6000 --set seed={seed} "
        f"--set 'conditions={{drift_velocity_mm_per_ns = {0.0535 * math.exp(nu):.5f}}}'"
        for seed, (name, nu) in enumerate(files.items())
    )


LABEL = 'dqm certify label daemon.toml "HV trip" --run 118 --stream chamber-2 --windows 12-19 -c "log"'
NAME_IT = (
    "sed -i 's/chamber2.dqmref/chamber-2-june.dqmref/' daemon.toml; "
    "printf '[alarm]\\nfalse_alarms_per_shift = 100.0\\nwindows_per_hour = 6.0\\n' >> daemon.toml"
)
ADD_USER = "printf '%s\\n' 'battery staple' | dqm users add"
MAIL = "mailto://127.0.0.1:PORT?from=dqm@example.org&to=crew@example.org&mode=insecure"
PIP = "pip install --target packages --no-deps --no-build-isolation --no-index --quiet"
MAP = str(ROOT / "configs" / "channels-chamber.csv")

REFERENCE = {
    "administrators": Reference(
        {"dqm doctor CONFIG": f"dqm doctor CONFIG {MAY_BE_RED}"},
        {"dqm check CONFIG && systemctl": ROOT_ONLY},
        before="printf '[notify.targets.crew]\\n' >> daemon.toml; "
        f"export DQM_NOTIFY_URL_CREW='{MAIL}'; python -m aiosmtpd -n -l 127.0.0.1:PORT > mail.log & "
        "until (: < /dev/tcp/127.0.0.1/PORT) 2> /dev/null; do sleep 0.1; done",
    ),
    "alarms": Reference({"configs/daemon.toml": "daemon.toml"}),
    "certification": Reference({"dqm reference templates": f"{LABEL}; dqm reference templates"}),
    "channels": Reference(
        {"configs/channels-chamber.csv": MAP, "--toys 1000": "--toys 200", "3f9a21c7": MASK},
        files=lambda folder: write_hits(folder / "run591.csv", 400.0),
    ),
    "cluster": Reference(
        {
            "# prints its address": "--host 127.0.0.1 --port PORT --no-dashboard 2> scheduler.log &",
            "# on each machine": "--no-dashboard 2> worker.log &",
            "tcp://head:8786": "tcp://127.0.0.1:PORT",
            "--nworkers 16": "--nworkers 1",
            "--toys 100000": "--toys 200",
            "--window 500": "--window 60",
        },
        {"pip install": "tests/smoke.py installs the wheel"},
    ),
    "experts": Reference(
        {
            "--known 4": "--known 1",
            "dqm reference calibrate": f"{NAME_IT}; dqm reference calibrate",
            "--later run201.parquet": f"--later run201.parquet --toys 100 {MAY_BE_RED}",
        }
    ),
    "histograms": Reference({"4000:20000": "4000:20000 --toys 200"}, files=write_histograms),
    "nuisances": Reference(
        {
            "dqm reference nuisance ref drift_velocity": "dqm reference nuisance ref drift_velocity "
            "--method kernel",
            "--toys 1000": "--toys 100",
            "--toys 300 --plot validation.png": f"--toys 50 --plot validation.png {MAY_BE_RED}",
        },
        before=f"{shifted(good=0.0, low3=-0.03, low1=-0.01, high1=0.01, high3=0.03)}; "
        f"dqm reference build good.parquet -o ref {CHAMBER}",
    ),
    "page": Reference(
        {
            "3f9a21c7": MASK,
            "http://127.0.0.1:8787": "http://ADDRESS",
            "-u maria": "-f -u 'maria:correct horse'",
        },
        {"dqm alarms mask CONFIG chamber-2.channels": "docs/channels.md runs it"},
    ),
    "plugins": Reference(
        {"pip install": PIP, "calibrate n.dqmref": "calibrate n.dqmref --toys 100"},
        before=f"export PYTHONPATH=$PWD/packages; {PIP} ./dqm-neighbours ./dqm-adc; {GOOD}",
        files=write_packages,
    ),
    "references": Reference(
        {
            "--window 100,500": "--window 100",
            "dqm reference build good.parquet": "dqm reference build good.parquet "
            "--features t_1,theta --events 400 --width 2 --penalty 1e-5 --centers 80",
            "--later run12.parquet": f"--later run12.parquet --toys 100 {MAY_BE_RED}",
        },
        before=GOOD,
    ),
    "reliability": Reference(
        {
            "/backup": "backup",
            "dqm store backup": "mkdir backup; dqm store backup",
            "dqm store restore": "DQM_DAEMON__DATA_DIR=restored dqm store restore",
        },
        {"pg_": "tests/store/test_backup.py runs both against a server"},
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
    "docs/dashboards.md": "tests/cli/test_dashboards.py pushes to a server that answers as Grafana does",
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
        others = " ".join(text for other, text in ELSEWHERE.items() if other != page)
        named = re.findall(r"tests/\S+?\.py", others) + [f"docs/{name}.md" for name in (*WALKED, *REFERENCE)]
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
        names = {"CONFIG": "daemon.toml", "ADDRESS": address, "PORT": str(free_port())}
        commands = [
            re.sub(rf"\b({'|'.join(names)})\b", lambda found: names[found[0]], each)
            for each in (page.before, *commands)
        ]
        walk_commands(commands, tmp_path, seconds=600.0)
