"""Small inputs that claim gigabytes: refused by a process that has 128 MiB to spare."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]

EXPECTED = {
    "zstd that unpacks to 2 GiB": "payload-compressed",
    "lz4 that unpacks to 2 GiB": "payload-compressed",
    "2^31 events claimed": "event-count",
    "2^63 events claimed": "header-field",
    "4000 features claimed": "feature-count",
    "schema of 2 GiB claimed": "payload-arrow",
    "250 conditions": "header-field",
    "array of 32 GB claimed": "is float64 (2000000000, 2), not float64 (30, 2)",
    "array of 32 GB claimed by the manifest too": "is no .npy array: mmap length is greater than file size",
    "manifest of 16 MiB": "manifest.json has more than 16777216 bytes",
    "gzip of one line of 300 MiB": "features.csv.gz:1: a line of more than 65536 characters",
    "gzip of one row of 300 MiB": "features.csv.gz: a line of more than 65536 characters",
    "readings in one line of 300 MiB": "read",
    "configuration of 64 MiB": "daemon.toml: more than 4194304 bytes",
    "beam line of 64 MiB": "beam.txt:1: a line of more than 65536 characters",
    "beam line of a million hits": "beam.txt:1: not an event: 52 words in the line",
    "name of a chamber of 1 MB": "row 60000, column 'chamber': a name of more than 64 characters",
    "256 MiB of zeros in a small file": "read",
}
"""What becomes of each; what is read is read piece by piece."""


def test_nothing_takes_more_memory_than_it_may(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-m", "tests.fuzz.bombs", tmp_path],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert told.returncode == 0, told.stderr
    found = dict(line.split("\t", 1) for line in told.stdout.splitlines() if "\t" in line)
    assert list(found) == list(EXPECTED)
    for name, expected in EXPECTED.items():
        assert expected in found[name], name
