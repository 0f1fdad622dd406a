from __future__ import annotations

import json
import math
import re
import struct
from dataclasses import fields
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dqm.errors import InputError, PeerError
from dqm.events import Measurement, Window, WindowCut
from dqm.stream import Limits, Reason, decode, encode

from .windows import window_of, windows

DOCUMENT = Path(__file__).parents[2] / "docs" / "wire-format.md"
FRAMES = encode(window_of())


def assert_same(left: Window, right: Window) -> None:
    for field in fields(Window):
        if field.compare and field.name != "x":
            assert getattr(left, field.name) == getattr(right, field.name), field.name
    assert left.x.dtype == right.x.dtype == np.float64
    assert left.x.shape == right.x.shape
    assert left.x.tobytes() == right.x.tobytes()


def payload(columns: dict[str, object], *, batches: int = 1, compression: str | None = None) -> bytes:
    batch = pa.RecordBatch.from_pydict(columns)
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(compression=compression)
    with pa.ipc.new_stream(sink, batch.schema, options=options) as writer:
        for _ in range(batches):
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def header(**changes: object) -> bytes:
    return json.dumps(json.loads(FRAMES[0]) | changes).encode()


def refusal(frames: list[bytes], limits: Limits | None = None) -> str:
    with pytest.raises(PeerError) as caught:
        decode(frames, limits)
    return caught.value.reason


@given(windows())
def test_any_window_arrives_as_it_was_sent(window: Window) -> None:
    assert_same(decode(encode(window)), window)


@pytest.mark.parametrize("order", ["C", "F"])
def test_the_layout_of_the_array_does_not_matter(order: str) -> None:
    x = np.asarray(np.arange(10.0).reshape(5, 2), order=order)  # type: ignore[call-overload]
    assert_same(decode(encode(window_of(x[::2]))), window_of(x[::2].copy()))


@given(windows())
def test_a_payload_is_what_a_writer_of_arrow_gives(window: Window) -> None:
    schema = pa.schema([pa.field(name, pa.float64(), nullable=False) for name in window.names])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_batch(
            pa.RecordBatch.from_arrays([pa.array(one) for one in window.x.T.copy()], schema=schema)
        )
    assert encode(window)[1] == bytes(sink.getvalue())


