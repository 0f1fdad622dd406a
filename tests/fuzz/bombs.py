"""Small inputs that claim or unpack to gigabytes, read by a process that may not have them.

``python -m tests.fuzz.bombs FOLDER`` prints one line for each: its name, and what became of it.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import resource
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from dqm.errors import DqmError, PeerError
from dqm.stream import encode
from tests.fuzz.targets import LIMITS, MANIFEST, NAMES, TARGETS, join, npy
from tests.stream.windows import window_of

ALLOWED_BYTES = 2**27
"""What reading may take on top of the process as it is."""

MEGABYTE = 2**20


@lru_cache
def packed(piece: bytes, n: int) -> bytes:
    """Gzip of `piece` repeated."""
    sink = io.BytesIO()
    with gzip.GzipFile(fileobj=sink, mode="wb", compresslevel=1, mtime=0) as file:
        for _ in range(n):
            file.write(piece)
    return sink.getvalue()


def compressed_payload(codec: str) -> bytes:
    """Arrow message whose buffers are said to unpack to 2 GiB each."""
    schema = pa.schema([pa.field(name, pa.float64()) for name in NAMES])
    batch = pa.RecordBatch.from_arrays([pa.array(np.zeros(4000))] * 2, schema=schema)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema, options=pa.ipc.IpcWriteOptions(compression=codec)) as writer:
        writer.write_batch(batch)
    body = bytes(sink.getvalue()).replace((32_000).to_bytes(8, "little"), (2**31).to_bytes(8, "little"))
    return body + b"\0" * (64_000 - len(body))


def message(payload: bytes | None = None, **claims: object) -> bytes:
    header, body = encode(window_of(np.zeros((4000, 2))))
    return join([json.dumps(json.loads(header) | claims).encode(), body if payload is None else payload])


def claiming_array() -> bytes:
    header = npy(np.zeros((30, 2))).replace(b"(30, 2)", b"(2000000000,2)")
    return header[:128].ljust(128) + b"\0" * 480


def manifest(**changes: object) -> bytes:
    return json.dumps(json.loads(MANIFEST) | changes).encode()


def claimed_twice() -> bytes:
    """Manifest and array that agree on 32 GB."""
    content = claiming_array()
    digest = hashlib.sha256(content).hexdigest()
    pool = {"name": f"pool-{digest[:16]}.npy", "sha256": digest, "shape": [2_000_000_000, 2]}
    return manifest(pool=pool)


def parquet(table: pa.Table, **options: object) -> bytes:
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()


def bombs() -> Iterator[tuple[str, str, Callable[[], bytes]]]:
    """Name, target, and the bytes: they are made before memory is limited."""
    for codec in ("zstd", "lz4"):
        yield (
            f"{codec} that unpacks to 2 GiB",
            "message",
            lambda codec=codec: message(compressed_payload(codec)),
        )
    yield "2^31 events claimed", "message", lambda: message(n_events=2**31)
    yield "2^63 events claimed", "message", lambda: message(n_events=2**63)
    yield "4000 features claimed", "message", lambda: message(features=[f"f{i}" for i in range(4000)])
    yield (
        "schema of 2 GiB claimed",
        "message",
        lambda: message(b"\xff\xff\xff\xff\x00\x00\x00\x7f" + b"\0" * 64_000),
    )
    yield (
        "250 conditions",
        "message",
        lambda: message(conditions={f"c{i}": "x" * 200 for i in range(250)}),
    )
    yield "array of 32 GB claimed", "array", claiming_array
    yield "array of 32 GB claimed by the manifest too", "manifest", claimed_twice
    yield "manifest of 16 MiB", "manifest", lambda: b" " * (2**24 + 1)
    yield "gzip of one line of 300 MiB", "features-gz", lambda: packed(b"a" * MEGABYTE, 300)
    yield (
        "gzip of one row of 300 MiB",
        "features-gz",
        lambda: packed(b"a,b\n", 1) + packed(b"a" * MEGABYTE, 300),
    )
    yield "readings in one line of 300 MiB", "readings-gz", lambda: packed(b"a" * MEGABYTE, 300)
    yield "configuration of 64 MiB", "daemon", lambda: b"#" * 2**26
    yield "beam line of 64 MiB", "beam", lambda: b"1 " * 2**25
    yield "beam line of a million hits", "beam", lambda: b"1 1000000 " + b"0 1 1 1 1 " * 10
    yield (
        "name of a chamber of 1 MB",
        "features-parquet",
        lambda: parquet(pa.table({"a": np.zeros(60_000), "chamber": ["c"] * 59_999 + ["c" * 1_000_000]})),
    )
    yield (
        "256 MiB of zeros in a small file",
        "features-parquet",
        lambda: parquet(
            pa.table({"a": np.zeros(2**25)}), use_dictionary=False, data_page_size=2**31, row_group_size=2**28
        ),
    )


def main(folder: Path) -> None:
    """Read every bomb with little memory."""
    made = [(name, target, make()) for name, target, make in bombs()]
    pa.default_memory_pool().release_unused()
    status = Path("/proc/self/statm").read_text()
    used = int(status.split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + ALLOWED_BYTES, used + ALLOWED_BYTES))
    for name, target, data in made:
        try:
            TARGETS[target].read(data, folder)
            what = "read"
        except PeerError as error:
            what = error.reason
        except DqmError as error:
            what = f"{type(error).__name__}: {error}"
        print(f"{name}\t{what}", flush=True)  # noqa: T201
    assert LIMITS.max_payload_bytes < ALLOWED_BYTES


if __name__ == "__main__":
    main(Path(sys.argv[1]))
