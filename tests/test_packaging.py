"""What is shipped, and what it needs: the wheel, the two roles, the declared dependencies."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from functools import cache
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from dqm.cli.main import COMMANDS
from tests.examples import copy_examples

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
COLLECTOR_HOST = """
import contextlib, io, json, sys
from dqm.cli.main import run
hidden, commands = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(hidden))  # as if they were not installed
told = []
for command in commands:
    sys.argv[1:] = command
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()) as error:
        try:
            run()
        except SystemExit as end:
            told.append((end.code or 0, error.getvalue()))
print(json.dumps(told))
"""
BROUGHT_BY = {
    "dask": "distributed",
    "markupsafe": "jinja2",
    "niquests": "grafana-client",
    "pydantic-core": "pydantic",
}
"""Packages that are imported although only a dependency names them."""


def names(requirements: list[str]) -> set[str]:
    """Names of distributions, normalised."""
    return {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower().replace("_", "-") for line in requirements}


MONITOR = names(PROJECT["project"]["optional-dependencies"]["monitor"])


@cache
def distributions() -> dict[str, str]:
    """Installed distribution of each top-level module."""
    return {module: found[0].lower().replace("_", "-") for module, found in packages_distributions().items()}


def modules_of_monitor() -> set[str]:
    """Top-level modules that come with the extra ``monitor``."""
    return {module for module, distribution in distributions().items() if distribution in MONITOR}


def imported_by(path: Path) -> set[str]:
    """Top-level modules that a file imports absolutely, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.partition(".")[0])
    return found


def on_collector_host(*commands: tuple[str, ...], cwd: Path) -> list[tuple[int, str]]:
    """Run commands where the extra ``monitor`` is not installed; exit code and stderr of each."""
    told = subprocess.run(
        [sys.executable, "-c", COLLECTOR_HOST, json.dumps([sorted(modules_of_monitor()), commands])],
        capture_output=True,
        text=True,
        check=True,
        cwd=cwd,
    )
    return [(code, text) for code, text in json.loads(told.stdout)]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with the wheel and the source distribution of this checkout."""
    from hatchling.builders.sdist import SdistBuilder
    from hatchling.builders.wheel import WheelBuilder

    folder = tmp_path_factory.mktemp("built")
    for builder in (SdistBuilder(str(ROOT)), WheelBuilder(str(ROOT))):
        list(builder.build(directory=str(folder), versions=["standard"]))
    return folder


def contents(wheel: Path) -> dict[str, int]:
    """Checksum of each file."""
    with zipfile.ZipFile(wheel) as archive:
        return {file.filename: file.CRC for file in archive.infolist()}


def test_the_wheel_installs_two_packages_with_all_that_they_show(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    files = contents(wheel).keys()
    version = PROJECT["project"]["version"]
    assert {name.partition("/")[0] for name in files} == {"dqm", "dqm_collectors", f"dqm-{version}.dist-info"}
    shown = {
        path.relative_to(ROOT).as_posix()
        for room in ("export", "web")
        for kind in ("templates", "static")
        for path in (ROOT / "dqm" / room / kind).iterdir()
    }
    assert shown
    assert shown <= files
    assert {
        "dqm/py.typed",
        "dqm_collectors/py.typed",
        "dqm/dashboards/runbook.md",
        "dqm/systemd/dqm@.service",
        "dqm/systemd/dqm-collector@.service",
    } <= files


def test_the_source_distribution_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    from hatchling.builders.wheel import WheelBuilder

    (archive,) = built.glob("*.tar.gz")
    with tarfile.open(archive) as packed:
        packed.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    (again,) = WheelBuilder(str(source)).build(directory=str(tmp_path / "dist"), versions=["standard"])
    (wheel,) = built.glob("*.whl")
    assert contents(Path(again)) == contents(wheel)


def test_every_import_is_declared() -> None:
    extras = PROJECT["project"]["optional-dependencies"]
    shipped = names([*PROJECT["project"]["dependencies"], *(r for lines in extras.values() for r in lines)])
    sources = [*(ROOT / "dqm").rglob("*.py"), *(ROOT / "collectors").rglob("*.py")]
    imported = set().union(*map(imported_by, sources)) - sys.stdlib_module_names - {"dqm", "dqm_collectors"}
    found = {distributions().get(module, module) for module in imported}
    needed = {BROUGHT_BY.get(distribution, distribution) for distribution in found}
    assert needed - shipped == {"falkon"}  # which has no package to declare


def test_the_import_contract_knows_all_packages_of_the_monitor() -> None:
    contracts = PROJECT["tool"]["importlinter"]["contracts"]
    (contract,) = [c for c in contracts if "collector host" in c["name"]]
    assert {distributions()[module] for module in contract["forbidden_modules"]} == MONITOR


def test_a_collector_host_collects_extracts_and_makes_keys(tmp_path: Path) -> None:
    told = on_collector_host(
        *(("check", str(path)) for path in copy_examples(tmp_path).glob("collector-*.toml")),
        ("keys", "new", "hall-1", "--stream", "chamber-*"),
        ("extract", "simulate", "-o", "events.parquet", "--set", "chambers=[0]", "--set", "seconds=2.0"),
        ("collect", "missing.toml"),
        cwd=tmp_path,
    )
    assert [text for code, text in told[:-1] if code != 0] == []
    assert (tmp_path / "events.parquet").exists()
    code, text = told[-1]
    assert code == 2
    assert json.loads(text)["why"].startswith("missing.toml: cannot be read: No such file or directory. ")


def test_a_collector_host_has_help_of_every_command_but_those_of_people(tmp_path: Path) -> None:
    names = sorted(COMMANDS.keys() - {"alarms", "certify"})
    told = on_collector_host(*((name, "--help") for name in names), cwd=tmp_path)
    assert dict(zip(names, told, strict=True)) == dict.fromkeys(names, (0, ""))


def test_commands_of_the_monitor_say_what_they_need() -> None:
    told = on_collector_host(
        ("run", "configs/daemon.toml"),
        ("check", "configs/daemon.toml"),
        ("history", "configs/daemon.toml"),
        ("alarms", "list", "http://127.0.0.1:1"),
        ("reference", "show", "bundle"),
        ("compare", "bundle", "events.parquet"),
        ("demo",),
        cwd=ROOT,
    )
    said = re.compile(r"error: the package \w+ is not installed\..*install dqm with its extra 'monitor'.*\n")
    assert [(code, text) for code, text in told if code != 2 or not said.fullmatch(text)] == []
