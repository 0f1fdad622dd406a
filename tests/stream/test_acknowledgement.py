"""Answers of the daemon: known ones settle a window, all others are ignored."""

from __future__ import annotations

from pathlib import Path

import pytest

from dqm.events import Window
from dqm.stream import Reason, Receiver, Sender
from dqm.stream.acknowledgement import decode_answer, encode_acknowledgement, encode_refusal
from tests.stream.windows import window_of


@pytest.mark.parametrize("identity", [("chamber-1", 0, 0), ("x", 2**63 - 1, 2**63 - 1)])
def test_reads_back_what_was_written(identity: tuple[str, int, int]) -> None:
    acknowledged = decode_answer(encode_acknowledgement(identity))
    refused = decode_answer(encode_refusal(identity, Reason.ORIGIN))
    assert acknowledged
    assert refused
    assert (acknowledged.identity, acknowledged.reason) == (identity, "")
    assert (refused.identity, refused.reason) == (identity, "origin")


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
        [b"ack", b'{"stream": "s", "run": 1, "seq": 0, "reason": "origin"}'],
        [b"nak", b'{"stream": "s", "run": 1, "seq": 0}'],
        [b"nak", b'{"stream": "s", "run": 1, "seq": 0, "reason": ""}'],
    ],
)
def test_other_answers_are_ignored(frames: list[bytes]) -> None:
    assert decode_answer(frames) is None


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
