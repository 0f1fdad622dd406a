"""The kernel test written plainly: every centre, every event, float64, Newton's method to the end.

"Every centre" means each that float64 can tell from a combination of the others.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg import solve, solve_triangular
from scipy.linalg.lapack import dpstrf
from scipy.spatial.distance import cdist
from scipy.special import expit

from dqm.events import FloatArray
from dqm.nplm import LossName

Deltas = Callable[[FloatArray], FloatArray]
"""First- and second-order coefficients of log r at raw events, shape (n, 2)."""


class PlainTest:
    """t of a window; nuisance parameters at most one, with ``log r = nu delta_1 + nu^2 delta_2 / 2``.

    Without nuisance parameters the fit begins at the minimum of the first `n_first` events of the reference
    alone, if there are more. The objective is convex, so the minimum is the same, and found sooner.
    """

    def __init__(
        self,
        reference: FloatArray,
        centers: FloatArray,
        n_expected: float,
        width: float,
        penalty: float,
        loss: LossName,
        deltas: Deltas | None = None,
        sigma: float = np.inf,
        n_first: int = 20_000,
    ) -> None:
        self.mean, self.std = reference.mean(0), reference.std(0)
        self.centers, self.width, self.penalty, self.loss = self._standard(centers), width, penalty, loss
        # eigenvectors lose more to rounding: with a weak penalty and isolated events some percent of t
        factor, order, rank, _ = dpstrf(self._kernel(self.centers), tol=1e-12, lower=1)
        self.centers = self.centers[order[:rank] - 1]
        self.transform = solve_triangular(factor[:rank, :rank], np.eye(rank), lower=True).T
        self.weights = np.full(len(reference), n_expected / len(reference))
        self.phi = self._kernel(self._standard(reference)) @ self.transform
        self.deltas, self.sigma, self.n_first = deltas, sigma, n_first
        self.at_reference = deltas(reference) if deltas else None
        self.curvature = 0.5 if loss == "logistic" else 1.0

    def t(self, data: FloatArray, measured: float = 0.0) -> float:
        """tau of the full fit less that of the nuisance parameter alone."""
        phi = self._kernel(self._standard(data)) @ self.transform
        if self.deltas is None:
            start = np.zeros(self.phi.shape[1])
            if self.n_first < len(self.phi):
                start = self._fit(self.phi[: self.n_first], phi, None, 0.0, start)[1]
            return self._fit(self.phi, phi, None, 0.0, start)[0]
        at_data = self.deltas(data)
        full = self._fit(self.phi, phi, at_data, measured, np.r_[np.zeros(self.phi.shape[1]), measured])
        alone = self._fit(self.phi[:, :0], phi[:, :0], at_data, measured, np.array([measured]))
        return full[0] - alone[0]

    def _standard(self, x: FloatArray) -> FloatArray:
        return (x - self.mean) / self.std

    def _kernel(self, x: FloatArray) -> FloatArray:
        return np.exp(-cdist(x, self.centers, "sqeuclidean") / (2 * self.width**2))

    def _fit(
        self,
        phi_r: FloatArray,
        phi_d: FloatArray,
        at_data: FloatArray | None,
        measured: float,
        v: FloatArray,
    ) -> tuple[float, FloatArray]:
        """tau, and the coordinates of the minimum; Newton's steps begin at v."""
        n, r = len(self.phi) + len(phi_d), phi_r.shape[1]
        k = 0 if at_data is None else 1
        ridge = np.r_[np.full(r, self.penalty * n), np.full(k, self.curvature / self.sigma**2)]
        center = np.r_[np.zeros(r), np.full(k, measured)]
        w = self.weights[: len(phi_r)] * (len(self.phi) / len(phi_r))

        def log_ratios(v: FloatArray) -> list[FloatArray]:
            found = [phi_r @ v[:r], phi_d @ v[:r]]
            if k:
                found[0] = found[0] + self.at_reference @ [v[r], v[r] ** 2 / 2]
                found[1] = found[1] + at_data @ [v[r], v[r] ** 2 / 2]
            return found

        def columns(v: FloatArray) -> list[FloatArray]:
            if not k:
                return [phi_r, phi_d]
            parts = ((phi_r, self.at_reference), (phi_d, at_data))
            return [np.column_stack([phi, d[:, 0] + v[r] * d[:, 1]]) for phi, d in parts]

        def objective(v: FloatArray) -> float:
            on_r, on_d = log_ratios(v)
            if self.loss == "logistic":
                loss = w @ np.logaddexp(0, on_r) + np.logaddexp(0, -on_d).sum()
            else:
                loss = w @ np.expm1(on_r) - on_d.sum()
            return float(loss + 0.5 * ridge @ (v - center) ** 2)

        for _ in range(300):
            on_r, on_d = log_ratios(v)
            c_r, c_d = columns(v)
            if self.loss == "logistic":
                s_r, s_d = w * expit(on_r), -expit(-on_d)
                h_r, h_d = s_r * expit(-on_r), expit(on_d) * expit(-on_d)
            else:
                s_r, s_d = w * np.exp(on_r), -np.ones(len(on_d))
                h_r, h_d = s_r, np.zeros(len(on_d))
            slope = c_r.T @ s_r + c_d.T @ s_d + ridge * (v - center)
            b_r, b_d = (np.sqrt(h)[:, None] * c for h, c in ((h_r, c_r), (h_d, c_d)))
            hessian = b_r.T @ b_r + b_d.T @ b_d + np.diag(ridge)
            if k:
                bend = s_r @ self.at_reference[:, 1] + s_d @ at_data[:, 1]
                hessian[-1, -1] += max(bend, 0.0)
            step = -solve(hessian, slope, assume_a="sym")
            descent = float(slope @ step)
            length, here = 1.0, objective(v)
            with np.errstate(over="ignore"):
                while objective(v + length * step) > here + 1e-4 * length * descent + 1e-12 * abs(here):
                    length /= 2
            v = v + length * step
            if -descent < 1e-9 * max(1.0, abs(here)) or length < 1e-6:
                break
        on_r, on_d = log_ratios(v)
        tau = -2 * (w @ np.expm1(on_r) - on_d.sum())
        return float(tau - (k and (v[r] - measured) ** 2 / self.sigma**2 - measured**2 / self.sigma**2)), v
