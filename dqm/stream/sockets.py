"""Options common to both ends of the wire: those that matter are set, not left to the default."""

from __future__ import annotations

import zmq

__all__ = ["set_options"]

_HEARTBEAT_MS = 5_000
_SILENCE_MS = 20_000  # a peer that answers no heartbeat for so long is gone
_HANDSHAKE_MS = 10_000
_RECONNECT_MS = 100
_RECONNECT_MOST_MS = 5_000


def set_options(socket: zmq.Socket[bytes], *, max_message_bytes: int, queue_messages: int) -> None:
    """Make a socket of either end drop dead peers, bound its queues and never hold up the end of the process.

    Parameters
    ----------
    socket : zmq.Socket
        Before it is bound or connected.
    max_message_bytes : int
        Largest frame accepted; a peer that sends more is disconnected.
    queue_messages : int
        Messages held for each peer and direction.
    """
    options = {
        zmq.MAXMSGSIZE: max_message_bytes,
        zmq.SNDHWM: queue_messages,
        zmq.RCVHWM: queue_messages,
        zmq.LINGER: 0,
        zmq.HEARTBEAT_IVL: _HEARTBEAT_MS,
        zmq.HEARTBEAT_TIMEOUT: _SILENCE_MS,
        zmq.HEARTBEAT_TTL: _SILENCE_MS,
        zmq.HANDSHAKE_IVL: _HANDSHAKE_MS,
        zmq.RECONNECT_IVL: _RECONNECT_MS,
        zmq.RECONNECT_IVL_MAX: _RECONNECT_MOST_MS,
    }
    for option, value in options.items():
        socket.setsockopt(option, value)
