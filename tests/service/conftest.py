"""A small bundle that many tests read; none of them may write to it."""

from __future__ import annotations

import pytest

from dqm.reference import Bundle

from .small import small_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return small_bundle(tmp_path_factory.mktemp("reference") / "small.dqmref")
