"""What the documents refer to exists."""

from __future__ import annotations

import ast
import re
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.names import dotted_names, resolve_name

ROOT = Path(__file__).parents[1]
DOCUMENTS = sorted(
    path.relative_to(ROOT)
    for path in [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").rglob("*.md"),
        *ROOT.glob("dashboards/*.md"),
        *ROOT.glob("systemd/*.md"),
    ]
    if path.name != "CHANGELOG.md"  # it speaks of earlier versions
    if "_build" not in path.parts  # the site that make docs makes
)
PATH = re.compile(r"`((?:collectors|configs|dashboards|docs|dqm|systemd|tests)/[\w./-]+)`")
LINK = re.compile(r"\]\(([^)\s:]+)\)")
OLD_NAMES = "## Old names"
"""Where the glossary has names that are no more."""


def read(document: Path) -> str:
    return (ROOT / document).read_text()


def test_every_test_that_is_named_exists() -> None:
    defined = {
        node.name
        for path in (ROOT / "tests").rglob("test_*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef)
    }
    for document in DOCUMENTS:
        assert not set(re.findall(r"`(test_[a-z0-9_]+)`", read(document))) - defined, document


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_function_and_class_that_is_named_exists(document: Path) -> None:
    groups = entry_points().groups  # `dqm.collectors` and the like are not modules
    for name in dotted_names(read(document).partition(OLD_NAMES)[0]):
        unit = ROOT / "systemd" / name  # such as dqm.target
        assert name in groups or unit.exists() or resolve_name(name) is not None


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_path_that_is_named_exists(document: Path) -> None:
    for path in PATH.findall(read(document).partition(OLD_NAMES)[0]):
        assert "NAME" in path or (ROOT / path).exists(), path


@pytest.mark.parametrize("document", DOCUMENTS, ids=str)
def test_every_link_leads_to_a_file_and_a_heading(document: Path) -> None:
    for link in LINK.findall(read(document)):
        place, _, anchor = link.partition("#")
        target = (ROOT / document).parent / place if place else ROOT / document
        assert target.exists(), link
        if anchor:
            assert anchor in anchors_of(target.read_text()), link


def anchors_of(text: str) -> set[str]:
    """Give the anchors that GitHub makes of headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_the_present_names_of_the_glossary_are_there() -> None:
    table = (ROOT / "docs/glossary.md").read_text().partition(OLD_NAMES)[2]
    rows = [line.split("|")[2] for line in table.splitlines() if line.startswith("| ") and "`" in line]
    names = {name for row in rows for name in re.findall(r"`([A-Za-z_][\w./]*)`", row)}
    sources = {
        path: path.read_text() for folder in ("dqm", "collectors") for path in (ROOT / folder).rglob("*.py")
    }
    words = set(re.findall(r"\w+", "\n".join(sources.values())))
    words |= {part for path in sources for part in path.relative_to(ROOT).with_suffix("").parts}
    missing = {name for name in names if not set(re.findall(r"\w+", name.removesuffix(".py"))) <= words}
    assert len(names) > 50
    assert missing == set()
