"""Readings from files and sockets."""

from __future__ import annotations

import gzip
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import ValidationError
from structlog.testing import capture_logs

from dqm.errors import ConfigError, FileError, InputError
from dqm.events import Reading
from dqm_collectors.slow_control.file import FileSource
from dqm_collectors.slow_control.readings import (
    MAX_KEPT,
    MAX_LINE_BYTES,
    MAX_NAMES,
    ReadingHistory,
    Refusals,
    parse_json,
    parse_row,
)
from dqm_collectors.slow_control.sockets import MAX_CLIENTS, SocketSource
from tests.ports import free_port
from tests.waiting import wait_until

JSON_LINES = (
    '{"time": 100.0, "name": "pressure", "value": 963.2, "sigma": 0.4}\n'
    '{"time": 105.0, "name": "temperature", "value": 21.5}\n'
    '{"time": 110.0, "name": "pressure", "value": 964.0, "sigma": 0.4}\n'
)
CSV = "time,name,value,sigma\n100,pressure,963.2,0.4\r\n105,temperature,21.5,\n110,pressure,964,0.4\n"
EARLY, LATE = Reading("pressure", 963.2, 0.4, 100.0), Reading("pressure", 964.0, 0.4, 110.0)
WARM = Reading("temperature", 21.5, None, 105.0)


def write(path: Path, text: str) -> Path:
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def source_of(path: Path) -> FileSource:
    return FileSource(FileSource.Options(path=path))


