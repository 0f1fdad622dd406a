"""Hits of every channel: dead and noisy channels against the windows of a reference's run."""

from dqm.nplm.channels.channel_map import CARD, LAYER, MAP_COLUMNS, NUMBER, UNKNOWN, WIRE, check_map
from dqm.nplm.channels.channel_test import DEAD_SHARE, ChannelResult, ChannelState, ChannelTest, GroupResult
from dqm.nplm.channels.model import MIN_WINDOWS, ChannelModel, learn_model
from dqm.nplm.channels.wander import LEAST_FACTOR, wander_factor

__all__ = [
    "CARD",
    "DEAD_SHARE",
    "LAYER",
    "LEAST_FACTOR",
    "MAP_COLUMNS",
    "MIN_WINDOWS",
    "NUMBER",
    "UNKNOWN",
    "WIRE",
    "ChannelModel",
    "ChannelResult",
    "ChannelState",
    "ChannelTest",
    "GroupResult",
    "check_map",
    "learn_model",
    "wander_factor",
]
