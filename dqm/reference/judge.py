"""Judging a window by a bundle: Window in, statistic and p-value out."""

from __future__ import annotations

from dataclasses import dataclass

from dqm.errors import InputError
from dqm.events import FloatArray, TestResult, Window, WindowCut
from dqm.reference.bundle import Bundle, Column
from dqm.reference.null import NullTable
from dqm.reference.statistic import Statistic
from dqm.reference.toys import prepare_statistic

__all__ = ["Judge"]


@dataclass(frozen=True, slots=True)
class _Scale:
    """What one column of the null table needs to judge a window."""

    test: Statistic
    table: NullTable


class Judge:
    """A bundle ready to judge windows of every size it is calibrated for.

    Parameters
    ----------
    bundle : Bundle
        Calibrated bundle.
    """

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle
        self._scales = {
            column.toys.name: _Scale(
                prepare_statistic(bundle, column.n_expected), NullTable(bundle.toys(column))
            )
            for column in bundle.manifest.null
        }

    def judge(self, window: Window) -> TestResult:
        """Test a window.

        Parameters
        ----------
        window : Window
            For windows cut by count N(R_0) is their own number of events.

        Returns
        -------
        TestResult
            With ``p`` None and a reason if the window cannot be judged: no events, a feature that is missing,
            a size the null table does not cover, a fit that did not converge or went astray.
        """
        n_data = len(window.x)
        n_expected = float(n_data) if window.n_expected is None else window.n_expected
        column = self.bundle.column(window.cut, n_expected)
        reason = self._obstacle(window, n_expected, column)
        if reason or column is None:
            return TestResult(n_data, n_expected, reason=reason)
        scale = self._scales[column.toys.name]
        try:
            outcome = scale.test.evaluate(self._select(window))
        except InputError as error:
            return TestResult(n_data, n_expected, reason=str(error))
        if not outcome.converged:
            return TestResult(n_data, n_expected, reason="the fit did not converge")
        if outcome.t < scale.table.t_implausible:
            reason = (
                f"t = {outcome.t:.4g} is far below that of any healthy window: the fit does not describe it"
            )
            return TestResult(n_data, n_expected, outcome.t, reason=reason)
        p = scale.table.p_value(outcome.t)
        return TestResult(n_data, n_expected, outcome.t, p.p, p.low, p.high, p.method, p.z)

    def _select(self, window: Window) -> FloatArray:
        """Give the columns of the reference, in its order; a window may carry more."""
        features = self.bundle.manifest.features
        if window.names == features:
            return window.x
        return window.x[:, [window.names.index(name) for name in features]]

    def _obstacle(self, window: Window, n_expected: float, column: Column | None) -> str:
        """Say why a window cannot be tested; empty if it can."""
        features = self.bundle.manifest.features
        missing = [name for name in features if name not in window.names]
        if missing:
            return f"features of the reference are missing: {', '.join(missing)}"
        if len(window.x) == 0:
            return "no events"
        if window.cut is WindowCut.TIME and window.n_expected is None:
            return "cut by time, but the sender gave no expected number of events"
        if column is None:
            known = ", ".join(f"{c.n_expected:g} by {c.cut}" for c in self.bundle.manifest.null)
            return (
                f"no null table for windows of {n_expected:g} events cut by {window.cut} "
                f"(calibrated: {known or 'none'})"
            )
        return ""
