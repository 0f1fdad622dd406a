"""Raw words as they come: binary or text, damaged, repeated, with a clock that starts again."""

from __future__ import annotations

import gzip
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dqm.errors import FileError, NoEventsError
from dqm.events import EventBatch
from dqm_collectors.chamber.geometry import COUNTS_PER_ORBIT, Convention, WireMap
from dqm_collectors.chamber.hits import COLUMNS, RawHits, write_tdc
from dqm_collectors.chamber.word_check import HELD, WordCheck
from dqm_collectors.tdc import TdcCollector
from tests.collectors.words import binary_of, simulated_hits

NAMES = tuple(field.name for field in fields(RawHits))
RAW = simulated_hits()
WORDS = len(RAW.head)
HALF = WORDS // 2
Y2021 = WireMap.of(Convention.Y2021)


def collector(path: Path, **options: object) -> TdcCollector:
    return TdcCollector(TdcCollector.Options(inputs=(path,), **options))


def bits(batches: list[EventBatch]) -> list[tuple[object, ...]]:
    return [(b.chamber, b.start, b.end, b.x.tobytes(), b.times.tobytes()) for b in batches]


def changed(column: str, where: object, value: int, raw: RawHits = RAW) -> RawHits:
    values = getattr(raw, column).copy()
    values[where] = value
    return replace(raw, **{column: values})


def inserted(raw: RawHits, places: np.ndarray, value: int) -> RawHits:
    return RawHits(*(np.insert(getattr(raw, name), places, value) for name in NAMES))


def written(path: Path, raw: RawHits) -> Path:
    write_tdc(raw, path)
    return path


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> list[EventBatch]:
    return list(collector(written(tmp_path_factory.mktemp("run") / "run.csv", RAW)))


@pytest.mark.parametrize("ending", [".dat", ".dat.gz"])
@pytest.mark.parametrize("convention", Convention)
@pytest.mark.parametrize("like_text", [False, True])
def test_binary_words_give_the_segments_of_text_to_the_last_bit(
    tmp_path: Path, convention: Convention, ending: str, like_text: bool
) -> None:
    raw = simulated_hits(convention)
    path = tmp_path / f"run{ending}"
    data = binary_of(raw, WireMap.of(convention).first_channel, like_text=like_text)
    path.write_bytes(gzip.compress(data) if ending.endswith("gz") else data)
    text = collector(written(tmp_path / "run.csv", raw), convention=convention)
    binary = collector(path, convention=convention)
    assert bits(list(binary)) == bits(list(text))
    assert binary.counts() == text.counts() == {"words": len(raw.head), "hits": len(raw.head)}


def test_binary_words_come_through_a_pipe_in_pieces(tmp_path: Path, expected: list[EventBatch]) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    data = binary_of(RAW)

    def write() -> None:
        with pipe.open("wb", buffering=0) as file:
            for begin in range(0, len(data), 1001):  # words are cut
                file.write(data[begin : begin + 1001])

    writer = threading.Thread(target=write)
    writer.start()
    assert bits(list(collector(pipe))) == bits(expected)
    writer.join()


TEXTS: dict[str, Callable[[str], str]] = {
    "blanks": lambda text: text.replace(",", ", ").replace("\n", " \n"),
    "tabs": lambda text: text.replace(",", "\t"),
    "columns of blanks": lambda text: "  " + text.replace(",", "   ").replace("\n", "\n  "),
    "lower case": str.lower,
    "mark and CRLF": lambda text: "\ufeff" + text.replace("\n", "\r\n"),
    "comments": lambda text: "# 2 µs, a run\n\n" + text.replace("\n", " # no\n", 3) + "# the end\n",
}


@pytest.mark.parametrize("kind", TEXTS)
def test_text_may_look_otherwise(tmp_path: Path, kind: str, expected: list[EventBatch]) -> None:
    path = written(tmp_path / "run.csv", RAW)
    path.write_text(TEXTS[kind](path.read_text()), newline="")
    assert bits(list(collector(path))) == bits(expected)


def shuffled() -> RawHits:
    """Words out of order by up to 500 ns, as the electronics write them."""
    late = np.random.default_rng(3).uniform(0, 600, WORDS)
    return RAW.take(np.argsort(RAW.counts + late, kind="stable"))


