"""The manifest of a reference bundle: everything about it except the numbers."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from dqm.config import FAULT_PATTERN, NAME_PATTERN
from dqm.errors import InputError
from dqm.events import WindowCut

__all__ = [
    "VERSION",
    "ArrayFile",
    "CountedRows",
    "Manifest",
    "NanRows",
    "NuisanceEntry",
    "NullTableEntry",
    "Source",
    "TemplateEntry",
    "Transform",
    "WindowKind",
    "WindowRange",
    "check_names",
]

VERSION: Literal[3] = 3
"""Version of bundles that this program reads and writes."""


MOST_SHOWN = 5
"""Numbers of a setting that are shown."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class ArrayFile(_Frozen):
    """One array of a bundle."""

    name: str = Field(pattern=r"^[a-z]+-[0-9a-f]{16}\.npy$", description="file name within the bundle")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="checksum of the file")
    shape: tuple[Annotated[int, Field(ge=0, le=2**40)], ...] = Field(
        max_length=3, description="shape of the array"
    )
    dtype: Literal["float64", "float32"] = Field(default="float64", description="type of its numbers")


class Source(_Frozen):
    """File that events came from."""

    name: str = Field(description="file name without its directory")
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$", description="checksum of the file")
    n_events: int = Field(ge=0, description="events read from it")


class Transform(_Frozen):
    """What turns events of the reference into events at another value of a nuisance parameter."""

    name: str = Field(description="entry point of the transformation, group dqm.transformations")
    features: tuple[str, ...] = Field(min_length=1, description="features it changes")


class NuisanceEntry(_Frozen):
    """What may change without being a fault, and how well it is measured."""

    name: str = Field(pattern=NAME_PATTERN, description="parameter, and its measurement in a window")
    kind: Literal["normalisation", "shape"] = Field(description="what it changes")
    sigma: float | None = Field(
        gt=0, description="error of its measurement, in its own unit; null: never measured, always free"
    )
    settings: dict[str, float | int | str] = Field(default_factory=dict, description="learned model of log r")
    arrays: dict[str, ArrayFile] = Field(default_factory=dict, description="its numbers")
    transform: Transform | None = Field(default=None, description="source of the samples it was learned from")
    sources: tuple[Source, ...] = Field(default=(), description="files it was learned from, in their place")

    def concerns(self, cut: WindowCut) -> bool:
        """Tell whether windows depend on it: those cut by count have no rate."""
        return self.kind == "shape" or cut is WindowCut.TIME


class TemplateEntry(_Frozen):
    """What a known fault looks like, at one strength of it; a fault may have several."""

    fault: str = Field(pattern=FAULT_PATTERN, description="its name")
    width: float = Field(gt=0, description="kernel width, in standard deviations")
    gain: float = Field(gt=0, description="twice the log likelihood ratio to the reference, an event")
    arrays: dict[str, ArrayFile] = Field(description="its numbers")
    sources: tuple[Source, ...] = Field(default=(), description="files it was learned from")


class WindowKind(_Frozen):
    """What windows must have in common to share a null table."""

    cut: WindowCut = Field(description="what closes them")
    n_expected: float = Field(gt=0, description="events expected, N(R_0)")
    free: tuple[str, ...] = Field(
        default=(), description="nuisance parameters without the measurement they should have"
    )

    def covers(self, other: WindowKind) -> bool:
        """Tell whether windows of another kind may use the null table of this one.

        Windows cut by count must have exactly this size. For windows cut by time, the expectation may differ
        by half an event: live times are not exact, and the table does not change within that.
        """
        tolerance = 0.5 if other.cut is WindowCut.TIME else 0.0
        same_size = abs(self.n_expected - other.n_expected) <= tolerance
        return self.cut is other.cut and set(self.free) == set(other.free) and same_size

    def __str__(self) -> str:
        free = f" with {', '.join(self.free)} free" if self.free else ""
        return f"{self.n_expected:g} events cut by {self.cut}{free}"


class WindowRange(_Frozen):
    """Sizes of windows; between them p is read from the null tables on both sides."""

    cut: WindowCut = Field(description="what closes the windows")
    low: float = Field(gt=0, description="smallest number of events expected, N(R_0)")
    high: float = Field(gt=0, description="largest number of events expected")
    free: tuple[str, ...] = Field(default=(), description="as in WindowKind")

    def covers(self, kind: WindowKind) -> bool:
        """Tell whether windows of a kind are in the range."""
        return self._is_alike(kind) and self.low - 0.5 <= kind.n_expected <= self.high + 0.5

    def overlaps(self, other: WindowRange) -> bool:
        """Tell whether some windows are in both ranges."""
        return self._is_alike(other) and self.low <= other.high and other.low <= self.high

    def _is_alike(self, other: WindowKind | WindowRange) -> bool:
        return self.cut is other.cut and set(self.free) == set(other.free)

    def __str__(self) -> str:
        free = f" with {', '.join(self.free)} free" if self.free else ""
        return f"{self.low:g} to {self.high:g} events cut by {self.cut}{free}"


