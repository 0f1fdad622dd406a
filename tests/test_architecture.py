"""What holds for the whole house."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for room in ("dqm", "collectors") for path in (ROOT / room).rglob("*.py"))
LOADED = "import {module}, sys; print(*{{name.partition('.')[0] for name in sys.modules}})"


def loaded_by(module: str) -> set[str]:
    """Top-level modules in memory after an import."""
    told = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], capture_output=True, text=True, check=True
    )
    return set(told.stdout.split())


def test_the_package_alone_loads_no_library() -> None:
    assert not {"torch", "zmq", "pyarrow", "pydantic", "numpy"} & loaded_by("dqm")


def test_the_command_line_does_not_load_torch() -> None:
    assert "torch" not in loaded_by("dqm.cli.main")


def test_help_lists_the_commands() -> None:
    told = subprocess.run(
        [sys.executable, "-m", "dqm.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    for command in (
        "run",
        "collect",
        "check",
        "history",
        "compare",
        "extract",
        "reference",
        "dashboards",
        "demo",
    ):
        assert f" {command} " in told.stdout


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".ci/run", ".gitignore"]
)
def test_the_root_has_what_a_stranger_looks_for(name: str) -> None:
    assert (ROOT / name).read_text().strip()


def test_the_program_of_the_reviewers_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_modules_have_real_names_and_readable_sizes() -> None:
    assert not {path.stem for path in SOURCES} & {"utils", "helpers", "common", "misc"}
    assert not {str(path.relative_to(ROOT)) for path in SOURCES if len(path.read_text().splitlines()) > 500}


def test_packages_hold_no_logic_in_their_init() -> None:
    for path in ROOT.glob("dqm/*/**/__init__.py"):  # dqm's own loads its names on demand
        assert "def " not in path.read_text(), path
