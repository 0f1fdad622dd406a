"""What a script does with ``import dqm``, to be type-checked as its author would; it is never run."""

from collections.abc import Mapping
from typing import Any, assert_type

import numpy as np
from hist import Hist
from matplotlib.figure import Figure

import dqm
from dqm.events import FloatArray, NuisanceResult, PMethod, RatioMap
from dqm.nplm import KernelResult, Normalisation, Shape
from dqm.reference import Bundle, Evaluation, WindowExplanation, add_normalisation


def work_with_a_bundle(x: FloatArray, progress: list[int]) -> None:
    bundle = dqm.build_bundle(x, window=500, features=["t_1", "theta"], cut="time")
    assert_type(bundle, Bundle)
    assert_type(bundle.calibrate(1000, seed=2, progress=lambda done, _total: progress.append(done)), Bundle)
    assert_type(add_normalisation(bundle, "rate", 0.1), Bundle)
    bundle.save("chamber.dqmref", overwrite=True)
    assert_type(dqm.open_bundle("chamber.dqmref"), Bundle)
    evaluation = bundle.evaluate(x, n_expected=500.0, measured={"rate": (0.02, 0.1)})
    assert_type(evaluation, Evaluation)
    assert_type(evaluation.t, float | None)
    assert_type(evaluation.p, float | None)
    assert_type(evaluation.p_method, PMethod | None)
    assert_type(evaluation.remarks, tuple[str, ...])
    assert_type(evaluation.nuisances, Mapping[str, NuisanceResult])
    bundle.evaluate([[1.0, 2.0], [3.0, 4.0]], names=("t_1", "theta"), measured={"rate": None})


def look_at_a_window(evaluation: Evaluation) -> None:
    explanation = evaluation.explain()
    assert_type(explanation, WindowExplanation)
    assert_type(explanation.maps, tuple[RatioMap, ...])
    assert_type(explanation.plot(pairs=True), Figure)
    window = explanation.histograms("t_1").window
    assert_type(window, Hist[Any])
    assert_type(dqm.__version__, str)
    print(window.values())  # noqa: T201 - as a user would


def use_the_test_alone(x: FloatArray, window: dqm.Window) -> None:
    test = dqm.KernelTest(
        x,
        n_expected=500,
        width=4.5,
        penalty=1e-7,
        centers=100,
        rng=np.random.default_rng(1),
        nuisances=[Normalisation("rate", sigma=0.1), Shape("gas", sigma=0.1, linear=lambda x: x[:, 0])],
    )
    assert_type(test.evaluate(window.x, auxiliary={"rate": 0.0, "gas": 0.1}), KernelResult)


def make_mistakes(x: FloatArray) -> None:
    dqm.KernelTest(x, 500.0, 4.5, 1e-7, 100)  # type: ignore[call-arg]
    dqm.build_bundle(x)  # type: ignore[call-arg]
    dqm.build_bundle(x, window=500, loss="hinge")  # type: ignore[arg-type]
    dqm.nothing  # type: ignore[attr-defined]  # noqa: B018
