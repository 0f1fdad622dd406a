"""Sites to be hurt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dqm.reference import Bundle

from .site import Site

Open = Callable[..., Site]


@pytest.fixture
def open_site(bundle: Bundle, tmp_path: Path) -> Iterator[Open]:
    """Make the site of a test; takes what `Site` does besides folder and bundle."""
    opened: list[Site] = []

    def make(daemon: str = "", **options: str) -> Site:
        opened.append(Site(tmp_path, Path(options.pop("bundle", str(bundle.path))), daemon, **options))
        return opened[-1]

    yield make
    for site in opened:
        site.close()
