"""Masks of channels in both stores, as the daemon keeps them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from sqlalchemy import select, update

from dqm.alarm import (
    AddMask,
    Cause,
    ChannelChoice,
    Guidance,
    KnownChannels,
    Priority,
    Rules,
    StreamRules,
    Thresholds,
)
from dqm.events import ChannelDeparture, ChannelSummary
from dqm.service.monitor.alarm_service import AlarmService
from dqm.store import VerdictStore
from dqm.store.schema import verdicts
from tests.verdicts import alter

from .test_verdict_store import FULL

KNOWN = KnownChannels(np.arange(4.0), np.arange(4.0) // 2, np.arange(4.0), np.full(4, 0.25))
GUIDANCE = dict.fromkeys(Cause, Guidance("c", "a", "b"))
RULES = Rules((StreamRules("a", "", 600.0, 600.0, True, (), Priority.P2, GUIDANCE, channels=(KNOWN,)),))


def test_masks_of_channels_outlive_the_daemon_in_both_stores(url: str) -> None:
    now = [1000.0]

    def opened() -> AlarmService:
        return AlarmService(RULES, Thresholds(0.003, None), database.database, lambda: now[0])

    with VerdictStore(url) as database:
        choice = ChannelChoice(channels=(3,), layers=(0,))
        opened().apply(AddMask("m", "a", "amplifier broken", until=5000.0, channels=choice), "ada")
        again = opened()
        (mask,) = again.channel_masks()["a"]
        assert (mask.channels, mask.user, mask.reason, mask.until) == (
            choice,
            "ada",
            "amplifier broken",
            5000.0,
        )
        audit = again.history.actions()[-1]
        assert (audit["action"], audit["target"]) == ("mask", "a: channel 3; layer 0")
        now[0] = 5000.0
        again.tick()
        assert (again.masks(), opened().masks()) == ((), ())


def test_a_verdict_says_which_channels_were_masked_and_earlier_ones_are_read(url: str) -> None:
    worst = (ChannelDeparture(17, 0, 41.5, layer=2, wire=5),)
    summary = ChannelSummary(62, 1, 0, 0, n_masked=2, worst=worst, masked=(3, 40))
    first = alter(FULL, result=replace(FULL.result, channels=summary))
    with VerdictStore(url) as store:
        store.append(first)
        found = store.find(first.window.stream, first.window.run, first.window.seq)
        assert found is not None
        assert found.result.channels == summary
        with store.database.transaction() as connection:
            row = connection.execute(select(verdicts.c.channels)).scalar_one()
            old = {key: value for key, value in row.items() if key != "masked"}
            connection.execute(update(verdicts).values(channels=old))
        again = store.find(first.window.stream, first.window.run, first.window.seq)
        assert again is not None
        assert again.result.channels == replace(summary, masked=())
