"""The certificate of a reference on the page of its stream, in a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver import Chrome

from dqm.export import describe_bundle
from dqm.reference import (
    Certificate,
    CertificateLine,
    CertificateStatus,
    Light,
    Manifest,
    StoredBundle,
)
from dqm.web import HttpServer, create_app
from tests.world import START, make_world

from .conftest import complaints, set_media, set_width
from .test_channels import shoot
from .test_page import text

pytestmark = pytest.mark.slow

LINES = (
    CertificateLine(
        name="uniformity", light=Light.GREEN, number=0.047,
        found="4.7 % of 96 windows have p < 0.05 (1.7 to 11.7 %)",
        meaning="p of healthy windows is what it claims, as far as 96 windows of this run can tell",
    ),
    CertificateLine(
        name="extrapolation", light=Light.AMBER, number=0.4,
        found="40 % of the p below 0.01 are read from the fitted tail, beyond all of 250 toys",
        meaning="a good part of the p below the threshold follows from a fit to the toys",
        action="Run 'dqm reference calibrate' with --toys 1000 or more",
    ),
    CertificateLine(
        name="later run", light=Light.RED, number=1.0,
        found="<b>run 12</b>.parquet: 100.0 % of 60 windows have p < 0.05 (94.0 to 100.0 %)",
        meaning="this run is unlike that of the reference: it would alarm all the time",
        action="If this run was good, build a reference from later runs, or add to the bundle what changed",
    ),
)  # fmt: skip


def facts_of(manifest: Manifest, status: CertificateStatus) -> tuple[object, ...]:
    return (describe_bundle("3f9a21c7d0b4e865", manifest, "all windows", status),)


@pytest.fixture
def url(chromium: Chrome, bundle: StoredBundle, tmp_path: Path) -> Iterator[str]:
    """Page of three streams: certified, not certified, and certified before it changed."""
    world = make_world(tmp_path / "x.sqlite", {"": ["certified", "bare"]})
    made = Certificate(subject="0" * 64, windows="60 events cut by count", made_at=START, lines=LINES)
    statuses = {
        "certified": CertificateStatus(made),
        "bare": CertificateStatus(None, "it has no certificate"),
    }
    shown = {stream: facts_of(bundle.manifest, status) for stream, status in statuses.items()}
    world.queries.bundles.update(shown)  # type: ignore[attr-defined]
    app = create_app(world.metrics, lambda: 0.0, queries=world.queries, authenticator=world.authenticator())
    server = HttpServer(app, "127.0.0.1", 0)
    server.start()
    chromium.get("data:,")  # the page of another test asks its server for changes until it is left
    chromium.get_log("browser")
    set_media(chromium, scheme="dark")
    set_width(chromium, 1400)
    yield f"http://{server.address}"
    chromium.get("data:,")
    server.stop()
    world.store.close()


def test_the_page_of_a_stream_shows_the_certificate(chromium: Chrome, url: str, tmp_path: Path) -> None:
    chromium.get(f"{url}/streams/certified")
    rows = chromium.execute_script(
        "return [...document.querySelectorAll('#bundle .certificate tbody tr')].map(row => row.innerText)"
    )
    assert [row.split()[0] for row in rows] == ["red", "amber", "green"]
    assert "<b>run 12</b>.parquet" in rows[0], "text from outside is data"
    assert "Run 'dqm reference calibrate' with --toys 1000 or more" in rows[1]
    assert "red for windows of 60 events cut by count, made " in text(chromium, "#bundle")
    assert complaints(chromium) == []
    shoot(chromium, tmp_path, "certificate")
    set_width(chromium, 480)
    shown = (
        "const t = document.querySelector('.certificate'); return t.offsetWidth <= t.parentNode.offsetWidth"
    )
    assert chromium.execute_script(shown), "it fits a narrow screen"
    set_width(chromium, 1400)
    chromium.get(f"{url}/streams/bare")
    assert "It has no certificate: nobody has measured" in text(chromium, "#bundle")
