import time
from collections.abc import Callable
from pathlib import Path

import pytest

WAIT_SECONDS = 30.0


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
def wait_until() -> Callable[[Callable[[], bool], str], None]:
    """Poll until something is done; fail after `WAIT_SECONDS`."""

    def wait(done: Callable[[], bool], what: str) -> None:
        deadline = time.monotonic() + WAIT_SECONDS
        while not done():
            assert time.monotonic() < deadline, f"not within {WAIT_SECONDS:.0f} s: {what}"
            time.sleep(0.005)

    return wait
