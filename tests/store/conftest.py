"""Stores of either kind."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from .postgres import PostgresServer


@pytest.fixture(scope="session")
def postgres() -> Iterator[Callable[[], str]]:
    """Gives the URL of a new, empty PostgreSQL database each time it is called."""
    with PostgresServer() as server:
        yield lambda: server.make_database().replace("postgresql:", "postgresql+psycopg:")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Address of a new store of either kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/verdicts.sqlite"
    made: str = request.getfixturevalue("postgres")()
    return made
