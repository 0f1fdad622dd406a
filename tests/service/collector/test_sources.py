"""Collectors of others: what they give is checked where it is asked for, and named with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from dqm.config import check_packages_of
from dqm.errors import ConfigError, PluginError
from dqm.events import EventBatch, Origin
from dqm.service.collector.sources import checked_batches, counts_of


class Source:
    """A collector of one batch, whose members can be changed."""

    origin = Origin.LIVE

    def __init__(self, **changed: object) -> None:
        self.changed: dict[str, Any] = {"chamber": "1", "names": ("a", "b"), "x": np.zeros((3, 2))} | changed

    def __iter__(self) -> Iterator[EventBatch]:
        yield EventBatch(**self.changed)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"names": "ab"}, "names 'ab' no tuple of texts"),
        ({"names": ["a", "b"]}, r"names \['a', 'b'\] no tuple of texts"),
        ({"names": None}, "names None no tuple of texts"),
        ({"names": ("a", 1)}, r"names \('a', 1\) no tuple of texts"),
        ({"chamber": 1}, "whose chamber 1 is no text"),
        ({"chamber": ""}, "the name '', which is empty or not of printable characters"),
        ({"names": ("a", "")}, "the name '', which is empty"),
        ({"names": ("a\n", "b")}, r"the name 'a\\n', which is empty or not of printable"),
        ({"names": ("a", "a")}, "a batch with two columns named 'a'"),
        ({"run": "7"}, "whose run is '7', which must be a whole number or None"),
        ({"run": True}, "whose run is True"),
        ({"start": "now"}, "whose start is 'now', which must be a finite number or None"),
        ({"start": 1.0, "end": np.nan}, "whose end is nan"),
        ({"x": [[1.0, 2.0]]}, r"whose x is list, which must be float64 of shape \(n_events, 2\)"),
    ],
)
def test_what_is_no_batch_is_refused(changed: dict[str, object], words: str) -> None:
    with pytest.raises(PluginError, match=f"the collector Source yielded .*{words}"):
        list(checked_batches(Source(**changed)))


def test_batches_that_are_right_are_given() -> None:
    right = Source(run=np.int64(7), start=np.float32(1.0), end=2, times=np.array([1.0, 1.0, 1.5]))
    assert [batch.n_events for batch in checked_batches(right)] == [3]


def test_what_cannot_be_iterated_is_named_with_its_place() -> None:
    class Listing(Source):
        def __iter__(self) -> Any:
            return [EventBatch("1", ("a",), np.zeros((1, 1)))]

    with pytest.raises(
        PluginError, match=r"type list in '__iter__' \(test_sources.py, line \d+\). It must yie"
    ):
        list(checked_batches(Listing()))


@pytest.mark.parametrize("given", [5, {"left": "many"}, {1: 1}, {"left": 0.5}, {"left": True}, None])
def test_counts_are_whole_numbers_by_name(given: object) -> None:
    class Counting(Source):
        def counts(self) -> Any:
            return given

    with pytest.raises(PluginError, match=r"Counting gave .* in 'counts' \(test_sources.py, line"):
        counts_of(Counting())


def test_counts_that_raise_are_named() -> None:
    class Counting(Source):
        def counts(self) -> dict[str, int]:
            raise OSError("cable")

    with pytest.raises(PluginError, match=r"Counting raised OSError: cable \(test_sources.py, line"):
        counts_of(Counting())


def test_counts_of_numpy_are_given_as_integers() -> None:
    class Counting(Source):
        def counts(self) -> Any:
            return {"left": np.int64(3)}

    assert counts_of(Counting()) == {"left": 3}
    assert counts_of(Source()) == {}


@pytest.mark.parametrize("given", ["numpy", ["numpy"], {"numpy": None}, {"": "kafka"}, None])
def test_packages_are_names_with_their_extras(given: object) -> None:
    class Needy(Source):
        def packages(self) -> Any:
            return given

    with pytest.raises(
        PluginError, match=r"the collector 'needy' gave .* in 'packages' \(test_sources.py, li"
    ):
        check_packages_of("the collector 'needy'", Needy())


def test_packages_that_are_missing_are_named_with_their_extra() -> None:
    class Needy(Source):
        def __init__(self, *names: str) -> None:
            self.names = names

        def packages(self) -> dict[str, str]:
            return dict.fromkeys(self.names, "kafka")

    check_packages_of("it", Needy("numpy", "json"))
    check_packages_of("it", Source())
    with pytest.raises(ConfigError, match=r"it needs no_such, no_such.inner, \.odd: not installed"):
        check_packages_of("it", Needy("numpy", "no_such", "no_such.inner", ".odd"))
