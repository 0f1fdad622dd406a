import gzip
from collections import Counter
from pathlib import Path

import pytest

from dqm.errors import FileError
from dqm_collectors.beam import BeamCollector

# one straight track through layers 1 to 4 of chamber 2: x = 26, 26, 26, 26 mm
TRACK = "2 1 16 26 92.86 2 2 26 58 297.14 2 3 16 26 92.86 2 4 26 58 297.14"


def read(*paths: Path, **options):
    return list(BeamCollector(BeamCollector.Options(inputs=paths, **options)))


def test_a_vertical_track(tmp_path: Path) -> None:
    path = tmp_path / "run.txt.gz"
    path.write_bytes(gzip.compress(f"1 0\n2 5 {TRACK} 0 1 16 26 92.86\n".encode()))
    (batch,) = read(path)
    assert batch.chamber == "2"
    assert batch.times is None
    assert batch.start is None
    assert batch.names == ("t_1", "t_2", "t_3", "t_4", "theta", "n_hits")
    assert batch.x[0] == pytest.approx([92.86, 297.14, 92.86, 297.14, 0, 4], abs=0.1)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 1 0 1 20 22", "not an event: 6 words in the line"),
        ("2 1 0 1 20 22 x", "not a number"),
        ("2", "not an event: 1 word in the line"),
        ("2 1 4 1 20 22 30", "a chamber is not 0 to 3"),
        ("2 1 0 1 20 22 nan", "not finite"),
    ],
)
def test_a_malformed_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "run.txt"
    path.write_text(f"1 0\n{line}\n")
    with pytest.raises(FileError, match=rf"run\.txt:2: .*{message}.*Expected: event n_hits"):
        read(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileError, match=r"none\.txt"):
        read(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("run", "most"),
    [(260, {"2": 2305, "3": 2156}), (261, {"2": 1384, "3": 1250}), (262, {"1": 1833, "0": 1120})],
)
def test_recorded_runs(real_data: Path, run: int, most: dict[str, int]) -> None:
    found: Counter[str] = Counter()
    for batch in read(real_data / "lemma" / f"data_{run}.txt.gz"):
        found[batch.chamber] += len(batch.x)
    assert dict(found.most_common(2)) == most
