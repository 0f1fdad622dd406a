"""What holds for the whole house."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest

from dqm.cli.main import COMMANDS, load_command

ROOT = Path(__file__).parents[1]
SOURCES = sorted(path for room in ("dqm", "collectors") for path in (ROOT / room).rglob("*.py"))
LOADED = "import {module}, sys; print(*sys.modules)"
ALL_BUT_ALARMS = """
import sys
from dqm.cli.main import COMMANDS, load_command
for name in COMMANDS.keys() - {"alarms"}:
    load_command(name)
print(*{name.partition(".")[0] for name in sys.modules})
"""
COMMAND = """
import atexit, sys
from dqm.cli.main import run
atexit.register(lambda: print("LOADED", *{name.partition('.')[0] for name in sys.modules}))
run()
"""


def loaded_by(module: str) -> set[str]:
    """Modules in memory after an import."""
    told = subprocess.run(
        [sys.executable, "-c", LOADED.format(module=module)], capture_output=True, text=True, check=True
    )
    return set(told.stdout.split())


def test_the_package_alone_loads_no_library() -> None:
    assert not {"torch", "zmq", "pyarrow", "pydantic", "numpy"} & loaded_by("dqm")


def loaded_by_command(*arguments: str, cwd: Path) -> set[str]:
    """Top-level modules in memory when a command has ended with code 0."""
    told = subprocess.run(
        [sys.executable, "-c", COMMAND, *arguments], capture_output=True, text=True, check=True, cwd=cwd
    )
    return set(told.stdout.rpartition("LOADED")[2].split())


def test_help_loads_no_package_that_a_command_needs(tmp_path: Path) -> None:
    loaded = loaded_by_command("--help", cwd=tmp_path)
    assert "typer" in loaded
    assert not loaded & {"torch", "scipy", "numpy", "pyarrow", "pydantic", "zmq"}
    assert not loaded & {"sqlalchemy", "starlette", "plotly", "structlog"}


def test_extraction_loads_neither_tests_nor_sockets_nor_stores(tmp_path: Path) -> None:
    options = ("--set", "chambers=[0]", "--set", "seconds=2.0", "-o", "events.parquet")
    loaded = loaded_by_command("extract", "simulate", *options, cwd=tmp_path)
    assert {"numpy", "pyarrow"} <= loaded
    assert not loaded & {"torch", "scipy", "zmq", "sqlalchemy", "starlette", "structlog"}


def test_the_daemon_itself_does_without_the_numerics() -> None:
    loaded = loaded_by("dqm.service.monitor.daemon")
    assert {"sqlalchemy", "starlette", "zmq"} <= loaded
    assert "torch" not in loaded, "its workers have it; it takes 200 MB and over a second"
    assert "scipy.stats" not in loaded, "half a second"


def test_who_calibrates_several_kernels_leaves_torch_to_the_processes_that_test() -> None:
    loaded = loaded_by("dqm.reference.calibration, dqm.reference.window_range, dqm.nplm.several")
    assert {"numpy", "scipy.special"} <= loaded
    assert not loaded & {"torch", "scipy.stats", "dqm.reference.evaluator"}


def test_help_of_every_command_is_quick_to_load_but_for_alarms() -> None:
    told = subprocess.run([sys.executable, "-c", ALL_BUT_ALARMS], capture_output=True, text=True, check=True)
    loaded = set(told.stdout.split())
    assert "typer" in loaded
    assert not loaded & {"torch", "scipy", "sqlalchemy", "starlette", "plotly"}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_list_of_commands_says_what_their_own_help_says(name: str) -> None:
    said = " ".join(load_command(name).help.partition("\n\n")[0].split())
    assert said == COMMANDS[name]


@pytest.mark.parametrize(
    "name", ["pyproject.toml", "README.md", "LICENSE", "CHANGELOG.md", "Makefile", ".ci/run", ".gitignore"]
)
def test_the_root_has_what_a_stranger_looks_for(name: str) -> None:
    assert (ROOT / name).read_text().strip()


def test_the_program_of_the_reviewers_can_be_run() -> None:
    assert os.access(ROOT / ".ci" / "run", os.X_OK)


def test_modules_have_real_names() -> None:
    assert not {path.stem for path in SOURCES} & {"utils", "helpers", "common", "misc"}


def test_packages_hold_no_logic_in_their_init() -> None:
    for path in ROOT.glob("dqm/*/**/__init__.py"):  # dqm's own loads its names on demand
        assert "def " not in path.read_text(), path


def test_no_two_public_classes_have_one_name() -> None:
    modules = defaultdict(list)
    for path in SOURCES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                modules[node.name].append(path.relative_to(ROOT).as_posix())
    assert not {name: found for name, found in modules.items() if len(found) > 1}
