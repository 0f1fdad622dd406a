"""Answers of other programs over HTTP: requested and read uncompressed, up to a limit.

A few bytes may unpack to gigabytes, and compressed twice to terabytes. So answers from other hosts are never
unpacked. An answer that is compressed although nobody asked for it is not read.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx

__all__ = ["PLAIN", "PlainContent", "bounded_adapter", "get_plain", "read_plain"]

PLAIN = {"Accept-Encoding": "identity"}
"""Header of a request that asks for an uncompressed answer."""


class PlainContent:
    """Content of an answer, taken in as it comes.

    Parameters
    ----------
    headers : mapping of str to str
        Of the answer; its names may be in capitals or not.
    most_bytes : int
        Longest content.

    Raises
    ------
    ValueError
        If it is compressed; and by `add`, if it is longer.
    """

    def __init__(self, headers: Mapping[str, str], most_bytes: int) -> None:
        if headers.get("Content-Encoding", "").lower() not in ("", "identity"):
            raise ValueError("its answer is compressed, although this was not asked for")
        self._most_bytes = most_bytes
        self._content = bytearray()

    def add(self, part: bytes) -> None:
        """Take in the next part."""
        self._content += part
        if len(self._content) > self._most_bytes:
            raise ValueError(f"its answer has more than {self._most_bytes // 1_000_000} MB")

    def __bytes__(self) -> bytes:
        """Give what has come."""
        return bytes(self._content)


def get_plain(method: str, url: str, *, most_bytes: int, seconds: float, **request: Any) -> httpx.Response:
    """Ask once, without proxies of the environment.

    Parameters
    ----------
    method, url : str
        As of `httpx.request`, and so are further arguments.
    most_bytes : int
        Longest content.
    seconds : float
        Longest wait for the answer to begin, and until it ends.

    Raises
    ------
    httpx.HTTPError, httpx.InvalidURL
        If nobody answers; `httpx.DecodingError` where `read_plain` refuses the answer.
    """
    with (
        httpx.Client(timeout=seconds, trust_env=False) as client,
        client.stream(method, url, headers=PLAIN, **request) as answer,
    ):
        try:
            content = read_plain(answer, most_bytes=most_bytes, seconds=seconds)
        except ValueError as error:
            raise httpx.DecodingError(str(error), request=answer.request) from None
    return httpx.Response(answer.status_code, headers=answer.headers, content=content)


def read_plain(answer: httpx.Response, *, most_bytes: int, seconds: float) -> bytes:
    """Read the content of an answer that is being streamed.

    Raises
    ------
    ValueError
        If it is compressed, longer, or does not end in this time; the message says which.
    """
    ends_at = time.monotonic() + seconds
    content = PlainContent(answer.headers, most_bytes)
    for part in answer.iter_raw():
        content.add(part)
        if time.monotonic() > ends_at:
            raise ValueError(f"its answer takes longer than {seconds:.0f} s")
    return bytes(content)


def bounded_adapter(adapter: type[Any], most_bytes: int, refuse: Callable[[str], Exception] | None) -> Any:
    """Make a transport adapter for sessions of ``requests``, or of its descendant ``niquests``.

    Parameters
    ----------
    adapter : type
        Their ``HTTPAdapter``.
    most_bytes : int
        Longest content.
    refuse : callable or None
        Makes the exception to raise for content that is compressed or longer; None: such content is left
        out, and the status alone counts.

    Returns
    -------
    type
        A subclass of it.
    """

    class BoundedAdapter(adapter):  # type: ignore[misc]
        def send(self, request: Any, *arguments: Any, **named: Any) -> Any:
            request.headers.update(PLAIN)
            response = super().send(request, *arguments, **named)
            content = b""
            try:
                taken = PlainContent(response.headers, most_bytes)
                taken.add(response.raw.read(most_bytes + 1, decode_content=False))
                content = bytes(taken)
            except ValueError as error:
                if refuse is not None:
                    raise refuse(str(error)) from None
            finally:
                response.raw.close()
            response.headers.pop("Content-Encoding", None)
            response.raw = io.BytesIO(content)
            return response

    return BoundedAdapter
