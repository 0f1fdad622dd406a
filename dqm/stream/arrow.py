"""Frame 1 of a message: columns of float64 as an Arrow IPC stream with one record batch.

The order of the checks limits the cost of a malicious frame. First the messages of the stream are separated
without a copy. Compressed bodies are refused before Arrow unpacks them, because a few bytes may claim
gigabytes. Then the schema is compared with the header, and only then the batch is read.
"""

from __future__ import annotations

import struct
from functools import lru_cache

import numpy as np
import pyarrow as pa

from dqm.errors import PeerError, format_count, format_names
from dqm.events import FloatArray
from dqm.stream.acknowledgement import Reason

__all__ = ["read_columns", "write_columns"]

# Positions of fields in the flatbuffer tables of Arrow's format/Message.fbs.
_MOST_NAMED = 3
_MESSAGE_HEADER = 2
_RECORD_BATCH_COMPRESSION = 3

_END = b"\xff\xff\xff\xff\0\0\0\0"
"""End-of-stream mark."""


def write_columns(names: tuple[str, ...], x: FloatArray) -> bytes:
    """Encode columns as an Arrow IPC stream.

    Parameters
    ----------
    names : tuple of str
        One name for each column.
    x : ndarray, shape (n_events, n_features)
        Values.

    Returns
    -------
    bytes
        Schema, one uncompressed record batch, end-of-stream mark.
    """
    schema, message = _schema_of(names)
    columns = [pa.array(column) for column in np.ascontiguousarray(x.T, dtype=np.float64)]
    batch = pa.RecordBatch.from_arrays(columns, schema=schema)
    return b"".join((message, batch.serialize(), _END))  # as a writer of Arrow, which takes twice as long


def read_columns(
    frame: bytes, names: tuple[str, ...], n_events: int, *, nan_share: float = 0.0
) -> FloatArray:
    """Decode the columns of a frame, and check that they are those that the header announced.

    Parameters
    ----------
    frame : bytes
        Arrow IPC stream; its size is already checked against the header.
    names : tuple of str
        Names of the columns, in order.
    n_events : int
        Number of rows in the header.
    nan_share : float
        Share of the rows in which each column may be NaN.

    Returns
    -------
    ndarray, shape (n_events, n_features)
        Finite values, and NaN where it is allowed.

    Raises
    ------
    PeerError
        With one of the ``payload-…`` reasons, ``event-count`` or ``not-finite``.
    """
    try:
        batch = _read_batch(pa.py_buffer(frame), names)
    except (pa.ArrowException, OSError, UnicodeDecodeError, struct.error) as error:
        text = ascii(str(error))[1:-1][:200]
        raise PeerError(Reason.PAYLOAD_ARROW, f"Arrow cannot read the payload: {text}") from error
    if batch.num_rows != n_events:
        raise PeerError(
            Reason.EVENT_COUNT,
            f"the header announces {format_count(n_events, 'event')}, the payload has {batch.num_rows}",
        )
    x = np.empty((n_events, len(names)))
    for position, column in enumerate(batch.columns):
        if column.null_count:
            raise PeerError(
                Reason.PAYLOAD_NULL,
                f"column {names[position]} has {format_count(column.null_count, 'null')}",
            )
        x[:, position] = column.to_numpy(zero_copy_only=True)
    is_finite = np.isfinite(x)
    if is_finite.all() or not n_events:
        return x
    largest = float((~is_finite).mean(axis=0).max())
    if largest > nan_share or np.isinf(x).any():
        limit = f", at most {100.0 * nan_share:.2g} % of NaN allowed" if nan_share else ""
        raise PeerError(Reason.NOT_FINITE, _describe_not_finite(x, names) + limit)
    return x


@lru_cache(maxsize=256)
def _schema_of(names: tuple[str, ...]) -> tuple[pa.Schema, bytes]:
    """Make the schema of columns with these names, and the message that says it."""
    schema = pa.schema([pa.field(name, pa.float64(), nullable=False) for name in names])
    return schema, schema.serialize().to_pybytes()


def _describe_not_finite(x: FloatArray, names: tuple[str, ...]) -> str:
    """Name the features and their shares of bad rows: ``NaN or infinity in 2 % of t_2``."""
    shares = (~np.isfinite(x)).mean(axis=0)
    worst = sorted(((share, name) for share, name in zip(shares, names, strict=True) if share), reverse=True)
    told = [f"{100.0 * share:.2g} % of {name}" for share, name in worst]
    return f"NaN or infinity in {format_names(told, _MOST_NAMED)}"


def _read_batch(payload: pa.Buffer, names: tuple[str, ...]) -> pa.RecordBatch:
    messages = list(pa.ipc.MessageReader.open_stream(payload))
    kinds = [message.type for message in messages]
    if kinds != ["schema", "record batch"]:
        raise PeerError(
            Reason.PAYLOAD_ARROW, f"expected a schema and one record batch, got {', '.join(kinds[:5])}"
        )
    if _is_compressed(bytes(messages[1].metadata)):
        raise PeerError(Reason.PAYLOAD_COMPRESSED, "the record batch is compressed; send it uncompressed")
    schema = pa.ipc.read_schema(messages[0])
    if not schema.equals(_schema_of(names)[0]):  # other programs may write that a column can have nulls
        _check_schema(schema, names)
    batch = pa.ipc.read_record_batch(messages[1], schema)
    batch.validate()
    return batch


def _check_schema(schema: pa.Schema, names: tuple[str, ...]) -> None:
    if tuple(schema.names) != names:
        raise PeerError(
            Reason.PAYLOAD_COLUMNS,
            f"the header names {', '.join(names)}; the columns are {ascii(schema.names)[1:-1][:200]}",
        )
    for field in schema:
        if field.type != pa.float64():
            raise PeerError(
                Reason.PAYLOAD_DTYPE, f"column {field.name} is {str(field.type)[:50]}, not float64"
            )


def _is_compressed(metadata: bytes) -> bool:
    """Whether the flatbuffer of a record batch has a ``compression`` table.

    Parameters
    ----------
    metadata : bytes
        Flatbuffer of an Arrow ``Message`` that holds a ``RecordBatch``.

    Returns
    -------
    bool
        True if the bodies are compressed.

    Raises
    ------
    struct.error
        If an offset points outside the bytes.
    """
    message = _read_at("<I", metadata, 0)
    header = _find_field(metadata, message, _MESSAGE_HEADER)
    if header is None:
        raise struct.error("message without header")
    batch = header + _read_at("<I", metadata, header)
    return _find_field(metadata, batch, _RECORD_BATCH_COMPRESSION) is not None


def _find_field(data: bytes, table: int, field: int) -> int | None:
    """Position of a field in a flatbuffer table; None if the table does not have the field."""
    vtable = table - _read_at("<i", data, table)
    entry = 4 + 2 * field
    if entry + 2 > _read_at("<H", data, vtable):
        return None
    offset = _read_at("<H", data, vtable + entry)
    return table + offset if offset else None


def _read_at(code: str, data: bytes, position: int) -> int:
    if position < 0:
        raise struct.error(f"offset {position} lies before the buffer")
    return int(struct.unpack_from(code, data, position)[0])
