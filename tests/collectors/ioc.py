"""A small EPICS server for the tests, as a program of its own: it serves what it is told on its input."""

from __future__ import annotations

import asyncio
import json
import sys

from caproto import AlarmSeverity, ChannelDouble, ChannelString
from caproto.asyncio.server import start_server

PVS = {
    "GAS:PRESSURE": ChannelDouble(value=963.0),
    "GAS:TEMPERATURE": ChannelDouble(value=21.0),
    "GAS:NAME": ChannelString(value="ArCO2"),
}


async def obey(_library: object) -> None:
    """Change a variable with each line: its name, and value with severity or else, in silence, the time."""
    while line := await asyncio.to_thread(sys.stdin.readline):
        name, change = json.loads(line)
        if "value" in change:
            severity = AlarmSeverity(change.pop("severity", 0))
            await PVS[name].write(change.pop("value"), severity=severity, **change)
        else:  # what a record does that is processed and finds the same value
            await PVS[name].write_metadata(publish=False, **change)


if __name__ == "__main__":
    asyncio.run(start_server(PVS, interfaces=["127.0.0.1"], startup_hook=obey))
