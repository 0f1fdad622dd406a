"""Notification of systemd: ready, reloading, stopping, status, and the watchdog.

Messages are datagrams of ``NAME=value`` lines to the socket in ``$NOTIFY_SOCKET``; without this variable
nothing is sent.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence

from dqm.errors import format_count
from dqm.events import Verdict

__all__ = ["Notifier", "ProgressWatch", "ServiceReport"]

_STATUS_SECONDS = 5.0
_FEEDS_PER_PERIOD = 4  # systemd advises two; a datagram may be late


class Notifier:
    """Sends messages to the service manager; does nothing without one.

    Parameters
    ----------
    environ : mapping of str to str, optional
        Environment; that of the process by default.
    """

    def __init__(self, environ: Mapping[str, str] | None = None) -> None:
        environ = os.environ if environ is None else environ
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._status = ""
        is_ours = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        microseconds = environ.get("WATCHDOG_USEC", "")
        self.watchdog_seconds = int(microseconds) / 1e6 if is_ours and microseconds.isdigit() else None
        """Time without message after which systemd restarts the service, s; None: no watchdog."""

    def ready(self) -> bool:
        """Report that the service is ready, after its start or a reload."""
        return self._send("READY=1")

    def reloading(self) -> bool:
        """Report that a reload has started; `ready` reports its end."""
        now = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        return self._send(f"RELOADING=1\nMONOTONIC_USEC={now // 1000}")

    def stopping(self) -> bool:
        """Report that the service is about to end."""
        return self._send("STOPPING=1")

    def status(self, text: str) -> bool:
        """Set the line in ``systemctl status``, if it has changed."""
        line = " ".join(text.split())
        if line == self._status:
            return False
        self._status = line
        return self._send(f"STATUS={line}")

    def feed_watchdog(self) -> bool:
        """Report that the service works; see `ProgressWatch`."""
        return self._send("WATCHDOG=1")

    def _send(self, message: str) -> bool:
        """Send a datagram; False if this fails, which must not stop the service."""
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
    """Feeds the watchdog while windows are finished, or while no window waits.

    If windows wait and none is finished, the watchdog is not fed, even if the loop of the service runs, and
    systemd restarts the service after ``WatchdogSec``.

    Parameters
    ----------
    notifier : Notifier
        Connection to the service manager.
    monotonic : callable
        Monotonic clock, s.
    """

    def __init__(self, notifier: Notifier, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._notifier = notifier
        self._monotonic = monotonic
        self._n_done = -1
        self._feed_at = 0.0

    def note(self, *, n_done: int, n_waiting: int, held: bool = False) -> bool:
        """Feed the watchdog if there is progress and the next message is due.

        Parameters
        ----------
        n_done : int
            Windows finished since the start; any change counts as progress.
        n_waiting : int
            Windows received and not finished.
        held : bool
            Whether there is a known reason to wait that a restart does not remove, such as a full disk.

        Returns
        -------
        bool
            Whether the watchdog was fed.
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
    """Reports the state of the daemon to the service manager: status line and watchdog.

    Parameters
    ----------
    notifier : Notifier
        Connection to the service manager.
    clock : callable
        Unix time, s.
    monotonic : callable
        Monotonic clock, s.
    """

    def __init__(
        self, notifier: Notifier, clock: Callable[[], float], monotonic: Callable[[], float]
    ) -> None:
        self._notifier = notifier
        self._clock = clock
        self._monotonic = monotonic
        self._watch = ProgressWatch(notifier, monotonic)
        self._n_judged = 0
        self._last: Verdict | None = None
        self._status_at = 0.0
        self._problem = ""

    def count(self, verdicts: Sequence[Verdict]) -> None:
        """Count verdicts that were stored."""
        self._n_judged += len(verdicts)
        self._last = verdicts[-1] if verdicts else self._last

    def end_reload(self, problem: str) -> None:
        """Report the end of a reload, and why it was refused, if it was."""
        self._problem = f"; reload refused: {problem}" if problem else ""
        self._status_at = 0.0
        self._notifier.ready()

    def note(self, *, n_waiting: int, held: bool) -> None:
        """Feed the watchdog (see `ProgressWatch`), and update the status every 5 s."""
        self._watch.note(n_done=self._n_judged, n_waiting=n_waiting, held=held)
        if self._monotonic() < self._status_at:
            return
        self._status_at = self._monotonic() + _STATUS_SECONDS
        last = "no window yet"
        if self._last is not None:
            last = (
                f"run {self._last.window.run}, last window {self._clock() - self._last.judged_at:.0f} s ago"
            )
        store = "; the verdicts cannot be stored" if held else ""
        counts = f"{format_count(self._n_judged, 'window')} judged, {n_waiting} waiting"
        self._notifier.status(f"{last}; {counts}{store}{self._problem}")
