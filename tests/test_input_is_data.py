"""Nothing that comes from outside is run: no pickle, no eval, no shell, no template made of input."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
BY_DASK = ROOT / "dqm" / "reference" / "cluster.py"
"""Ships work to a cluster that the user names; Dask pickles whatever it ships."""

SOURCES = sorted(
    path for room in ("dqm", "collectors") for path in (ROOT / room).rglob("*.py") if path != BY_DASK
)

MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "code", "codeop", "xml"}
CALLS = {"eval", "exec", "compile", "__import__"}
METHODS = {
    ("os", "system"), ("os", "popen"), ("torch", "load"), ("yaml", "load"), ("string", "Template"),
    ("jinja2", "Template"), ("importlib", "import_module"), ("socket", "recv_pyobj"), ("socket", "recv_json"),
}  # fmt: skip
DANGEROUS_TRUE = {"shell", "allow_pickle"}


def offences(tree: ast.AST) -> list[str]:
    """Find what could run or instantiate something that was only meant to be read."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [name.name for name in node.names if name.name.partition(".")[0] in MODULES]
        elif isinstance(node, ast.ImportFrom):
            found += [node.module] if (node.module or "").partition(".")[0] in MODULES else []
            found += [name.name for name in node.names if (node.module, name.name) in METHODS]
        elif isinstance(node, ast.Call):
            found += _offending_call(node)
    return found


def _offending_call(node: ast.Call) -> list[str]:
    found = []
    if isinstance(node.func, ast.Name) and node.func.id in CALLS:
        found.append(node.func.id)
    if isinstance(node.func, ast.Attribute):
        owner = node.func.value.id if isinstance(node.func.value, ast.Name) else ""
        if (owner, node.func.attr) in METHODS or node.func.attr in {"recv_pyobj", "from_string"}:
            found.append(f"{owner}.{node.func.attr}")
    harmless = [k for k in node.keywords if isinstance(k.value, ast.Constant) and k.value.value is False]
    return found + [f"{k.arg}=" for k in node.keywords if k.arg in DANGEROUS_TRUE and k not in harmless]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_source_runs_its_input(path: Path) -> None:
    assert offences(ast.parse(path.read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from pickle import loads",
        "import xml.etree.ElementTree",
        "eval(text)",
        "exec(text)",
        "np.load(file, allow_pickle=True)",
        "np.load(file, allow_pickle=flag)",
        "subprocess.run(text, shell=True)",
        "socket.recv_pyobj()",
        "torch.load(path)",
        "environment.from_string(text)",
        "from jinja2 import Template",
        "os.system(text)",
    ],
)
def test_what_would_is_found(line: str) -> None:
    assert offences(ast.parse(line))
