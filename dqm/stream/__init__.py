"""Transport of windows: they are cut, encoded, sent over ZeroMQ, and checked when they are received."""

from dqm.stream.acknowledgement import Identity, Reason, identity_of
from dqm.stream.counted_windows import CountedCutter, WholeCutter
from dqm.stream.keys import (
    KeyRing,
    SenderKeys,
    make_keys,
    open_key_ring,
    read_public,
    read_secret,
    read_sender_keys,
)
from dqm.stream.receiver import Receiver
from dqm.stream.run_message import RunMessage, decode_run, encode_run
from dqm.stream.run_tracker import REMEMBERED_RUNS, RunTracker
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
from dqm.stream.turned_away import TurnedAwayPeer
from dqm.stream.windowing import CountCutter, Cutter, RunLabel, TimeCutter, WindowEnd
from dqm.stream.wire import Limits, decode, encode

__all__ = [
    "REMEMBERED_RUNS",
    "RESTORED_WINDOWS",
    "Arrival",
    "ArrivalOrder",
    "CountCutter",
    "CountedCutter",
    "Cutter",
    "Identity",
    "KeyRing",
    "Limits",
    "Reason",
    "Receiver",
    "RunLabel",
    "RunMessage",
    "RunTracker",
    "Sender",
    "SenderKeys",
    "SequenceTracker",
    "Spool",
    "StreamCounts",
    "TimeCutter",
    "TurnedAwayPeer",
    "WholeCutter",
    "WindowEnd",
    "decode",
    "decode_run",
    "encode",
    "encode_run",
    "find_conflict",
    "identity_of",
    "make_keys",
    "open_key_ring",
    "read_public",
    "read_secret",
    "read_sender_keys",
]