def _ascend(ends: tuple[float, float]) -> tuple[float, float]:
    if ends[0] > ends[1]:
        raise ValueError(f"from {ends[0]:g} to {ends[1]:g} is no range: give the smaller one first")
    return ends


ConditionRange = Annotated[tuple[float, float], AfterValidator(_ascend)]
"""Smallest and largest value of a condition, in its unit."""


class NanRows(_Frozen):
    """Rows with NaN among those that a bundle was built from; they were dropped."""

    n_rows: int = Field(ge=1, description="all rows, dropped ones included")
    n_dropped: int = Field(ge=1, description="rows with NaN in any feature")
    counts: dict[str, Annotated[int, Field(ge=0)]] = Field(description="rows with NaN in each feature")


class NullTableEntry(_Frozen):
    """Null table for windows of one kind."""

    kind: WindowKind
    seed: int = Field(ge=0, description="seed of the toys")
    toys: ArrayFile = Field(description="one row a toy: t, tau, and two pulls of each nuisance parameter")
    per_split: int = Field(
        default=0,
        ge=0,
        description="toys of each fresh split of all events into reference and windows; 0: toys were drawn "
        "from the pool and tested against the bundle's own reference",
    )
    linear_share: float | None = Field(
        default=None,
        ge=0,
        le=1,
        description="share of the variance of t that is linear in the events of toys from the pool: it "
        "decides how uncertain p is; null: not measured",
    )


class CountedRows(_Frozen):
    """Additional entries of a reference whose rows stand for several events: the bins of a histogram."""

    reference: ArrayFile = Field(description="events that each row of the reference stands for")
    pool: ArrayFile = Field(description="events that each row of the pool stands for")
    bins: ArrayFile = Field(description="all rows that a window may have, those without events too")
    n_reference: int = Field(ge=0, description="events of the reference")
    n_pool: int = Field(ge=0, description="events of the pool")


