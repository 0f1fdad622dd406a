"""The mock cluster of librdkafka in a process of its own, reached over TCP.

``python -m tests.collectors.mock_kafka`` prints its address. Each line on its input is a JSON list of topic,
file, bytes for each message and seconds between messages; it answers with the number of messages.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from confluent_kafka import Producer

ROOT = Path(__file__).parents[2]


class MockKafka:
    """The cluster; a file is published by `publish`."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.collectors.mock_kafka"],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.address = self._read()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()  # it may be halted, and would never see the end of its input
        with suppress(BrokenPipeError):
            self._process.communicate()

    def publish(self, topic: str, data: bytes, size: int, *, pause: float = 0.0, path: Path) -> None:
        """Begin to publish bytes in messages of a size, in partition 0."""
        path.write_bytes(data)
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([topic, str(path), size, pause]) + "\n")
        self._process.stdin.flush()

    def wait(self) -> int:
        """Wait until a file is published; return its number of messages."""
        return int(self._read())

    def halt(self) -> None:
        """Let the broker answer nothing."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it answer again."""
        os.kill(self._process.pid, signal.SIGCONT)

    def _read(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


def main() -> None:
    """Host the cluster until the input ends."""
    producer = Producer(
        {"test.mock.num.brokers": 1, "log_level": 0, "queue.buffering.max.messages": 10_000_000}
    )
    brokers = producer.list_topics(timeout=60).brokers.values()
    print(",".join(f"{b.host}:{b.port}" for b in brokers), flush=True)  # noqa: T201
    for line in sys.stdin:
        topic, path, size, pause = json.loads(line)
        data = Path(path).read_bytes()
        begins = range(0, len(data), size)
        for begin in begins:
            producer.produce(topic, data[begin : begin + size], partition=0)
            if pause:
                producer.flush()
                time.sleep(pause)
        producer.flush()
        print(len(begins), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
