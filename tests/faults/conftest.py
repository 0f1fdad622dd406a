"""Sites to be hurt: one of a test's own, and one that many tests hurt and that must recover each time."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from dqm.reference import Bundle
from dqm.stream import Sender

from .site import Site

Open = Callable[..., Site]

SHARED = "workers = 1\nqueue_windows = 16\noverload_seconds = 1.0\nlongest_test_seconds = 3.0"
DISK_MEGABYTES = 256  # room for what a fast machine judges in two minutes of flood


@pytest.fixture
def open_site(bundle: Bundle, tmp_path: Path) -> Iterator[Open]:
    """Make the site of a test; takes what `Site` does besides the folder."""
    opened: list[Site] = []

    def make(daemon: str = "", bundle: Path = bundle.path, **options: Any) -> Site:
        opened.append(Site(tmp_path, bundle, daemon, **options))
        return opened[-1]

    yield make
    for site in opened:
        site.close()


def administer(name: str, *arguments: str | Path) -> None:
    """Run a program of the administrator; skips the test where this is not permitted."""
    program = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed")
    told = subprocess.run([program, *arguments], capture_output=True, text=True, check=False)
    if told.returncode:
        pytest.skip(f"not permitted here: {name}: {told.stderr.strip()}")


@contextmanager
def mounted(at: Path, *arguments: str) -> Iterator[None]:
    """Mount something for the time of a test; skips it where that is not permitted."""
    at.mkdir(exist_ok=True)
    administer("mount", *arguments, at)
    try:
        yield
    finally:
        administer("umount", "--lazy", at)


@pytest.fixture(scope="session")
def shared(bundle: Bundle, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A site whose daemon goes on through all faults; its data lie on a small disk of their own."""
    folder = tmp_path_factory.mktemp("site")
    image = folder / "disk"
    with ExitStack() as opened:
        with image.open("wb") as file:
            file.truncate(DISK_MEGABYTES * 2**20)
        try:
            administer("mkfs.ext4", "-q", "-m", "0", image)
            opened.enter_context(mounted(folder / "data", "-o", "loop", str(image)))
        except pytest.skip.Exception:
            image.unlink()
        site = Site(folder, bundle.path, SHARED)
        opened.callback(site.close)
        site.start()
        yield site
        site.stop()


@pytest.fixture
def disk(shared: Site) -> Path:
    """Data directory of the shared site, on a disk of its own."""
    if not (shared.folder / "disk").exists():
        pytest.skip("mounting is not permitted here")
    return shared.data


@pytest.fixture
def sender(shared: Site) -> Iterator[Sender]:
    with Sender(shared.address) as opened:
        yield opened
