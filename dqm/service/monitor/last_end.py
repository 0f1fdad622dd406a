"""How the daemon ended last: told to, or by an abort, a kill or a power cut.

A file in the data directory says "running" from the start on, and "ended" once the daemon has stopped as it
was told to. A daemon that finds "running" follows one that could not write "ended". The file is touched
every `TOUCH_SECONDS`, so the time of its last change is about the time of the end. It remembers such an end
through orderly restarts, until it is older than `SHOWN_SECONDS`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import structlog
from pydantic import BaseModel, ConfigDict, ValidationError

__all__ = ["END_FILE", "SHOWN_SECONDS", "TOUCH_SECONDS", "LastEnd"]

log = structlog.get_logger(__name__)

END_FILE = "daemon.json"
"""Name of the file in the data directory."""

TOUCH_SECONDS = 10.0
"""Time between two touches of the file: so precisely is known when a daemon ended."""

SHOWN_SECONDS = 86_400.0
"""For how long an unexpected end is shown."""

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    state: Literal["running", "ended"]
    boot: str
    broken_at: float | None = None
    how: str = ""


class LastEnd:
    """Writes that the daemon runs, and knows how the one before it ended.

    Parameters
    ----------
    data_dir : Path
        Directory that no other daemon uses.
    clock : callable
        Unix time in seconds.
    monotonic : callable
        Seconds that never go back.

    Attributes
    ----------
    is_new : bool
        Whether the last daemon ended unexpectedly; False if an earlier one did.
    alive_until : float or None
        When the daemon before ended, to `TOUCH_SECONDS`, Unix seconds; None if there was none.
    """

    def __init__(
        self, data_dir: Path, clock: Callable[[], float], monotonic: Callable[[], float], *, boot: str = ""
    ) -> None:
        self._path = data_dir / END_FILE
        self._clock = clock
        self._monotonic = monotonic
        self._touch_at = float("-inf")
        self._boot = boot or (_BOOT_ID.read_text().strip() if _BOOT_ID.exists() else "")
        before = self._read()
        self._broken_at = before.broken_at if before else None
        self._how = before.how if before else ""
        self.is_new = before is not None and before.state == "running"
        self.alive_until = None if before is None else self._path.stat().st_mtime
        if before is not None and self.is_new:
            self._broken_at = self.alive_until
            self._how = "an abort or a kill" if before.boot == self._boot else "the machine went down"
        self._write("running")

    @property
    def broken_at(self) -> float | None:
        """When a daemon ended unexpectedly, Unix seconds; None if that is not to be shown."""
        at = self._broken_at
        return at if at is not None and self._clock() - at < SHOWN_SECONDS else None

    @property
    def notice(self) -> str:
        """What is to be shown; empty if there is nothing."""
        return "" if self.broken_at is None else self.text

    @property
    def text(self) -> str:
        """What has happened last, however long ago; empty if nothing has."""
        if self._broken_at is None:
            return ""
        at = datetime.fromtimestamp(self._broken_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        return f"restarted after {self._how} at {at}"

    def touch(self) -> None:
        """Say that the daemon is still running; does something every `TOUCH_SECONDS` only."""
        if self._monotonic() >= self._touch_at:
            self._touch_at = self._monotonic() + TOUCH_SECONDS
            try:
                os.utime(self._path, (self._clock(), self._clock()))
            except OSError as error:
                log.debug("cannot note that the daemon still runs", why=str(error))

    def end(self) -> None:
        """Say that the daemon ends as it was told to."""
        self._write("ended")

    def _read(self) -> _Record | None:
        """Read what was written last; a file that cannot be read says nothing."""
        try:
            return _Record.model_validate_json(self._path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            log.warning("how the daemon ended last is not known", file=str(self._path), why=str(error))
            return None

    def _write(self, state: str) -> None:
        """Write the file as a whole; the daemon goes on if this fails."""
        record = {"state": state, "boot": self._boot, "broken_at": self._broken_at, "how": self._how}
        scratch = self._path.with_suffix(".tmp")
        try:
            with open(os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:  # noqa: PTH123
                json.dump(record, file)
                file.flush()
                os.fsync(file.fileno())
            os.utime(scratch, (self._clock(), self._clock()))
            scratch.replace(self._path)
        except OSError as error:
            log.warning("cannot write how the daemon ends", file=str(self._path), why=str(error))
