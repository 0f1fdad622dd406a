"""Bundles of channels: made of a healthy run, calibrated, and what they say of windows."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dqm.errors import ConfigError, InputError
from dqm.events import ChannelDeparture, Explanation, FloatArray
from dqm.reference import (
    ChannelRecipe,
    ChannelTable,
    Evaluator,
    RateTest,
    StoredBundle,
    add_normalisation,
    calibrate,
    check_bad_channels,
    create_channel_bundle,
    learn_templates,
    open_bundle,
    validate,
)
from dqm.reference.channel_build import cut_table
from tests.conftest import Once
from tests.service.small import window_of as event_window

from .channels import MAP, N_EXPECTED, SECONDS, N, channel_bundle, healthy_hits, table_of, window_of


@pytest.fixture(scope="module")
def bundle(once: Once) -> StoredBundle:
    return open_bundle(once("channels.dqmref", channel_bundle))


@pytest.fixture(scope="module")
def evaluator(bundle: StoredBundle) -> Evaluator:
    return Evaluator(bundle)


def explain(evaluator: Evaluator, hits: FloatArray) -> Explanation:
    found = evaluator.evaluate(window_of(hits)).find_explanation()
    assert found is not None
    return found


def test_a_healthy_window_is_healthy_and_a_dead_channel_is_named(evaluator: Evaluator) -> None:
    hits = healthy_hits(np.random.default_rng(1))
    found = evaluator.evaluate(window_of(hits)).result
    assert found.p is not None
    assert found.p > 0.01
    assert found.channels is not None
    assert (found.channels.n_channels, found.channels.n_dead, found.channels.worst) == (N, 0, ())
    hits[16] = 0
    found = evaluator.evaluate(window_of(hits)).result
    assert found.p is not None
    assert found.p < 1e-9
    assert found.n_data == hits.sum()
    assert found.channels is not None
    (worst,) = found.channels.worst
    assert replace(worst, expected=40.0) == ChannelDeparture(116, 0, 40.0, layer=1, wire=5)
    assert worst.expected == pytest.approx(40.0, rel=0.15)


def test_windows_of_every_size_of_the_range_have_a_p_that_is_uniform_enough(evaluator: Evaluator) -> None:
    rng = np.random.default_rng(2)
    p = []
    for _ in range(150):
        seconds = rng.uniform(5.5, 11.0)
        window = window_of(healthy_hits(rng, seconds), n_expected=N_EXPECTED * seconds / SECONDS)
        p.append(evaluator.evaluate(window).result.p)
    assert min(filter(None, p)) > 1e-4
    assert sum(value is not None and value < 0.1 for value in p) < 30  # 15 expected at most


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda h: h.__setitem__(16, 0), "^wire 5 of layer 1 is dead: 0 hits where 4. are expected$"),
        (lambda h: h.__setitem__(2, 1040), "^wire 1 of layer 3 is noisy, 2. times its rate$"),
        (lambda h: h.__setitem__(2, 130), r"^wire 1 of layer 3 is noisy, 3\.\d times its rate$"),
        (lambda h: h.__setitem__(3, 10), "^wire 1 of layer 4 is low: 10 hits where 4. are expected$"),
        (
            lambda h: h.__setitem__(slice(8, 16), 0),
            r"^card 2 is dead \(8 channels\): 0 hits where 3.. are expected$",
        ),
        (
            lambda h: h.__setitem__(slice(1, None, 4), 0),
            r"^layer 2 is dead \(8 channels\): 0 hits where 3.. are expected$",
        ),
        (
            lambda h: h.__setitem__([0, 9, 18], 0),
            r"^wire 1 of layer 1 is dead: .*; wire 3 of layer 2 is dead: .*; wire 5 of layer 3 is dead: ",
        ),
        (lambda h: h.__imul__(2.0), r"^rate or illumination of all channels changed: 2\d\d % "),
    ],
)
def test_what_is_wrong_is_said_in_words(
    evaluator: Evaluator, change: Callable[[FloatArray], object], words: str
) -> None:

    hits = np.full(N, 42.0)
    change(hits)
    text = explain(evaluator, hits).text
    parts = sorted(text.split("; ")) if words.count("wire") > 1 else [text]
    assert re.search(words, "; ".join(parts)), text


def test_of_many_departures_the_first_are_named_and_the_others_counted(evaluator: Evaluator) -> None:
    hits = np.full(N, 42.0)
    hits[[0, 5, 10, 15, 16, 21, 26]] = 900.0
    text = explain(evaluator, hits).text
    assert text.count("is noisy") == 5
    assert text.endswith("and 2 more")


def test_a_healthy_window_has_a_map_and_nothing_to_say(evaluator: Evaluator) -> None:
    found = explain(evaluator, healthy_hits(np.random.default_rng(4)))
    assert found.text == ""
    assert found.occupancy is not None
    assert found.occupancy.data.shape == (8, 4)


def test_the_occupancy_map_has_each_hit_in_its_place(evaluator: Evaluator) -> None:
    hits = healthy_hits(np.random.default_rng(5))
    occupancy = explain(evaluator, hits).occupancy
    assert occupancy is not None
    assert occupancy.features == ("wire", "layer")
    assert [edges.tolist() for edges in occupancy.edges] == [
        (np.arange(9) + 0.5).tolist(), (np.arange(5) + 0.5).tolist()
    ]  # fmt: skip
    for k in range(N):
        assert occupancy.data[k // 4, k % 4] == hits[k]
    assert occupancy.reference.sum() == pytest.approx(hits.sum(), rel=0.05)


def test_channels_that_are_known_to_be_bad_count_for_nothing(evaluator: Evaluator) -> None:
    hits = healthy_hits(np.random.default_rng(6))
    hits[[3, 20]] = 0.0, 5000.0
    found = evaluator.evaluate(window_of(hits), masked=(103, 120))
    assert found.p is not None
    assert found.p > 0.01
    assert found.result.channels is not None
    assert (found.result.channels.n_channels, found.result.channels.n_masked) == (N - 2, 2)
    assert found.result.channels.masked == (103, 120)
    everything = evaluator.evaluate(window_of(hits), masked=range(100, 100 + N)).result
    assert (everything.p, everything.reason) == (None, "all channels are masked")
    explanation = found.find_explanation()
    assert explanation is not None
    assert explanation.text == ""


def test_bad_channels_that_the_bundle_does_not_have_are_refused(
    bundle: StoredBundle, calibrated: StoredBundle
) -> None:
    check_bad_channels(bundle, (100, 131), "here")
    check_bad_channels(calibrated, (), "here")
    with pytest.raises(ConfigError, match="here: channel 99 is not in the bundle"):
        check_bad_channels(bundle, (100, 99), "here")
    with pytest.raises(ConfigError, match="knows no channels"):
        check_bad_channels(calibrated, (1,), "here")


def test_rows_of_another_kind_have_no_p(evaluator: Evaluator, calibrated: StoredBundle) -> None:
    hits = healthy_hits(np.random.default_rng(7))
    found = evaluator.evaluate(window_of(hits, counts=""))
    assert found.reason == "one row for each event, but the reference has rows counted by 'hits'"
    names = ("a", "b", "n")
    x = np.column_stack([event_window().x, np.ones(len(event_window().x))])
    found = Evaluator(calibrated).evaluate(event_window(x, names=names, counts="n"))
    assert found.reason == "rows counted by 'n', but the reference has one row for each event"
    found = evaluator.evaluate(window_of(hits + 0.5))
    assert "hits, which is not a whole number" in found.reason


def test_hits_in_unknown_channels_are_remarked_on(evaluator: Evaluator) -> None:
    window = window_of(healthy_hits(np.random.default_rng(8)))
    window = replace(window, x=np.vstack([window.x, [[77.0, 5.0]]]))
    assert evaluator.evaluate(window).remarks == ("5 hits in channels that the reference does not have",)


def test_a_bundle_is_the_same_when_it_is_opened_and_without_a_map_channels_have_numbers(
    tmp_path: Path,
) -> None:
    recipe = ChannelRecipe("hits", SECONDS)
    made = create_channel_bundle([table_of(12, 1), table_of(12, 2)], None, recipe, tmp_path / "bare")
    opened = open_bundle(tmp_path / "bare")
    assert made.identifier == opened.identifier
    assert opened.reference.shape == (24, N)
    assert opened.manifest.counts == "hits"
    opened.calibrate(100, n_processes=1)
    hits = healthy_hits(np.random.default_rng(9))
    hits[4] = 0
    found = Evaluator(opened).evaluate(window_of(hits, n_expected=opened.manifest.n_expected))
    assert found.explain().text.startswith("channel 104 is dead: 0 hits where ")
    assert found.explain().value.occupancy is None


def test_the_windows_agree_with_the_rate_that_people_read(bundle: StoredBundle) -> None:
    rate = bundle.manifest.rate_hz
    assert rate is not None
    assert float(f"{rate:.6g}") * SECONDS == bundle.manifest.n_expected


def test_toys_of_the_bundle_are_healthy_and_pass_their_validation(bundle: StoredBundle) -> None:
    kind = bundle.manifest.null[1].kind
    found = validate(bundle, 100, kind=kind, seed=8, n_processes=1)
    assert not found.failed


def test_what_only_events_have_is_refused(bundle: StoredBundle) -> None:
    with pytest.raises(InputError, match="takes no nuisance parameter"):
        add_normalisation(bundle, "gas", 0.1)
    with pytest.raises(InputError, match="takes no templates of faults"):
        learn_templates(bundle, [])
    with pytest.raises(InputError, match="toys of channels are not made from splits"):
        calibrate(bundle, 100, kind=bundle.manifest.kind, seed=1, origin="splits")


def test_the_number_of_hits_may_be_off_by_what_the_illumination_may(bundle: StoredBundle) -> None:
    rate = RateTest.from_manifest(bundle.manifest, uncertainty=0.02)
    assert rate.typical_uncertainty == 0.1
    few = rate.evaluate(window_of(np.full(N, 10.0)))
    assert few is not None
    assert few.p < 1e-6


def test_windows_with_a_gap_are_left_out() -> None:
    table = table_of(10, 3)
    _, cut = cut_table(
        chosen(table, table.times != 1015.0), SECONDS, MAP
    )  # half of the second window is missing
    _, whole = cut_table(table, SECONDS, MAP)
    assert len(cut) == 9
    assert (cut[0] == whole[0]).all()
    assert (cut[1:] == whole[2:]).all()


def chosen(table: ChannelTable, rows: object) -> ChannelTable:
    return replace(table, times=table.times[rows], channels=table.channels[rows], hits=table.hits[rows])


def renumbered(table: ChannelTable, number: float) -> ChannelTable:
    return replace(table, channels=np.where(table.channels == 101.0, number, table.channels))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: renumbered(t, 7.0), "channel 7 is not in the channel map"),
        (lambda t: chosen(t, t.channels != 101.0), "channel 101 of the channel map has no rows"),
        (lambda t: renumbered(t, 102.0), "channel 101 of the channel map has no rows"),
        (lambda t: replace(t, hits=t.hits - 30.0), "hits at time"),
        (lambda t: replace(t, hits=t.hits + 0.25), "hits at time"),
        (lambda t: replace(t, times=np.zeros_like(t.times)), "channel 100 has 20 rows at one time"),
        (lambda t: replace(t, times=3.0 * t.times), "windows of 10 s are not a multiple of the table's step"),
        (lambda t: chosen(t, t.times == 1000.0), "all rows have the same time"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    change: Callable[[ChannelTable], ChannelTable], message: str
) -> None:
    with pytest.raises(InputError, match=rf"run\.parquet: .*{message}"):
        cut_table(change(table_of(10, 3)), SECONDS, MAP)


def test_a_run_that_is_too_short_makes_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="9 windows in the reference's run"):
        create_channel_bundle([table_of(9, 1)], MAP, ChannelRecipe("hits", SECONDS), tmp_path / "x")
    assert not (tmp_path / "x").exists()


def test_an_older_bundle_keeps_its_name(calibrated: StoredBundle) -> None:
    assert b'"counts"' not in calibrated.manifest.encode()
