"""Certificates of the bundles that a daemon is given."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from dqm.config import DaemonConfig
from dqm.errors import BundleError
from dqm.reference import Bundle, Light, write_certificate
from dqm.service.monitor.resolved_config import ResolvedConfig, resolve
from tests.reference.test_certificate import certificate_of

UNCERTIFIED = "bundles are not certified: nobody has measured what their p-values are worth"
ACCEPTED = "bundles are used although their certificates are red, as the configuration says"


def resolve_streams(*paths: Path, **keys: object) -> ResolvedConfig:
    streams = [{"name": f"s{n}", "bundle": str(path)} | keys for n, path in enumerate(paths)]
    return resolve(DaemonConfig.model_validate({"streams": streams}))


@pytest.fixture
def copy(bundle: Bundle, tmp_path: Path) -> Path:
    return shutil.copytree(bundle.path, tmp_path / "copy.dqmref")


def test_bundles_without_certificate_are_told_in_one_line_and_used(bundle: Bundle, copy: Path) -> None:
    with capture_logs() as logs:
        found = resolve_streams(*[bundle.path] * 4, copy, copy, copy)
    (line,) = [entry for entry in logs if entry["event"] == UNCERTIFIED]
    assert (line["n_streams"], line["streams"]) == (7, ["s0", "s1", "s2", "s3", "s4"])
    assert line["why"] == ["it has no certificate"]
    assert found.references["s0"][0].status.certificate is None
    assert found.bundle_facts["s0"][0].certificate is None
    assert found.bundle_facts["s0"][0].why_uncertified == "it has no certificate"


def test_a_certificate_is_shown_the_worst_line_first(bundle: Bundle, copy: Path) -> None:
    write_certificate(copy, certificate_of(bundle, Light.GREEN, Light.AMBER, Light.GREEN))
    with capture_logs() as logs:
        (facts,) = resolve_streams(copy).bundle_facts["s0"]
    assert not [entry for entry in logs if "certif" in entry["event"]]
    assert facts.certificate is not None
    assert facts.certificate.light == "amber"
    assert [line.light for line in facts.certificate.lines] == ["amber", "green", "green"]


def test_a_red_line_is_refused_unless_the_stream_accepts_it(bundle: Bundle, copy: Path) -> None:
    write_certificate(copy, certificate_of(bundle, Light.GREEN, Light.RED))
    with pytest.raises(BundleError, match=r"its certificate is red: uniformity: as it should be") as told:
        resolve_streams(bundle.path, copy)
    assert "accept_red_certificate = true in stream 's1'" in str(told.value)
    with capture_logs() as logs:
        found = resolve_streams(copy, copy, accept_red_certificate=True)
    (line,) = [entry for entry in logs if entry["event"] == ACCEPTED]
    assert line["streams"] == ["s0", "s1"]
    (facts,) = found.bundle_facts["s1"]
    assert facts.certificate is not None
    assert facts.certificate.lines[0].light == "red"
