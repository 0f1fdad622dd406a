"""Raw words of a topic in a second: as much as is there at once, and words that come all the time.

``python -m tests.studies.kafka_speed`` publishes simulated words to the mock cluster of librdkafka, a process
of its own. First a collector reads 600 000 words that are there already; the mock cluster keeps no more than
5 MB. Then ``dqm collect`` reads words as they are published; its windows are acknowledged here, and say how
many messages it was behind.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from dqm.events import Window
from dqm.stream import Receiver
from dqm_collectors.chamber.hits import RawHits
from dqm_collectors.chamber.words import WORD_BYTES
from dqm_collectors.kafka import WAIT_SECONDS, KafkaCollector
from dqm_collectors.simulate import SimulateCollector
from tests.collectors.mock_kafka import MockKafka
from tests.studies.channel_faults import tell

PROGRAM = Path(sys.executable).with_name("dqm")
N_AT_ONCE = 600_000
MOST_MESSAGES = 90_000
"""The mock cluster keeps 100 000 messages of a partition."""

TRIES = 5
"""Of each row."""

SUSTAINED_WORDS = 8_000_000
MESSAGE_WORDS, PAUSE_SECONDS = 4000, 0.0024
IDLE_SECONDS = 5.0
CONFIG = """
[collector]
name = "kafka"
run = 1
connect = "{address}"
[window]
events = 500
[channels]
seconds = 30.0
expected_rate_hz = 900.0
[options]
brokers = "{brokers}"
topic = "steady"
group = "steady"
partition = 0
channels = true
[options.client]
"fetch.wait.max.ms" = 50  # the mock cluster answers no sooner to who has read all; a broker does
"""


def binary_words(n: int) -> bytes:
    """Words of four healthy chambers as the electronics write them; a minute of them again and again."""
    source = SimulateCollector(SimulateCollector.Options(chambers=(0, 1, 2, 3), seconds=60.0, seed=3))
    raw = RawHits.concatenate(list(source.raw_hits()))
    period = int(raw.orbit[-1] - raw.orbit[0]) + 100
    fields = (raw.head << 62, raw.fpga << 58, raw.channel << 49, raw.bx << 5, raw.tdc + 1)
    fixed = np.bitwise_or.reduce([field.astype(np.uint64) for field in fields])
    parts = [
        fixed | ((raw.orbit + k * period) % 2**32).astype(np.uint64) << np.uint64(17)
        for k in range(n // len(fixed) + 1)
    ]
    return np.concatenate(parts)[:n].astype("<u8").tobytes()


def show_at_once(folder: Path) -> None:
    """Print the words in a second that a collector reads of those that are there."""
    tell("words in a message", "hits by channel", "million words/s of time", "of processor time")
    tell(*["---"] * 4)
    for size, channels in ((1000, False), (1000, True), (100, False), (1, False)):
        n = min(N_AT_ONCE, size * MOST_MESSAGES)
        with MockKafka() as broker:
            broker.publish("words", binary_words(n), size * WORD_BYTES, path=folder / "words")
            broker.wait()
            rates = np.array([read_all(broker.address, n, channels, f"g{k}") for k in range(TRIES)])
        wall, cpu = (f"{np.median(r):.2f} ({r.min():.2f} to {r.max():.2f})" for r in rates.T / 1e6)
        tell(str(size), "yes" if channels else "no", wall, cpu)


def read_all(brokers: str, n: int, channels: bool, group: str) -> tuple[float, float]:
    """Give words in a second, and in a second of processor time; the wait for more words does not count."""
    options = KafkaCollector.Options(
        brokers=brokers, topic="words", group=group, partition=0, channels=channels
    )
    collector = KafkaCollector(options)
    collector.open(lambda: collector.counts().get("words", 0) >= n)
    wall, cpu = time.perf_counter(), time.process_time()
    for _ in collector:
        pass
    wall, cpu = time.perf_counter() - wall - WAIT_SECONDS, time.process_time() - cpu
    collector.close()
    return n / wall, n / cpu


def show_steady(folder: Path) -> None:
    """Print whether ``dqm collect`` keeps up with words that come all the time."""
    with MockKafka() as broker, Receiver([f"ipc://{folder}/windows"]) as receiver:
        data = binary_words(SUSTAINED_WORDS)
        broker.publish("steady", data[: 8 * 4000], 8 * 4000, path=folder / "words")
        broker.wait()
        config = folder / "collector.toml"
        config.write_text(CONFIG.format(address=f"ipc://{folder}/windows", brokers=broker.address))
        process = subprocess.Popen([PROGRAM, "collect", config], stderr=subprocess.DEVNULL)
        time.sleep(3.0)
        begin, size = time.perf_counter(), MESSAGE_WORDS * WORD_BYTES
        broker.publish("steady", data[8 * 4000 :], size, pause=PAUSE_SECONDS, path=folder / "words")
        behind, last = [], begin
        while time.perf_counter() - last < IDLE_SECONDS and process.poll() is None:
            if isinstance(window := receiver.receive(100), Window):
                receiver.acknowledge(window)
                behind.append(float(window.conditions["messages_behind"]))
                last = time.perf_counter()
        is_there = process.poll() is None
        process.terminate()
        process.wait()
    rate = (SUSTAINED_WORDS - 4000) / (last - begin) / 1e6 if is_there else float("nan")
    lasted, worst = f"{last - begin:.0f} s", max(behind) * MESSAGE_WORDS
    tell(f"{rate:.2f} million words/s for {lasted}", f"{len(behind)} windows", f"{worst:.0f} words")


def main() -> None:
    """Print both tables."""
    with tempfile.TemporaryDirectory() as name:
        show_at_once(Path(name))
        tell("dqm collect, all the time", "acknowledged", "behind at most")
        tell(*["---"] * 3)
        for _ in range(TRIES):
            show_steady(Path(name))


if __name__ == "__main__":
    main()
