"""Windows on their way: cut by the sender, written to bytes, carried over ZeroMQ, checked on arrival."""

from dqm.stream.acknowledgement import Identity, identity_of
from dqm.stream.limits import Limits, Reason
from dqm.stream.receiver import Receiver
from dqm.stream.sender import Sender
from dqm.stream.sequence import Arrival, SequenceTracker, Standing, StreamCounts, find_conflict
from dqm.stream.spool import Spool
from dqm.stream.windowing import CountCutter, Cutter, RunLabel, TimeCutter
from dqm.stream.wire import decode, encode

__all__ = [
    "Arrival",
    "CountCutter",
    "Cutter",
    "Identity",
    "Limits",
    "Reason",
    "Receiver",
    "RunLabel",
    "Sender",
    "SequenceTracker",
    "Spool",
    "Standing",
    "StreamCounts",
    "TimeCutter",
    "decode",
    "encode",
    "identity_of",
    "find_conflict",
]
