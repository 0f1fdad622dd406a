"""Windows on their way: cut by the sender, written to bytes, carried over ZeroMQ, checked on arrival."""

from dqm.stream.acknowledgement import Identity, identity_of
from dqm.stream.keys import KeyRing, Sending, make_keys, read_public, read_secret
from dqm.stream.limits import Limits, Reason
from dqm.stream.receiver import Receiver
from dqm.stream.sender import Sender
from dqm.stream.sequence import (
    RESTORED_WINDOWS,
    Arrival,
    ArrivalOrder,
    SequenceTracker,
    StreamCounts,
    find_conflict,
)
from dqm.stream.spool import Spool
from dqm.stream.windowing import CountCutter, Cutter, RunLabel, TimeCutter
from dqm.stream.wire import decode, encode

__all__ = [
    "RESTORED_WINDOWS",
    "Arrival",
    "ArrivalOrder",
    "CountCutter",
    "Cutter",
    "Identity",
    "KeyRing",
    "Limits",
    "Reason",
    "Receiver",
    "RunLabel",
    "Sender",
    "Sending",
    "SequenceTracker",
    "Spool",
    "StreamCounts",
    "TimeCutter",
    "decode",
    "encode",
    "find_conflict",
    "identity_of",
    "make_keys",
    "read_public",
    "read_secret",
]
