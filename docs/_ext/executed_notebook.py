"""Notebooks as pages: Sphinx gets Markdown with what each cell gives, computed while the site is built."""

from __future__ import annotations

import ast
import base64
import io
import json
from contextlib import chdir, redirect_stdout
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from sphinx.errors import ExtensionError

if TYPE_CHECKING:
    from sphinx.application import Sphinx

SUFFIX = ".ipynb"


def run_notebook(text: str) -> str:
    """Run the cells of a notebook in an empty directory, and write them with their output as Markdown.

    Parameters
    ----------
    text : str
        Content of the file, format 4.

    Raises
    ------
    ExtensionError
        If a cell fails.
    """
    import matplotlib as mpl

    mpl.use("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    parts = []
    with TemporaryDirectory() as folder, chdir(folder):
        for number, cell in enumerate(json.loads(text)["cells"], 1):
            source = "".join(cell["source"])
            if cell["cell_type"] == "markdown":
                parts.append(source)
                continue
            try:
                output = "".join(_run_cell(source, names))
            except Exception as error:
                raise ExtensionError(f"cell {number} of the notebook fails: {error!r}", error) from error
            parts.append(f"```python\n{source}\n```\n\n{output}")
    return "\n\n".join(parts) + "\n"


def _run_cell(source: str, names: dict[str, Any]) -> list[str]:
    """Run a cell; give what it printed, its last value, and its figures."""
    from matplotlib import pyplot as plt
    from matplotlib.figure import Figure

    tree, value = ast.parse(source), None
    last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
    with redirect_stdout(io.StringIO()) as printed:
        exec(compile(tree, "cell", "exec"), names)  # noqa: S102 - our own notebook
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), "cell", "eval"), names)  # noqa: S307
    figures = [plt.figure(number) for number in plt.get_fignums()]
    if isinstance(value, Figure):
        figures.append(value)
    elif value is not None:
        print(repr(value), file=printed)
    told = printed.getvalue()
    shown = [f"```text\n{told.rstrip()}\n```\n\n"] if told else []
    shown += map(_as_picture, figures)
    plt.close("all")
    return shown


def _as_picture(figure: Any) -> str:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, bbox_inches="tight")
    data = base64.b64encode(file.getvalue()).decode()
    return f'<img alt="Figure of the cell above" src="data:image/png;base64,{data}">\n\n'


def fill(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the Markdown of a notebook in the place of its content."""
    if Path(app.env.doc2path(docname)).suffix == SUFFIX:
        source[0] = run_notebook(source[0])


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the extension."""
    app.add_source_suffix(SUFFIX, "markdown")
    app.connect("source-read", fill)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
