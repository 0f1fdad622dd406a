"""The notebook runs from its first cell to its last, and shows what its words say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import pytest

from .walk import ROOT

NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def code_cells() -> list[str]:
    content = json.loads(NOTEBOOK.read_text())
    assert content["nbformat"] == 4
    return ["".join(cell["source"]) for cell in content["cells"] if cell["cell_type"] == "code"]


def test_nothing_that_was_computed_is_kept_in_it() -> None:
    for cell in json.loads(NOTEBOOK.read_text())["cells"]:
        assert not cell.get("outputs")
        assert cell.get("execution_count") is None


def test_a_page_shows_what_each_cell_gives() -> None:
    pytest.importorskip("sphinx")
    from executed_notebook import run_notebook  # type: ignore[import-not-found]  # of docs/_ext

    cells = [
        {"cell_type": "markdown", "source": ["# Title\n", "words"]},
        {"cell_type": "code", "source": ["n = 20\n", "print('told')\n", "n + 1"]},
        {"cell_type": "code", "source": ["from matplotlib import pyplot as plt\n", "plt.plot([1, n]);"]},
        {"cell_type": "code", "source": ["n = 3"]},
    ]
    text = run_notebook(json.dumps({"cells": cells}))
    assert text.startswith("# Title\nwords\n\n```python\nn = 20\n")
    assert "```text\ntold\n21\n```" in text
    assert text.count('src="data:image/png;base64,iVBOR') == 1
    assert text.rstrip().endswith("```python\nn = 3\n```"), "nothing is said of a cell that gives nothing"
    broken = {"cells": [{"cell_type": "code", "source": ["1 / 0"]}]}
    with pytest.raises(Exception, match="cell 1 of the notebook fails: ZeroDivisionError"):
        run_notebook(json.dumps(broken))


@pytest.mark.long
def test_the_notebook_runs_and_shows_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(plt, "show", lambda: None)
    plt.switch_backend("agg")
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(code_cells()):
        exec(compile(cell, f"cell {number}", "exec"), names)  # noqa: S102 - our own notebook
    plt.close("all")
    assert names["late"].t > names["healthy"].t
    assert names["p"][1] < 0.02
    assert names["seen"].p < 1e-3
    assert 0.03 < float((names["p_healthy"] < 0.1).mean()) < 0.2
    assert names["explanation"].ranking[0][0] == "drift_ns"
    assert names["power"][0] < 0.15
    assert names["power"][-1] > 0.5
    assert (tmp_path / "chamber.dqmref").is_dir()
