"""Versions that are installed, and what the wheel says of itself."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from tests.runtime_requirements import runtime_requirements

ROOT = Path(__file__).parents[1]
UNPINNED = {"dqm", "torch"}
"""torch is chosen by the Makefile: any build of it will do."""


def constraints() -> dict[str, Version]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    pins = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): Version(version) for name, version in pins}


def direct_requirements() -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"]]
    for name, extra in project["optional-dependencies"].items():
        texts += extra if name != "fuzz" else []  # not made for every Python
    return [Requirement(text) for text in texts]


@pytest.mark.parametrize("requirement", direct_requirements(), ids=lambda requirement: requirement.name)
def test_every_dependency_is_bounded_and_has_a_version_known_to_work(requirement: Requirement) -> None:
    assert re.search("==|<", str(requirement.specifier)), "it needs an upper bound"
    name = canonicalize_name(requirement.name)
    if name not in UNPINNED:
        assert requirement.specifier.contains(constraints()[name], prereleases=True)


def test_what_the_monitor_needs_is_pinned() -> None:
    needed = runtime_requirements()
    assert {"torch", "pyzmq", "starlette"} <= needed.keys()
    torch_s_own = {"filelock", "fsspec", "jinja2", "markupsafe", "mpmath", "networkx", "setuptools", "sympy"}
    assert needed.keys() - constraints().keys() <= UNPINNED | torch_s_own
