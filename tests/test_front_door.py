"""``import dqm``: light, typed, and every piece of Python in the documents and docstrings runs."""

from __future__ import annotations

import doctest
import os
import re
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import dqm

ROOT = Path(__file__).parents[1]
PAGES = ("README.md", "docs/overview.md", "docs/python.md")
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
WITH_EXAMPLES = {
    "dqm.nplm.kernel_test": {"KernelTest"},
    "dqm.nplm.nuisance": {"Normalisation", "Shape"},
    "dqm.nplm.template": {"learn_template"},
    "dqm.reference.bundle": {"Bundle.evaluate", "build_bundle", "open_bundle"},
}
"""What a physicist would call first."""


def code_of(page: str) -> str:
    """Python of a page, in its place: empty lines stand for the words, so that line numbers are right."""
    text = (ROOT / page).read_text()
    lines = [""] * text.count("\n")
    for block in BLOCK.finditer(text):
        first = text.count("\n", 0, block.start(1))
        code = block[1].splitlines()
        lines[first : first + len(code)] = code
    return "\n".join(lines) + "\n"


def test_names_are_offered_and_loaded_when_they_are_used() -> None:
    assert set(dqm.__all__) == {"KernelTest", "Window", "__version__", "build_bundle", "open_bundle"}
    assert set(dqm.__all__) <= set(dir(dqm))
    assert dqm.__version__ == version("dqm")
    for name, home in {
        "KernelTest": "dqm.nplm",
        "Window": "dqm.events",
        "open_bundle": "dqm.reference",
    }.items():
        assert getattr(dqm, name) is getattr(import_module(home), name)
    with pytest.raises(AttributeError, match="KernelTests"):
        dqm.KernelTests  # noqa: B018 - it raises


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES)
def test_the_python_of_the_documents_runs(page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code = code_of(page)
    assert code.strip()
    exec(compile(code, ROOT / page, "exec"), {"__name__": "__main__"})  # noqa: S102 - our own documents
    assert {path.suffix for path in tmp_path.iterdir()} >= {".dqmref", ".png"}
    keep = os.environ.get("DQM_PICTURES")  # a directory: the picture of the page is made again
    if keep and page == "docs/python.md":
        shutil.copy(tmp_path / "window.png", Path(keep) / "maps.png")


@pytest.mark.slow
def test_the_python_of_the_documents_and_of_scripts_is_well_typed(tmp_path: Path) -> None:
    scripts = [ROOT / "tests" / "typed_front_door.py"]
    for page in PAGES:
        script = tmp_path / f"{Path(page).stem.lower()}_page.py"
        script.write_text(code_of(page))
        scripts.append(script)
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", *scripts],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stdout + told.stderr


@pytest.mark.parametrize(
    "module",
    [
        pytest.param(module, marks=pytest.mark.slow if module == "dqm.reference.bundle" else ())
        for module in WITH_EXAMPLES
    ],
)
def test_examples_of_docstrings_are_true(
    module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = {
        test.name.removeprefix(f"{module}."): test
        for test in doctest.DocTestFinder(exclude_empty=True).find(import_module(module))
        if test.examples
    }
    assert found.keys() >= WITH_EXAMPLES[module]
    for test in found.values():
        told: list[str] = []
        assert doctest.DocTestRunner().run(test, out=told.append).failed == 0, "".join(told)