# what is a reading


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "Invalid JSON"),
        ("pressure 963", "Invalid JSON"),
        ("[1]", "Input should be an object"),
        ('{"name": "pressure"}', "value: Field required"),
        ('{"name": "pressure", "value": NaN}', "value: Input should be a finite number"),
        ('{"name": "pressure", "value": "high"}', "value: Input should be a valid number"),
        ('{"name": "gas pressure", "value": 1}', "name: String should match pattern"),
        ('{"name": "pressure", "value": 1, "sigma": 0}', "sigma: Input should be greater than 0"),
        ('{"name": "pressure", "value": 1, "time": -1}', "time: Input should be greater than or equal to 0"),
        ('{"name": "pressure", "value": 1, "tmie": 1}', "tmie: Extra inputs are not permitted"),
        ('{"name": "pressure", "value": 1}', "time: must be given"),
        ('{"name": "p", "value": 1}' + " " * MAX_LINE_BYTES, f"more than {MAX_LINE_BYTES} bytes"),
    ],
)
def test_what_is_no_reading_is_refused(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_json(line.encode())


def test_a_reading_without_time_has_that_of_its_arrival() -> None:
    line = b'{"name": "pressure", "value": 963, "sigma": null}'
    assert parse_json(line, 50.0) == Reading("pressure", 963.0, None, 50.0)
    assert parse_json(line[:-1] + b', "time": 7}', 50.0).time == 7.0


def test_a_row_with_an_empty_cell_lacks_it() -> None:
    assert parse_row({"time": "1", "name": "p", "value": "2", "sigma": ""}) == Reading("p", 2.0, None, 1.0)
    with pytest.raises(InputError, match="value: Field required"):
        parse_row({"time": "1", "name": "p", "value": ""})


def test_the_newest_before_a_moment_counts_however_readings_came() -> None:
    history = ReadingHistory()
    for reading in (LATE, WARM, EARLY):
        history.add(reading)
    assert history.latest(99.9) == {}
    assert history.latest(100.0) == {"pressure": EARLY}
    assert history.latest(109.9) == {"pressure": EARLY, "temperature": WARM}
    assert history.latest(110.0) == history.latest() == {"pressure": LATE, "temperature": WARM}
    corrected = Reading("pressure", 965.0, 0.4, 110.0)
    history.add(corrected)
    assert history.latest()["pressure"] == corrected


def test_a_history_is_bounded() -> None:
    history = ReadingHistory()
    for k in range(MAX_KEPT + 10):
        history.add(Reading("pressure", 0.0, None, float(k)))
    assert history.latest(9.0) == {}
    assert history.latest(10.0)["pressure"].time == 10.0
    for k in range(MAX_NAMES - 1):
        history.add(Reading(f"sensor-{k}", 0.0, None, 1.0))
    with pytest.raises(InputError, match=f"'other' is refused: {MAX_NAMES} other names have readings"):
        history.add(Reading("other", 0.0, None, 1.0))


def test_a_flood_of_refusals_floods_no_log() -> None:
    refused = Refusals("here")
    with capture_logs() as logs:
        for _ in range(1000):
            refused.add("bad")
    assert refused.n == 1000
    assert [entry["refused"] for entry in logs] == [2**k for k in range(10)]
    assert {(entry["log_level"], entry["source"], entry["reason"]) for entry in logs} == {
        ("warning", "here", "bad")
    }


# files


@pytest.mark.parametrize(
    ("name", "text"),
    [("r.jsonl", JSON_LINES), ("r.jsonl.gz", JSON_LINES), ("r.csv", CSV), ("r.csv.gz", CSV)],
)
def test_all_formats_give_the_same_by_time(tmp_path: Path, name: str, text: str) -> None:
    with source_of(write(tmp_path / name, text)) as source:
        assert source.latest(99.0) == {}
        assert source.latest(105.0) == {"pressure": EARLY, "temperature": WARM}
        assert source.latest(200.0) == {"pressure": LATE, "temperature": WARM}
        assert source.latest(101.0) == {"pressure": EARLY}  # another chamber, further back
        assert source.latest(None) == {"pressure": LATE, "temperature": WARM}
        assert source.n_refused == 0


def test_columns_may_stand_in_any_order_and_sigma_may_be_left_out(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "\ufeffname,value,time\ntemperature,21.5,105\n")
    with source_of(path) as source:
        assert source.latest(None) == {"temperature": WARM}


def test_a_growing_file_is_followed_line_by_line(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl", "")
    first, rest = JSON_LINES.split("\n", 1)
    with source_of(path) as source, path.open("a") as file:

        def append(text: str) -> dict[str, Reading]:
            file.write(text)
            file.flush()
            return source.latest(None)

        assert append("") == {}
        assert append(first[:20]) == {}
        assert append(first[20:]) == {}
        assert append("\n") == {"pressure": EARLY}
        assert append(rest) == {"pressure": LATE, "temperature": WARM}


def test_a_table_may_begin_after_it_was_opened(tmp_path: Path) -> None:
    path = write(tmp_path / "r.csv", "")
    with source_of(path) as source:
        assert source.latest(None) == {}
        write(path, CSV)
        assert source.latest(None) == {"pressure": LATE, "temperature": WARM}


@pytest.mark.parametrize("replace", [True, False], ids=["replaced", "shortened"])
def test_a_rotated_file_is_read_from_its_beginning(tmp_path: Path, replace: bool) -> None:
    path = write(tmp_path / "r.csv", CSV)
    new = "time,name,value,sigma\n120,pressure,970,0.4\n"
    with source_of(path) as source:
        source.latest(None)
        if replace:
            path.unlink()
            assert source.latest(None)["pressure"] == LATE
        write(path, new)
        assert source.latest(None) == {
            "pressure": Reading("pressure", 970.0, 0.4, 120.0),
            "temperature": WARM,
        }


def test_bad_lines_are_refused_and_the_others_count(tmp_path: Path) -> None:
    many = "".join(f"{200 + k},sensor-{k},1,1\n" for k in range(MAX_NAMES))
    path = write(tmp_path / "r.csv", CSV + 'x,pressure,1,1\n1,2\n"1\n\n120,pressure,965,0.4\n' + many)
    with capture_logs() as logs, source_of(path) as source:
        assert source.latest(150.0)["pressure"].value == 965.0
        assert source.n_refused == 3
        assert len(source.latest(None)) == MAX_NAMES
        assert source.n_refused == 5
    assert (logs[0]["source"], logs[0]["line"]) == (str(path), 5)
    assert "time: Input should be a valid number" in logs[0]["reason"]
    assert (logs[1]["line"], logs[1]["reason"]) == (6, "2 cells in a table of 4 columns")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        (
            "r.csv",
            "time,pressure\n",
            "r.csv: has the columns time, pressure. The first line must be: time,",
        ),
        ("r.csv", "time,name,value,time\n", "has the columns time, name, value, time"),
        ("r.csv", "time,name,value,error\n", "has the columns time, name, value, error"),
        ("none.csv", None, "none.csv: No such file or directory"),
        ("r.csv.gz", None, "r.csv.gz: Not a gzipped file"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_at_the_start(
    tmp_path: Path, name: str, text: str | None, message: str
) -> None:
    if text is not None:
        write(tmp_path / name, text)
    elif name.endswith(".gz"):
        (tmp_path / name).write_bytes(b"plain text\n")
    with pytest.raises(FileError, match=message), source_of(tmp_path / name):
        pass


def test_a_damaged_archive_is_named(tmp_path: Path) -> None:
    path = write(tmp_path / "r.jsonl.gz", JSON_LINES * 1000)
    path.write_bytes(path.read_bytes()[:-40])
    with source_of(path) as source, pytest.raises(FileError, match=r"r\.jsonl\.gz"):
        source.latest(None)


# sockets


@pytest.fixture(params=["unix", "tcp"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return f"unix:{tmp_path}/readings" if request.param == "unix" else f"tcp:127.0.0.1:{free_port()}"


@pytest.fixture
def listening(address: str) -> Iterator[SocketSource]:
    with SocketSource(SocketSource.Options(listen=address), clock=lambda: 500.0) as source:
        yield source


def connect(source: SocketSource) -> socket.socket:
    kind, _, place = source.listen.partition(":")
    if kind == "tcp":
        return socket.create_connection(("127.0.0.1", int(place.rpartition(":")[2])), 60)
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(60)
    client.connect(place)
    return client


def is_closed(client: socket.socket) -> bool:
    try:
        return client.recv(1) == b""
    except ConnectionResetError:
        return True


def test_a_line_is_a_reading_though_its_client_stays(listening: SocketSource) -> None:
    with connect(listening) as client:
        client.sendall(b'{"name": "pressure", "value": 963.2, "sigma": 0.4}\n')
        wait_until(lambda: bool(listening.latest(None)), "the reading")
        assert listening.latest(None) == {"pressure": Reading("pressure", 963.2, 0.4, 500.0)}
        assert listening.latest(499.0) == {}


def test_pieces_of_lines_are_joined_and_the_last_needs_no_end(listening: SocketSource) -> None:
    with connect(listening) as client:
        for start in range(0, len(JSON_LINES) - 1, 25):
            client.sendall(JSON_LINES[start : min(start + 25, len(JSON_LINES) - 1)].encode())
    wait_until(lambda: listening.latest(None).get("pressure") == LATE, "the last reading")
    assert listening.latest(109.0) == {"pressure": EARLY, "temperature": WARM}
    assert listening.n_refused == 0


def test_many_clients_send_at_once(listening: SocketSource) -> None:
    def send(number: int) -> None:
        with connect(listening) as client:
            for k in range(50):
                line = json.dumps({"name": f"sensor-{number}", "value": k, "time": k})
                client.sendall(line.encode() + b"\n")

    threads = [threading.Thread(target=send, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    wait_until(lambda: [r.value for r in listening.latest(None).values()] == [49.0] * 8, "all readings")
    assert {r.value for r in listening.latest(30.0).values()} == {30.0}


def test_bad_lines_do_not_end_a_connection(listening: SocketSource) -> None:
    with capture_logs() as logs, connect(listening) as client:
        client.sendall(b"hello\n\n\xff\n" + JSON_LINES.encode())
        wait_until(lambda: listening.latest(None).get("pressure") == LATE, "the good lines")
    assert listening.n_refused == 2
    assert [(entry["source"], entry["refused"]) for entry in logs] == [
        (listening.listen, 1),
        (listening.listen, 2),
    ]


def test_a_line_without_end_closes_its_connection(listening: SocketSource) -> None:
    with capture_logs() as logs, connect(listening) as client, connect(listening) as other:
        client.sendall(b"x" * (3 * MAX_LINE_BYTES))
        assert is_closed(client)
        other.sendall(JSON_LINES.encode())
        wait_until(lambda: "pressure" in listening.latest(None), "another client")
    assert logs[0]["reason"] == f"a line of more than {MAX_LINE_BYTES} bytes: connection closed"


def test_connections_are_bounded(listening: SocketSource) -> None:
    clients = [connect(listening) for _ in range(MAX_CLIENTS)]
    try:
        with capture_logs() as logs, connect(listening) as one_too_many:
            assert is_closed(one_too_many)
        assert logs[0]["reason"] == f"more than {MAX_CLIENTS} connections"
        clients.pop().close()
        clients[0].sendall(JSON_LINES.encode())
        wait_until(lambda: "pressure" in listening.latest(None), "the reading")
        with connect(listening) as client:
            client.sendall(b'{"name": "late", "value": 1}\n')
            wait_until(lambda: "late" in listening.latest(None), "a client in the place that became free")
    finally:
        for client in clients:
            client.close()


def test_an_address_in_use_is_told_and_an_abandoned_one_taken(address: str, tmp_path: Path) -> None:
    options = SocketSource.Options(listen=address)
    with SocketSource(options):
        with pytest.raises(ConfigError, match=r"cannot listen: Address.* in use.*its own address"):
            SocketSource(options).__enter__()
        assert address.startswith("tcp") or (tmp_path / "readings").is_socket()
    assert not (tmp_path / "readings").exists()
    if address.startswith("unix"):
        with socket.socket(socket.AF_UNIX) as abandoned:
            abandoned.bind(str(tmp_path / "readings"))
    with SocketSource(options) as source, connect(source) as client:
        client.sendall(JSON_LINES.encode())
        wait_until(lambda: "pressure" in source.latest(None), "the reading")


def test_a_file_that_is_no_socket_is_left_alone(tmp_path: Path) -> None:
    path = write(tmp_path / "notes", "mine")
    with pytest.raises(ConfigError, match="cannot listen"):
        SocketSource(SocketSource.Options(listen=f"unix:{path}")).__enter__()
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        ("tcp:0.0.0.0:5000", "not a loopback address, and senders are not authenticated; listen at"),
        ("tcp:192.168.1.5:5000", "not a loopback address"),
        ("tcp:localhost:5000", "not at a name"),
        ("tcp:127.0.0.1", "port from 1 to 65535"),
        ("tcp:127.0.0.1:0", "port from 1 to 65535"),
        ("tcp:127.0.0.1:70000", "port from 1 to 65535"),
        ("unix:", "1 to 107 bytes"),
        ("unix:" + "a" * 108, "1 to 107 bytes"),
        ("/run/readings", "must be unix:PATH or tcp:127.0.0.1:PORT"),
    ],
)
def test_strangers_cannot_send(listen: str, message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        SocketSource.Options(listen=listen)


def test_the_loopback_of_ipv6_may_be_listened_at() -> None:
    assert SocketSource.Options(listen="tcp:[::1]:5000").listen == "tcp:[::1]:5000"
