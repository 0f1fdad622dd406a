"""Figures and histograms of a window's maps."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from uhi.typing.plottable import PlottableHistogram

from dqm.errors import InputError
from dqm.reference import Evaluator, StoredBundle, WindowExplanation
from tests.reference.conftest import healthy_events
from tests.service.small import window_of


@pytest.fixture(scope="module")
def explanation(calibrated: StoredBundle) -> WindowExplanation:
    x = healthy_events(60, 8) + np.array([0.0, 2.0])
    return Evaluator(calibrated).evaluate(window_of(x)).explain()


def test_a_panel_for_each_feature_and_pair(explanation: WindowExplanation, tmp_path: Path) -> None:
    figure = explanation.plot()
    names = [axes.get_xlabel() for axes in figure.axes if axes.get_ylabel() == "ratio"]
    assert names == [name for name, _ in explanation.ranking]
    assert len(figure.axes) == 4
    assert explanation.text in figure.get_suptitle()
    figure.savefig(tmp_path / "maps.png")  # lays it out: warnings are errors
    mine = Figure()
    assert explanation.plot(pairs=True, figure=mine) is mine
    assert [(axes.get_xlabel(), axes.get_ylabel()) for axes in mine.axes[4:5]] == [("a", "b")]
    mine.savefig(tmp_path / "pairs.png")


def test_what_is_drawn_is_what_the_maps_hold(explanation: WindowExplanation) -> None:
    first = explanation.ranking[0][0]
    (ratio_map,) = (one for one in explanation.maps if one.features == (first,))
    top, bottom = explanation.plot().axes[:2]
    drawn = [patch.get_data().values for patch in top.patches]
    assert any(np.array_equal(values, ratio_map.reference) for values in drawn)
    assert any(np.array_equal(values, ratio_map.fitted) for values in drawn)
    np.testing.assert_array_equal(top.lines[0].get_ydata(), ratio_map.data)
    assert bottom.get_ylim()[0] == 0


def test_histograms_are_plottable_and_hold_the_maps(explanation: WindowExplanation) -> None:
    for ratio_map in (*explanation.maps, *explanation.pairs):
        made = explanation.histograms(*reversed(ratio_map.features))
        assert isinstance(made.window, PlottableHistogram)
        assert tuple(axis.name for axis in made.window.axes) == ratio_map.features
        for axis, edges in zip(made.window.axes, ratio_map.edges, strict=True):
            np.testing.assert_allclose(axis.edges, edges)
        np.testing.assert_array_equal(made.window.values(), ratio_map.data)
        np.testing.assert_array_equal(made.window.variances(), ratio_map.data)
        np.testing.assert_array_equal(made.reference.values(), ratio_map.reference)
        np.testing.assert_allclose(made.reference.variances(), ratio_map.reference_error**2)
        np.testing.assert_allclose(made.fitted.values(), ratio_map.fitted)
        assert made.fitted.variances() is None


def test_a_map_that_is_not_there_is_refused(explanation: WindowExplanation) -> None:
    with pytest.raises(InputError, match=r"no map of 'c'\. Choose one of: a; b; a, b"):
        explanation.histograms("c")
    with pytest.raises(InputError, match="no map of no feature"):
        explanation.histograms()


@pytest.mark.parametrize(("library", "module"), [("matplotlib", "matplotlib.figure"), ("hist", "hist")])
def test_without_the_libraries_the_message_has_the_command(
    explanation: WindowExplanation, monkeypatch: pytest.MonkeyPatch, library: str, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(InputError, match=rf"{library} is not installed.*pip install '\.\[plots\]'"):
        explanation.plot() if library == "matplotlib" else explanation.histograms("a")
