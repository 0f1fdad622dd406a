"""Readings of EPICS process variables by Channel Access, with caproto (extra ``epics``)."""

from __future__ import annotations

import math
from threading import Event, Thread
from types import TracebackType
from typing import Annotated, Any, Self

import structlog
from pydantic import BaseModel, ConfigDict, Field, model_validator

from dqm.errors import ConfigError
from dqm.events import Reading
from dqm_collectors.slow_control.readings import MAX_NAMES, HistorySource, ReadingName

__all__ = ["EpicsSource"]

log = structlog.get_logger(__name__)

INVALID = 3
"""Alarm severity INVALID: the value has no meaning."""

READ_SECONDS = 2.0
"""Longest wait for the answer of one variable, s."""

LOST_ROUNDS = 30
"""After this number of rounds with a lost connection, all connections are made again."""


class EpicsSource(HistorySource):
    """Readings of variables that are subscribed to, and also read every `refresh_seconds`.

    A subscription reports changes only; without the regular reading, a constant value would seem stale. Times
    are those of the server. A lost connection, or a value with the alarm severity INVALID, gives no new
    reading; the last one keeps its time. Servers are found through ``EPICS_CA_ADDR_LIST`` and the related
    environment variables, as by every EPICS client.

    Parameters
    ----------
    options : EpicsSource.Options
        Variables and their errors.
    """

    class Options(BaseModel):
        """Keys of the configuration."""

        model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

        pvs: dict[ReadingName, Annotated[str, Field(min_length=1, max_length=60)]] = Field(
            min_length=1,
            max_length=MAX_NAMES,
            description=f"process variable of each reading, 1 to {MAX_NAMES}; names of 1 to 60 characters",
        )
        sigmas: dict[ReadingName, Annotated[float, Field(gt=0)]] = Field(
            {}, description="one-sigma error of each reading, in the unit of the variable, > 0"
        )
        refresh_seconds: float = Field(
            10.0,
            ge=0.1,
            le=3600,
            description="time between two readings of a constant value, s, [0.1, 3600]",
        )

        @model_validator(mode="after")
        def _check(self) -> Self:
            if unknown := sorted({*self.sigmas} - {*self.pvs}):
                raise ValueError(f"sigmas: no reading {unknown[0]!r} in pvs, which has {', '.join(self.pvs)}")
            names = list(self.pvs.values())
            if twice := sorted({pv for pv in names if names.count(pv) > 1}):
                raise ValueError(f"pvs: each variable may be used once; used twice: {', '.join(twice)}")
            return self

    def __init__(self, options: Options) -> None:
        super().__init__("EPICS")
        self.options = options
        self.announced = {name: options.sigmas.get(name) for name in options.pvs}
        self._names = {pv: name for name, pv in options.pvs.items()}
        self._stop = Event()

    def packages(self) -> dict[str, str]:
        """Give the package that reads the variables, and the extra that has it."""
        return {"caproto": "epics"}

    def __enter__(self) -> Self:
        """Start to search for the variables; return before they are found.

        Raises
        ------
        ConfigError
            If caproto is not installed.
        """
        self._connect()
        self._thread = Thread(target=self._maintain, name="slow control", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        self._thread.join()
        self._context.disconnect()

    def _connect(self) -> None:
        try:
            from caproto.threading.client import Context
        except ImportError as error:
            raise ConfigError(
                "reading EPICS variables needs caproto", fix="Install it: pip install '.[epics]'"
            ) from error
        self._context = Context(client_name="dqm")
        self._pvs = self._context.get_pvs(*self._names, timeout=READ_SECONDS)
        for pv in self._pvs:
            pv.subscribe(data_type="time", data_count=1).add_callback(self._receive)

    def _maintain(self) -> None:
        """Read the connected variables regularly; connect again if one is lost for a long time."""
        from caproto import CaprotoError

        found: set[str] = set()
        n_lost = 0
        while not self._stop.wait(self.options.refresh_seconds):
            connected = {pv.name: pv for pv in self._pvs if pv.connected}
            for pv in connected.values():
                self._read(pv)
            found |= {*connected}
            n_lost = n_lost + 1 if found - {*connected} else 0
            if n_lost == LOST_ROUNDS:  # caproto stops searching if a server ends just when it is found
                n_lost = 0
                try:
                    self._context.disconnect()
                    self._connect()
                except (CaprotoError, OSError) as error:
                    log.warning("EPICS cannot be reached", reason=str(error))

    def _read(self, pv: Any) -> None:
        from caproto import CaprotoError

        try:
            self._take(pv.name, pv.read(data_type="time", data_count=1, timeout=READ_SECONDS))
        except (CaprotoError, OSError):  # connection lost or no answer: the last reading stays
            return

    def _receive(self, subscription: Any, response: Any) -> None:
        self._take(subscription.pv.name, response)

    def _take(self, pv: str, response: Any) -> None:
        if response.metadata.severity == INVALID:
            return
        name = self._names[pv]
        try:
            value = float(response.data[0])
        except (TypeError, ValueError, IndexError):
            value = math.nan
        if not math.isfinite(value):
            self._refused.add(f"{response.data!r:.80} is not a number", pv=pv)
            return
        self._history.add(Reading(name, value, self.options.sigmas.get(name), response.metadata.timestamp))
