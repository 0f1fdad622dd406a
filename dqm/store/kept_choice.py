"""Which kept windows of a stream are meant, and which of them are on disk."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dqm.errors import InputError, StoreError

__all__ = ["KeptChoice", "Taken", "list_kept", "place_of"]

_MOST_TOLD = 3
"""Runs that a label names one by one."""


class Taken(StrEnum):
    """Which of the kept windows of a run are taken.

    ``fair`` takes the same share of the Good windows and of those that are Medium or Bad, so that what is
    taken is a sample of the run; ``good`` and ``anomalous`` take all that are kept of these.
    """

    FAIR = "fair"
    GOOD = "good"
    ANOMALOUS = "anomalous"


@dataclass(frozen=True, slots=True)
class KeptChoice:
    """Kept windows that are a sample of a stream or a run, or a single window.

    Parameters
    ----------
    stream : str
        The stream.
    runs : tuple of int
        Its runs, at least one.
    seq : int or None
        Only the window with this number, of a single run.
    taken : Taken
        Which windows of the runs; a single window is taken whatever it is.

    Raises
    ------
    InputError
        If there is no run, or a window of several.
    """

    stream: str
    runs: tuple[int, ...]
    seq: int | None = None
    taken: Taken = Taken.FAIR

    def __post_init__(self) -> None:
        if not self.runs:
            raise InputError("no run is given", where=self.stream, fix="Write runs as in 10-12,15")
        if self.seq is not None and len(self.runs) > 1:
            raise InputError(
                f"window {self.seq} of {len(self.runs)} runs", where=self.stream, fix="Give the one run"
            )

    def __str__(self) -> str:
        """Name it: ``chamber-1, run 12, window 3``."""
        runs = sorted(self.runs)
        if len(runs) == 1:
            named = f"run {runs[0]}"
        elif len(runs) <= _MOST_TOLD:
            named = f"runs {', '.join(map(str, runs))}"
        else:
            named = f"{len(runs)} runs from {runs[0]} to {runs[-1]}"
        if self.seq is not None:
            return f"{self.stream}, {named}, window {self.seq}"
        only = {Taken.FAIR: "", Taken.GOOD: ", Good windows", Taken.ANOMALOUS: ", Medium and Bad windows"}
        return f"{self.stream}, {named}{only[self.taken]}"


def list_kept(
    directory: Path, stream: str, runs: Container[int] | None = None
) -> dict[tuple[int, int], Path]:
    """List the windows of a stream that were kept, without reading them.

    Parameters
    ----------
    directory : Path
        Directory of a `WindowKeeper`.
    stream : str
        The stream.
    runs : container of int, optional
        Only these runs.

    Returns
    -------
    dict
        Files by run and window, in this order.

    Raises
    ------
    StoreError
        If the directory cannot be read.
    """
    try:
        names = [path.name for path in (directory / stream).iterdir()]
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise StoreError(
            f"kept windows cannot be read: {error.strerror}",
            where=str(directory / stream),
            fix="Let the user of this command read the directory",
        ) from error
    found = {place_of(name): directory / stream / name for name in names}
    return {
        place: found[place]
        for place in sorted(place for place in found if place is not None)
        if runs is None or place[0] in runs
    }


def place_of(name: str) -> tuple[int, int] | None:
    """Run and window of a file by its name; None if `dqm` did not write it."""
    run, _, seq = name.removesuffix(".parquet").partition("-")
    is_ours = (
        name.endswith(".parquet") and run.isascii() and run.isdigit() and seq.isascii() and seq.isdigit()
    )
    return (int(run), int(seq)) if is_ours else None
