"""Windows tested together, where the daemon may test them: on the CPU and on a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.benchmarks.conftest import Timed
from tests.benchmarks.inputs import SETTINGS, prepare, windows

N_DIFFERENT = 250


@pytest.mark.parametrize("base", SETTINGS)
@pytest.mark.parametrize("together", [1, 25, 250])
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_device(base: str, together: int, device: str, timed: Timed, figures: dict[str, Any]) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA GPU on this machine, or torch was built without CUDA")
    setting = SETTINGS[base]
    test = prepare(setting, device)
    samples = windows(setting, N_DIFFERENT, seed=5)
    figures["items"] = together
    figures["device"] = torch.cuda.get_device_name() if device == "cuda" else "one core"
    timed(test.evaluate_many, [samples[k : k + together] for k in range(0, N_DIFFERENT, together)])
