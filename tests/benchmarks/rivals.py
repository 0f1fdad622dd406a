"""What else a user could test windows with, each written as its users write it.

All give a number that is larger for windows further from the reference.
"""

from __future__ import annotations

import numpy as np
from scipy import linalg, stats
from scipy.spatial.distance import cdist
from scipy.special import expit
from sklearn.ensemble import HistGradientBoostingClassifier

from dqm.events import FloatArray

N_PERMUTATIONS = 500


class NewtonFit:
    """The same fit as the kernel test by NumPy and SciPy: all centres, dense Hessians, logistic loss.

    `reference` has N_R events; what depends on them alone is computed once.
    """

    def __init__(
        self, reference: FloatArray, n_expected: float, width: float, penalty: float, centers: FloatArray
    ) -> None:
        self._mean, self._scale = reference.mean(axis=0), reference.std(axis=0)
        self._width, self._penalty = width, penalty
        self._centers = (centers - self._mean) / self._scale
        kernel = self._kernel(self._centers)
        kernel[np.diag_indices_from(kernel)] += 1e-13 * len(kernel)
        self._root = linalg.cholesky(kernel, lower=True)
        self._phi = self._basis(reference)
        self._weight = n_expected / len(reference)

    def _kernel(self, x: FloatArray) -> FloatArray:
        kernel: FloatArray = np.exp(-cdist(x, self._centers, "sqeuclidean") / (2 * self._width**2))
        return kernel

    def _basis(self, x: FloatArray) -> FloatArray:
        kernel = self._kernel((x - self._mean) / self._scale)
        phi: FloatArray = linalg.solve_triangular(self._root, kernel.T, lower=True).T
        return phi

    def __call__(self, window: FloatArray) -> float:
        """Give t, converged to 1e-4 of itself."""
        n = len(self._phi)
        phi = np.concatenate([self._phi, self._basis(window)])
        signs = np.where(np.arange(len(phi)) < n, 1.0, -1.0)
        weights = np.where(np.arange(len(phi)) < n, self._weight, 1.0)
        ridge = self._penalty * len(phi)
        a, before = np.zeros(phi.shape[1]), 0.0
        for _ in range(50):
            p = expit(signs * (phi @ a))
            slope = phi.T @ (weights * signs * p) + ridge * a
            hessian = phi.T @ ((weights * p * (1 - p))[:, None] * phi)
            hessian[np.diag_indices_from(hessian)] += ridge
            a = self._descend(
                phi, signs * 1.0, weights, ridge, a, linalg.solve(hessian, -slope, assume_a="pos")
            )
            f = phi @ a
            t = -2 * (self._weight * np.expm1(f[:n]).sum() - f[n:].sum())
            if abs(t - before) < 1e-4 * abs(t):
                break
            before = t
        return float(t)

    @staticmethod
    def _descend(
        phi: FloatArray, signs: FloatArray, weights: FloatArray, ridge: float, a: FloatArray, step: FloatArray
    ) -> FloatArray:
        """Halve the step until the objective falls."""

        def objective(at: FloatArray) -> float:
            return float(weights @ np.logaddexp(0, signs * (phi @ at)) + 0.5 * ridge * at @ at)

        here, length = objective(a), 1.0
        while objective(a + length * step) > here and length > 1e-6:
            length /= 2
        return a + length * step


class Mmd:
    """Maximum mean discrepancy between window and reference, p by permutations.

    Gaussian kernel, width the median distance within the reference.

    References
    ----------
    Gretton et al. (2012), JMLR 13, 723.
    """

    def __init__(self, reference: FloatArray, rng: np.random.Generator) -> None:
        self._mean, self._scale, self._rng = reference.mean(axis=0), reference.std(axis=0), rng
        self._reference = (reference - self._mean) / self._scale
        distances = cdist(self._reference, self._reference, "sqeuclidean")
        self._gamma = 1.0 / np.median(distances[np.triu_indices_from(distances, 1)])
        self._inner = np.exp(-self._gamma * distances)

    def __call__(self, window: FloatArray) -> float:
        """Give -log p + discrepancy: p decides, the discrepancy orders windows of equal p."""
        x = (window - self._mean) / self._scale
        n, m = len(self._reference), len(x)
        kernel = np.empty((n + m, n + m))
        kernel[:n, :n] = self._inner
        kernel[:n, n:] = np.exp(-self._gamma * cdist(self._reference, x, "sqeuclidean"))
        kernel[n:, :n] = kernel[:n, n:].T
        kernel[n:, n:] = np.exp(-self._gamma * cdist(x, x, "sqeuclidean"))
        plain = np.repeat([1.0 / n, -1.0 / m], [n, m])
        signs = np.stack([plain, *(self._rng.permutation(plain) for _ in range(N_PERMUTATIONS))], axis=1)
        found = (signs * (kernel @ signs)).sum(axis=0)
        p = (1 + np.sum(found[1:] >= found[0])) / (1 + N_PERMUTATIONS)
        return float(found[0] - np.log(p))


class BoostedTrees:
    """Classifier two-sample test with gradient-boosted trees, each half judged by the other's.

    References
    ----------
    Lopez-Paz and Oquab (2017), arXiv:1610.06545.
    """

    def __init__(self, reference: FloatArray, rng: np.random.Generator) -> None:
        self._reference, self._rng = reference, rng

    def __call__(self, window: FloatArray) -> float:
        """Give the score of Mann and Whitney, in standard deviations of windows like the reference."""
        x = np.concatenate([self._reference, window])
        label = np.repeat([0, 1], [len(self._reference), len(window)])
        half = self._rng.permutation(len(x)) % 2
        score = np.empty(len(x))
        for side in (0, 1):
            model = HistGradientBoostingClassifier(class_weight="balanced", random_state=0)
            model.fit(x[half == side], label[half == side])
            score[half != side] = model.decision_function(x[half != side])
        z = [
            -stats.norm.ppf(
                stats.mannwhitneyu(
                    score[(half == side) & (label == 1)], score[(half == side) & (label == 0)],
                    alternative="greater", method="asymptotic",
                ).pvalue
            )
            for side in (0, 1)
        ]  # fmt: skip
        return float(sum(z) / 2**0.5)
