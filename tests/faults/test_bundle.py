"""Bundles that are cut short or altered, at the start of the daemon and while it uses them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from dqm.events import Quality
from dqm.reference import Bundle
from dqm.stream import Sender
from tests.service.small import window_of

from .conftest import Open

pytestmark = pytest.mark.slow
WAIT_SECONDS = 60.0


def alter(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-64, os.SEEK_END)
        file.write(b"\x5a" * 64)


def cut_short(path: Path) -> None:
    os.truncate(path, path.stat().st_size // 2)


@pytest.fixture
def copied(bundle: Bundle, tmp_path: Path) -> Path:
    return Path(shutil.copytree(bundle.path, tmp_path / "mine.dqmref"))


@pytest.mark.parametrize("damage", [alter, cut_short])
def test_no_window_is_judged_by_a_bundle_that_was_damaged_in_use(
    open_site: Open, copied: Path, bundle: Bundle, damage: Callable[[Path], None]
) -> None:
    site = open_site("workers = 0", bundle=copied)
    site.start()
    with Sender(site.address) as sender:
        for seq in range(2):
            sender.send(window_of(seq=seq))
        assert sender.confirm(WAIT_SECONDS)
        for name in (bundle.manifest.reference.name, bundle.manifest.centers.name):
            damage(copied / name)
        for seq in range(2, 5):
            sender.send(window_of(seq=seq))
        assert sender.confirm(WAIT_SECONDS)
        assert site.metric("dqm_window_quality", "Null", "chamber-1") == 1.0
        assert site.get("/healthz").status_code == 200
        site.stop()
        site.launch()
        assert site.wait_for_end() == 2
        assert "it was altered or cut short. Copy the bundle again" in site.log.read_text()
        shutil.copytree(bundle.path, copied, dirs_exist_ok=True)
        site.start()
        sender.send(window_of(seq=5))
        assert sender.confirm(WAIT_SECONDS)
    site.stop()
    verdicts = site.verdicts()
    good, null = Quality.GOOD, Quality.NULL
    assert [(v.window.seq, v.quality) for v in verdicts] == list(
        enumerate([good, good, null, null, null, good])
    )
    for verdict in verdicts[2:5]:
        assert "was altered while it was in use. Copy the bundle again or rebuild it" in verdict.reason
