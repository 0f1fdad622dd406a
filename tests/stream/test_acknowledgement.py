"""Answers of the daemon: known ones confirm a window, all others are ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.events import Window
from dqm.stream import Receiver, Sender
from dqm.stream.acknowledgement import decode_acknowledgement, encode_acknowledgement
from tests.stream.windows import window_of


@pytest.mark.parametrize("identity", [("chamber-1", 0, 0), ("x", 2**63 - 1, 2**63 - 1)])
def test_reads_back_what_was_written(identity: tuple[str, int, int]) -> None:
    assert decode_acknowledgement(encode_acknowledgement(identity)) == identity


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"ack"],
        [b"nak", b"{}"],
        [b"ack", b"\xff"],
        [b"ack", b"[]"],
        [b"ack", b'{"stream": "s", "run": -1, "seq": 0}'],
        [b"ack", b'{"stream": "s", "run": "1", "seq": 0}'],
        [b"ack", b"{}", b""],
    ],
)
def test_other_answers_are_ignored(frames: list[bytes]) -> None:
    assert decode_acknowledgement(frames) is None


def test_a_sender_learns_which_windows_were_judged(tmp_path: Path) -> None:
    with Receiver([f"ipc://{tmp_path}/w"]) as receiver, Sender(receiver.addresses[0]) as sender:
        first, second = window_of(seq=0), window_of(seq=1)
        sender.send(first)
        sender.send(second)
        assert sender.flush(5.0)
        received = [receiver.receive(5000), receiver.receive(5000)]
        assert sender.n_unconfirmed == 2
        assert not sender.confirm(0.05)
        for window in received:
            assert isinstance(window, Window)
            receiver.acknowledge(window)
            receiver.acknowledge(window)  # a second time nobody is told
        assert sender.confirm(5.0)
        assert sender.n_unconfirmed == 0
