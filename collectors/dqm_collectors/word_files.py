"""Files of raw TDC words, as text or as binary words of the electronics; plain, packed or a named pipe."""

from __future__ import annotations

import re
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import BinaryIO

import pyarrow as pa

from dqm.errors import FileError, escape_text
from dqm_collectors.chamber.geometry import WireMap
from dqm_collectors.chamber.hits import COLUMNS, RawHits
from dqm_collectors.chamber.words import WORD_BYTES, Numbering, decode_words, recognise_numbering, words_of
from dqm_collectors.text_blocks import BLOCK_BYTES, open_bytes, parse_csv, read_line, translate_errors

__all__ = ["WordFormat", "read_words"]

PIPE_BLOCK_BYTES = 1 << 15
"""Bytes read at a time from a pipe: smaller, because words arrive slowly and text waits for a full block."""

BINARY_BLOCK_BYTES = 1 << 19
"""Bytes of binary words read at a time: what is computed from them stays in the cache of a core."""

MOST_COMMENTS = 1000
"""Most lines before the header."""

_PEEK_BYTES = 512
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f\x7f]")
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_COMMENT = re.compile(rb"#[^\r\n]*")
_EDGE = re.compile(rb"(?<=[\r\n])[ \t]+|[ \t]+(?=[\r\n])")
_SEPARATOR = re.compile(rb"[ \t]*,[ \t]*|[ \t]+")


class WordFormat(StrEnum):
    """How words are written."""

    TEXT = "text"
    """A table with a header."""
    BINARY = "binary"
    """64 bits a word, little-endian."""


def read_words(
    path: Path,
    wires: WireMap,
    *,
    file_format: WordFormat | None = None,
    numbering: Numbering | None = None,
    block_bytes: int | None = None,
) -> Iterator[RawHits]:
    """Read a file of TDC words block by block.

    Parameters
    ----------
    path : Path
        Text with the columns `COLUMNS` in any order, or binary words; packed if its name ends in ``.gz``.
    wires : WireMap
        Convention of the words.
    file_format : WordFormat, optional
        By default it is recognised: text has no control characters.
    numbering : Numbering, optional
        Numbers in binary words; by default it is recognised in the first block.
    block_bytes : int, optional
        Bytes read at a time.

    Yields
    ------
    RawHits
        Words of one block, at least one, as they are in the file.

    Raises
    ------
    FileError
        If the file cannot be read, a cell is not an integer, a column is missing, or a binary file is text or
        has no whole number of words; the message names file, row and column, or byte.
    """
    is_pipe = path.is_fifo()
    with translate_errors(path), open_bytes(path) as file:
        begin = file.peek(_PEEK_BYTES)[:_PEEK_BYTES]  # type: ignore[attr-defined]
        if not begin:
            raise FileError(
                "the file is empty", where=str(path), fix="A run has a header and rows, or binary words"
            )
        is_text = not _CONTROL.search(begin)
        if file_format is WordFormat.BINARY and is_text:
            raise FileError(
                f"the file is text, not binary words: it begins with {_quote(begin)}",
                where=str(path),
                fix='Leave out format = "binary", or give the file of the electronics',
            )
        if file_format is WordFormat.TEXT and not is_text:
            raise FileError(
                "the file is not text: it has control characters at its beginning",
                where=str(path),
                fix='Leave out format = "text" if these are binary words',
            )
        if is_text:
            yield from _read_text(file, path, block_bytes or (PIPE_BLOCK_BYTES if is_pipe else BLOCK_BYTES))
        else:
            _check_length(path, is_pipe=is_pipe)
            block_bytes = block_bytes or (PIPE_BLOCK_BYTES if is_pipe else BINARY_BLOCK_BYTES)
            yield from _read_binary(file, path, wires, numbering, block_bytes, is_pipe=is_pipe)


def _read_text(file: BinaryIO, path: Path, block_bytes: int) -> Iterator[RawHits]:
    names = _read_names(file, path)
    missing = [name for name in COLUMNS if name not in names]
    if missing:
        there = escape_text(", ".join(names))[:200]
        raise FileError(
            f"no column {', '.join(missing)}; the first line has {there}",
            where=str(path),
            fix=f"The first line must name the columns {', '.join(COLUMNS)}",
        )
    header = ",".join(names).encode() + b"\n"
    types = dict.fromkeys(COLUMNS, pa.int64())
    for batch in parse_csv(file, path, header, types, names, block_bytes, _tidy):
        if len(batch):
            yield RawHits(*(batch.column(name).to_numpy() for name in COLUMNS))


def _read_names(file: BinaryIO, path: Path) -> tuple[str, ...]:
    """Names of the columns, in upper case, from the first line that is not a comment."""
    for _ in range(MOST_COMMENTS):
        line = read_line(file, path)
        text = _tidy(line.removeprefix(_BYTE_ORDER_MARK)).strip()
        if text or not line:
            return tuple(name.strip('"').upper() for name in text.decode(errors="replace").split(","))
    raise FileError(
        f"{MOST_COMMENTS} lines of comments and no header",
        where=str(path),
        fix="Remove lines of comments before the header",
    )


def _tidy(text: bytes) -> bytes:
    """Take out comments and blanks; blanks and tabs between values become commas."""
    if b"#" in text:
        text = _COMMENT.sub(b"", text)
    if b" " in text or b"\t" in text:
        text = _SEPARATOR.sub(b",", _EDGE.sub(b"", text.strip(b" \t")))
    return text


def _read_binary(
    file: BinaryIO,
    path: Path,
    wires: WireMap,
    numbering: Numbering | None,
    block_bytes: int,
    *,
    is_pipe: bool,
) -> Iterator[RawHits]:
    n_read = 0
    rest = b""
    read = file.read1 if is_pipe else file.read  # type: ignore[attr-defined]
    while data := read(block_bytes):
        n_read += len(data)
        data = rest + data if rest else data
        n_whole = len(data) // WORD_BYTES * WORD_BYTES
        rest = data[n_whole:]
        if n_whole:
            words = words_of(data[:n_whole] if rest else data)
            numbering = numbering or recognise_numbering(words, wires)
            yield decode_words(words, wires, numbering)
    if rest:
        raise _not_whole(n_read, path)


def _check_length(path: Path, *, is_pipe: bool) -> None:
    """Refuse a file that is not a whole number of words before anything is read from it."""
    size = path.stat().st_size
    if not is_pipe and path.suffix != ".gz" and size % WORD_BYTES:
        raise _not_whole(size, path)


def _not_whole(size: int, path: Path) -> FileError:
    rest = size % WORD_BYTES
    return FileError(
        f"{size} bytes are not a whole number of words of {WORD_BYTES} bytes: {rest} are left over",
        where=f"{path}, byte {size - rest}",
        fix="The file is cut or is not a file of words: copy it again, or cut it to whole words",
    )


def _quote(begin: bytes) -> str:
    return repr(begin[:40].decode(errors="replace"))
