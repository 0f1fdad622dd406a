"""Answers of other programs over HTTP: they are asked for, and taken, uncompressed, up to a limit.

A few bytes may unpack to gigabytes, and compressed twice to terabytes. So nothing is unpacked that comes from
elsewhere: what is compressed although nobody asked for it is not read.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from typing import Any

import httpx

__all__ = ["IDENTITY", "PLAIN", "bounded_adapter", "get_plain", "read_plain"]

PLAIN = {"Accept-Encoding": "identity"}
"""Header of a request whose answer shall not be compressed."""

IDENTITY = ("", "identity")
"""Values of the header Content-Encoding of an answer that is not compressed."""


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
    if answer.headers.get("Content-Encoding", "").lower() not in IDENTITY:
        raise ValueError("its answer is compressed, which it was not asked for")
    content = bytearray()
    for part in answer.iter_raw():
        content += part
        if len(content) > most_bytes:
            raise ValueError(f"its answer has more than {most_bytes // 1_000_000} MB")
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
            is_plain = response.headers.get("Content-Encoding", "").lower() in IDENTITY
            content = response.raw.read(most_bytes + 1, decode_content=False) if is_plain else None
            response.raw.close()
            response.headers.pop("Content-Encoding", None)
            if content is None or len(content) > most_bytes:
                if refuse is not None:
                    what = "compressed" if content is None else f"longer than {most_bytes // 1_000_000} MB"
                    raise refuse(f"the answer is {what}")
                content = b""
            response.raw = io.BytesIO(content)
            return response

    return BoundedAdapter
