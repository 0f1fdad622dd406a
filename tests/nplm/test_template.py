"""Templates of faults, and fits of parameters without free f."""

from __future__ import annotations

import numpy as np
import pytest

from dqm.errors import InputError
from dqm.events import FloatArray
from dqm.nplm import KernelTest, Normalisation, NuisanceFit, Shape, Template, learn_template

SHIFT = 0.6


def healthy(n: int, seed: int) -> FloatArray:
    return np.random.default_rng(seed).normal(size=(n, 2)) * [1.0, 20.0]


def learned(labelled: FloatArray) -> tuple[Template, float]:
    nominal = healthy(12_000, 1)
    rng = np.random.default_rng(4)
    return learn_template(labelled, nominal, healthy(5000, 2), nominal[:100], width=2.0, rng=rng)


@pytest.fixture(scope="module")
def template() -> Template:
    return learned(healthy(5000, 3) + np.array([SHIFT, 0.0]))[0]


def test_a_template_is_the_log_density_ratio(template: Template) -> None:
    x = healthy(2000, 7)
    exact = SHIFT * x[:, 0] - SHIFT**2 / 2
    assert np.sqrt(np.mean((template(x) - exact) ** 2)) < 0.15


def test_the_gain_is_twice_the_divergence() -> None:
    _, gain = learned(healthy(5000, 3) + np.array([SHIFT, 0.0]))
    assert gain == pytest.approx(SHIFT**2, abs=0.07)  # divergence of two normal distributions: shift^2 / 2


def test_a_template_survives_its_arrays(template: Template) -> None:
    x = healthy(50, 8)
    again = Template.from_arrays(template.arrays(), template.width)
    np.testing.assert_array_equal(again(x), template(x))
    broken = template.arrays()
    broken["templatecoefficients"] = broken["templatecoefficients"][1:]
    with pytest.raises(InputError, match="do not belong together"):
        Template.from_arrays(broken, 2.0)
    del broken["templatescaling"]
    with pytest.raises(InputError, match="templatescaling"):
        Template.from_arrays(broken, 2.0)


def test_healthy_events_are_no_fault() -> None:
    with pytest.raises(InputError, match="do not differ significantly from the reference, with 2000 events"):
        learned(healthy(2000, 3))
    with pytest.raises(InputError, match="99 labelled events"):
        learned(healthy(99, 3))


def test_without_f_a_fit_agrees_with_the_kernel_test() -> None:
    reference, x = healthy(4000, 1), healthy(500, 9) + np.array([0.2, 0.0])
    nuisances = [
        Normalisation("rate", 0.2),
        Shape("tilt", 0.5, lambda x: x[:, 0], lambda x: -0.5 * np.ones(len(x))),
    ]
    measured = {"rate": 0.1, "tilt": 0.0}
    test = KernelTest(
        reference,
        n_expected=450.0,
        width=2.0,
        penalty=1e-5,
        centers=reference[:50],
        loss="likelihood",
        nuisances=nuisances,
        tolerance=1e-6,
    )
    result = test.evaluate(x, auxiliary=measured)
    delta, values = NuisanceFit(reference, 450.0, nuisances).fit(x, measured)
    assert delta == pytest.approx(result.delta, abs=2e-3)
    assert abs(delta) > 5
    for name, value in values.items():
        assert value == pytest.approx(result.nuisances[name].reference.value, abs=2e-3)


@pytest.mark.parametrize("strength", [0.5, 1.0, 2.0, -1.0])
def test_the_strength_of_a_fault_is_found(template: Template, strength: float) -> None:
    fit = NuisanceFit(healthy(4000, 1), 2000.0, [Normalisation("rate", 1.0), Shape("fault", 3.0, template)])
    delta, values = fit.fit(
        healthy(2000, 10) + np.array([strength * SHIFT, 0.0]), {"rate": 0.0, "fault": 0.0}
    )
    # s f is the exact log ratio of a shift s times as large, but for its constant
    assert values["fault"] == pytest.approx(strength, abs=0.2 * abs(strength))
    assert delta > 0.7 * 2000 * (strength * SHIFT) ** 2
