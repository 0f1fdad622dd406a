from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .world import Browser, World, make_world


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    """Two stations of two chambers each; nothing has happened yet."""
    made = make_world(
        tmp_path / "x.sqlite",
        {"muon/station-1": ["chamber-1", "chamber-2"], "muon/station-2": ["chamber-3", "chamber-4"]},
    )
    yield made
    made.store.close()


@pytest.fixture
def browse() -> Callable[[World], Browser]:
    return Browser


@pytest.fixture
def client(world: World) -> Browser:
    """A browser in which maria has signed in."""
    return Browser(world, user="maria")
