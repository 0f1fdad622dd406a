"""What is fuzzed: each reader of bytes from outside, with seeds that it accepts.

A target takes arbitrary bytes and a directory it may write to. It may raise `DqmError`, nothing else.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import tempfile
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import uproot

from dqm.config import load_collector, load_daemon
from dqm.events import RunEvent, RunNotice
from dqm.reference import open_bundle
from dqm.stream import Limits, Spool, decode, decode_run, encode, encode_run, read_public, read_secret
from dqm.stream.acknowledgement import (
    decode_answer,
    encode_acknowledgement,
    encode_refusal,
    encode_run_answer,
)
from dqm.stream.arrow import read_columns, write_columns
from dqm.stream.backlog import Message
from dqm.stream.run_message import claimed_run, is_run_message, run_identity_of
from dqm.stream.wire import claimed_identity, header_of, payload_of
from dqm.web.auth.users import UserFile
from dqm_collectors.beam import BeamCollector
from dqm_collectors.inputs.expression import parse_expression
from dqm_collectors.inputs.state_file import StateFile
from dqm_collectors.replay import ReplayCollector, read_features
from dqm_collectors.root_histograms import parse_histograms
from dqm_collectors.root_process import write_description, write_histograms, write_tree
from dqm_collectors.slow_control.file import FileSource
from dqm_collectors.slow_control.readings import parse_json
from dqm_collectors.tdc import TdcCollector
from tests.stream.windows import window_of

LIMITS = Limits(max_payload_bytes=2**20)
NAMES = ("t_0", "t_1")
X = np.arange(60.0).reshape(30, 2)
CSV = "time,chamber,a,b\n" + "".join(f"{i},c{i % 2},{i * 0.5},{-i}\n" for i in range(30))
TDC = "HEAD,FPGA,TDC_CHANNEL,ORBIT_CNT,BX_COUNTER,TDC_MEAS\n" + "".join(
    f"2,0,{i % 64},{1000 + i},{i % 3564},{i % 30}\n" for i in range(60)
)
WORDS = b"".join(
    (2 << 62 | i % 64 << 49 | (1000 + i) << 17 | i % 3564 << 5 | 1 + i % 30).to_bytes(8, "little")
    for i in range(60)
)
BEAM = "".join(f"{i} 2 0 1 21 21 100.5 0 2 0 0 250\n" for i in range(8))
READINGS = "time,name,value,sigma\n" + "".join(f"{i},pressure,{960 + i},0.4\n" for i in range(9))
READING = b'{"time": 5.0, "name": "pressure", "value": 963.2, "sigma": 0.4}'
DAEMON = (
    b'[daemon]\nhttp = "127.0.0.1:0"\n[quality]\nmedium_p = 0.01\n[[streams]]\nname = "a"\nbundle = "b"\n'
)
COLLECTOR = b'[collector]\nname = "tdc"\n[window]\nevents = 500\n[options]\ninputs = ["a.csv"]\n'
KEY = b'public = "rq:rM>}U?@Lns47E1%kR.o@n%FcmmsL/@{H8]yf7"\n'
SECRET = KEY + b'secret = "JTKVSB%%)wK0E.X)V>+}o?pNmC{O&4W4b!Ni{Lh6"\n'
USERS = b'[users]\n"maria" = "$argon2id$v=19$m=65536,t=3,p=4$Mt9BySmiXQtQC121Psu1mg$dEnMwG/4ExqEeGhmOvLlrg"\n'


@dataclass(frozen=True)
class Target:
    """A reader and what it accepts."""

    read: Callable[[bytes, Path], object]
    seeds: tuple[bytes, ...]


def split(data: bytes) -> list[bytes]:
    """Two frames out of one stretch of bytes; the first two bytes say where to cut."""
    cut = 2 + int.from_bytes(data[:2], "big")
    return [data[2:cut], data[cut:]]


def join(frames: list[bytes]) -> bytes:
    """Undo `split`."""
    return len(frames[0]).to_bytes(2, "big") + b"".join(frames)


def read_message(data: bytes, _: Path) -> object:
    frames = split(data)
    claimed_identity(frames, LIMITS)
    window = decode(frames, LIMITS)
    assert np.isfinite(window.x).all()
    assert window.x.shape == (len(window.x), len(window.names))
    return window


def read_run_message(data: bytes, _: Path) -> object:
    if is_run_message([data], LIMITS):
        claimed_run([data])
    return decode_run([data], LIMITS)


def read_payload(data: bytes, _: Path) -> object:
    x = read_columns(data, NAMES, len(X))
    assert np.isfinite(x).all()
    return x


def read_answer(data: bytes, _: Path) -> object:
    return decode_answer(split(data))


def exhaust(batches: Iterable[object]) -> int:
    return sum(1 for _ in batches)


def features_of(ending: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> object:
        return exhaust(read_features(written(folder / f"features{ending}", data)))

    return read


def read_table(data: bytes, folder: Path) -> object:
    """A table with everything that CSV may have, and features that are computed."""
    options = ReplayCollector.Options(
        inputs=(written(folder / "table.csv", data),),
        decimal=",",
        thousands=".",
        encoding="cp1252",
        derive={"d": "sqrt(abs(`drift time [ns]`))"},
        select="d < 1000",
        features=("d",),
        keep_nan=True,
    )
    return exhaust(ReplayCollector(options))


def read_expression(data: bytes, _: Path) -> object:
    found = parse_expression(data.decode(errors="replace"), "derive.r")
    return found.evaluate({name: np.array([0.5, -2.0]) for name in found.columns})


def read_state(data: bytes, folder: Path) -> object:
    state = StateFile(written(folder / "files.state", data))
    try:
        state.open({"tree": None})
        return state.note
    finally:
        state.close()


def read_root_here(data: bytes, folder: Path) -> None:
    """As the process that reads ROOT files does, in this one."""
    path = written(folder / "features.root", data)
    sink = io.BytesIO()
    write_description(path, sink)
    for tree in json.loads(pa.ipc.open_stream(sink.getvalue()).schema.metadata[b"trees"]):
        write_tree(path, tree["name"], [column["name"] for column in tree["columns"]], io.BytesIO())


def read_histograms_here(data: bytes, folder: Path) -> None:
    """As the process that reads histograms does, in this one; what is found is written as rows."""
    path, sink = written(folder / "histograms.root", data), io.BytesIO()
    names = ("one", "two", "tree")
    write_histograms(path, names, sink)
    rows = pa.ipc.open_stream(sink.getvalue()).read_all()
    for histogram in parse_histograms(rows, path, names).found.values():
        assert histogram.rows(flow=True)[:, -1].sum() == histogram.n_events


def histogram_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "histograms.root"
        with uproot.recreate(path) as file:
            file["one"] = np.histogram(X[:, 0], bins=4)
            file["two"] = np.histogram2d(X[:, 0], X[:, 1], bins=(3, 2))
            file.mktree("tree", {"a": "f8"}).extend({"a": X[:, 0]})
        return path.read_bytes()


def hits_of(ending: str) -> Callable[[bytes, Path], object]:
    """Every word that is read is a hit or is counted among those left out."""

    def read(data: bytes, folder: Path) -> object:
        collector = TdcCollector(TdcCollector.Options(inputs=(written(folder / f"hits{ending}", data),)))
        n_batches = exhaust(collector)
        counts = collector.counts()
        left_out = sum(n for name, n in counts.items() if name.startswith("left_out"))
        assert counts.get("words", 0) == counts.get("hits", 0) + left_out
        return n_batches

    return read


def read_beam(data: bytes, folder: Path) -> object:
    options = BeamCollector.Options(inputs=(written(folder / "beam.txt", data),))
    return exhaust(BeamCollector(options))


def readings_of(ending: str) -> Callable[[bytes, Path], object]:
    def read(data: bytes, folder: Path) -> object:
        options = FileSource.Options(path=written(folder / f"readings{ending}", data))
        with FileSource(options) as source:
            return source.latest(None)

    return read


def read_reading(data: bytes, _: Path) -> object:
    return parse_json(data)


def read_daemon(data: bytes, folder: Path) -> object:
    return load_daemon(written(folder / "daemon.toml", data), {}, {})


def read_collector(data: bytes, folder: Path) -> object:
    return load_collector(written(folder / "collector.toml", data), {}, {})


def read_key(data: bytes, folder: Path) -> object:
    return read_public(written(folder / "west.public", data))


def read_own_key(data: bytes, folder: Path) -> object:
    path = written(folder / "west.secret", data)
    path.chmod(0o600)
    return read_secret(path)


def read_users(data: bytes, folder: Path) -> object:
    path = written(folder / "users.toml", data)
    path.chmod(0o600)
    return UserFile(path).find("maria")


def read_spool(data: bytes, folder: Path) -> object:
    for old in folder.glob("windows.sqlite*"):
        old.unlink()
    written(folder / "windows.sqlite", data)
    with Spool(folder) as spool:
        return spool.load()


def read_manifest(data: bytes, folder: Path) -> object:
    written(folder / "manifest.json", data)
    for name, content in arrays().items():
        written(folder / name, content)
    return open_bundle(folder)


def read_array(data: bytes, folder: Path) -> object:
    """One array of a bundle, with the checksum that a hostile manifest would give it."""
    digest = hashlib.sha256(data).hexdigest()
    manifest = json.loads(MANIFEST)
    name = f"pool-{digest[:16]}.npy"
    manifest["pool"] |= {"name": name, "sha256": digest}
    written(folder / name, data)
    return read_manifest(json.dumps(manifest).encode(), folder)


def written(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def npy(values: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, values)
    return buffer.getvalue()


def arrays() -> dict[str, bytes]:
    """Arrays of the seed bundle by file name."""
    contents = [(kind, npy(X + number)) for number, kind in enumerate(("reference", "centers", "pool"))]
    return {f"{kind}-{hashlib.sha256(data).hexdigest()[:16]}.npy": data for kind, data in contents}


def manifest_of(files: dict[str, bytes]) -> bytes:
    described = {
        name.partition("-")[0]: {
            "name": name,
            "sha256": hashlib.sha256(data).hexdigest(),
            "shape": list(X.shape),
        }
        for name, data in files.items()
    }
    manifest = {
        "features": ["a", "b"],
        "statistic": "kernel",
        "settings": {"width": 2.0, "penalty": 1e-5},
        "cut": "count",
        "n_expected": 10.0,
        "seed": 1,
        **described,
    }
    return json.dumps(manifest).encode()


def parquet_of(**options: object) -> bytes:
    table = pa.table({"time": np.arange(30.0), "chamber": ["c"] * 30, "a": X[:, 0], "b": range(30)})
    sink = io.BytesIO()
    pq.write_table(table, sink, **options)
    return sink.getvalue()


def root_file(*, as_tree: bool) -> bytes:
    """Give events in a TTree or an RNTuple."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "events.root"
        with uproot.recreate(path) as file:
            make = file.mktree if as_tree else file.mkrntuple
            make("events", {"a": np.float64, "b": np.float64})
            file["events"].extend({"a": X[:, 0], "b": X[:, 1]})
        return path.read_bytes()


