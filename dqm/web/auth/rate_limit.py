"""How often somebody may try: waits that grow with each failure, a limit per minute, bounded memory."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from threading import Lock
from typing import Generic, TypeVar

__all__ = ["Backoff", "TokenBucket"]

_MOST_KEYS = 4096
_FORGET_SECONDS = 900.0

Value = TypeVar("Value")


class _Recent(OrderedDict[str, Value], Generic[Value]):
    """Remembers the most recent keys."""

    def keep(self, key: str, value: Value) -> None:
        self[key] = value
        self.move_to_end(key)
        if len(self) > _MOST_KEYS:
            self.popitem(last=False)


@dataclass(frozen=True, slots=True)
class _Failures:
    number: int
    last: float


class Backoff:
    """Makes clients wait after failures: first 0, then 1, 2, 4, ... seconds; may be used from any thread.

    Parameters
    ----------
    free : int
        Failures without a wait. After a quarter of an hour without any they are forgotten.
    longest_seconds : float
        Longest wait, s.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(self, free: int, longest_seconds: float, monotonic: Callable[[], float]) -> None:
        self._free = free
        self._longest = longest_seconds
        self._monotonic = monotonic
        self._failures: _Recent[_Failures] = _Recent()
        self._lock = Lock()

    def wait(self, key: str) -> float:
        """Seconds until this client may try; 0: now."""
        with self._lock:
            found = self._find(key)
            if found.number < self._free:
                return 0.0
            pause = min(self._longest, 2.0 ** min(found.number - self._free, 32))
            return max(0.0, found.last + pause - self._monotonic())

    def fail(self, key: str) -> None:
        """Count a failure."""
        with self._lock:
            self._failures.keep(key, _Failures(self._find(key).number + 1, self._monotonic()))

    def take_back(self, key: str) -> None:
        """Subtract a failure."""
        with self._lock:
            found = self._find(key)
            self._failures.keep(key, _Failures(max(0, found.number - 1), found.last))

    def forget(self, key: str) -> None:
        """Forget the failures of this client."""
        with self._lock:
            self._failures.pop(key, None)

    def _find(self, key: str) -> _Failures:
        now = self._monotonic()
        found = self._failures.get(key)
        return found if found and now - found.last < _FORGET_SECONDS else _Failures(0, now)


class TokenBucket:
    """Limits the actions of each client per minute; may be used from any thread.

    Parameters
    ----------
    per_minute : int
        How many.
    monotonic : callable
        Seconds that never go back.
    """

    def __init__(self, per_minute: int, monotonic: Callable[[], float]) -> None:
        self._most = per_minute
        self._monotonic = monotonic
        self._left: _Recent[tuple[float, float]] = _Recent()
        self._lock = Lock()

    def take(self, key: str) -> float:
        """Take one action; gives 0, or the seconds to wait if it is not allowed now."""
        with self._lock:
            now = self._monotonic()
            left, then = self._left.get(key, (float(self._most), now))
            left = min(float(self._most), left + (now - then) * self._most / 60.0)
            is_allowed = left >= 1.0
            self._left.keep(key, (left - is_allowed, now))
            return 0.0 if is_allowed else (1.0 - left) * 60.0 / self._most
