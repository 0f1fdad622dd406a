"""Channels that a mask means: by their numbers, their layers and their front-end cards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from itertools import pairwise
from typing import Annotated, Self

import numpy as np
from pydantic import ConfigDict, Field, model_validator
from pydantic.dataclasses import dataclass

from dqm.errors import InputError, format_count
from dqm.events import FloatArray, Window

__all__ = ["MOST_CHOSEN", "ChannelChoice", "KnownChannels", "parse_numbers", "parse_runs", "write_numbers"]

MOST_CHOSEN = 1000
"""Most numbers of one kind that a mask names; layers and cards stand for any number of channels."""

MOST_RUNS = 1_000_000
"""Most runs that are named at once."""

_LARGEST_NUMBER = 2**53  # beyond it floats do not tell neighbours apart
_MOST_DIGITS = 15
_LONGEST_LIST = 120
"""Characters of a list of numbers that is written out."""

Numbers = Annotated[
    tuple[Annotated[int, Field(ge=0, le=_LARGEST_NUMBER)], ...], Field(max_length=MOST_CHOSEN)
]


@dataclass(
    frozen=True,
    slots=True,
    config=ConfigDict(
        extra="forbid",
        json_schema_extra={
            "anyOf": [
                {"required": [name], "properties": {name: {"minItems": 1}}}
                for name in ("channels", "layers", "cards")
            ]
        },
    ),
)
class ChannelChoice:
    """Channels of a stream, at least one.

    Parameters
    ----------
    channels, layers, cards : tuple of int
        Numbers of channels, and of layers and front-end cards with all their channels, each >= 0.
    """

    channels: Numbers = ()
    layers: Numbers = ()
    cards: Numbers = ()

    @model_validator(mode="after")
    def _check_choice(self) -> Self:
        if not (self.channels or self.layers or self.cards):
            raise ValueError("no channel is chosen: give numbers of channels, layers or cards")
        return self

    def __str__(self) -> str:
        kinds = (("channel", self.channels), ("layer", self.layers), ("card", self.cards))
        return "; ".join(_describe(name, numbers) for name, numbers in kinds if numbers)


@dataclasses.dataclass(frozen=True, slots=True, eq=False)
class KnownChannels:
    """Channels of a reference; arrays have one number for each.

    Parameters
    ----------
    numbers, layers, cards : ndarray, shape (n_channels,)
        Its number, >= 0, and those of its layer and its card, negative if it has none.
    shares : ndarray, shape (n_channels,)
        Its share of the expected hits; the sum is 1.
    column : str
        Name of the feature that has the number of the channel.
    wanders : bool
        Whether they change slowly, so that neighbouring windows are alike.
    """

    numbers: FloatArray
    layers: FloatArray
    cards: FloatArray
    shares: FloatArray
    column: str = "channel"
    wanders: bool = False

    def missing(self, choice: ChannelChoice) -> str:
        """Name what is chosen and not there, such as ``layer 7``; empty if all is there."""
        kinds = (
            ("channel", choice.channels, self.numbers),
            ("layer", choice.layers, self.layers),
            ("card", choice.cards, self.cards),
        )
        absent = ((name, sorted(set(wanted) - set(known.tolist()))) for name, wanted, known in kinds)
        return next((_describe(name, numbers) for name, numbers in absent if numbers), "")

    def find(self, choices: Iterable[ChannelChoice], numbers: Sequence[int] = ()) -> tuple[int, ...]:
        """Give the numbers of all channels that are chosen, or are among some numbers, ascending."""
        chosen = np.isin(self.numbers, numbers)
        for choice in choices:
            chosen |= np.isin(self.numbers, choice.channels)
            chosen |= np.isin(self.layers, choice.layers)
            chosen |= np.isin(self.cards, choice.cards)
        return tuple(int(number) for number in self.numbers[chosen])

    def share_of(self, numbers: Sequence[int]) -> float:
        """Give the share of the expected hits that some channels have."""
        return float(self.shares[np.isin(self.numbers, numbers)].sum())

    def without(self, window: Window, numbers: Sequence[int]) -> Window:
        """Give a window without the hits of some channels, expecting none of them.

        Parameters
        ----------
        window : Window
            Of counted rows; one without the number of the channel is returned as it is.
        numbers : sequence of int
            Channels that count for nothing.
        """
        if not numbers or self.column not in window.names:
            return window
        is_left = ~np.isin(window.x[:, window.names.index(self.column)], numbers)
        expected = window.n_expected
        left = None if expected is None else expected * max(0.0, 1.0 - self.share_of(numbers))
        return dataclasses.replace(window, x=window.x[is_left], n_expected=left)


def parse_numbers(text: str, most: int = MOST_CHOSEN) -> tuple[int, ...]:
    """Read numbers and ranges, such as ``17, 40-47``.

    Raises
    ------
    InputError
        If a part is neither, or there are more than `most`.
    """
    found: list[int] = []
    for part in filter(None, (piece.strip() for piece in text.split(","))):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        ends = (first, last) if dash else (first, first)
        if not all(end.isascii() and end.isdigit() and len(end) <= _MOST_DIGITS for end in ends):
            raise InputError(
                f"{part!r} is neither a number nor a range", fix="Write numbers as in: 17, 40-47"
            )
        low, high = map(int, ends)
        if high < low or high - low >= most - len(found):
            raise InputError(
                f"{part!r} is not a range of at most {most} numbers in all",
                fix="Write the smaller number first, and not so many at once",
            )
        found += range(low, high + 1)
    return tuple(dict.fromkeys(found))


def parse_runs(text: str) -> tuple[int, ...]:
    """Read numbers of runs, such as ``10-12,15``; raises `InputError` if there is none."""
    runs = parse_numbers(text, MOST_RUNS)
    if not runs:
        raise InputError("no run is given", fix="Write them as in 10-12,15")
    return runs


def write_numbers(numbers: Iterable[int]) -> str:
    """Write numbers, neighbours as ranges: ``17, 40-47``."""
    ordered = sorted(set(numbers))
    breaks = [0, *(k for k, (a, b) in enumerate(pairwise(ordered), start=1) if b - a > 1), len(ordered)]
    runs = [(ordered[first], ordered[last - 1]) for first, last in pairwise(breaks)]
    words = [str(first) if first == last else f"{first}-{last}" for first, last in runs]
    return ", ".join(words)


def _describe(name: str, numbers: Sequence[int]) -> str:
    """Name numbers of one kind; a long list is summed up."""
    n = len(set(numbers))
    text = write_numbers(numbers)
    if len(text) > _LONGEST_LIST:
        return f"{format_count(n, name)} from {min(numbers)} to {max(numbers)}"
    return f"{name if n == 1 else f'{name}s'} {text}"
