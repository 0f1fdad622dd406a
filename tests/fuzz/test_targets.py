"""Every reader of bytes from outside, with damaged seeds and with what is known to hurt such readers."""

from __future__ import annotations

import gc
import gzip
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dqm.errors import DqmError

from .targets import TARGETS

WORDS = (
    b"", b"\0", b"\xff" * 8, b"nan", b"-inf", b"1e999", b"18446744073709551616", b"-9223372036854775809",
    b"[" * 5000, b"{" * 5000, b"\nx = " + b"[" * 5000, b"\nx = " + b"{x = " * 5000, b"x" * 200_000, b'"',
    b",", b"\n" * 3, b"\r", b"../" * 20, b"${HOME}", b"\xed\xa0\x80", b"\x7f" * 4,
    (2**31).to_bytes(8, "little"), (2**63).to_bytes(8, "little"),
)  # fmt: skip


FOUND = {
    "features-gz": [gzip.compress(b"a,b\n1,2\n", mtime=0)[:12] + b"\xff" * 40],
    "features-root": [
        TARGETS["features-root"].seeds[0][:300] + b"\xff" * 40 + TARGETS["features-root"].seeds[0][340:]
    ],
    "array": [
        TARGETS["array"].seeds[0].replace(b"(30, 2)", b"(30, 2("),
        TARGETS["array"].seeds[0].replace(b"(30, 2)", b"(3\x00, 2)"),
    ],
    "manifest": [b"[" * 100_000],
    "beam": [b"050  .2 15\n "],
    "secret": [TARGETS["secret"].seeds[0].replace(b"JTKVSB%%)w", b"JKVB%%TS)w")],
    "readings-csv": [b"time,name,value\r\rx\n", b"time,name,value\n\r\r5\n"],
    "daemon": [b"x = " + b"[" * 5000],
}
"""What readers once failed on with an error of somebody else."""


@st.composite
def damaged(draw: st.DrawFn, seeds: tuple[bytes, ...]) -> bytes:
    """Cut, flip, repeat and replace pieces of a seed."""
    data = bytearray(draw(st.sampled_from(seeds)))
    for _ in range(draw(st.integers(1, 5))):
        place = draw(st.integers(0, len(data)))
        length = draw(st.sampled_from((0, 1, 2, 4, 8, 40)))
        match draw(st.sampled_from(("cut", "flip", "repeat", "word", "bytes"))):
            case "cut":
                del data[place:]
            case "flip" if place < len(data):
                data[place] ^= 1 << draw(st.integers(0, 7))
            case "repeat":
                data[place:place] = data[place : place + length] * draw(st.integers(1, 50))
            case "word":
                data[place : place + length] = draw(st.sampled_from(WORDS))
            case "bytes":
                data[place : place + length] = draw(st.binary(max_size=16))
    return bytes(data)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory within another, in which nothing else may appear."""
    outer = tmp_path_factory.mktemp("outer")
    inner = outer / "inner"
    inner.mkdir()
    yield inner
    assert [path.name for path in outer.iterdir()] == ["inner"]


@pytest.fixture(scope="module")
def quiet_memory() -> Iterator[None]:
    """No garbage collection: at the bottom of the stack, finalisers of what other tests left would fail."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("name", list(TARGETS))
def test_the_seeds_are_accepted(name: str, folder: Path) -> None:
    for seed in TARGETS[name].seeds:
        TARGETS[name].read(seed, folder)


@pytest.mark.usefixtures("quiet_memory")
@pytest.mark.parametrize("name", list(FOUND))
def test_what_was_found_once_is_refused_in_our_own_words(name: str, folder: Path) -> None:
    for data in FOUND[name]:
        with suppress(DqmError):
            TARGETS[name].read(data, folder)


@pytest.mark.parametrize("name", list(TARGETS))
def test_damaged_input_is_read_or_refused_in_our_own_words(name: str, folder: Path) -> None:
    target = TARGETS[name]

    @settings(max_examples=40, database=None, suppress_health_check=list(HealthCheck))
    @given(damaged(target.seeds))
    def check(data: bytes) -> None:
        with suppress(DqmError):
            target.read(data, folder)

    check()


@pytest.mark.usefixtures("quiet_memory")
@pytest.mark.parametrize("name", list(TARGETS))
def test_what_hurts_readers_is_read_or_refused_in_our_own_words(name: str, folder: Path) -> None:
    for word in WORDS:
        for data in (word, word * 20, TARGETS[name].seeds[0] + word):
            with suppress(DqmError):
                TARGETS[name].read(data, folder)
