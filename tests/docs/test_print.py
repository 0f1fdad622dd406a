"""The manual for shift prints on two pages."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from .walk import ROOT

ONE_PAGE = (
    "include_patterns=docs/shift.md",
    "root_doc=docs/shift",
    "suppress_warnings=myst.xref_missing,ref",
)


@pytest.mark.long
def test_the_manual_for_shift_prints_on_two_pages(
    require_program: Callable[[str], Path], tmp_path: Path
) -> None:
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    chromium = require_program("chromium")
    settings = [part for setting in ONE_PAGE for part in ("-D", setting)]
    site, pdf = tmp_path / "site", tmp_path / "shift.pdf"
    build = [sys.executable, "-m", "sphinx", "-q", "-c", ROOT / "docs", *settings, ROOT, site]
    subprocess.run(build, check=True, timeout=120, cwd=tmp_path)
    options = (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-pdf-header-footer",
        f"--print-to-pdf={pdf}",
    )
    page = (site / "docs" / "shift.html").as_uri()
    subprocess.run([chromium, *options, page], check=True, timeout=120, capture_output=True)
    assert len(re.findall(rb"/Type */Page\b", pdf.read_bytes())) == 2
