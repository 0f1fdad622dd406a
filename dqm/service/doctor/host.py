"""The machine: room on the disk, who may write what, and the clock."""

from __future__ import annotations

import ctypes
import os
import pwd
import socket
import stat
import struct
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from dqm.config import check_writers
from dqm.errors import format_count
from dqm.service.doctor.diagnosis import Diagnosis, amber, green, red

__all__ = [
    "FEWEST_BYTES",
    "ask_time_server",
    "look_at_clock",
    "look_at_disk",
    "look_at_readers",
    "look_at_writers",
]

FEWEST_BYTES = 200e6
"""Free bytes below which a disk counts as full: SQLite's log, a copy for compaction and windows need room."""

SOON_DAYS = 30.0
"""A disk that will be full within this time is reported."""

LARGEST_OFFSET = 2.0
"""Offset of a clock, s, above which it is amber. Windows are ordered by their senders' clocks."""

WORST_OFFSET = 60.0
"""Offset of a clock, s, above which it is red."""

_DAY = 86_400.0
_UNSYNCHRONISED = 5
"""TIME_ERROR of adjtimex(2)."""

_NTP_EPOCH = 2_208_988_800
"""Seconds from 1900 to 1970."""


def look_at_disk(path: Path, bytes_per_day: float, ceiling: float) -> Iterator[Diagnosis]:
    """Look at the room on the disk of a directory.

    Parameters
    ----------
    path : Path
        The directory.
    bytes_per_day : float
        Bytes per day that verdicts take.
    ceiling : float
        Most bytes that kept windows may still take.
    """
    facts = os.statvfs(path)
    free, total = facts.f_bavail * facts.f_frsize, facts.f_blocks * facts.f_frsize
    room = f"{_bytes(free)} of {_bytes(total)} free"
    fix = f"Free space on the disk of {path}, move data_dir, or set [keep] verdict_days and windows_megabytes"
    if facts.f_files and not facts.f_favail:
        yield red("disk", f"{path}: no inode is free", fix)
    elif free < FEWEST_BYTES:
        yield red("disk", f"{path}: {room}: verdicts cannot be stored, so no window is acknowledged", fix)
    elif free < ceiling:
        yield amber("disk", f"{path}: {room}, and kept windows may take {_bytes(ceiling)} more", fix)
    elif bytes_per_day > 0 and (free - ceiling) / bytes_per_day < SOON_DAYS:
        days = (free - ceiling) / bytes_per_day
        yield amber("disk", f"{path}: {room}, full in {days:.0f} days at {_bytes(bytes_per_day)} a day", fix)
    else:
        growth = f", verdicts take {_bytes(bytes_per_day)} a day" if bytes_per_day else ""
        yield green("disk", f"{path}: {room}{growth}")


def look_at_writers(paths: Sequence[Path]) -> Iterator[Diagnosis]:
    """Look for files and directories that others may write; raises `ConfigError` with the first."""
    for path in paths:
        if path.exists():
            check_writers(path)
    yield green("permissions", "only their owner and root may write data, store and configuration")


def look_at_readers(data_dir: Path, paths: Sequence[Path]) -> Iterator[Diagnosis]:
    """Look for files that the owner of the data directory, who is the daemon's user, cannot read."""
    user = data_dir.stat().st_uid
    try:
        entry = pwd.getpwuid(user)
        groups = set(os.getgrouplist(entry.pw_name, entry.pw_gid))
        name = entry.pw_name
    except KeyError:
        groups = set()
        name = f"uid {user}"
    for path in paths:
        closed = next(
            (one for one in [*reversed(path.parents), path] if not _may_read(one, user, groups)), None
        )
        if closed is not None:
            yield red(
                "permissions",
                f"{closed}: {name}, who owns {data_dir}, cannot read it",
                f"Let the user read it: 'chgrp -R {name} {closed}; chmod -R g+rX {closed}'",
            )


def _may_read(path: Path, user: int, groups: set[int]) -> bool:
    """Tell whether a user may read a file, or go through a directory, by its mode."""
    facts = path.stat()
    if user == 0:
        return True
    wanted = stat.S_IXOTH if path.is_dir() else stat.S_IROTH
    if facts.st_uid == user:
        return bool(facts.st_mode & wanted << 6)
    return bool(facts.st_mode & (wanted << 3 if facts.st_gid in groups else wanted))


def look_at_clock(now: float, others: dict[str, float], server: str | None) -> Iterator[Diagnosis]:
    """Look at the clock of this machine.

    Parameters
    ----------
    now : float
        Unix seconds.
    others : dict of str to float
        How far the clocks of others are ahead of this one, s.
    server : str or None
        Time server to be asked.
    """
    offsets = dict(others)
    if server is not None:
        offsets[f"the time server {server}"] = ask_time_server(server)
    state = _kernel_state()
    for name, offset in offsets.items():
        if abs(offset) > LARGEST_OFFSET:
            say = red if abs(offset) > WORST_OFFSET else amber
            way = "ahead of" if offset > 0 else "behind"
            yield say(
                "clock",
                f"{name} is {abs(offset):.0f} s {way} this clock",
                "Set both by NTP: 'timedatectl set-ntp true', then look at 'timedatectl timesync-status'",
            )
    if state == _UNSYNCHRONISED:
        yield amber("clock", "the kernel says that nothing sets this clock", "Run 'timedatectl set-ntp true'")
    elif not any(abs(offset) > LARGEST_OFFSET for offset in offsets.values()):
        compared = f"agrees with {', '.join(offsets)}" if offsets else "nobody to compare it with"
        yield green("clock", f"{time.strftime('%F %T', time.gmtime(now))} UTC: {compared}")


def ask_time_server(server: str, seconds: float = 5.0) -> float:
    """Ask a time server how far its clock is ahead of ours, by SNTP.

    Parameters
    ----------
    server : str
        ``HOST`` or ``HOST:PORT``.
    seconds : float
        Longest wait.

    Raises
    ------
    OSError
        If it does not answer.

    References
    ----------
    RFC 4330, section 5.
    """
    host, _, port = server.partition(":")
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.settimeout(seconds)
        asking.connect((host, int(port or 123)))
        sent = time.time()
        asking.send(bytes([0x23]) + bytes(47))  # version 4, a client
        answer = asking.recv(512)
        received = time.time()
    if len(answer) < 48:
        raise OSError(None, f"the time server {server} gave an answer of {format_count(len(answer), 'byte')}")
    arrived, left = (_unix(answer[at : at + 8]) for at in (32, 40))
    return ((arrived - sent) + (left - received)) / 2.0


def _unix(stamp: bytes) -> float:
    whole, fraction = struct.unpack("!II", stamp)
    return float(whole) - _NTP_EPOCH + float(fraction) / 2**32


def _kernel_state() -> int | None:
    """Ask the kernel whether something sets its clock; None if it does not say."""
    try:
        state = int(ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512)))
    except (AttributeError, OSError):
        return None
    return state if state >= 0 else None


def _bytes(n: float) -> str:
    for unit, size in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6)):
        if n >= size:
            return f"{n / size:.3g} {unit}"
    return f"{n / 1e3:.3g} kB"
