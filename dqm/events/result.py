"""Result of the test of a window against its reference."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from dqm.events.channel_summary import ChannelSummary
from dqm.events.window import WindowCut

__all__ = [
    "NO_MAPS",
    "SMALLEST_P",
    "NanResult",
    "NuisanceResult",
    "PMethod",
    "Profiled",
    "RateResult",
    "RollingResult",
    "TestResult",
    "write_p",
]

SMALLEST_P = 1e-15
"""Smallest p-value that is quoted; it stands for this value and all smaller ones."""

NO_MAPS = "no maps: "
"""Begin of the remark that says why a window could not be explained."""


class PMethod(StrEnum):
    """How a p-value was determined.

    From the null table, from the tail fitted to it, or from a lower bound of t: then the fit ended early,
    because even this bound is above all that the tail can quote. The last one is not from t, but from the
    number of events beyond the range of the reference, which is exact.
    """

    EMPIRICAL = "empirical"
    TAIL = "tail"
    BOUND = "bound"
    OUTSIDE = "outside"


def write_p(p: float | None, method: PMethod | None = None) -> str:
    """Write a p-value; ``~`` marks an extrapolated one, ``<`` the smallest that is quoted, ``-`` none."""
    if p is None:
        return "-"
    return f"{'~' if method is PMethod.TAIL else ''}{p:.2g}" if p > SMALLEST_P else f"< {SMALLEST_P:g}"


@dataclass(frozen=True, slots=True)
class Profiled:
    """Fitted value of a nuisance parameter under one hypothesis.

    Parameters
    ----------
    value, error : float
        Fitted value and its one-sigma error; both include the auxiliary measurement.
    pull : float or None
        Normalised difference of fitted and measured value, standard normal in healthy windows; None for a
        free parameter, which has no measurement.
    """

    value: float
    error: float
    pull: float | None


@dataclass(frozen=True, slots=True)
class NuisanceResult:
    """Fitted nuisance parameter of one window.

    Parameters
    ----------
    measured : float or None
        Auxiliary measurement; None for a free parameter.
    reference : Profiled
        Fit without an anomaly, f = 0.
    alternative : Profiled
        Fit together with f.
    """

    measured: float | None
    reference: Profiled
    alternative: Profiled


@dataclass(frozen=True, slots=True)
class RateResult:
    """Result of the test of the number of events, or of the time that they took.

    Parameters
    ----------
    cut : WindowCut
        What was tested: the number, of a window cut by time; or the time, of one cut by count.
    n_expected : float
        Events expected in the live time of the window, > 0.
    uncertainty : float
        Relative one-sigma uncertainty of `n_expected`.
    live_seconds : float or None
        Live time, s; None if the sender does not say it.
    p : float
        Two-sided p-value, in (0, 1].
    z : float
        `p` as a Gaussian significance, negative for too few events.
    """

    cut: WindowCut
    n_expected: float
    uncertainty: float
    live_seconds: float | None
    p: float
    z: float


@dataclass(frozen=True, slots=True)
class NanResult:
    """Result of the test of the number of events with NaN.

    Parameters
    ----------
    feature : str
        Feature whose share departs most from that of the reference.
    share, expected_share : float
        Share of events with NaN in it, in the window and in the events that the reference was made of.
    n_dropped : int
        Events with NaN in any feature: the shape is tested without them.
    p : float
        Two-sided p-value of all features together, in (0, 1].
    """

    feature: str
    share: float
    expected_share: float
    n_dropped: int
    p: float


@dataclass(frozen=True, slots=True)
class RollingResult:
    """Result of the test of a window against the last good windows of its stream.

    Either `p` is a number, or it is None and `reason` says why.

    Parameters
    ----------
    n_windows : int
        Windows that it was compared with, or that exist for it.
    first, last : tuple of int, or None
        Run and number of the first and of the last of them.
    p : float or None
        Probability of as large a difference among as many events without a change, in (0, 1].
    p_low, p_high : float or None
        95 % interval of `p`, from the number of permutations or the tail fitted to them.
    p_method : PMethod or None
        Counted in permutations (EMPIRICAL), or read from that tail (TAIL).
    z : float or None
        `p` as a one-sided Gaussian significance.
    reason : str
        Why `p` is None; empty otherwise.
    """

    n_windows: int
    first: tuple[int, int] | None = None
    last: tuple[int, int] | None = None
    p: float | None = None
    p_low: float | None = None
    p_high: float | None = None
    p_method: PMethod | None = None
    z: float | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TestResult:
    """Result of the test of one window against its reference.

    Either `t` and `p` are numbers, or `p` is None and `reason` says why.

    Parameters
    ----------
    n_data : int
        Events in the window.
    n_expected : float
        Events expected, N(R_0).
    t : float or None
        Test statistic ``tau - delta``, dimensionless; None if the fit did not run or did not converge. A
        lower bound of it if `p_method` is BOUND.
    p : float or None
        Upper-tail probability of `t` in healthy windows, or of the number of events beyond the reference, in
        (0, 1].
    p_low, p_high : float or None
        95 % interval of `p`, from the finite null table or the fitted tail.
    p_method : PMethod or None
        How `p` was determined.
    z : float or None
        `p` as a one-sided Gaussian significance.
    reason : str
        Why `p` is None; empty otherwise.
    tau, delta : float or None
        Twice the log likelihood ratio to the nominal reference: of f and the nuisance parameters together,
        and of the nuisance parameters alone; None if `t` is. `tau` is a lower bound if `t` is.
    nuisances : mapping of str to NuisanceResult
        Fitted nuisance parameters by name. Where `t` is a lower bound, those fitted with f are of the point
        that the fit has reached.
    remarks : tuple of str
        Limitations of these numbers, in words: a constraint that was dropped, events where the reference has
        none.
    rate : RateResult or None
        Test of the number of events; None if it is not known how many are expected.
    channels : ChannelSummary or None
        State of the channels; None if the test is not one of channels.
    nan : NanResult or None
        Test of the share of events with NaN; None in streams that take no such events.
    rolling : RollingResult or None
        Test against the last good windows; None in streams that have no rolling reference. It never changes
        the numbers above, nor the quality.
    is_too_small : bool
        Whether `p` is None because the window has fewer events than are asked for. Only until the window is
        graded: it is not stored.
    """

    n_data: int
    n_expected: float
    t: float | None = None
    p: float | None = None
    p_low: float | None = None
    p_high: float | None = None
    p_method: PMethod | None = None
    z: float | None = None
    reason: str = ""
    tau: float | None = None
    delta: float | None = None
    nuisances: Mapping[str, NuisanceResult] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    rate: RateResult | None = None
    channels: ChannelSummary | None = None
    nan: NanResult | None = None
    rolling: RollingResult | None = None
    is_too_small: bool = field(default=False, compare=False)

    @property
    def is_lower_bound(self) -> bool:
        """Whether `t` and `tau` are lower bounds."""
        return self.p_method is PMethod.BOUND

    @property
    def why_no_maps(self) -> str:
        """The remark that says why the window could not be explained; empty if there is none."""
        return next((remark for remark in self.remarks if remark.startswith(NO_MAPS)), "")
