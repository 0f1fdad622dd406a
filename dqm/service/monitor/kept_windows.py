"""Windows that the daemon keeps as files: those that depart from the reference, and a sample of Good ones."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from dqm.config import KeepSection
from dqm.events import Verdict, Window
from dqm.store import GOOD_WINDOWS, WINDOWS, WindowKeeper

__all__ = ["KeptWindows"]


class KeptWindows:
    """Keeps windows of both kinds, each in a directory with a limit of its own: none displaces the other.

    Parameters
    ----------
    data_dir : Path
        ``[daemon] data_dir``.
    section : KeepSection
        Limits.
    is_labelled : callable
        As for `WindowKeeper`.

    Raises
    ------
    ConfigError, StoreError
        As `WindowKeeper`.
    """

    def __init__(
        self, data_dir: Path, section: KeepSection, is_labelled: Callable[[str, int, int], bool]
    ) -> None:
        most, most_good = _most_bytes(section)
        self._anomalous = WindowKeeper(data_dir / WINDOWS, most, is_labelled)
        self._sample = WindowKeeper(data_dir / GOOD_WINDOWS, most_good, is_labelled)

    def resize(self, section: KeepSection) -> None:
        """Go by other limits; raises `StoreError` if a file cannot be removed."""
        most, most_good = _most_bytes(section)
        self._anomalous.resize(most)
        self._sample.resize(most_good)

    def keep(self, window: Window, verdict: Verdict, *, is_sample: bool) -> None:
        """Write the events of a window to a file; raises `StoreError` if that fails."""
        (self._sample if is_sample else self._anomalous).keep(window, verdict)

    def path(self, stream: str, run: int, seq: int) -> Path:
        """Path of the file of a window, whether or not it exists."""
        good = self._sample.path(stream, run, seq)
        return good if good.exists() else self._anomalous.path(stream, run, seq)


def _most_bytes(section: KeepSection) -> tuple[int, int]:
    return int(section.windows_megabytes * 1e6), int(section.good_megabytes * 1e6)
