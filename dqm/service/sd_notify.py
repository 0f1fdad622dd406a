"""What systemd is told: ready, reloading, stopping, how things are, and that work goes on.

The protocol is a datagram of ``NAME=value`` lines to the socket that ``$NOTIFY_SOCKET`` names; without it
nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from dqm.events import Verdict

__all__ = ["Notifier", "ProgressWatch", "ServiceReport"]

_STATUS_SECONDS = 5.0
_FEEDS_PER_PERIOD = 4  # systemd advises two; a datagram may be late


class Notifier:
    """Tells the service manager; does nothing where there is none.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Environment; that of the process if left out.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1e6 if is_ours and microseconds.isdigit() else None
        """Longest silence before systemd restarts the service; None: it does not watch."""

    def ready(self) -> bool:
        """Say that the service works, after its start or a reload."""
        return self._send("READY=1")

    def reloading(self) -> bool:
        """Say that a reload has begun; `ready` ends it."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={now // 1000}")

    def stopping(self) -> bool:
        """Say that the service is about to end."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """Show one line in ``systemctl status``, if it is another than before."""
        line = " ".join(text.split())
        if line == self._status:
            return False
        self._status = line
        return self._send(f"STATUS={line}")

    def feed_watchdog(self) -> bool:
        """Say that work goes on; see `ProgressWatch`."""
        return self._send("WATCHDOG=1")

    def _send(self, message: str) -> bool:
        """Send a datagram; False if nobody takes it, which must not stop the service."""
        if not self._address:
            return False
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sink:
                sink.setblocking(False)
                sink.sendto(message.encode(), self._address)
        except OSError:
            return False
        return True


class ProgressWatch:
    """Feeds the watchdog for as long as windows get done, or none is to be done.

    A loop that turns is not enough: with windows waiting and none finished, nothing is fed, and systemd
    restarts the service after ``WatchdogSec``.

    Parameters
    ----------
    notifier : Notifier
        Whom to tell.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(self, notifier: Notifier, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._notifier = notifier
        self._monotonic = monotonic
        self._n_done = -1
        self._feed_at = 0.0

    def note(self, *, n_done: int, n_waiting: int, held: bool = False) -> bool:
        """Feed the watchdog if there is progress and it is time to.

        Parameters
        ----------
        n_done : int
            Windows finished since the start; it need only change.
        n_waiting : int
            Windows received and not finished.
        held : bool
            Whether there is a known reason to wait that a restart would not mend, such as a full disk.

        Returns
        -------
        bool
            Whether it was fed.
        """
        if self._notifier.watchdog_seconds is None:
            return False
        progress = held or n_waiting == 0 or n_done != self._n_done
        if not progress or self._monotonic() < self._feed_at:
            return False
        self._n_done = n_done
        self._feed_at = self._monotonic() + self._notifier.watchdog_seconds / _FEEDS_PER_PERIOD
        return self._notifier.feed_watchdog()


class ServiceReport:
    """Tells the service manager how the daemon gets on: its status line, and the watchdog.

    Parameters
    ----------
    notifier : Notifier
        Whom to tell.
    clock : callable
        Unix time, s.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(
        self, notifier: Notifier, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._notifier, self._clock, self._monotonic = notifier, clock, monotonic
        self._watch = ProgressWatch(notifier, monotonic)
        self._n_judged = 0
        self._last: Verdict | None = None
        self._status_at = 0.0
        self._problem = ""

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Take in verdicts that were stored."""
        self._n_judged += len(verdicts)
        self._last = verdicts[-1] if verdicts else self._last

    def end_reload(self, problem: str) -> None:
        """Say that the service is ready again, and what kept the reload from being done."""
        self._problem = f"; reload refused: {problem}" if problem else ""
        self._status_at = 0.0
        self._notifier.ready()

    def note(self, *, n_waiting: int, held: bool) -> None:
        """Feed the watchdog as `ProgressWatch` does, and bring the status up to date now and then."""
        self._watch.note(n_done=self._n_judged, n_waiting=n_waiting, held=held)
        if self._monotonic() < self._status_at:
            return
        self._status_at = self._monotonic() + _STATUS_SECONDS
        last = "no window yet"
        if self._last is not None:
            last = (
                f"run {self._last.window.run}, last window {self._clock() - self._last.judged_at:.0f} s ago"
            )
        held_up = "; the verdicts cannot be stored" if held else ""
        self._notifier.status(f"{last}; {self._n_judged} judged, {n_waiting} waiting{held_up}{self._problem}")
