"""The same test on a GPU."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from dqm.errors import InputError
from dqm.nplm import KernelTest, LossName, Normalisation
from tests.nplm.test_kernel_test import toy_chamber

NO_GPU = not torch.cuda.is_available()


@pytest.mark.skipif(NO_GPU, reason="no CUDA GPU on this machine, or torch was built without CUDA")
@pytest.mark.parametrize("loss", ["logistic", "likelihood"])
def test_a_gpu_gives_the_same_t(loss: LossName) -> None:
    rng = np.random.default_rng(41)
    reference = toy_chamber(4000, rng)
    windows = [toy_chamber(400, rng, shift) for shift in (0.0, 0.0, 4.0)]
    auxiliaries = [{"rate": 0.0}] * 3
    here, there = (
        KernelTest(
            reference, n_expected=400.0, width=3.0, penalty=1e-7, centers=reference[:400], loss=loss,
            tolerance=1e-8, nuisances=[Normalisation("rate", 0.1)], device=device,
        ).evaluate_many(windows, auxiliaries=auxiliaries)
        for device in ("cpu", "cuda")
    )  # fmt: skip
    for one, other in zip(here, there, strict=True):
        assert other.t == pytest.approx(one.t, rel=1e-6)
        np.testing.assert_allclose(other.log_ratio, one.log_ratio, atol=1e-3)


@pytest.mark.skipif(not NO_GPU, reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_refused() -> None:
    reference = toy_chamber(100, np.random.default_rng(42))
    with pytest.raises(InputError, match="no device 'cuda'"):
        KernelTest(reference, n_expected=50.0, width=3.0, penalty=1e-6, centers=reference, device="cuda")
