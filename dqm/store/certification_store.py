"""What people said of runs: journals of amendments, labels, withdrawals and sign-offs, which only grow.

`VerdictStore.prune` leaves it alone: what was said of a run outlives its verdicts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, replace
from typing import Any, cast

from sqlalchemy import Row, Select, func, select

from dqm.alarm import Amendment, Decision, Entry, RunJournal, Scope, SignOff, Withdrawal
from dqm.errors import InputError
from dqm.events import Quality
from dqm.store.database import Database
from dqm.store.schema import certification

__all__ = ["CertificationStore"]

_AMEND = "amend"
_LABEL = "label"
_WITHDRAW = "withdraw"
_SIGN = "sign"
_SENT = "sent"
_WITHOUT_RECORD = [column for column in certification.c if column.name != "record"]
_SAID = (_AMEND, _LABEL, _WITHDRAW, _SIGN)


class CertificationStore:
    """Journals of runs; methods may be called from several threads.

    Parameters
    ----------
    database : Database
        Database of the store; what is added takes part in its open transaction.

    Raises
    ------
    StoreError
        In every method, if the store cannot be read or written.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    def journal(self, run: int) -> RunJournal:
        """Read what was said of a run."""
        return self.journals([run])[run]

    def journals(self, runs: Iterable[int]) -> dict[int, RunJournal]:
        """Read what was said of some runs, of each that is asked for.

        The records of sign-offs are left out: they are large, see `sign_off`.
        """
        wanted = list(runs)
        c = certification.c
        query = select(*_WITHOUT_RECORD).where(c.run.in_(wanted), c.action.in_(_SAID))
        found = self._read(query)
        return {run: RunJournal(run, tuple(found.get(run, ()))) for run in wanted}

    def add(self, entry: Entry) -> Entry:
        """Store an entry; gives it with its number, larger than all before."""
        statement = certification.insert().values(_to_row(entry)).returning(certification.c.id)
        with self._database.transaction() as connection:
            return replace(entry, identifier=int(connection.execute(statement).scalar_one()))

    def faults(self) -> list[str]:
        """Give the names of faults that were used, in the order of their first use."""
        c = certification.c
        query = select(c.fault).where(c.action == _LABEL).group_by(c.fault).order_by(func.min(c.id))
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def labels(self, stream: str) -> list[Amendment]:
        """Give the labels of a stream that are not withdrawn, of all runs, in the order of their numbers."""
        c = certification.c
        query = select(c.run).where(c.action == _LABEL, c.stream.in_(["", stream])).distinct()
        with self._database.reading() as connection:
            runs = list(connection.execute(query).scalars())
        found = [one for journal in self.journals(runs).values() for one in journal.amendments]
        mine = [one for one in found if one.fault and one.scope.stream in ("", stream)]
        return sorted(mine, key=lambda one: one.identifier)

    def last_runs(self, limit: int, below: int | None = None) -> list[int]:
        """Give the largest numbers of runs of which something was said, the largest first."""
        c = certification.c
        query = select(c.run).where(c.action.in_(_SAID)).distinct().order_by(c.run.desc()).limit(limit)
        if below is not None:
            query = query.where(c.run < below)
        with self._database.reading() as connection:
            return list(connection.execute(query).scalars())

    def unsent(self) -> list[int]:
        """Give the number of the last sign-off of each run that was not sent to the registry."""
        c = certification.c
        last = select(func.max(c.id)).where(c.action == _SIGN).group_by(c.run)
        sent = select(c.subject).where(c.action == _SENT)
        with self._database.reading() as connection:
            numbers = set(connection.execute(last).scalars()) - set(connection.execute(sent).scalars())
        return sorted(numbers)

    def sign_off(self, identifier: int) -> SignOff:
        """Read a sign-off with its record; raises `InputError` if there is none of this number."""
        c = certification.c
        for entries in self._read(
            select(certification).where(c.id == identifier, c.action == _SIGN)
        ).values():
            for entry in entries:
                if isinstance(entry, SignOff):
                    return entry
        raise InputError(f"no sign-off {identifier}")

    def sent_at(self, sign_off: int) -> float | None:
        """Give when a sign-off was sent to the registry, Unix seconds; None if it was not."""
        c = certification.c
        query = select(func.max(c.time)).where(c.action == _SENT, c.subject == sign_off)
        with self._database.reading() as connection:
            found = connection.execute(query).scalar()
        return None if found is None else float(found)

    def note_sent(self, sign_off: SignOff, time: float) -> None:
        """Note that the registry has taken a sign-off."""
        row = {
            "time": time, "user": "", "action": _SENT, "run": sign_off.run, "stream": "", "fault": "",
            "subject": sign_off.identifier, "comment": "", "content": {},
        }  # fmt: skip
        with self._database.transaction() as connection:
            connection.execute(certification.insert().values(row))

    def _read(self, query: Select[Any]) -> dict[int, list[Entry]]:
        """Read entries by run, in the order of their numbers."""
        found: dict[int, dict[int, Entry]] = {}
        with self._database.reading() as connection:
            for row in connection.execute(query.order_by(certification.c.id)):
                entries = found.setdefault(row.run, {})
                entries[row.id] = _to_entry(row, entries)
        return {run: list(entries.values()) for run, entries in found.items()}


def _to_row(entry: Entry) -> dict[str, object]:
    row: dict[str, object] = {
        "time": entry.time, "user": entry.user, "comment": entry.comment,
        "stream": "", "fault": "", "subject": None, "record": None,
    }  # fmt: skip
    match entry:
        case Amendment(scope=scope):
            content: dict[str, Any] = {"scope": asdict(scope), "judged": dict(entry.judged)}
            action = _LABEL if entry.fault else _AMEND
            content["quality"] = entry.quality
            row |= {"run": scope.run, "stream": scope.stream, "fault": entry.fault}
        case Withdrawal(withdrawn=withdrawn):
            action = _WITHDRAW
            content = {}
            row |= {
                "run": withdrawn.scope.run,
                "stream": withdrawn.scope.stream,
                "subject": withdrawn.identifier,
            }
        case SignOff():
            action = _SIGN
            names = ("decision", "without", "proposed", "n_windows")
            content = {name: getattr(entry, name) for name in names}
            row |= {"run": entry.run, "record": dict(entry.record)}
    return row | {"action": action, "content": content}


def _to_entry(row: Row[Any], before: Mapping[int, Entry]) -> Entry:
    common = {"identifier": row.id, "time": row.time, "user": row.user, "comment": row.comment}
    content = row.content
    match row.action:
        case "withdraw":
            return Withdrawal(**common, withdrawn=cast("Amendment", before[row.subject]))
        case "sign":
            decisions = {name: Decision(content[name]) for name in ("decision", "proposed")}
            known = content | decisions | {"without": tuple(content["without"])}
            return SignOff(**common, run=row.run, **known, record=row._mapping.get("record") or {})
        case _:
            quality = content["quality"]
            return Amendment(
                **common,
                scope=Scope(**content["scope"]),
                quality=None if quality is None else Quality(quality),
                fault=row.fault,
                judged={Quality(name): n for name, n in content["judged"].items()},
            )
