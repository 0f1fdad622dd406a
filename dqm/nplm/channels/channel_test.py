"""The statistic ``channels``, which tests whether the hits of every channel are those of the reference.

A window is described by the shares of the channels in the reference, and by few modes that are fitted to it
(see `illumination`). What is left is tested in four ways, each with a p-value of its own:

*  the smallest p of all channels, with their number: a dead or noisy channel;
*  the smallest p of all layers and cards, of the sums of their channels that do not stand out by themselves:
   a group that departs by little in each channel;
*  the sum of the squared distances of the same channels: many channels that depart by little;
*  the fitted modes against their priors: a rate or an illumination far from any healthy one.

The statistic is ``t = -ln p`` of the smallest of the four p-values with their number. Its distribution in
healthy windows is close to an exponential one whatever the window's size and however many channels are
masked; the null table has it exactly, and a gamma tail with the table's moments continues it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special

from dqm.errors import InputError
from dqm.events import FloatArray, NuisanceResult
from dqm.events.finite import is_count
from dqm.nplm.channels.channel_map import CARD, LAYER, NUMBER, groups_of
from dqm.nplm.channels.illumination import IlluminationFit, fit_illumination, make_modes
from dqm.nplm.channels.model import ChannelModel, learn_model
from dqm.nplm.channels.tails import SMALLEST, at_least_one, two_sided

__all__ = ["ChannelResult", "ChannelState", "ChannelTest", "GroupResult"]

NAMED_P = 1e-3
"""p of the most extreme of all channels, below which a channel is named."""

STANDS_OUT_P = 1e-5
"""p of one channel, below which it does not count in the sums."""

DEAD_SHARE = 0.1
"""Share of its expected hits at or below which a channel is dead."""

UNREMARKABLE_Z = 1.5
"""Up to this distance in standard deviations p of a channel need not be exact: it decides nothing."""

SKEWED = 0.1
"""Above this relative variance beyond Poisson p is exact at any distance: a dead channel is not far away."""

N_FAMILIES = 4


class ChannelState(IntEnum):
    """What is wrong with a channel."""

    HEALTHY = 0
    DEAD = 1
    LOW = 2
    NOISY = 3
    MASKED = 4


@dataclass(frozen=True, slots=True)
class GroupResult:
    """Test of the sum of a layer or a card.

    Parameters
    ----------
    column : int
        `LAYER` or `CARD`.
    number : int
        Its number in the map.
    hits, expected : float
        Hits of its channels that do not stand out, and hits expected in them.
    p : float
        Two-sided p-value.
    """

    column: int
    number: int
    hits: float
    expected: float
    p: float


@dataclass(frozen=True, slots=True, eq=False)
class ChannelResult:
    """What the test gives for a window; arrays have one number for each channel of the map.

    Parameters
    ----------
    t : float
        ``-ln p`` of the four tests together.
    hits : ndarray, shape (n_channels,)
        Hits of the window.
    nominal : ndarray, shape (n_channels,)
        Hits expected by the reference's share and the expected number of hits.
    fitted : ndarray, shape (n_channels,)
        The same with the fitted modes.
    p : ndarray, shape (n_channels,)
        Two-sided p-value; 1 for masked channels.
    state : ndarray of int, shape (n_channels,)
        `ChannelState`.
    groups : tuple of GroupResult
        Layers and cards whose sums depart, the most extreme first.
    families : mapping of str to float
        p-value of each of the four tests.
    n_outside : int
        Hits in channels that the map does not have.
    """

    t: float
    hits: FloatArray
    nominal: FloatArray
    fitted: FloatArray
    p: FloatArray
    state: NDArray[np.int64]
    groups: tuple[GroupResult, ...]
    families: Mapping[str, float]
    n_outside: int = 0
    converged: bool = True
    delta: float = 0.0
    nuisances: Mapping[str, NuisanceResult] = field(default_factory=dict)

    @property
    def tau(self) -> float:
        """The statistic: there are no nuisance parameters."""
        return self.t


class ChannelTest:
    """Tests the hits of every channel in a window.

    Parameters
    ----------
    reference : ndarray, shape (n_windows, n_channels)
        Hits of each channel in windows of the reference's run, all of one length; channels in the order of
        their numbers.
    n_expected : float
        Hits expected in a window, in all channels together.
    centers : ndarray, optional
        Not used; every statistic gets it.
    nuisances : sequence, optional
        None are possible.
    prepared : mapping of str to ndarray
        ``map``: the channel map, shape (n_channels, 4); and all other arrays of `ChannelModel`, or none of
        them: then they are learned here.
    illumination : float
        Relative change of rate and illumination that is not a fault, one standard deviation, (0, 1].

    Raises
    ------
    InputError
        If there are nuisance parameters, the map and the reference do not agree, or there are too few
        windows.

    Examples
    --------
    >>> import numpy as np
    >>> from dqm.nplm.channels import ChannelState, ChannelTest
    >>> rng = np.random.default_rng(1)
    >>> number = np.arange(64.0)
    >>> channels = np.column_stack([number, number % 4, number // 4, number // 16])
    >>> run = rng.poisson(40.0, (20, 64)).astype(float)
    >>> test = ChannelTest(run, n_expected=2560.0, prepared={"map": channels})
    >>> hits = rng.poisson(40.0, 64)
    >>> hits[17] = 0
    >>> found = test.evaluate(number[:, None], weights=hits)
    >>> found.t > 50.0, ChannelState(found.state[17]).name, int((found.state > 0).sum())
    (True, 'DEAD', 1)
    """

    def __init__(
        self,
        reference: FloatArray,
        *,
        n_expected: float,
        centers: FloatArray | None = None,  # noqa: ARG002 - every statistic is given them
        nuisances: Sequence[object] = (),
        prepared: Mapping[str, FloatArray] | None = None,
        illumination: float = 0.1,
    ) -> None:
        if nuisances:
            raise InputError("the test of channels takes no nuisance parameters", fix="Leave them out")
        if not 0.0 < illumination <= 1.0:
            raise InputError(f"illumination is {illumination:g}", fix="Give a number above 0, at most 1")
        arrays = dict(prepared or {})
        if "map" not in arrays:
            raise InputError(
                "the test of channels has no channel map", fix='Give it as prepared={"map": map}'
            )
        if len(arrays["map"]) != reference.shape[1]:
            raise InputError(
                f"{reference.shape[1]} channels in the reference, {len(arrays['map'])} in the channel map",
                fix="Give a map with one row for each channel of the reference",
            )
        is_learned = len(arrays) > 1
        self.model = (
            ChannelModel.from_arrays(arrays)
            if is_learned
            else learn_model(reference, arrays["map"], illumination)
        )
        self._modes = make_modes(self.model.channel_map)
        self._spread = self.model.spread
        self._groups = [groups_of(self.model.channel_map, column) for column in (LAYER, CARD)]
        self._set_size(n_expected)

    def _set_size(self, n_expected: float) -> None:
        self._nominal = n_expected * self.model.share
        share = n_expected * self.model.n_windows / float(self.model.total.sum())
        self._bursts = replace(self.model.bursts, chance=min(0.5, share * self.model.bursts.chance))

    def at(self, n_expected: float) -> ChannelTest:
        """Give the test for windows with this number of expected hits."""
        other = object.__new__(ChannelTest)
        other.__dict__.update(self.__dict__)
        other._set_size(n_expected)
        return other

    @property
    def prepared(self) -> dict[str, FloatArray]:
        """What is learned from the reference, for a bundle."""
        return self.model.arrays

    def evaluate(
        self,
        data: ArrayLike,
        *,
        auxiliary: Mapping[str, float] | None = None,  # noqa: ARG002 - of the interface
        weights: ArrayLike | None = None,
        masked: Sequence[int] = (),
    ) -> ChannelResult:
        """Test a window.

        Parameters
        ----------
        data : array_like, shape (n_rows, 1)
            Number of the channel of each row; a channel without a row has no hits.
        auxiliary : mapping, optional
            Not used.
        weights : array_like, shape (n_rows,)
            Hits of each row.
        masked : sequence of int
            Channels that count for nothing.

        Raises
        ------
        InputError
            If a channel has two rows, a number of hits is missing, negative or not whole, or all channels
            are masked.
        """
        hits, n_outside = self._place(np.asarray(data, dtype=np.float64), weights)
        used = ~np.isin(self.model.channel_map[:, NUMBER], list(masked))
        if not used.any():
            raise InputError("all channels are masked")
        fit = fit_illumination(
            hits,
            self._nominal,
            spread=self._spread,
            modes=self._modes,
            sigmas=self.model.sigmas,
            used=used,
        )
        own = self._channel_p(hits, fit, used)
        quiet = used & (own > STANDS_OUT_P)
        beyond = hits - fit.fitted
        p = np.minimum(1.0, own + np.where(used & (beyond > 0.0), 2.0 * self._bursts.tail(beyond), 0.0))
        p_groups, groups = self._test_groups(hits, fit, quiet)
        families = {
            "channels": float(at_least_one(p.min(), int(used.sum()))),
            "groups": p_groups,
            "sum": self._test_sum(hits, fit, quiet),
            "illumination": self._test_modes(fit),
        }
        together = float(at_least_one(min(families.values()), N_FAMILIES))
        return ChannelResult(
            t=-math.log(max(together, SMALLEST)),
            hits=hits,
            nominal=self._nominal,
            fitted=fit.fitted,
            p=p,
            state=_states(hits, fit.fitted, p, used),
            groups=groups,
            families=families,
            n_outside=n_outside,
        )

    def evaluate_many(
        self,
        windows: Sequence[ArrayLike],
        *,
        auxiliaries: Sequence[Mapping[str, float]] | None = None,  # noqa: ARG002 - of the interface
        weights: Sequence[ArrayLike] | None = None,
    ) -> list[ChannelResult]:
        """Test several windows, one by one."""
        return [
            self.evaluate(window, weights=None if weights is None else weights[place])
            for place, window in enumerate(windows)
        ]

    def throw(self, rng: np.random.Generator) -> tuple[FloatArray, FloatArray]:
        """Draw a healthy window.

        Returns
        -------
        data : ndarray, shape (n_channels, 1)
            Numbers of the channels.
        weights : ndarray, shape (n_channels,)
            Their hits.
        """
        model = self.model
        mean = self._nominal * np.exp(self._modes @ rng.normal(0.0, model.sigmas))
        spread = self._spread
        for groups, excess in zip(self._groups, model.excess, strict=True):
            if excess:
                mean[groups.members] *= rng.gamma(1.0 / excess, excess, len(groups.numbers))[groups.group]
        hits = rng.poisson(mean * rng.gamma(1.0 / spread, spread)).astype(np.float64)
        hits += self._bursts.throw(len(hits), rng)
        return model.channel_map[:, [NUMBER]], hits

    def _place(self, data: FloatArray, weights: ArrayLike | None) -> tuple[FloatArray, int]:
        """Give the hits of each channel of the map, and the hits in others."""
        if weights is None:
            raise InputError(
                "the window has no counted rows",
                fix="Send the hits of every channel: docs/channels.md",
            )
        counts = np.asarray(weights, dtype=np.float64)
        numbers = data[:, 0]
        wrong = ~is_count(counts)
        if wrong.any():
            place = int(np.flatnonzero(wrong)[0])
            raise InputError(
                f"channel {numbers[place]:g} has {counts[place]:g} hits, which is not a whole number"
            )
        values, rows = np.unique(numbers, return_counts=True)
        if (rows > 1).any():
            raise InputError(f"channel {values[rows > 1][0]:g} is in the window twice")
        known = self.model.channel_map[:, NUMBER]
        places = np.minimum(np.searchsorted(known, numbers), len(known) - 1)
        is_known = known[places] == numbers
        hits = np.zeros(len(known))
        hits[places[is_known]] = counts[is_known]
        return hits, int(counts[~is_known].sum())

    def _channel_p(self, hits: FloatArray, fit: IlluminationFit, used: NDArray[np.bool_]) -> FloatArray:
        """Give p of each channel: exact if it is far off, by the normal distribution otherwise."""
        variance = fit.fitted * (1.0 + self._spread * fit.fitted)
        z = np.abs(hits - fit.fitted) / np.sqrt(variance)
        p = np.where(used, 2.0 * special.ndtr(-z), 1.0)
        far = np.flatnonzero(used & ((z > UNREMARKABLE_Z) | (self._spread > SKEWED)))
        p[far] = two_sided(hits[far], fit.fitted[far], self._spread[far])
        return p

    def _test_groups(
        self, hits: FloatArray, fit: IlluminationFit, quiet: NDArray[np.bool_]
    ) -> tuple[float, tuple[GroupResult, ...]]:
        """Test the sums of layers and cards; give the p of the smallest p, and the groups that depart."""
        tested = []
        for groups, excess in zip(self._groups, self.model.excess, strict=True):
            seen, mean = groups.sum(hits * quiet), groups.sum(fit.fitted * quiet)
            spread = groups.sum(self._spread * (fit.fitted * quiet) ** 2)
            some = np.flatnonzero(mean > 0.0)
            p = two_sided(seen[some], mean[some], spread[some] / mean[some] ** 2 + excess)
            tested.append((groups, some, seen[some], mean[some], p))
        n = sum(len(p) for *_, p in tested)
        named = [
            GroupResult(
                groups.column, int(groups.numbers[some[k]]), float(seen[k]), float(mean[k]), float(p[k])
            )
            for groups, some, seen, mean, p in tested
            for k in np.flatnonzero(at_least_one(p, n) < NAMED_P)
        ]
        smallest = min((float(p.min()) for *_, p in tested if len(p)), default=1.0)
        return float(at_least_one(smallest, max(1, n))), tuple(sorted(named, key=lambda group: group.p))

    def _test_sum(self, hits: FloatArray, fit: IlluminationFit, quiet: NDArray[np.bool_]) -> float:
        """Compare the sum of z^2 with a gamma distribution of its mean and variance."""
        if not quiet.any():
            return 1.0
        mean = fit.fitted[quiet]
        spread = self._spread[quiet]
        modes = self._modes[quiet]
        variance = mean * (1.0 + spread * mean)
        leverage = ((modes @ fit.covariance) * modes).sum(axis=1) * mean**2 / variance
        expected = float(len(mean) - leverage.sum())
        scatter = float((2.0 + 6.0 * spread + 1.0 / variance).sum())
        found = float(((hits[quiet] - mean) ** 2 / variance).sum())
        if expected <= 0.0:
            return 1.0
        return float(special.gammaincc(expected**2 / scatter, found * expected / scatter))

    def _test_modes(self, fit: IlluminationFit) -> float:
        """Compare the fitted modes with what their priors and errors allow."""
        variance = np.diag(self.model.sigmas**2) - fit.covariance
        variance += 1e-9 * np.eye(len(variance))
        chi2 = float(fit.coefficients @ np.linalg.solve(variance, fit.coefficients))
        return float(special.chdtrc(len(variance), max(chi2, 0.0)))


def _states(
    hits: FloatArray, fitted: FloatArray, p: FloatArray, used: NDArray[np.bool_]
) -> NDArray[np.int64]:
    named = at_least_one(p, int(used.sum())) < NAMED_P
    state = np.full(len(hits), int(ChannelState.HEALTHY))
    state[named & (hits > fitted)] = ChannelState.NOISY
    state[named & (hits <= fitted)] = ChannelState.LOW
    state[named & (hits <= DEAD_SHARE * fitted)] = ChannelState.DEAD
    state[~used] = ChannelState.MASKED
    return state
