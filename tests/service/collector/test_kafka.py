"""``dqm collect`` from a Kafka topic: killed and started again, it loses no word and sends none twice."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from threading import Event, Thread

import numpy as np
import pytest
from structlog.testing import capture_logs

from dqm.config import load_collector
from dqm.errors import ConfigError, InputError
from dqm.events import Window
from dqm.service.collector.collect import CollectSummary, collect, make_cutter
from dqm.stream import RunLabel
from dqm_collectors import kafka
from dqm_collectors.chamber.geometry import Convention, WireMap
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.position import Position
from dqm_collectors.chamber.word_stream import WordStream
from dqm_collectors.chamber.words import Numbering, decode_words, words_of
from dqm_collectors.kafka import KafkaCollector
from dqm_collectors.simulate import SimulateCollector
from tests.collectors.mock_kafka import MockKafka
from tests.collectors.words import binary_of
from tests.stream.forgetful import receiving
from tests.waiting import wait_until

PROGRAM = Path(sys.executable).with_name("dqm")
WAIT_SECONDS = 60.0
TEXT = """
[collector]
name = "kafka"
run = 7
connect = "{address}"
[window]
{window}
[options]
brokers = "{brokers}"
topic = "words"
group = "dqm"
partition = 0
chambers = [0, 1]
batch_seconds = 0.25
start = 1700000000.0
[streams]
0 = "left"
"""
CHANNELS = "[channels]\nseconds = 0.75\nexpected_rate_hz = 500\n"
BY_COUNT, BY_TIME = "events = 40", "seconds = 0.4\nexpected_rate_hz = 80"


@cache
def words(seconds: float) -> bytes:
    """Words of two chambers; some are damaged, and in the middle the clock is reset."""
    options = SimulateCollector.Options(chambers=(0, 1), rate_hz=80.0, seconds=seconds, seed=3)
    raw = RawHits.concatenate(list(SimulateCollector(options).raw_hits()))
    n = len(raw.head)
    raw.orbit[n // 2 :] -= raw.orbit[n // 2]
    raw.orbit[np.random.default_rng(1).random(n) < 0.003] = 2**31 + 7
    return binary_of(raw)


def expected(config: Path, data: bytes) -> dict[tuple[str, int], Window]:
    """Windows of the words without any interruption; the last ones are not complete."""
    settings = load_collector(config, environ={})
    options = KafkaCollector.Options.model_validate(settings.options)
    cutter = make_cutter(settings, RunLabel(7))
    raw = decode_words(words_of(data), WireMap.of(Convention.Y2021), Numbering.ELECTRONICS)
    batches = WordStream(options, options.start or 0.0).feed(raw, "")
    windows = [window for batch in batches for window in cutter.push(batch)]
    return {(window.stream, window.seq): window for window in windows}


def configured(folder: Path, brokers: str, window: str = BY_COUNT, *, channels: bool = False) -> Path:
    path = folder / "collector.toml"
    text = TEXT.format(address=f"ipc://{folder}/w", brokers=brokers, window=window)
    if channels:
        text = text.replace("[options]\n", "[options]\nchannels = true\n") + CHANNELS
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("n_kills", "window", "channels"),
    [
        (2, BY_COUNT, False),
        pytest.param(2, BY_TIME, True, marks=pytest.mark.slow),
        pytest.param(20, BY_COUNT, False, marks=pytest.mark.long),
        pytest.param(20, BY_COUNT, True, marks=pytest.mark.long),
    ],
    ids=["by count", "by time, with channels", "20 kills", "20 kills, with channels"],
)
def test_nothing_is_lost_or_sent_twice_by_a_killed_collector(
    tmp_path: Path, n_kills: int, window: str, channels: bool
) -> None:
    chance = np.random.default_rng(n_kills)
    data = words(10.0 * n_kills)
    with MockKafka() as broker, receiving(f"ipc://{tmp_path}/w", chance) as received:
        config = configured(tmp_path, broker.address, window, channels=channels)
        wanted = expected(config, data)
        assert any(stream.endswith(".channels") for stream, _ in wanted) == channels
        broker.publish("words", data, 800, pause=0.005, path=tmp_path / "words")
        for kill in range(n_kills + 1):
            with (tmp_path / "log").open("ab") as log:
                process = subprocess.Popen([PROGRAM, "collect", config], stderr=log)
            try:
                n = len(received)
                if kill < n_kills:
                    wait_until(lambda n=n: len(received) > n + 2, "windows", WAIT_SECONDS)
                    time.sleep(chance.uniform(0.0, 1.5))  # the kill comes at any moment
                else:
                    wait_until(
                        lambda: {(w.stream, w.seq) for w in received} >= wanted.keys(),
                        lambda: (
                            f"windows {sorted(wanted.keys() - {(w.stream, w.seq) for w in received})}; "
                            f"{(tmp_path / 'log').read_text()[-1000:]}"
                        ),
                        WAIT_SECONDS,
                    )
            finally:
                process.kill()
                process.wait()
    digests: dict[tuple[str, int], set[str]] = {}
    for got in received:
        digests.setdefault((got.stream, got.seq), set()).add(got.digest)
        is_same = np.array_equal(got.x, wanted[got.stream, got.seq].x)
        assert is_same, f"window {got.seq} of {got.stream} has other events"
    assert digests.keys() == wanted.keys()
    assert all(len(found) == 1 for found in digests.values())
    assert all((w.start, w.end, w.live_seconds) == span(wanted[w.stream, w.seq]) for w in received)
    assert not any(w.n_lost for w in received)
    assert {w.run for w in received} == {7}
    print(  # noqa: T201
        f"{n_kills} kills: {len(data) // 8} words in, {len(wanted)} windows acknowledged, "
        f"{len(received)} arrivals, 0 lost, 0 twice with other events"
    )


def span(window: Window) -> tuple[float | None, float | None, float | None]:
    return window.start, window.end, window.live_seconds


@pytest.fixture(scope="module")
def broker() -> Iterator[MockKafka]:
    with MockKafka() as cluster:
        yield cluster


def source(broker: MockKafka, topic: str, **options: object) -> KafkaCollector:
    return KafkaCollector(
        KafkaCollector.Options(brokers=broker.address, topic=topic, group=f"of-{topic}", **options)
    )


def test_what_is_acknowledged_is_committed_and_the_run_goes_on(tmp_path: Path, broker: MockKafka) -> None:
    """A stop is not an end: windows that are not complete are not sent, and continue."""
    data = words(20.0)
    config = configured(tmp_path, broker.address)
    text = config.read_text().replace('"words"', '"calm"').replace('group = "dqm"', 'group = "calm"')
    config.write_text(text.replace("run = 7\n", ""))
    broker.publish("calm", data, 8000, path=tmp_path / "words")
    broker.wait()
    wanted = expected(config, data)
    received: dict[tuple[str, int], Window] = {}
    told: list[CollectSummary] = []
    for n_windows in (5, len(wanted)):
        stop = Event()
        with receiving(f"ipc://{tmp_path}/w", np.random.default_rng(1)) as windows:
            thread = Thread(target=lambda stop=stop: told.append(collect_until(config, stop)))
            thread.start()
            n_missing = n_windows - len(received)
            wait_until(lambda n=n_missing, got=windows: len({(w.stream, w.seq) for w in got}) >= n, "windows")
            stop.set()
            thread.join(WAIT_SECONDS)
            received |= {(w.stream, w.seq): w for w in windows}
    assert len({w.run for w in received.values()}) == 1, "the run number is that of the first start"
    assert received.keys() == wanted.keys()
    assert [told[0].n_lost, told[1].n_lost] == [0, 0]
    assert told[0].n_windows + told[1].n_windows == len(wanted), "none was sent again"


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        (
            {},
            {"channels": True},
            "channels is true, .* last commit with channels = false",
        ),
        (
            {"channels": True},
            {},
            "channels is false, .* last commit with channels = true",
        ),
        ({}, {"numbering": "text"}, 'numbering is "text", .* with numbering = "electronics"'),
        ({}, {"max_residual_mm": 0.5}, r"max_residual_mm is 0\.5, .* with max_residual_mm = 1\.0"),
        ({"chambers": (0, 1)}, {}, r"chambers is \[0, 1, 2, 3\]"),
    ],
)
def test_options_that_belong_to_a_run_may_not_change_in_a_group(
    before: dict[str, object], after: dict[str, object], message: str
) -> None:
    def made(options: dict[str, object]) -> KafkaCollector:
        plain = {"brokers": "127.0.0.1:1", "topic": "words", "group": "g"}
        return KafkaCollector(KafkaCollector.Options.model_validate(plain | options))

    raw = decode_words(words_of(words(20.0)), WireMap.of(Convention.Y2021), Numbering.ELECTRONICS)
    batch = next(iter(WordStream(made(before).options, 0.0).feed(raw, "", offset=0)))
    made(before).seek(batch.position)
    with pytest.raises(ConfigError, match=rf"{message}.*another group and another run"):
        made(after).seek(batch.position)


def test_a_collector_that_is_told_to_count_in_the_middle_of_a_run_does_not_start(
    tmp_path: Path, broker: MockKafka
) -> None:
    broker.publish("middle", words(20.0), 8000, path=tmp_path / "words")
    broker.wait()
    config = configured(tmp_path, broker.address)
    text = config.read_text().replace('"words"', '"middle"').replace('group = "dqm"', 'group = "middle"')
    config.write_text(text)
    stop = Event()
    with receiving(f"ipc://{tmp_path}/w", np.random.default_rng(1)) as received:
        thread = Thread(target=collect_until, args=(config, stop))
        thread.start()
        wait_until(lambda: len(received) > 3, "windows")
        stop.set()
        thread.join(WAIT_SECONDS)
    config.write_text(text.replace("[options]\n", "[options]\nchannels = true\n") + CHANNELS)
    with pytest.raises(ConfigError, match="channels is true, but group 'middle' made its last commit with"):
        collect_until(config, stop)


def collect_until(config: Path, stop: Event) -> CollectSummary:
    return collect(load_collector(config, environ={}), config.parent, stop, clock=time.time)


def test_a_topic_or_partition_that_does_not_exist_is_named(tmp_path: Path, broker: MockKafka) -> None:
    broker.publish("here", words(20.0)[:800], 8, path=tmp_path / "words")
    broker.wait()
    for options, message in (
        ({"topic": "none"}, "there is no topic 'none'. The broker has: .*here"),
        ({"topic": "here"}, r"the topic has 4 partitions, .*Give each a collector of its own: partition = 0"),
        ({"topic": "here", "partition": 9}, "the topic has no partition 9. It has 0, 1, 2, 3"),
    ):
        wrong = source(broker, **options)
        with pytest.raises(InputError, match=message):
            wrong.open(lambda: True)
        wrong.close()


def test_a_broker_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kafka, "ANSWER_SECONDS", 0.3)
    options = KafkaCollector.Options(brokers="127.0.0.1:1", topic="words", group="g")
    wrong = KafkaCollector(options)
    with pytest.raises(InputError, match=r"words of 127\.0\.0\.1:1: the broker does not list its topics"):
        wrong.open(lambda: True)
    wrong.close()


def test_a_client_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "confluent_kafka", None)
    options = KafkaCollector.Options(brokers="127.0.0.1:1", topic="words", group="g")
    with pytest.raises(
        ConfigError, match=r"confluent-kafka is not installed\. Install dqm with its extra 'kafka'"
    ):
        KafkaCollector(options).open(lambda: True)


@pytest.mark.parametrize(
    ("client", "message"),
    [
        ({"no.such.key": 1}, "librdkafka refuses a setting: No such"),
        ({"group.id": "x"}, "sets group.id itself"),
    ],
)
def test_a_wrong_setting_of_the_client_is_named(client: dict[str, object], message: str) -> None:
    options = KafkaCollector.Options(brokers="127.0.0.1:1", topic="words", group="g", client=client)
    with pytest.raises(ConfigError, match=message):
        KafkaCollector(options).open(lambda: True)


def test_messages_that_are_no_whole_words_are_counted(tmp_path: Path, broker: MockKafka) -> None:
    data = words(20.0)
    for piece, size in ((data[:8000], 800), (data[:70], 7), (data[8000:16000], 8)):
        broker.publish("pieces", piece, size, path=tmp_path / "words")
        broker.wait()
    collector = source(broker, "pieces", partition=0)
    collector.open(lambda: collector.counts().get("words", 0) >= 2000)
    with capture_logs() as logs:
        list(collector)
    counts = collector.counts()
    collector.close()
    assert (counts["messages"], counts["refused_messages"], counts["words"]) == (1020, 10, 2000)
    assert counts["messages_behind"] == 0
    assert [entry["bytes"] for entry in logs] == [7]


def test_words_that_were_deleted_before_they_were_read_end_the_collector(
    tmp_path: Path, broker: MockKafka
) -> None:
    """The mock cluster keeps 5 MB of a partition."""
    broker.publish("full", b"\0" * 6_000_000, 8000, path=tmp_path / "words")
    broker.wait()
    collector = source(broker, "full", partition=0)
    collector.open(lambda: False)
    collector.seek(Position(0, None, 0, 0.0, 0, 0, 0).write())
    with pytest.raises(
        InputError, match=r"topic full of .*: the topic does not have offset 0 any more: words were deleted"
    ) as told:
        list(collector)
    collector.close()
    assert "another group and another run" in told.value.fix


def test_a_broker_that_goes_away_comes_back(tmp_path: Path) -> None:
    data = words(20.0)
    half = len(data) // 16 * 8
    with MockKafka() as broker:
        broker.publish("words", data[:half], 800, path=tmp_path / "words")
        broker.wait()
        client = {"socket.timeout.ms": 1000, "reconnect.backoff.max.ms": 200}
        collector = source(broker, "words", partition=0, client=client)
        found: list[int] = []
        collector.open(lambda: collector.counts().get("words", 0) * 8 >= len(data))
        thread = Thread(target=lambda: found.extend(len(batch.x) for batch in collector))
        with capture_logs() as logs:
            thread.start()
            wait_until(lambda: collector.counts().get("words", 0) * 8 == half, "the first half")
            broker.halt()
            wait_until(lambda: collector.counts().get("broker_failures", 0) > 0, "the broker is missed")
            broker.go_on()
            broker.publish("words", data[half:], 800, path=tmp_path / "words")
            thread.join(WAIT_SECONDS)
        collector.close()
    events = [entry["event"] for entry in logs]
    assert events[0] == "the broker does not answer; trying again"
    assert events[-1] == "the broker is back"
    assert collector.counts()["words"] * 8 == len(data)
    assert sum(found) > 100
