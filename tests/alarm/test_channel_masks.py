"""Masks of channels: what they choose, what is refused, and that they suppress no alarm."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from pydantic import ValidationError

from dqm.alarm import (
    AddMask,
    AlarmEngine,
    AlarmState,
    ChannelChoice,
    KnownChannels,
    RemoveMask,
    parse_numbers,
)
from dqm.alarm.values import Cause
from dqm.errors import InputError
from dqm.events import Origin, Window, WindowCut

from .engines import engine, stream, verdict

NUMBERS = np.arange(8.0)
KNOWN = KnownChannels(
    NUMBERS, layers=NUMBERS // 4 + 1.0, cards=np.array([0.0, 0, 1, 1, 2, 2, -1, -1]), shares=NUMBERS / 28.0
)


def masked(choice: ChannelChoice, **changes: object) -> AddMask:
    return replace(AddMask("m", "s", "amplifier broken", channels=choice), **changes)  # type: ignore[arg-type]


def engine_of(*known: KnownChannels) -> AlarmEngine:
    return engine(stream(channels=known))


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", ()),
        (" 17 ", (17,)),
        ("17,40-42, 41", (17, 40, 41, 42)),
        ("3 - 4,,", (3, 4)),
        ("0-999", range(1000)),
    ],
)
def test_numbers_are_written_one_by_one_or_as_ranges(text: str, numbers: tuple[int, ...]) -> None:
    assert parse_numbers(text) == tuple(numbers)


@pytest.mark.parametrize("text", ["x", "-1", "1-", "4-3", "1.5", "0-1000", "0-900,1000-1200", "٣", "9" * 20])
def test_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"is neither a number nor a range|is not a range"):
        parse_numbers(text)


def test_a_choice_is_said_in_words_and_is_never_empty() -> None:
    assert str(ChannelChoice(channels=(41, 17, 40, 42), layers=(3,))) == "channels 17, 40-42; layer 3"
    assert str(ChannelChoice(cards=tuple(range(0, 400, 2)))) == "200 cards from 0 to 398"
    with pytest.raises(ValidationError, match="no channel is chosen"):
        ChannelChoice()
    with pytest.raises(ValidationError):
        ChannelChoice(channels=(-1,))
    command = masked(ChannelChoice(channels=(17,)), streams="s" * 250)
    assert len(command.target) == 256, "the column of the audit"
    assert masked(ChannelChoice(channels=(17,))).target == "s: channel 17"


def test_channels_are_found_by_number_layer_and_card() -> None:
    assert KNOWN.find([ChannelChoice(channels=(3,)), ChannelChoice(cards=(2,))], (0,)) == (0, 3, 4, 5)
    assert KNOWN.find([ChannelChoice(layers=(2,))]) == (4, 5, 6, 7)
    assert KNOWN.find([]) == ()
    assert KNOWN.missing(ChannelChoice(channels=(3,), layers=(1, 7))) == "layer 7"
    assert KNOWN.missing(ChannelChoice(channels=(3, 8, 9))) == "channels 8-9"
    assert KNOWN.missing(ChannelChoice(cards=(0, 2))) == ""


def test_masked_channels_are_neither_counted_nor_expected() -> None:
    x = np.column_stack([NUMBERS, 10.0 * NUMBERS])
    window = Window(
        "s", 1, 0, "", Origin.LIVE, WindowCut.TIME, ("channel", "hits"), x, n_expected=280.0, counts="hits"
    )
    left = KNOWN.without(window, (6, 7))
    assert (left.n_events, left.n_expected) == (150, pytest.approx(150.0))
    assert KNOWN.without(window, ()) is window
    assert KNOWN.without(window, tuple(range(8))).n_expected == 0.0


def test_a_mask_of_channels_suppresses_no_alarm_and_ends_in_time() -> None:
    made = engine_of(KNOWN)
    for seq in range(3):
        made.observe(verdict(1e-5, seq), float(seq))
    assert made.apply(masked(ChannelChoice(channels=(3,)), until=100.0), "maria", 10.0) == []
    (differs,) = (alarm for alarm in made.alarms if alarm.cause is Cause.DIFFERS)
    assert differs.state is AlarmState.ACTIVE
    (mask,) = made.channel_masks["s"]
    assert (mask.channels, mask.user, mask.until) == (ChannelChoice(channels=(3,)), "maria", 100.0)
    made.tick(99.0)
    assert made.masks == (mask,)
    made.tick(100.0)
    assert (made.masks, made.channel_masks) == ((), {})
    made.apply(masked(ChannelChoice(layers=(1,))), "maria", 110.0)
    made.apply(RemoveMask("m", "repaired"), "maria", 111.0)
    assert made.channel_masks == {}


@pytest.mark.parametrize(
    ("known", "choice", "told"),
    [
        ((), ChannelChoice(channels=(3,)), "stream 's' has no channels"),
        ((KNOWN,), ChannelChoice(channels=(99,)), "stream 's' has no channel 99"),
        ((KNOWN,), ChannelChoice(layers=(0,)), "stream 's' has no layer 0"),
        ((KNOWN, replace(KNOWN, numbers=NUMBERS + 1.0)), ChannelChoice(channels=(0,)), "has no channel 0"),
    ],
)
def test_channels_that_a_reference_does_not_have_are_refused(
    known: tuple[KnownChannels, ...], choice: ChannelChoice, told: str
) -> None:
    made = engine_of(*known)
    with pytest.raises(InputError, match=told):
        made.apply(masked(choice), "maria", 1.0)
    assert made.masks == ()
