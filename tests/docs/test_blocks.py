"""Configurations in the documents are TOML, with keys that exist; what the doctor looks at is listed."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dqm.config import CollectorConfig, DaemonConfig, find_problems
from dqm.service.doctor import NAMES
from dqm.service.installation.toml_text import write_keys
from dqm.stream.arrow import write_columns
from dqm.stream.run_message import decode_run
from dqm.stream.wire import decode
from dqm_collectors.slow_control.readings import parse_json

from .test_commands import PAGES
from .walk import ROOT, files_of

TOML = re.compile(r"^```toml\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LEAST = {
    "daemon": {"streams": [{"name": "a", "bundle": "b"}]},
    "collector": {"collector": {"name": "replay"}, "window": {"events": 9}},
}


def blocks(page: Path) -> Iterator[dict[str, Any]]:
    """Give the TOML of a page; it raises if it is none."""
    for text in TOML.findall((ROOT / page).read_text()):
        yield tomllib.loads(text)


OF_THE_REST = re.compile(
    r"no stream (has a group|is called)|is on another host|slow_control.source: must be given"
    r"|CREDENTIALS_DIRECTORY is not set"
)
"""Mistakes of a piece that its whole configuration does not have."""


def mistakes(table: dict[str, Any], folder: Path) -> list[str]:
    """Check a piece of a configuration as part of a whole one; name unknown keys and wrong values."""
    kinds = [("daemon", DaemonConfig), ("collector", CollectorConfig)]
    kind = next((name for name, model in kinds if table.keys() <= set(model.model_fields)), "")
    assert kind, f"tables of neither daemon nor collector: {', '.join(table)}"
    path = folder / "piece.toml"
    path.write_text(write_keys(LEAST[kind] | table))
    return [problem for problem in find_problems(path, environ={}) if not OF_THE_REST.search(problem)]


@pytest.mark.parametrize("page", PAGES, ids=str)
def test_configurations_of_a_page_have_keys_and_values_that_are_taken(page: Path, tmp_path: Path) -> None:
    for table in blocks(page):
        if table.keys() & {"project", "build-system"}:  # of a package with a plugin
            continue
        assert mistakes(table, tmp_path) == []


def test_a_key_that_does_not_exist_and_a_wrong_value_are_noticed(tmp_path: Path) -> None:
    assert mistakes({"daemon": {"htp": "127.0.0.1:1"}}, tmp_path)
    assert mistakes({"quality": {"min_events": -5}}, tmp_path)
    with pytest.raises(AssertionError, match="neither"):
        mistakes({"deamon": {}}, tmp_path)


def test_everything_that_the_doctor_looks_at_is_listed() -> None:
    text = (ROOT / "docs" / "first-run.md").read_text()
    assert re.findall(r"^\| `(\w+)` \| ", text.partition("## What is wrong")[2], re.MULTILINE) == list(NAMES)


JSON = re.compile(r"^```json\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def test_headers_in_the_description_of_the_wire_are_taken_by_its_reader() -> None:
    window, run = (text.encode() for text in JSON.findall((ROOT / "docs" / "wire-format.md").read_text()))
    told = json.loads(window)
    names = tuple(told["features"])
    decoded = decode([window, write_columns(names, np.ones((told["n_events"], len(names))))])
    assert (decoded.stream, decoded.run, decoded.seq, decoded.names) == ("chamber-1", 591, 17, names)
    assert decoded.conditions == told["conditions"]
    notice = decode_run([run])
    assert (notice.run, notice.run_type, notice.why) == (591, "cosmics", "operator")


def test_json_of_every_other_page_is_readings_of_slow_control() -> None:
    found = {str(page): JSON.findall((ROOT / page).read_text()) for page in PAGES}
    assert {page for page, texts in found.items() if texts} == {"docs/wire-format.md", "docs/pressure.md"}
    written = files_of((ROOT / "docs" / "pressure.md").read_text())  # by its walk
    assert found["docs/pressure.md"] == [written["readings.jsonl"], written["stuck.jsonl"]]
    sent = re.findall(r"echo '(.*)' \| nc", (ROOT / "docs" / "slow-control.md").read_text())
    lines = [*"".join(found["docs/pressure.md"]).splitlines(), *sent]
    readings = [parse_json(line.encode(), arrival=0.0) for line in lines]
    assert [(one.name, 900.0 < one.value < 970.0) for one in readings] == [("pressure", True)] * 5


PYTHON = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PYTHON_RUN_BY = {
    "README.md": "tests/test_front_door.py",
    "docs/overview.md": "tests/test_front_door.py",
    "docs/python.md": "tests/test_front_door.py",
    "docs/calorimeter.md": "tests/docs/test_walks.py",
    "docs/hunt.md": "tests/cli/test_hunt.py",
    "docs/inputs.md": "tests/docs/test_walks.py",
    "docs/silicon-tracker.md": "tests/docs/test_walks.py",
    "docs/tutorial.md": "tests/docs/test_walks.py",
    "docs/plugins.md": "tests/packages.py",
    "docs/wire-format.md": "tests/cli/test_runs.py",
    "docs/histograms.md": "tests/docs/test_blocks.py",
}


def test_python_of_every_page_is_run_by_a_test() -> None:
    assert {str(page) for page in PAGES if PYTHON.search((ROOT / page).read_text())} == PYTHON_RUN_BY.keys()
    assert all((ROOT / path).exists() for path in PYTHON_RUN_BY.values())


def test_a_file_of_histograms_is_written_as_its_page_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    uproot = pytest.importorskip("uproot")
    monkeypatch.chdir(tmp_path)
    (code,) = PYTHON.findall((ROOT / "docs" / "histograms.md").read_text())
    exec(compile(code, "histograms.md", "exec"), {"__name__": "__main__"})  # noqa: S102 - our own page
    assert [path.name for path in tmp_path.iterdir()] == ["run.root"]
    with uproot.open("run.root") as file:
        contents, edges = file["chamber/drift"].to_numpy()
    assert contents.sum() == 3
    assert (len(edges), edges[-1]) == (65, 400.0)
