"""Packages of others, made of the documentation or by a test, and installed by pip."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "plugins.md"
ROOT = Path(__file__).parents[1]

PROJECT = """
[build-system]
requires = ["hatchling"]
build-backend = "hatchling.build"
[project]
name = "{name}"
version = "1.0"
[project.entry-points."dqm.{group}"]
{points}
"""


def write_examples(folder: Path) -> list[Path]:
    """Write the files of the page, whose first line is a comment with the path; gives the projects."""
    blocks = re.findall(r"```(?:toml|python)\n# (\S+/\S+)\n(.*?)```", PAGE.read_text(), re.DOTALL)
    for name, text in blocks:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return sorted({folder / Path(name).parts[0] for name, _ in blocks})


def write_project(folder: Path, name: str, code: str, group: str, **points: str) -> Path:
    """Write a project of one module, whose entry points name its classes."""
    project = folder / name
    project.mkdir(parents=True)
    module = name.replace("-", "_")
    (project / f"{module}.py").write_text(code)
    listed = "\n".join(f'{point} = "{module}:{value}"' for point, value in points.items())
    (project / "pyproject.toml").write_text(PROJECT.format(name=name, group=group, points=listed))
    return project


def install(target: Path, *projects: Path) -> dict[str, str]:
    """Install projects; gives the variables of a process that shall find them."""
    options = ["--target", target, "--no-deps", "--no-build-isolation", "--no-index", "--quiet"]
    told = subprocess.run(
        [sys.executable, "-m", "pip", "install", *options, *projects],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert told.returncode == 0, told.stderr
    return {"PYTHONPATH": str(target)}
