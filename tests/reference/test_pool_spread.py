"""Whether p of `several` scatters from run to run as much as is computed."""

import numpy as np
import pytest

from dqm.nplm import SeveralTest
from dqm.reference import choose_reference_size
from dqm.reference.null import pool_offset
from dqm_collectors.chamber.conditions import Conditions
from tests.studies.pool_effect import judge, spread_of_runs
from tests.studies.simulated_faults import events

N_RUNS, N_TOYS, N_CENTERS, CASE = 40, 1000, 60, (5000, 50)


@pytest.mark.slow
def test_the_mean_significance_of_a_run_scatters_as_computed() -> None:
    n_file, size = CASE
    n_reference, rng = choose_reference_size(*CASE), np.random.default_rng(1)
    settings = SeveralTest.tune(
        events(Conditions(), n_file, [4]),
        n_reference=n_reference,
        n_expected=size,
        n_centers=N_CENTERS,
        rng=rng,
    )
    runs = [
        judge(CASE, run, settings, n_toys=N_TOYS, n_windows=500, n_centers=N_CENTERS) for run in range(N_RUNS)
    ]
    spread, error = spread_of_runs(np.array([run["p"] for run in runs]))
    share = np.mean([run["share"] for run in runs])
    expected = np.hypot(pool_offset(size, n_file - n_reference, n_reference, share), N_TOYS**-0.5)
    assert spread == pytest.approx(expected, abs=3.0 * error)
