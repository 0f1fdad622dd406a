"""The codec of messages about runs."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dqm.errors import InputError, PeerError
from dqm.events import RunEvent, RunNotice
from dqm.stream import Limits, Reason, decode_run, encode_run
from dqm.stream.acknowledgement import decode_answer, encode_run_answer
from dqm.stream.run_message import claimed_run, is_run_message, run_identity_of

from .windows import COUNTS, NAMES, TEXTS, TIMES

NOTICE = RunNotice("chamber-*", 591, "cosmics", RunEvent.END, 1.7e9, "operator")
PATTERNS = st.from_regex(r"[A-Za-z0-9_*?-][A-Za-z0-9._*?-]{0,63}", fullmatch=True)
NOTICES = st.builds(
    RunNotice,
    streams=PATTERNS,
    run=COUNTS,
    run_type=NAMES,
    event=st.sampled_from(RunEvent),
    time=TIMES,
    why=TEXTS,
)


@given(NOTICES)
def test_a_notice_survives_the_wire(notice: RunNotice) -> None:
    frames = [encode_run(notice)]
    assert is_run_message(frames)
    assert decode_run(frames) == notice
    assert claimed_run(frames) == run_identity_of(notice)


@given(NOTICES, st.sampled_from(["", "run-ended"]), TEXTS)
def test_an_answer_survives_the_wire(notice: RunNotice, reason: str, what: str) -> None:
    answer = decode_answer(encode_run_answer(run_identity_of(notice), reason, what))
    assert answer is not None
    assert (answer.identity, answer.reason) == (run_identity_of(notice), reason)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": 3}, Reason.VERSION),
        ({"version": 1}, Reason.VERSION),
        ({"version": True}, Reason.VERSION),
        ({"streams": "a/b"}, Reason.HEADER_FIELD),
        ({"streams": ""}, Reason.HEADER_FIELD),
        ({"streams": ["a"]}, Reason.HEADER_FIELD),
        ({"run": -1}, Reason.HEADER_FIELD),
        ({"run": 5.0}, Reason.HEADER_FIELD),
        ({"run_type": "a b"}, Reason.HEADER_FIELD),
        ({"event": "stop"}, Reason.HEADER_FIELD),
        ({"time": -1.0}, Reason.HEADER_FIELD),
        ({"time": 1e12}, Reason.HEADER_FIELD),
        ({"time": None}, Reason.HEADER_FIELD),
        ({"why": "x" * 257}, Reason.HEADER_FIELD),
        ({"why": "a\nb"}, Reason.HEADER_FIELD),
        ({"seq": 0}, Reason.HEADER_FIELD),
    ],
)
def test_a_message_that_breaks_a_rule_is_refused_with_its_reason(change: dict, reason: Reason) -> None:
    frames = [json.dumps(json.loads(encode_run(NOTICE)) | change).encode()]
    assert is_run_message(frames)
    with pytest.raises(PeerError) as caught:
        decode_run(frames)
    assert caught.value.reason == reason


def test_a_message_that_is_too_long_or_has_a_key_twice_is_refused() -> None:
    frame = encode_run(NOTICE)
    with pytest.raises(PeerError, match="at most 10 allowed"):
        decode_run([frame], Limits(max_header_bytes=10))
    assert not is_run_message([frame], Limits(max_header_bytes=10))
    with pytest.raises(PeerError, match="twice"):
        decode_run([frame.replace(b'{"format"', b'{"run":1,"format"')])


def test_a_window_and_anything_else_is_no_message_about_a_run() -> None:
    for frames in ([b"x"], [b"{}"], [b'{"format":"dqm-window"}'], [encode_run(NOTICE), b""], []):
        assert not is_run_message(frames)


def test_a_notice_that_breaks_the_format_is_the_callers_fault() -> None:
    with pytest.raises(InputError, match="the end of the run cannot be sent: streams"):
        encode_run(RunNotice("a b", 1, "cosmics", RunEvent.END, 0.0))
