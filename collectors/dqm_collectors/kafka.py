"""Raw TDC words from a Kafka topic; what the daemon has acknowledged is committed, so that nothing is lost.

The messages hold words of 64 bits as the electronics write them, singly or in blocks. The collector reads one
partition, because the order of words is known only within one. It does not join the group that it commits
for: no other member can take over its partition, and a restart does not wait.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Literal, TypeVar

import structlog
from pydantic import Field

from dqm.errors import ConfigError, InputError, escape_text
from dqm.events import EventBatch, Origin
from dqm_collectors.chamber.geometry import WireMap
from dqm_collectors.chamber.position import Position
from dqm_collectors.chamber.word_stream import WordOptions, WordStream
from dqm_collectors.chamber.words import WORD_BYTES, Numbering, decode_words, words_of

if TYPE_CHECKING:
    from confluent_kafka import Consumer, KafkaError, Message, TopicPartition

__all__ = ["KafkaCollector"]

T = TypeVar("T")

log = structlog.get_logger(__name__)

BLOCK_BYTES = 1 << 19
"""Approximate bytes of messages that are taken together: what is computed from them stays in the cache of a
core."""

FIRST_MESSAGES = 64
"""Messages that are taken together at first, when their size is not known: few wait for them."""

MOST_MESSAGES = 20_000
"""Most messages that are taken together."""

WAIT_SECONDS = 0.2
"""Longest wait for messages, s; what has come by then is taken."""

ANSWER_SECONDS = 10.0
"""Longest wait for an answer of the broker at the start and at the end, s."""


class KafkaCollector:
    """Segments of raw words in a topic.

    Parameters
    ----------
    options : KafkaCollector.Options
        Brokers, topic, numbering and selection.
    """

    class Options(WordOptions):
        """Keys of the configuration."""

        brokers: str = Field(min_length=1, description="brokers to ask first: HOST:PORT, separated by commas")
        topic: str = Field(min_length=1, description="topic of the raw words")
        group: str = Field(
            min_length=1, description="consumer group that keeps the offsets, for this collector alone"
        )
        partition: int | None = Field(
            None, ge=0, description="partition to read; default: the only one of the topic"
        )
        begin: Literal["earliest", "latest"] = Field(
            "earliest", description="where to begin if the group has no offset: earliest or latest"
        )
        start: float | None = Field(
            None, description="Unix time of the first hit, seconds; default: that of the first message"
        )
        numbering: Numbering = Field(
            Numbering.ELECTRONICS,
            description="numbers in the words: electronics (channels from 0, TDC from 1) or text (as in text "
            "files)",
        )
        client: dict[str, str | int | float | bool] = Field(
            {}, description="further settings of librdkafka, such as security.protocol"
        )

    origin = Origin.LIVE

    def __init__(self, options: Options) -> None:
        self.options = options
        self._stream: WordStream | None = None
        self._consumer: Consumer | None = None
        self._is_stopped: Callable[[], bool] = lambda: False
        self._partition = 0
        self._position: Position | None = None
        self._offset: int | None = None
        self._lag = 0
        self._n_messages = 0
        self._n_refused = 0
        self._n_failures = 0
        self._is_down = False
        self._failed_commit = ""

    def packages(self) -> dict[str, str]:
        """Give the package of the client, and the extra that has it."""
        return {"confluent_kafka": "kafka"}

    def open(self, is_stopped: Callable[[], bool]) -> str:
        """Connect to the brokers, and return the note of the last commit; empty if there is none.

        Parameters
        ----------
        is_stopped : callable
            Called between two readings; it may commit, and says whether to end.

        Raises
        ------
        ConfigError
            If the client is not installed or refuses a setting.
        InputError
            If no broker answers, or if topic or partition do not exist.
        """
        self._is_stopped = is_stopped
        self._consumer = self._connect()
        self._partition = self._find_partition(self._consumer)
        (committed,) = self._ask(
            lambda c: c.committed([self._place()], timeout=ANSWER_SECONDS), "give the committed offset"
        )
        if committed.offset < 0:
            return ""
        self._offset = committed.offset
        low, high = self._ask(
            lambda c: c.get_watermark_offsets(self._place(), timeout=ANSWER_SECONDS), "give its offsets"
        )
        if not low <= committed.offset <= high:
            raise InputError(
                f"the topic has messages {low} to {high}, but group {self.options.group!r} is at "
                f"{committed.offset}: words between were deleted, or the topic was made anew",
                where=self._where(),
                fix="Begin again with another group and another run; what was deleted is lost",
            )
        return str(committed.metadata or "")

    def seek(self, position: str) -> None:
        """Continue at the position of a batch.

        Raises
        ------
        ConfigError
            If it was committed with other options, which give other batches.
        """
        self._position = Position.read(position)
        self._offset = self._position.offset
        before, now = self._position.options, self.options.of_batches()
        if before is None or before == now:
            return
        name = next(name for name in now if before.get(name) != now[name])
        raise ConfigError(
            f"{name} is {json.dumps(now[name])}, but group {self.options.group!r} made its last commit with "
            f"{name} = {json.dumps(before.get(name))}: words would be lost or used twice where the two meet",
            where=f"[options] {name}, {self._where()}",
            fix="Use the former value, or begin again with another group and another run",
        )

    def commit(self, position: str, note: str, *, wait: bool = False) -> None:
        """Commit a position with a note. A commit that fails is logged; the next one replaces it.

        Parameters
        ----------
        position : str
            Position of the batch that is read first after a restart.
        note : str
            Text that `open` returns then.
        wait : bool
            Whether to wait for the broker.
        """
        if self._consumer is None:
            return
        from confluent_kafka import KafkaException

        place = self._place(Position.read(position).offset, note)
        try:
            if wait:
                self._consumer.commit(offsets=[place], asynchronous=False)
            else:
                self._consumer.commit(offsets=[place], asynchronous=True)
        except KafkaException as error:
            self._on_commit(error.args[0], [])

    def close(self) -> None:
        """Close the connection."""
        if self._consumer is not None:
            self._consumer.close()
            self._consumer = None

    def counts(self) -> dict[str, int]:
        """Return messages, words, hits, and what was left out since the start, and how far it is behind."""
        words = self._stream.total.as_dict() if self._stream else {}
        counts = {"messages": self._n_messages, **words, "messages_behind": self._lag}
        if self._n_refused:
            counts["refused_messages"] = self._n_refused
        if self._n_failures:
            counts["broker_failures"] = self._n_failures
        return counts

    def __iter__(self) -> Iterator[EventBatch]:
        """Yield batches with positions until `is_stopped` of `open` says so.

        Raises
        ------
        InputError
            If the broker refuses to give messages.
        """
        options = self.options
        if self._consumer is None:
            self.open(lambda: False)
        wires = WireMap.of(options.convention)
        self._assign()
        for offset, seconds, data in self._blocks():
            if self._stream is None:
                start = seconds if options.start is None else options.start
                self._stream = WordStream(options, start, self._position)
            stream = self._stream
            raw = decode_words(words_of(data), wires, options.numbering)
            behind = {"messages_behind": float(self._lag)}
            for batch in stream.feed(raw, self._where(), offset):
                yield replace(batch, conditions={**batch.conditions, **behind})

    def _blocks(self) -> Iterator[tuple[int, float, bytes]]:
        """Yield the words of messages taken together, with offset and Unix time of the first message."""
        n_together = FIRST_MESSAGES
        while not self._is_stopped():
            if self._consumer is None:
                return
            messages = self._consumer.consume(n_together, WAIT_SECONDS)
            good = [message for message in messages if self._accept(message)]
            self._measure_lag(messages)
            if good:
                data = b"".join(message.value() or b"" for message in good)
                mean = max(WORD_BYTES, len(data) // len(good))
                n_together = min(MOST_MESSAGES, max(1, BLOCK_BYTES // mean))
                _, milliseconds = good[0].timestamp()
                yield good[0].offset() or 0, max(0, milliseconds) / 1000, data

    def _accept(self, message: Message) -> bool:
        """Whether a message has words; others are counted and logged."""
        error = message.error()
        if error is not None:
            self._refuse(error)
            self._on_error(error)
            return False
        self._n_messages += 1
        size = len(message.value() or b"")
        if size and size % WORD_BYTES == 0:
            return True
        self._n_refused += 1
        if self._n_refused == 1:
            log.warning(
                "a message is not a whole number of words of 8 bytes; such messages are left out and counted",
                topic=self.options.topic,
                offset=message.offset(),
                bytes=size,
            )
        return False

    def _refuse(self, error: KafkaError) -> None:
        """Raise an error that does not go away by itself."""
        if _is_deleted(error):
            raise InputError(
                f"the topic does not have offset {self._offset} any more: words were deleted before they "
                "were read",
                where=self._where(),
                fix="Begin again with another group and another run; what was deleted is lost. Let the topic "
                "keep its words for longer than the collector may be behind",
            )
        if not error.retriable() and not _is_transport(error):
            raise InputError(f"the broker gives no messages: {error.str()}", where=self._where())

    def _measure_lag(self, messages: list[Message]) -> None:
        if self._consumer is None:
            return
        _, high = self._consumer.get_watermark_offsets(self._place(), cached=True)
        if messages and (last := messages[-1].offset()) is not None:
            self._offset = last + 1
            if self._is_down:
                self._is_down = False
                log.info("the broker is back", topic=self.options.topic)
        if high is not None and high >= 0 and self._offset is not None:
            self._lag = max(0, high - self._offset)

    def _connect(self) -> Consumer:
        try:
            from confluent_kafka import Consumer, KafkaException
        except ModuleNotFoundError as error:
            raise ConfigError(
                "the package confluent-kafka is not installed",
                where="collector kafka",
                fix="Install dqm with its extra 'kafka', in its source by pip install '.[kafka]'",
            ) from error
        own = {
            "bootstrap.servers": self.options.brokers,
            "group.id": self.options.group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "error",
            "max.poll.interval.ms": 86_400_000,  # the daemon may be away for long
            "log_level": 0,
            "error_cb": self._on_error,
            "on_commit": self._on_commit,
        }
        if twice := sorted(own.keys() & self.options.client.keys()):
            raise ConfigError(
                f"the collector sets {', '.join(twice)} itself",
                where="[options] client",
                fix="Leave them out",
            )
        try:
            return Consumer({**self.options.client, **own})
        except (KafkaException, ValueError, TypeError) as error:
            reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
            raise ConfigError(
                f"librdkafka refuses a setting: {reason}",
                where="[options] client",
                fix="Correct the setting, or leave it out",
            ) from error

    def _find_partition(self, consumer: Consumer) -> int:
        """Check that topic and partition exist."""
        topic = self.options.topic
        found = self._ask(lambda c: c.list_topics(topic, timeout=ANSWER_SECONDS), "list its topics").topics[
            topic
        ]
        partitions = sorted(found.partitions)
        if found.error is not None or not partitions:
            topics = sorted(consumer.list_topics(timeout=ANSWER_SECONDS).topics)
            known = escape_text(", ".join(name for name in topics if not name.startswith("__"))[:300])
            raise InputError(
                f"there is no topic {topic!r}", where=self._where(), fix=f"The broker has: {known or 'none'}"
            )
        wanted = self.options.partition
        if wanted is None and len(partitions) > 1:
            raise InputError(
                f"the topic has {len(partitions)} partitions, and the order of words is known only "
                "within one",
                where=self._where(),
                fix="Give each a collector of its own: partition = 0, 1, ...",
            )
        if wanted is not None and wanted not in partitions:
            raise InputError(
                f"the topic has no partition {wanted}",
                where=self._where(),
                fix=f"It has {', '.join(map(str, partitions))}",
            )
        return partitions[0] if wanted is None else wanted

    def _assign(self) -> None:
        if self._consumer is None:
            return
        from confluent_kafka import OFFSET_BEGINNING, OFFSET_END

        fresh = OFFSET_BEGINNING if self.options.begin == "earliest" else OFFSET_END
        self._consumer.assign([self._place(fresh if self._offset is None else self._offset)])

    def _ask(self, question: Callable[[Consumer], T], what: str) -> T:
        """Ask the broker."""
        from confluent_kafka import KafkaException

        if self._consumer is None:
            raise InputError("the collector is not connected", where=self._where())
        try:
            return question(self._consumer)
        except KafkaException as error:
            raise InputError(
                f"the broker does not {what}: {error.args[0].str()}",
                where=self._where(),
                fix="Check the address and that the broker runs",
            ) from error

    def _place(self, offset: int | None = None, note: str | None = None) -> TopicPartition:
        from confluent_kafka import TopicPartition

        topic, partition = self.options.topic, self._partition
        if offset is None:
            return TopicPartition(topic, partition)
        return (
            TopicPartition(topic, partition, offset, note)
            if note
            else TopicPartition(topic, partition, offset)
        )

    def _where(self) -> str:
        return f"topic {self.options.topic} of {self.options.brokers}"

    def _on_error(self, error: KafkaError) -> None:
        """Count what goes wrong with the brokers; log when it begins."""
        self._n_failures += 1
        if not self._is_down:
            self._is_down = True
            log.warning("the broker does not answer; trying again", reason=error.str(), where=self._where())

    def _on_commit(self, error: KafkaError | None, _places: list[TopicPartition]) -> None:
        """Log a failed commit when it begins to fail."""
        reason = "" if error is None else error.str()
        if reason and not self._failed_commit:
            log.warning("the offsets cannot be committed; trying again", reason=reason, where=self._where())
        self._failed_commit = reason


def _is_deleted(error: KafkaError) -> bool:
    """Whether the offset to read is not in the topic; "error" of ``auto.offset.reset`` is told so."""
    from confluent_kafka import KafkaError as Code

    return error.code() in (Code._AUTO_OFFSET_RESET, Code.OFFSET_OUT_OF_RANGE)


def _is_transport(error: KafkaError) -> bool:
    from confluent_kafka import KafkaError as Code

    return error.code() in (Code._TRANSPORT, Code._ALL_BROKERS_DOWN, Code._TIMED_OUT, Code._RESOLVE)
