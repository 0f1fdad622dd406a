from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.world import Browser, World


@pytest.fixture
def browse() -> Callable[[World], Browser]:
    return Browser


@pytest.fixture
def client(world: World) -> Browser:
    """A browser in which maria has signed in."""
    return Browser(world, user="maria")