SINGLE = [changed("orbit", HALF, value) for value in (2**32 - 1, 0, int(RAW.orbit[HALF]) + 200)]
SOME = np.random.default_rng(1).random(WORDS) < 0.01
DAMAGED = {
    "orbit, far ahead": (SINGLE[0], {"left_out_clock": 1}),
    "orbit, zero": (SINGLE[1], {"left_out_clock": 1}),
    "orbit, a little ahead": (SINGLE[2], {"left_out_clock": 1}),
    "orbit of the first word": (changed("orbit", 0, 2**32 - 1), {"left_out_clock": 1}),
    "orbit of the last word": (changed("orbit", WORDS - 1, 77), {"left_out_clock": 1}),
    "orbit of three words": (changed("orbit", slice(HALF, HALF + 3), 5), {"left_out_clock": 3}),
    "orbit beyond 32 bits": (changed("orbit", HALF, 2**40), {"left_out_orbit": 1}),
    "TDC -1": (changed("tdc", SOME, -1), {"left_out_tdc": int(SOME.sum())}),
    "TDC 30": (changed("tdc", SOME, 30), {"left_out_tdc": int(SOME.sum())}),
    "BX": (changed("bx", SOME, 3564), {"left_out_bx": int(SOME.sum())}),
    "FPGA": (changed("fpga", HALF, 7), {"left_out_fpga": 1}),
    "channel": (changed("channel", HALF, 300), {"left_out_channel": 1}),
    "scintillator": (changed("channel", HALF, 128), {"left_out_other_channel": 1}),
    "other HEAD": (changed("head", SOME, 3), {"left_out_other_kind": int(SOME.sum())}),
    "zeros": (inserted(RAW, np.arange(0, WORDS, 100), 0), {"left_out_other_kind": len(range(0, WORDS, 100))}),
    "twice": (RAW.take(np.repeat(np.arange(WORDS), 2)), {"left_out_repeated": WORDS}),
    "twice, two by two": (
        RAW.take(np.arange(WORDS // 2 * 2).reshape(-1, 2).repeat(2, axis=0).ravel()),
        {"left_out_repeated": WORDS // 2 * 2},
    ),
    "out of order": (shuffled(), {}),
}


@pytest.mark.parametrize("kind", DAMAGED)
@pytest.mark.parametrize("n_parts", [1, 1000])
def test_what_cannot_be_a_hit_is_left_out_and_counted(kind: str, n_parts: int) -> None:
    raw, left_out = DAMAGED[kind]
    check = WordCheck(Y2021)
    found = [hits for part in parts_of(raw, n_parts) for hits in check.feed(part)]
    found += check.finish()
    n = len(raw.head)
    assert check.counts.as_dict() == {"words": n, "hits": n - sum(left_out.values()), **left_out}
    assert not any(hits.is_new_clock for hits in found)
    counts = np.concatenate([hits.counts for hits in found])
    assert np.isin(counts % (2**32 * COUNTS_PER_ORBIT), RAW.counts).all()
    assert len(counts) == n - sum(left_out.values())


def parts_of(raw: RawHits, n_parts: int) -> list[RawHits]:
    return [raw.take(part) for part in np.array_split(np.arange(len(raw.head)), n_parts)]


@pytest.mark.parametrize("n_parts", [1, 300])
def test_the_orbit_counter_may_start_again(n_parts: int) -> None:
    shift = 2**32 - int(RAW.orbit[HALF])
    check = WordCheck(Y2021)
    wrapped = replace(RAW, orbit=(RAW.orbit + shift) % 2**32)
    found = [hits for part in parts_of(wrapped, n_parts) for hits in check.feed(part)] + list(check.finish())
    counts = np.concatenate([hits.counts for hits in found])
    np.testing.assert_array_equal(counts, RAW.counts + shift * COUNTS_PER_ORBIT)


def test_a_stream_goes_on_near_a_known_time() -> None:
    shift = 3 * 2**32
    check = WordCheck(Y2021, near=int(RAW.counts[0]) + shift * COUNTS_PER_ORBIT + 9999)
    counts = np.concatenate([hits.counts for hits in [*check.feed(RAW), *check.finish()]])
    np.testing.assert_array_equal(counts, RAW.counts + shift * COUNTS_PER_ORBIT)


@pytest.mark.parametrize("n_parts", [1, 300])
@pytest.mark.parametrize("begin", [0, 2**31])
def test_a_reset_begins_a_new_clock(n_parts: int, begin: int) -> None:
    orbit = RAW.orbit - np.where(np.arange(WORDS) < HALF, 0, RAW.orbit[HALF] - begin)
    check = WordCheck(Y2021)
    parts = parts_of(replace(RAW, orbit=orbit), n_parts)
    found = [hits for part in parts for hits in check.feed(part)] + list(check.finish())
    assert check.counts.as_dict() == {"words": WORDS, "hits": WORDS, "clock_resets": 1}
    (number,) = [number for number, hits in enumerate(found) if hits.is_new_clock]
    assert sum(len(hits.counts) for hits in found[:number]) == HALF


def test_a_reset_is_a_gap_between_batches(tmp_path: Path, expected: list[EventBatch]) -> None:
    raw = replace(RAW, orbit=RAW.orbit - np.where(np.arange(WORDS) < HALF, 0, RAW.orbit[HALF]))
    reset = collector(written(tmp_path / "run.csv", raw), chambers=(0,))
    batches = list(reset)
    gaps = [(a.end, b.start) for a, b in pairwise(batches) if a.end != b.start]
    assert len(gaps) == 1
    assert gaps[0][0] < gaps[0][1] == np.ceil(gaps[0][0])
    assert reset.counts()["clock_resets"] == 1
    assert batches[-1].conditions["clock_resets"] == 1
    n_expected = sum(len(b.x) for b in expected)
    assert n_expected - 2 <= sum(len(b.x) for b in batches) <= n_expected


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_damaged_orbits_never_lose_more_than_they_are(data: st.DataObject) -> None:
    """Up to ten words with any orbit, far from each other: at most these are lost, and no clock is reset."""
    places = data.draw(st.lists(st.integers(0, 40), min_size=1, max_size=10, unique=True))
    where = 5 + np.array(places) * 20
    orbits = data.draw(st.lists(st.integers(0, 2**32 - 1), min_size=len(where), max_size=len(where)))
    raw = RAW.take(np.arange(900))
    damaged = raw.orbit.copy()
    damaged[where] = orbits
    check = WordCheck(Y2021)
    parts = parts_of(replace(raw, orbit=damaged), data.draw(st.sampled_from([1, 40, 900])))
    found = [hits for part in parts for hits in check.feed(part)] + list(check.finish())
    counts = np.concatenate([hits.counts for hits in found])
    assert check.counts.clock_resets == 0
    assert np.isin(np.delete(raw.counts, where), counts).sum() >= 900 - 2 * len(where)
    assert check.counts.hits + check.counts.damaged == 900


def test_random_words_give_no_hits_and_no_resets() -> None:
    rng = np.random.default_rng(4)
    raw = RAW.take(np.arange(2000))
    check = WordCheck(Y2021)
    found = [*check.feed(replace(raw, orbit=rng.integers(0, 2**32, 2000))), *check.finish()]
    assert check.counts.clock_resets < 3
    assert sum(len(hits.counts) for hits in found) < 3 * HELD + 200


@pytest.mark.parametrize(
    ("convention", "other"), [(Convention.Y2021, Convention.Y2018), (Convention.Y2018, Convention.Y2021)]
)
def test_another_convention_is_named(tmp_path: Path, convention: Convention, other: Convention) -> None:
    path = tmp_path / "run.dat"
    path.write_bytes(binary_of(simulated_hits(other), WireMap.of(other).first_channel))
    with pytest.raises(
        NoEventsError, match=rf'run\.dat: none of .* words .*convention = "{other}" would fit'
    ):
        list(collector(path, convention=convention))


def test_words_without_any_hit_are_told_while_a_source_goes_on(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    raw = simulated_hits(seconds=20.0)
    assert len(raw.head) > 10_000
    done = threading.Event()

    def write() -> None:
        with pipe.open("wb") as file, suppress(BrokenPipeError):
            file.write(binary_of(raw))
            file.flush()
            done.wait(60)  # the source has not ended

    writer = threading.Thread(target=write)
    writer.start()
    with pytest.raises(NoEventsError, match='convention = "2021" would fit'):
        list(collector(pipe, convention="2018"))
    done.set()
    writer.join()


@pytest.mark.parametrize(
    ("data", "options", "message"),
    [
        (
            binary_of(RAW)[:-3],
            {},
            r"byte \d+: \d+ bytes are not a whole number of words of 8 bytes: 5 are left",
        ),
        (gzip.compress(binary_of(RAW)[:-3]), {}, "not a whole number of words"),
        (b"HEAD,FPGA\n", {"format": "binary"}, "is text, not binary words: it begins with 'HEAD,FPGA"),
        (binary_of(RAW), {"format": "text"}, "the file is not text"),
        (b"", {}, "the file is empty"),
    ],
)
def test_a_file_that_is_no_file_of_words_is_refused(
    tmp_path: Path, data: bytes, options: dict[str, str], message: str
) -> None:
    path = tmp_path / ("run.dat.gz" if data[:2] == b"\x1f\x8b" else "run.dat")
    path.write_bytes(data)
    with pytest.raises(FileError, match=rf"run\.dat.*{message}"):
        list(collector(path, **options))


def test_windows_are_told_what_was_left_out(tmp_path: Path) -> None:
    path = written(tmp_path / "run.csv", changed("tdc", SOME, 31))
    batches = list(collector(path))
    assert batches[0].conditions["left_out_share"] == pytest.approx(SOME.mean(), rel=0.01)
    assert batches[0].conditions["left_out_tdc"] == SOME.sum()
    assert batches[0].conditions["other_words_share"] == 0.0
    assert set(COLUMNS).isdisjoint(batches[0].conditions)
