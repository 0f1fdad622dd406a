import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from dqm_collectors import root, root_process


@pytest.fixture
def real_data() -> Path:
    """Folder of recorded data, which is not part of the project."""
    path = Path(__file__).parents[2].parent / "shared" / "data"
    if not path.is_dir():
        pytest.skip(f"no recorded data at {path}")
    return path


class FakeTime:
    """A clock that only moves when somebody sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def fake_time() -> FakeTime:
    return FakeTime()


@pytest.fixture
def root_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let ROOT files be read in this process: a process of its own takes half a second for each reading."""

    @contextmanager
    def ask(path: Path, wanted: dict[str, Any]) -> Iterator[pa.RecordBatchReader]:
        sink = io.BytesIO()
        root_process.answer(path, wanted, sink)
        yield pa.ipc.open_stream(sink.getvalue())

    monkeypatch.setattr(root, "ask_root", ask)