def test_the_example_of_the_document_is_valid() -> None:
    block = re.search(r"```json\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    assert block
    example = json.loads(block[1])
    columns: dict[str, object] = {name: [1.0, 2.0] for name in example["features"]}
    window = decode([block[1].encode(), payload(columns)])
    assert window.cut is WindowCut.TIME
    assert window.auxiliary == (Measurement("gas_pressure", 963.2, 0.4, 1700000171.5),)
    assert window.conditions == {"cathode_voltage": -1200.0, "trigger": "external"}
    assert set(example) == set(json.loads(FRAMES[0])), "the example shows every field"


@pytest.mark.parametrize(
    ("once", "twice"),
    [
        (b'"run":', b'"run":1,"run":'),
        (b'"format":', b'"format":"dqm-window","format":'),
        (b'"conditions":{', b'"conditions":{"hv":1.0,"hv":2.0,'),
        (b'"conditions":{', b'"conditions":{"hv":1.0,"\\u0068v":2.0,'),
    ],
)
def test_a_key_that_appears_twice_is_refused(once: bytes, twice: bytes) -> None:
    frame = header(conditions={"trigger": "x"}).replace(b": ", b":")
    assert frame.count(once) == 1
    assert decode([frame, FRAMES[1]]).conditions == {"trigger": "x"}
    assert refusal([frame.replace(once, twice), FRAMES[1]]) == Reason.HEADER_JSON


def test_the_document_lists_every_reason() -> None:
    table = DOCUMENT.read_text().split("## What is refused")[1].split("## Versions")[0]
    assert re.findall(r"^\| `([a-z-]+)`", table, re.MULTILINE) == list(Reason)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": "other"}, Reason.VERSION),
        ({"version": 3}, Reason.VERSION),
        ({"version": True}, Reason.VERSION),
        ({"colour": "red"}, Reason.HEADER_FIELD),
        ({"stream": ""}, Reason.HEADER_FIELD),
        ({"stream": "../etc"}, Reason.HEADER_FIELD),
        ({"stream": ".."}, Reason.HEADER_FIELD),
        ({"stream": "a\n"}, Reason.HEADER_FIELD),
        ({"stream": "a" * 65}, Reason.HEADER_FIELD),
        ({"stream": "kammer-ä"}, Reason.HEADER_FIELD),
        ({"run": -1}, Reason.HEADER_FIELD),
        ({"run": 2**63}, Reason.HEADER_FIELD),
        ({"run": 2**64 + 1}, Reason.HEADER_FIELD),
        ({"run": 1.0}, Reason.HEADER_FIELD),
        ({"run": True}, Reason.HEADER_FIELD),
        ({"run": "591"}, Reason.HEADER_FIELD),
        ({"seq": None}, Reason.HEADER_FIELD),
        ({"n_lost": -1}, Reason.HEADER_FIELD),
        ({"origin": "dreamt"}, Reason.HEADER_FIELD),
        ({"cut": "random"}, Reason.HEADER_FIELD),
        ({"features": []}, Reason.HEADER_FIELD),
        ({"features": ["t_0", "t_0"]}, Reason.HEADER_FIELD),
        ({"features": "t_0"}, Reason.HEADER_FIELD),
        ({"start": 5.0}, Reason.HEADER_FIELD),
        ({"start": 5.0, "end": 4.0}, Reason.HEADER_FIELD),
        ({"live_seconds": -1.0}, Reason.HEADER_FIELD),
        ({"start": 5.0, "end": 15.0, "live_seconds": 10.02}, Reason.HEADER_FIELD),
        ({"n_expected": 3.0}, Reason.HEADER_FIELD),
        ({"cut": "time"}, Reason.HEADER_FIELD),
        ({"auxiliary": [{"name": "a", "value": 1.0, "sigma": 0.0, "time": 1.0}]}, Reason.HEADER_FIELD),
        ({"auxiliary": [{"name": "a", "value": 1, "sigma": 1, "time": 1}] * 2}, Reason.HEADER_FIELD),
        ({"auxiliary": {}}, Reason.HEADER_FIELD),
        ({"conditions": {"hv": True}}, Reason.HEADER_FIELD),
        ({"conditions": {"hv": None}}, Reason.HEADER_FIELD),
        ({"conditions": {"hv": "x" * 257}}, Reason.HEADER_FIELD),
        ({"conditions": {"hv": "\x1b[31m"}}, Reason.HEADER_FIELD),
        ({"conditions": {f"c{i}": 1.0 for i in range(65)}}, Reason.HEADER_FIELD),
        ({"features": [f"f{i}" for i in range(65)]}, Reason.FEATURE_COUNT),
        ({"n_events": 10**9}, Reason.EVENT_COUNT),
        ({"n_events": 4}, Reason.EVENT_COUNT),
        ({"n_events": 1000}, Reason.PAYLOAD_SIZE),
        ({"features": ["t_1", "t_0"]}, Reason.PAYLOAD_COLUMNS),
        ({"features": ["t_0"]}, Reason.PAYLOAD_COLUMNS),
        ({"features": ["t_0", "t_1", "t_2"]}, Reason.PAYLOAD_COLUMNS),
    ],
)
def test_a_header_that_breaks_a_rule_is_refused(changes: dict[str, object], reason: Reason) -> None:
    assert refusal([header(**changes), FRAMES[1]]) == reason


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"dqm-window"',
        b"[" * 60_000,
        b'{"format":"dqm-window","version":1',
    ],
)
def test_a_header_that_is_no_json_object_is_refused(text: bytes) -> None:
    assert refusal([text, FRAMES[1]]) == Reason.HEADER_JSON


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_header_number_that_is_not_finite_is_refused(number: str) -> None:
    text = FRAMES[0].replace(b'"conditions":{}', b'"conditions":{"hv":%s}' % number.encode())
    assert refusal([text, FRAMES[1]]) in {Reason.HEADER_JSON, Reason.HEADER_FIELD}


