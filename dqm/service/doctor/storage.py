"""The store and the kept windows: schema, size, growth, and what is deleted when."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dqm.config import DaemonConfig
from dqm.errors import format_count
from dqm.events import Origin
from dqm.service.doctor.diagnosis import Diagnosis, amber, green
from dqm.store import (
    GOOD_WINDOWS,
    STORE_FILE,
    WINDOWS,
    Database,
    StoreSize,
    VerdictStore,
    measure_store,
    store_url,
)

__all__ = ["Storage", "look_at_storage", "measure_storage"]

RECENT_DAYS = 7.0
FAST_BYTES_A_YEAR = 20e9
"""Growth of a store that is reported if nothing is ever deleted."""

_DAY = 86_400.0


@dataclass(frozen=True, slots=True)
class Storage:
    """What is stored, and how fast it grows.

    Parameters
    ----------
    size : StoreSize
        Of the store.
    days : float
        Time of its recent verdicts, at most `RECENT_DAYS`.
    kept_bytes, kept_ceiling : float
        Bytes of kept windows, and how many there may be.
    senders_ahead : dict of str to float
        How far the clocks of live streams are ahead of ours, s, as far as their last windows tell it.
    """

    size: StoreSize
    days: float
    kept_bytes: float
    kept_ceiling: float
    senders_ahead: dict[str, float]

    @property
    def bytes_per_day(self) -> float:
        """What verdicts take; 0 if it is not known."""
        if not self.size.n_bytes or not self.size.n_verdicts or self.days <= 0:
            return 0.0
        return self.size.n_bytes / self.size.n_verdicts * self.size.n_recent / max(self.days, 1.0)


def measure_storage(config: DaemonConfig, now: float) -> Storage:
    """Measure the store of a daemon; raises `StoreError` if it cannot be read or is of another version."""
    section = config.daemon
    file = None if section.store is not None else section.data_dir / STORE_FILE
    since = now - RECENT_DAYS * _DAY
    database = Database(store_url(section), create=False)
    try:
        size = measure_store(database, file, since)
    finally:
        database.close()
    oldest = now if size.oldest is None else size.oldest
    keep = config.keep
    ceiling = 1e6 * (keep.windows_megabytes + (keep.good_megabytes if keep.good_share else 0.0))
    return Storage(
        size,
        days=min(RECENT_DAYS, (now - oldest) / _DAY),
        kept_bytes=float(sum(map(_size_of, (section.data_dir / WINDOWS, section.data_dir / GOOD_WINDOWS)))),
        kept_ceiling=ceiling,
        senders_ahead=_find_ahead(config),
    )


def look_at_storage(config: DaemonConfig, storage: Storage) -> Iterator[Diagnosis]:
    """Say how large the store is, and whether anything is ever deleted."""
    size = storage.size
    kind = "PostgreSQL" if size.n_bytes is None else f"{size.n_bytes / 1e6:.3g} MB"
    yield green("store", f"schema {size.version}, {format_count(size.n_verdicts, 'verdict')}, {kind}")
    days = config.keep.verdict_days
    a_year = 365.0 * storage.bytes_per_day
    if days is None and a_year > FAST_BYTES_A_YEAR:
        yield amber(
            "retention",
            f"verdicts are never deleted, and take {a_year / 1e9:.0f} GB a year",
            "Set [keep] verdict_days, as in 400",
        )
    else:
        kept = "never deleted" if days is None else f"deleted after {days:g} days"
        windows = f"{storage.kept_bytes / 1e6:.3g} of {storage.kept_ceiling / 1e6:.4g} MB of windows are kept"
        yield green("retention", f"verdicts are {kept}; {windows}")


def _find_ahead(config: DaemonConfig) -> dict[str, float]:
    """Find streams whose last live window ended after its verdict: that clock is ahead, or ours is behind."""
    ahead = {}
    with VerdictStore(store_url(config.daemon), create=False) as store:
        for stream in config.streams:
            for verdict in store.latest(stream.name):
                end = verdict.window.end
                if verdict.window.origin is Origin.LIVE and end is not None and end > verdict.judged_at:
                    ahead[f"the sender of {stream.name}"] = end - verdict.judged_at
    return ahead


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.glob("*/*.parquet"))