def spool_file() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        with Spool(Path(folder)) as spool:
            for seq in range(3):
                window = window_of(X, seq=seq)
                spool.add(Message(header_of(window), payload_of(window)))
        return (Path(folder) / "windows.sqlite").read_bytes()


STATE = (
    '{"version":1,"options":{"tree":null},"position":{"path":"a.root","row":5,"rows_before":0,"last_time":1.5,'
    '"end":2.0,"chambers":["0"]},"note":"{}","finished":{"a.root":9}}'
)
MANIFEST = manifest_of(arrays())
RUN_END = RunNotice("chamber-*", 591, "cosmics", RunEvent.END, 1.7e9, "operator")
TARGETS = {
    "run": Target(read_run_message, (encode_run(RUN_END),)),
    "message": Target(
        read_message,
        (join(encode(window_of(X))), join(encode(window_of(X[:0], conditions={"hv": 5.0, "trigger": "a"})))),
    ),
    "payload": Target(read_payload, (write_columns(NAMES, X),)),
    "answer": Target(
        read_answer,
        (
            join(encode_acknowledgement(("a", 1, 2))),
            join(encode_refusal(("a", 1, 2), "origin")),
            join(encode_run_answer(run_identity_of(RUN_END), "run-ended", "it ended already")),
        ),
    ),
    "features-csv": Target(features_of(".csv"), (CSV.encode(),)),
    "features-table": Target(
        read_table, ('# a\n"drift time [ns]";b [°]\n1.234,5;-3\n,5;1e3\n'.encode("cp1252"),)
    ),
    "expression": Target(read_expression, (b"sqrt(x**2 + `a b` / 3) * where(x > 0 and y < 1e3, 2, -y)",)),
    "files-state": Target(read_state, (STATE.encode(),)),
    "features-gz": Target(features_of(".csv.gz"), (gzip.compress(CSV.encode(), mtime=0),)),
    "features-parquet": Target(
        features_of(".parquet"), tuple(parquet_of(compression=c) for c in ("none", "zstd", "snappy"))
    ),
    "features-root": Target(read_root_here, (root_file(as_tree=True), root_file(as_tree=False))),
    "histograms-root": Target(read_histograms_here, (histogram_file(),)),
    "hits": Target(
        hits_of(".csv"), (TDC.encode(), TDC.replace(",", " , ").encode(), b"# a\n" + TDC.encode())
    ),
    "words": Target(hits_of(".dat"), (WORDS, WORDS * 2)),
    "beam": Target(read_beam, (BEAM.encode(),)),
    "readings-csv": Target(readings_of(".csv"), (READINGS.encode(),)),
    "readings-json": Target(readings_of(".jsonl"), (READING + b"\n",)),
    "readings-gz": Target(readings_of(".jsonl.gz"), (gzip.compress(READING + b"\n", mtime=0),)),
    "reading": Target(read_reading, (READING,)),
    "daemon": Target(read_daemon, (DAEMON,)),
    "collector": Target(read_collector, (COLLECTOR,)),
    "key": Target(read_key, (KEY + b'streams = ["a", "b-*"]\n',)),
    "secret": Target(read_own_key, (SECRET,)),
    "users": Target(read_users, (USERS,)),
    "spool": Target(read_spool, (spool_file(),)),
    "manifest": Target(read_manifest, (MANIFEST,)),
    "array": Target(read_array, (npy(X),)),
}