@pytest.mark.parametrize("frames", [[], [FRAMES[0]], [b"", *FRAMES], [*FRAMES, b""]])
def test_another_number_of_frames_is_refused(frames: list[bytes]) -> None:
    assert refusal(frames) == Reason.FRAMES


def test_limits_are_kept() -> None:
    assert refusal(FRAMES, Limits(max_header_bytes=100)) == Reason.HEADER_SIZE
    assert refusal(FRAMES, Limits(max_payload_bytes=100)) == Reason.PAYLOAD_SIZE
    assert refusal(FRAMES, Limits(max_events=2)) == Reason.EVENT_COUNT
    assert refusal(FRAMES, Limits(max_features=1)) == Reason.FEATURE_COUNT


VALUES = [0.0, 1.0, 2.0]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", Reason.PAYLOAD_SIZE),
        (b"\0" * 100, Reason.PAYLOAD_ARROW),
        (b"\xff" * 100, Reason.PAYLOAD_ARROW),
        (FRAMES[1] + b"\0" * 20_000, Reason.PAYLOAD_SIZE),
        (payload({"t_0": VALUES, "t_1": VALUES}, batches=0), Reason.PAYLOAD_ARROW),
        (payload({"t_0": VALUES, "t_1": VALUES}, batches=2), Reason.PAYLOAD_ARROW),
        (payload({"t_0": VALUES, "t_1": VALUES}, compression="lz4"), Reason.PAYLOAD_COMPRESSED),
        (payload({"t_0": VALUES, "t_1": VALUES}, compression="zstd"), Reason.PAYLOAD_COMPRESSED),
        (payload({"t_0": VALUES, "t_1": [0, 1, 2]}), Reason.PAYLOAD_DTYPE),
        (payload({"t_0": VALUES, "t_1": pa.array(VALUES, pa.float32())}), Reason.PAYLOAD_DTYPE),
        (payload({"t_0": VALUES, "t_1": pa.array(["a"] * 3).dictionary_encode()}), Reason.PAYLOAD_ARROW),
        (payload({"t_0": VALUES, "t_1": [0.0, None, 2.0]}), Reason.PAYLOAD_NULL),
        (payload({"t_0": VALUES, "t_1": [0.0, np.nan, 2.0]}), Reason.NOT_FINITE),
        (payload({"t_0": VALUES, "t_1": [0.0, -np.inf, 2.0]}), Reason.NOT_FINITE),
        (payload({"t_0": VALUES, "äöü": VALUES}), Reason.PAYLOAD_COLUMNS),
    ],
)
def test_a_payload_that_breaks_a_rule_is_refused(body: bytes, reason: Reason) -> None:
    assert refusal([FRAMES[0], body]) == reason


def test_a_few_bytes_that_claim_two_gibibytes_are_refused_unread() -> None:
    body = payload({"t_0": [0.0] * 400, "t_1": [0.0] * 400}, compression="zstd")
    claim = body.replace(struct.pack("<q", 3200), struct.pack("<q", 2**31))
    assert claim != body
    padded = claim + b"\0" * (6400 - len(claim))
    allocated = pa.total_allocated_bytes()
    assert refusal([header(n_events=400), padded]) == Reason.PAYLOAD_COMPRESSED
    assert pa.total_allocated_bytes() == allocated


def test_columns_that_may_be_null_but_are_not_are_welcome() -> None:
    window = decode([FRAMES[0], payload({"t_0": VALUES, "t_1": VALUES})])
    assert window.x.tolist() == [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0]]


@given(st.lists(st.binary(max_size=400), max_size=4))
def test_arbitrary_bytes_are_refused(frames: list[bytes]) -> None:
    assert refusal(frames) in {*Reason}


@given(st.binary(max_size=2000))
def test_arbitrary_payloads_are_refused(body: bytes) -> None:
    assert refusal([FRAMES[0], body]) in {*Reason}


