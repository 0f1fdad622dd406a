"""Which kept windows are a sample of a run, and what is missing if they are not."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import numpy as np

from dqm.alarm import ANOMALOUS
from dqm.config import DaemonConfig
from dqm.errors import InputError, format_count
from dqm.events import Quality
from dqm.store import GOOD_WINDOWS, WINDOWS, KeptChoice, Taken, VerdictStore, list_kept

__all__ = ["KeptPlace", "KeptSide", "select_kept"]


@dataclass(frozen=True, slots=True)
class KeptPlace:
    """Where a daemon keeps windows, and what of them.

    Parameters
    ----------
    data_dir : Path
        ``[daemon] data_dir``.
    good_share, windows_megabytes : float
        As in ``[keep]``.
    bundles : mapping of str to Path
        Directories of its bundles by identifier.
    """

    data_dir: Path
    good_share: float
    windows_megabytes: float
    bundles: Mapping[str, Path] = field(default_factory=dict)

    @classmethod
    def of(cls, config: DaemonConfig, bundles: Mapping[str, Path]) -> Self:
        """Give the place from a daemon's configuration; `bundles` are its directories by identifier."""
        return cls(config.daemon.data_dir, config.keep.good_share, config.keep.windows_megabytes, bundles)

    def list_good(self, choice: KeptChoice) -> list[Path]:
        """Give the files of Good windows of the chosen runs."""
        return list(list_kept(self.data_dir / GOOD_WINDOWS, choice.stream, set(choice.runs)).values())

    def list_anomalous(self, choice: KeptChoice) -> list[Path]:
        """Give the files of windows that are Medium or Bad."""
        return list(list_kept(self.data_dir / WINDOWS, choice.stream, set(choice.runs)).values())


@dataclass(frozen=True, slots=True)
class KeptSide:
    """Files of one side of a comparison.

    Parameters
    ----------
    label : str
        What is compared.
    paths : tuple of Path
        Its windows, in random order: the first n of them are a sample of all.
    told : str
        How many windows were taken, of how many.
    """

    label: str
    paths: tuple[Path, ...]
    told: str

    @property
    def digest(self) -> str:
        """Name of what is compared: another set of windows has another name."""
        words = "\n".join([self.label, *(path.name for path in self.paths)])
        return hashlib.sha256(words.encode()).hexdigest()


def select_kept(choice: KeptChoice, place: KeptPlace, store: VerdictStore, seed: int = 1) -> KeptSide:
    """Choose the kept windows that are a sample of a choice.

    All windows that are Medium or Bad are kept while there is room, but only a share of the Good ones.
    A fair sample of a run has the same share of each kind: the smaller of the shares that were kept.

    Parameters
    ----------
    choice : KeptChoice
        What is meant.
    place : KeptPlace
        Where windows are kept.
    store : VerdictStore
        Says how many windows there were.
    seed : int
        Draws the sample.

    Raises
    ------
    InputError
        If there are no such windows, or none is kept; it says what to do.
    StoreError
        If windows or verdicts cannot be read.
    """
    good, anomalous = place.list_good(choice), place.list_anomalous(choice)
    if choice.seq is not None:
        return _select_one(choice, [*good, *anomalous], place, store)
    counts = store.count_qualities(choice.stream, choice.runs)
    n_anomalous = sum(counts.get(quality, 0) for quality in ANOMALOUS)
    # verdicts may be deleted before their windows
    parts = [
        _Part("Good", good, max(counts.get(Quality.GOOD, 0), len(good))),
        _Part("Medium or Bad", anomalous, max(n_anomalous, len(anomalous))),
    ]
    if not any(part.n_judged for part in parts):
        raise InputError(
            "no window was Good, Medium or Bad" if counts else "no window was judged",
            where=str(choice),
            fix="Choose other runs; 'dqm history' lists them",
        )
    wanted = {Taken.FAIR: parts, Taken.GOOD: parts[:1], Taken.ANOMALOUS: parts[1:]}[choice.taken]
    there = [part for part in wanted if part.n_judged]
    if not there:
        raise InputError(
            f"no window was {wanted[0].kind}", where=str(choice), fix="Choose other windows or runs"
        )
    for part in there:
        if not part.kept:
            raise _nothing_kept(choice, part, place)
    share = min(part.share for part in there)
    rng = np.random.default_rng(seed)
    paths = []
    told = []
    for part in there:
        n = round(share * part.n_judged) if choice.taken is Taken.FAIR else len(part.kept)
        paths += [part.kept[k] for k in rng.permutation(len(part.kept))[:n]]
        was = "was" if part.n_judged == 1 else "were"
        told.append(f"{n} of {format_count(part.n_judged, 'window')} that {was} {part.kind}")
    order = rng.permutation(len(paths))
    return KeptSide(str(choice), tuple(paths[k] for k in order), " and ".join(told))


@dataclass(frozen=True, slots=True)
class _Part:
    """Windows of some runs with the same quality."""

    kind: str
    kept: Sequence[Path]
    n_judged: int

    @property
    def share(self) -> float:
        return len(self.kept) / self.n_judged


def _select_one(choice: KeptChoice, kept: Sequence[Path], place: KeptPlace, store: VerdictStore) -> KeptSide:
    (run,) = choice.runs
    name = f"{run}-{choice.seq}.parquet"
    found = [path for path in kept if path.name == name]
    if found:
        return KeptSide(str(choice), (found[0],), "the window")
    verdict = store.find(choice.stream, run, choice.seq or 0)
    if verdict is None:
        raise InputError(
            "no such window was judged", where=str(choice), fix="Choose another; 'dqm history' lists them"
        )
    if verdict.quality in ANOMALOUS:
        raise InputError(
            f"the window is {verdict.quality}, and its events were deleted",
            where=str(choice),
            fix=f"Raise [keep] windows_megabytes ({place.windows_megabytes:g}) for later windows",
        )
    raise InputError(
        f"the window is {verdict.quality}, and its events were not kept",
        where=str(choice),
        fix="Choose a window that is Medium or Bad, or one of the share of Good ones that [keep] good_share "
        f"keeps ({place.good_share:g})",
    )


def _nothing_kept(choice: KeptChoice, part: _Part, place: KeptPlace) -> InputError:
    if part.kind != "Good":
        return InputError(
            f"none of {format_count(part.n_judged, 'Medium or Bad window')} is kept",
            where=str(choice),
            fix=f"Raise [keep] windows_megabytes ({place.windows_megabytes:g}) for later runs, "
            "or compare Good windows only",
        )
    fix = "Set [keep] good_share, such as 0.05, reload the daemon and take later runs"
    if place.good_share:
        fix = f"Raise [keep] good_share ({place.good_share:g}) or good_megabytes for later runs"
    return InputError(
        f"none of {format_count(part.n_judged, 'Good window')} is kept "
        "(those of histograms and channels never are)",
        where=str(choice),
        fix=f"{fix}, or compare only windows that are Medium or Bad",
    )
