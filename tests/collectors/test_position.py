"""A stream of words that is read again from a position yields the same batches from there, bit by bit."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from itertools import pairwise

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import EventBatch
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.occupancy import ChannelCounter
from dqm_collectors.chamber.position import Position
from dqm_collectors.chamber.word_stream import WordOptions, WordStream
from tests.collectors.words import simulated_hits

OPTIONS = WordOptions(chambers=(0, 1), batch_seconds=0.3)
WITH_CHANNELS = OPTIONS.model_copy(update={"channels": True})
START = 1.7e9 + 0.1


@cache
def words(kind: str) -> RawHits:
    raw = simulated_hits(seconds=3.0, rate_hz=300.0, seed=9)
    n = len(raw.head)
    chance = np.random.default_rng(5)
    match kind:
        case "reset":
            first, second = n // 3, n // 2
            back = np.where(np.arange(n) < first, 0, raw.orbit[first])
            back = np.where(np.arange(n) < second, back, raw.orbit[second] - 7)
            return replace(raw, orbit=raw.orbit - back)
        case "turn":
            return replace(raw, orbit=(raw.orbit + 2**32 - raw.orbit[n // 2]) % 2**32)
        case "damaged":
            orbit = np.where(chance.random(n) < 0.02, chance.integers(0, 2**32, n), raw.orbit)
            raw = replace(raw, orbit=orbit, head=np.where(chance.random(n) < 0.05, 0, raw.head))
            return raw.take(np.repeat(np.arange(n), 1 + (chance.random(n) < 0.1)))
        case "disordered":
            return raw.take(np.argsort(raw.counts + chance.uniform(0, 600, n), kind="stable"))
    return raw


def batches_of(
    raw: RawHits, cuts: np.ndarray, position: Position | None = None, options: WordOptions = OPTIONS
) -> list[EventBatch]:
    """Read blocks; the offset of a block is its first word."""
    stream = WordStream(options, START, position)
    begin = position.offset if position else 0
    edges = [begin, *cuts[cuts > begin], len(raw.head)]
    return [
        batch
        for first, last in pairwise(edges)
        for batch in stream.feed(raw.take(slice(first, last)), "here", offset=int(first))
    ]


def bits(batch: EventBatch) -> tuple[object, ...]:
    return batch.chamber, batch.start, batch.end, batch.x.tobytes(), batch.times.tobytes()


@pytest.mark.parametrize("kind", ["healthy", "reset", "turn", "damaged", "disordered"])
@pytest.mark.parametrize("n_cuts", [7, 120])
def test_batches_are_the_same_after_a_restart(kind: str, n_cuts: int) -> None:
    raw = words(kind)
    n = len(raw.head)
    chance = np.random.default_rng(n_cuts)
    cuts = np.unique(chance.integers(1, n, n_cuts))
    whole = batches_of(raw, cuts)
    assert sum(len(batch.x) for batch in whole) > 250
    for k in chance.choice(len(whole), 4, replace=False):
        position = Position.read(whole[k].position)
        other_cuts = np.unique(chance.integers(1, n, n_cuts))
        again = [b for b in batches_of(raw, other_cuts, position) if b.start >= whole[k].start]
        wanted = [b for b in whole if b.start >= whole[k].start]
        n_both = min(len(again), len(wanted))
        assert n_both >= len(wanted) - 4, "the last batches depend on where the last block ends"
        assert [bits(b) for b in again[:n_both]] == [bits(b) for b in wanted[:n_both]]


def test_a_position_is_near_its_batch() -> None:
    raw = words("healthy")
    n = len(raw.head)
    cuts = np.arange(20, n, 20)
    for batch in batches_of(raw, cuts):
        offset = Position.read(batch.position).offset
        counts = raw.counts[offset] - raw.counts[0]
        assert -0.2 < counts * 25 / 30 * 1e-9 - (batch.start - START) < 1e-6


@pytest.mark.parametrize("kind", ["healthy", "reset", "damaged", "disordered"])
@pytest.mark.parametrize("n_cuts", [7, pytest.param(120, marks=pytest.mark.slow)])
def test_segments_and_hits_by_channel_are_the_same_after_a_restart(kind: str, n_cuts: int) -> None:
    """Both go on from the position of either, though they are not equally far."""
    raw = words(kind)
    n = len(raw.head)
    chance = np.random.default_rng(n_cuts)
    cuts = np.unique(chance.integers(1, n, n_cuts))
    whole = batches_of(raw, cuts, options=WITH_CHANNELS)
    assert sum(b.x[:, 1].sum() for b in whole if b.counts) > 1000
    for k in chance.choice(len(whole), 8, replace=False):
        position = Position.read(whole[k].position)
        other_cuts = np.unique(chance.integers(1, n, n_cuts))
        again = batches_of(raw, other_cuts, position, WITH_CHANNELS)
        for counts in ("", "hits"):
            first = whole[k].start
            mine = [bits(b) for b in again if b.start >= first and b.counts == counts]
            wanted = [bits(b) for b in whole if b.start >= first and b.counts == counts]
            n_both = min(len(mine), len(wanted))
            assert n_both >= len(wanted) - 4, "the last batches depend on where the last block ends"
            assert mine[:n_both] == wanted[:n_both]


@pytest.mark.parametrize("kind", ["healthy", "reset"])
def test_every_batch_that_comes_after_a_position_is_read_again(kind: str) -> None:
    """Hits by channel come after the segments of the same words, some of them for earlier times."""
    raw = words(kind)
    cuts = np.array([len(raw.head) // 5])  # many stretches of time in one block
    whole = batches_of(raw, cuts, options=WITH_CHANNELS)
    assert any(after.start < before.start for before, after in pairwise(whole))
    for k in range(len(whole)):
        again = batches_of(raw, cuts, Position.read(whole[k].position), WITH_CHANNELS)
        assert {bits(b) for b in whole[k:]} <= {bits(b) for b in again}


def test_a_hit_that_is_very_late_counts_in_the_same_stretch_however_the_words_are_cut() -> None:
    """Each step back is allowed, their sum is not."""
    counts = np.array([0, 100, 300_000_000, 299_998_000, 299_996_000, 299_994_000, 600_000_000])
    zero = np.zeros_like(counts)

    def count(*cuts: int) -> list[float]:
        made = ChannelCounter(chambers=(0,), start=0.0, batch_seconds=0.249_996)
        parts = np.split(counts, cuts)
        found = [b for part in parts for b in made.add(part, zero[: len(part)])]
        return [b.x[0, 1] for b in [*found, *made.finish()]]

    assert count() == [2.0, 4.0, 1.0]
    assert all(count(*cuts) == count() for cuts in ((3,), (4,), (5,), (3, 4, 5), (6,), range(1, 7)))


@pytest.mark.parametrize("text", ["", "[]", "{}", "[1,2]", "no"])
def test_another_text_is_no_position(text: str) -> None:
    with pytest.raises(InputError, match="is not a position in a stream of words"):
        Position.read(text)