@settings(max_examples=400, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_a_damaged_message_is_refused_or_still_a_window(data: st.DataObject) -> None:
    frames = [bytearray(frame) for frame in encode(data.draw(windows()))]
    frame = data.draw(st.sampled_from(frames))
    if data.draw(st.booleans()):
        del frame[data.draw(st.integers(0, len(frame))) :]
    for _ in range(data.draw(st.integers(0, 4))):
        if frame:
            bit = data.draw(st.integers(0, 8 * len(frame) - 1))
            frame[bit // 8] ^= 1 << bit % 8
    try:
        window = decode([bytes(part) for part in frames])
    except PeerError as error:
        assert error.reason in {*Reason}  # noqa: PT017  either way is right
    else:
        assert np.isfinite(window.x).all()
        assert window.x.shape[1] == len(window.names)


@pytest.mark.parametrize(
    "window",
    [
        window_of(stream="a/b"),
        window_of(run=-1),
        window_of(names=("a", "a")),
        window_of(names=("a",)),
        window_of(np.array([[np.inf, 1.0]])),
        window_of(n_expected=5.0),
        window_of(start=1.0),
        window_of(conditions={"hv": float("inf")}),
    ],
)
def test_a_window_that_breaks_the_format_is_not_sent(window: Window) -> None:
    with pytest.raises(InputError, match="stream "):
        encode(window)


def test_the_hash_of_the_events_does_not_depend_on_how_they_were_sent() -> None:
    x = np.arange(10.0).reshape(5, 2)
    digests = {decode(encode(window_of(x, seq=seq))).digest for seq in range(2)}
    assert len(digests) == 1
    assert digests != {decode(encode(window_of(x + 1.0))).digest}


TIMED = {"cut": "time", "start": 100.0, "end": 110.0, "live_seconds": 9.0, "n_expected": 450.0}


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"live_seconds": 11.0}, "header: live_seconds 11.0 must not exceed end - start, which is 10.0 s"),
        ({"n_expected": 0.0}, "n_expected 0 needs live_seconds 0, got 9.0"),
        ({"n_expected": -450.0}, "n_expected: Input should be greater than or equal to 0, got -450.0"),
        (
            {"n_expected": 2e12},
            "n_expected: Input should be less than or equal to 1000000000000, got 2000000000000.0",
        ),
        ({"n_expected": math.inf}, "n_expected: Input should be a finite number"),
        ({"live_seconds": -1.0}, "live_seconds: Input should be greater than or equal to 0, got -1.0"),
    ],
)
def test_an_expectation_that_cannot_be_is_refused_with_field_and_value(
    fields: dict[str, object], told: str
) -> None:
    with pytest.raises(PeerError) as refused:
        decode([header(**(TIMED | fields)), FRAMES[1]])
    assert refused.value.reason == Reason.HEADER_FIELD
    assert told in refused.value.what


@pytest.mark.parametrize(
    "fields", [{"live_seconds": 10.01}, {"live_seconds": 0.0, "n_expected": 0.0}, {"live_seconds": 10.0}]
)
def test_a_live_time_may_exceed_the_window_by_what_clocks_differ(fields: dict[str, float]) -> None:
    window = decode([header(**(TIMED | fields)), FRAMES[1]])
    assert window.live_seconds == fields["live_seconds"]


@pytest.mark.parametrize(
    ("values", "share", "told"),
    [
        ([np.nan, 1.0, 2.0, 3.0], 0.25, ""),
        ([np.nan, np.nan, 2.0, 3.0], 0.25, "NaN or infinity in 50 % of t_0, at most 25 % of NaN allowed"),
        ([np.inf, 1.0, 2.0, 3.0], 0.25, "NaN or infinity in 25 % of t_0"),
        ([np.nan, 1.0, 2.0, 3.0], 0.0, "NaN or infinity in 25 % of t_0"),
    ],
)
def test_nan_is_taken_where_the_stream_allows_it_up_to_a_share(
    values: list[float], share: float, told: str
) -> None:
    frames = [header(n_events=4, features=["t_0"]), payload({"t_0": values})]
    shares = {"chamber-1": share, "chamber-2": 0.5}
    if told:
        with pytest.raises(PeerError) as refused:
            decode(frames, nan_shares=shares)
        assert (refused.value.reason, refused.value.what[: len(told)]) == (Reason.NOT_FINITE, told)
    else:
        window = decode(frames, nan_shares=shares)
        assert np.isnan(window.x[:, 0]).tolist() == [True, False, False, False]
