"""Answers of the provider: requested and read uncompressed, up to a limit. See `dqm.export.answers`."""

from __future__ import annotations

import ssl

import httpx2

from dqm.export.answers import PLAIN, PlainContent

__all__ = ["BoundedTransport"]

_MOST_BYTES = 4_000_000
"""Longest answer: metadata, keys, tokens and the groups of a user."""


class BoundedTransport(httpx2.AsyncHTTPTransport):
    """Transport that refuses compressed answers and reads at most 4 MB of others.

    Parameters
    ----------
    verify : ssl.SSLContext
        Which certificates are trusted.
    """

    def __init__(self, verify: ssl.SSLContext) -> None:
        super().__init__(verify=verify)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Ask; raises `httpx2.DecodingError` for an answer that is compressed or longer."""
        request.headers.update(PLAIN)
        answer = await super().handle_async_request(request)
        try:
            content = PlainContent(answer.headers, _MOST_BYTES)
            async for part in answer.aiter_raw():
                content.add(part)
        except ValueError as error:
            raise httpx2.DecodingError(str(error)) from None
        finally:
            await answer.aclose()
        return httpx2.Response(answer.status_code, headers=answer.headers, content=bytes(content))
