"""A client of Dask that leaves nothing to the garbage collector."""

from __future__ import annotations

from typing import Any

from distributed import Client

__all__ = ["ClosingClient"]

START_SECONDS = 15.0
"""How long to wait for what answers to prove a scheduler; Dask itself waits for ever."""

CLOSE_SECONDS = 10.0
"""How long to wait for a scheduler that does not answer."""


class ClosingClient(Client):  # type: ignore[misc]  # Dask is half typed
    """A client that closes completely, even if it could not connect or cannot reach the scheduler.

    Dask's own client then leaves the thread of its loop running, and the garbage collector closes it at some
    time. If this happens while another client is made, it waits for ever, because its own thread has the
    lock.
    """

    _is_ended = False

    def start(self, **options: Any) -> None:
        """Connect; a client that cannot is closed."""
        try:
            super().start(callback_timeout=START_SECONDS, **options)
        except TimeoutError as error:
            self.close()
            raise TimeoutError(f"nothing was said for {START_SECONDS:g} s") from error
        except BaseException:
            self.close()
            raise

    def close(self, timeout: float = CLOSE_SECONDS) -> None:
        """Let go of all items, if the scheduler answers in time, and end the thread of the loop.

        The garbage collector calls it once more, in any thread. It may not take a lock then.
        """
        if self._is_ended:
            return
        try:
            super().close(timeout)
        finally:
            self.status = "closed"
            self._loop_runner.stop()
            self._is_ended = True