class Manifest(_Frozen):
    """Description of a bundle; its bytes name it."""

    format: Literal["dqm-reference"] = "dqm-reference"
    version: Literal[3] = VERSION
    features: tuple[str, ...] = Field(min_length=1, description="feature names, in the order of the columns")
    statistic: str = Field(description="entry point of the test, group dqm.statistics")
    settings: dict[str, float | int | str | tuple[float, ...] | tuple[str, ...]] = Field(
        description="arguments of the test"
    )
    cut: WindowCut = Field(description="what closes the windows it is meant for")
    n_expected: float = Field(gt=0, description="events expected in them, N(R_0)")
    rate_hz: float | None = Field(
        default=None, gt=0, le=1e12, description="rate of events in the run of the reference, Hz"
    )
    conditions: dict[Annotated[str, Field(pattern=NAME_PATTERN)], ConditionRange] = Field(
        default_factory=dict,
        description="conditions of the detector while its events were taken, smallest and largest, by name",
    )
    nan: NanRows | None = Field(default=None, description="rows with NaN; null: there were none")
    seed: int = Field(ge=0, description="seed that split the events and drew the centres")
    reference: ArrayFile
    centers: ArrayFile
    pool: ArrayFile
    prepared: dict[str, ArrayFile] = Field(
        default_factory=dict, description="what the test computed from reference and centres, by name"
    )
    counts: str | None = Field(
        default=None,
        pattern=NAME_PATTERN,
        description="column of its windows that says how many events a row stands for; null: one each",
    )
    counted: CountedRows | None = Field(
        default=None, description="counts of reference and pool; null: none, or hits of channels"
    )
    nuisances: tuple[NuisanceEntry, ...] = ()
    null: tuple[NullTableEntry, ...] = ()
    ranges: tuple[WindowRange, ...] = ()
    templates: tuple[TemplateEntry, ...] = ()
    sources: tuple[Source, ...] = ()
    software: dict[str, str] = Field(default_factory=dict, description="versions that wrote it")
    parent: str | None = Field(default=None, description="bundle this one was made from")

    @property
    def kind(self) -> WindowKind:
        """The windows it is made for, with every nuisance parameter measured."""
        return WindowKind(cut=self.cut, n_expected=self.n_expected)

    @property
    def kinds_of_features(self) -> dict[str, str]:
        """Kind of each feature by its name; empty for a test that takes all as they are."""
        kinds = self.settings.get("kinds")
        return dict(zip(self.features, map(str, kinds), strict=True)) if isinstance(kinds, tuple) else {}

    @property
    def is_of_channels(self) -> bool:
        """Whether its windows carry the hits of every channel."""
        return self.counts is not None and self.counted is None

    @property
    def n_reference(self) -> int:
        """Events of the reference; its windows for a bundle of channels."""
        return self.counted.n_reference if self.counted else self.reference.shape[0]

    @property
    def n_pool(self) -> int:
        """Events of the pool."""
        return self.counted.n_pool if self.counted else self.pool.shape[0]

    @property
    def nan_counts(self) -> dict[str, int]:
        """Rows with NaN in each feature, among those that the bundle was built from."""
        return self.nan.counts if self.nan else {}

    @property
    def n_built(self) -> int:
        """Rows that the bundle was built from."""
        return self.nan.n_rows if self.nan else self.n_reference + self.n_pool

    @property
    def finite_share(self) -> float:
        """Share of healthy events without NaN."""
        return 1.0 - self.nan.n_dropped / self.nan.n_rows if self.nan else 1.0

    def n_measured(self, cut: WindowCut) -> int:
        """Count the measured nuisance parameters on which windows of a cut depend."""
        return sum(entry.sigma is not None and entry.concerns(cut) for entry in self.nuisances)

    @property
    def settings_in_words(self) -> dict[str, float | int | str]:
        """Arguments of the test to be shown; only the first ones of many numbers."""
        return {
            name: value if isinstance(value, float | int | str) else _in_words(value)
            for name, value in self.settings.items()
        }

    def nuisance(self, name: str) -> NuisanceEntry | None:
        """Find a nuisance parameter, or None."""
        return next((entry for entry in self.nuisances if entry.name == name), None)

    def judges(self, kind: WindowKind) -> bool:
        """Tell whether there is a null table for windows of a kind."""
        return any(entry.kind.covers(kind) for entry in self.null) or any(r.covers(kind) for r in self.ranges)

    @property
    def kinds(self) -> tuple[WindowKind, ...]:
        """The windows it is meant for, and all that it is calibrated for."""
        return (self.kind, *(entry.kind for entry in self.null))

    @property
    def judged(self) -> str:
        """The windows that are judged, in words."""
        between = [entry for entry in self.null if any(r.covers(entry.kind) for r in self.ranges)]
        single = [str(entry.kind) for entry in self.null if entry not in between]
        return "; ".join([*map(str, self.ranges), *single]) or "none"

    @property
    def definition(self) -> str:
        """Hash of all that decides on the statistic of a window; null tables and templates do not."""
        without = {"null": (), "templates": (), "parent": None, "rate_hz": None, "ranges": (), "nan": None}
        bare = self.model_copy(update=without | {"conditions": {}})
        return hashlib.sha256(bare.encode()).hexdigest()[:8]

    @property
    def files(self) -> tuple[ArrayFile, ...]:
        """All arrays."""
        learned: tuple[NuisanceEntry | TemplateEntry, ...] = (*self.nuisances, *self.templates)
        models = [array for entry in learned for array in entry.arrays.values()]
        tables = [entry.toys for entry in self.null]
        counted = (self.counted.reference, self.counted.pool, self.counted.bins) if self.counted else ()
        samples = (self.reference, self.centers, self.pool, *counted)
        return (*samples, *self.prepared.values(), *models, *tables)

    def encode(self) -> bytes:
        """Give the bytes of the manifest file; their hash is the bundle's identifier."""
        # a bundle without these has the bytes, and so the name, that it had before they existed
        added = ("rate_hz", "ranges", "nan", "counts", "counted", "conditions")
        left_out = {name for name in added if not getattr(self, name)}
        values = self.model_dump(mode="json", exclude=left_out)
        for entry in values["null"]:
            for name in ("per_split", "linear_share"):
                if not entry[name]:
                    del entry[name]
        return (json.dumps(values, indent=1, sort_keys=True) + "\n").encode()


def _in_words(values: tuple[float, ...] | tuple[str, ...]) -> str:
    shown = " ".join(v if isinstance(v, str) else f"{v:.3g}" for v in values[:MOST_SHOWN])
    return shown if len(values) <= MOST_SHOWN else f"{shown} ... ({len(values)})"


def check_names(names: Iterable[str], noun: str = "feature", where: str | None = None) -> None:
    """Refuse names that no window can carry: collectors would end at their first window.

    Parameters
    ----------
    names : iterable of str
        Names of features or of nuisance parameters.
    noun : str
        What they name, for the message.
    where : str, optional
        Bundle or file, for the message.

    Raises
    ------
    InputError
        If a name is not 1 to 64 letters, digits, ``.``, ``_`` and ``-``, or begins with a dot.
    """
    wrong = [name for name in names if re.fullmatch(NAME_PATTERN, name) is None]
    if wrong:
        raise InputError(
            f"no name of a {noun}: {', '.join(map(repr, wrong))}",
            where=where,
            fix="Choose 1 to 64 letters, digits, '.', '_' and '-', no '.' at the beginning; a column "
            "'drift time [ns]' is called drift_time_ns",
        )
