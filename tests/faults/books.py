"""The books of an hour of chaos: what became of every window, and what the alarms made of the verdicts."""

from __future__ import annotations

import json
import re
from collections import Counter, defaultdict
from dataclasses import dataclass

from dqm.alarm import AlarmChange, AlarmEngine, AlarmState, Cause
from dqm.config import load_daemon
from dqm.events import Quality, Verdict
from dqm.service.monitor.core import OVERLOAD
from dqm.service.monitor.resolved_config import resolve
from dqm.store import AlarmStore, Database
from dqm.stream import Identity, Spool, identity_of

from .chaos import FLOOD, FLOOD_RUN, GROUPS, RUN, Chaos
from .site import Site

__all__ = ["check_alarms", "check_windows"]

CAUSES = (Cause.DIFFERS, Cause.RATE, Cause.DRIFT, Cause.NUISANCE)
"""Causes that follow from verdicts alone; others follow from when something came, or did not."""

LOST = re.compile(r"(\d+) windows? lost before this one")

Moves = dict[tuple[str, Cause], list[tuple[AlarmState, AlarmState]]]


@dataclass(frozen=True)
class Taken:
    """What a collector took, as its own spool says.

    Parameters
    ----------
    all : frozenset
        Identities of all windows that were ever given a number.
    kept : frozenset
        Those that it still has.
    """

    all: frozenset[Identity]
    kept: frozenset[Identity]


def read_spool(site: Site, name: str, run: int) -> Taken:
    """Read what a collector that has ended has left."""
    with Spool(site.folder / f"spool-{name}") as spool:
        numbers = spool.next_numbers(run)
        kept = frozenset(identity_of(message.header) for message in spool.load())
    return Taken(frozenset((s, run, seq) for s, n in numbers.items() for seq in range(n)), kept)


def check_windows(chaos: Chaos) -> str:
    """Check that every window that was taken is judged once, or is counted as lost with its reason."""
    books, found = chaos.books, chaos.read()
    judged = {identity for identity, _ in found}
    assert len(judged) == len(found), "stored twice"
    told = Counter((line["stream"], line["run"], line["seq"]) for line in chaos.site.events("judged"))
    assert not {identity for identity, n in told.items() if n > 1} - books.undone, "judged twice"
    counts: Counter[str] = Counter()
    for name, run in [*dict.fromkeys(GROUPS, RUN).items(), (FLOOD, FLOOD_RUN)]:
        if not chaos.site.has_collected(name):
            continue
        taken = read_spool(chaos.site, name, run)
        absent = taken.all - judged - books.undone - taken.kept
        assert len(absent) == books.dropped[name], f"{name}: {len(absent)} neither judged nor counted as lost"
        assert name == FLOOD or not absent, name
        check_losses([v for i, v in found if i in taken.all], taken.all - judged - taken.kept)
        judged -= taken.all
        counts += Counter(taken=len(taken.all), dropped=len(absent), kept=len(taken.kept))
    assert not judged, "judged, and taken by nobody"
    counts += Counter(judged=len(found), undone=len(books.undone - {identity for identity, _ in found}))
    return f"windows: {dict(counts)}, without p: {dict(check_reasons(found))}"


def check_losses(found: list[Verdict], missing: frozenset[Identity]) -> None:
    """Check that the verdicts say how many windows are missing before them."""
    lanes: dict[tuple[str, int], list[Verdict]] = defaultdict(list)
    for verdict in found:
        lanes[verdict.window.stream, verdict.window.run].append(verdict)
    for lane, verdicts in lanes.items():
        numbers = [verdict.window.seq for verdict in verdicts]
        said = sum(verdict.window.n_lost for verdict in verdicts)
        n_missing = sum((s, r) == lane and seq < max(numbers) for s, r, seq in missing)
        # one that comes after a later one was told to be missing, and is not
        assert said == n_missing if numbers == sorted(numbers) else said > n_missing, lane


def check_reasons(found: list[tuple[Identity, Verdict]]) -> Counter[str]:
    """Check that a window is ``Null`` for what was done alone; gives how many there are of each reason."""
    reasons: Counter[str] = Counter()
    for _, verdict in found:
        is_lossy = LOST.search(verdict.reason)
        n_said = int(is_lossy[1]) if is_lossy else 0
        assert verdict.result.p is None or n_said == verdict.window.n_lost, verdict
        if verdict.result.p is None:
            assert verdict.quality is Quality.NULL, verdict
            assert verdict.reason == OVERLOAD, verdict
            reasons[verdict.reason] += 1
        else:
            assert (verdict.quality is Quality.NULL) <= bool(n_said), verdict
    return reasons


def check_alarms(chaos: Chaos) -> str:
    """Compare what the alarms remember of the windows, their states and their history with a replay."""
    verdicts = [verdict for _, verdict in chaos.read()]
    database = Database(chaos.url, create=False)
    try:
        stored, changes = AlarmStore(database).states(), list(AlarmStore(database).changes())
    finally:
        database.close()
    engine, replayed = replay(chaos.site, verdicts)
    for stream in {verdict.window.stream for verdict in verdicts}:
        expected, actual = engine.dump(stream), dict(stored[stream])
        assert evidence_of(actual) == evidence_of(expected), stream
        for cause in CAUSES:
            states = [dump["alarms"][cause.value]["state"] for dump in (actual, expected)]
            assert states[0] == states[1], f"{stream} {cause}"
    assert moves_of(changes) == moves_of(replayed)
    return f"{sum(map(len, moves_of(changes).values()))} changes of alarms as in the replay"


def replay(site: Site, verdicts: list[Verdict]) -> tuple[AlarmEngine, list[AlarmChange]]:
    """Give the stored verdicts to alarms that nothing disturbs."""
    resolved = resolve(load_daemon(site.folder / "daemon.toml"))
    engine = AlarmEngine(resolved.rules, resolved.thresholds, verdicts[0].judged_at)
    changes = [change for v in verdicts for change in engine.observe(v, v.judged_at)]
    return engine, changes


def evidence_of(dump: dict[str, object]) -> object:
    """What follows from verdicts alone, not from time and not from the beginning and end of runs."""
    evidence = json.loads(json.dumps(dump["evidence"]))
    del evidence["silent"], evidence["unjudged"]["is_long"], evidence["border"]
    return evidence


def moves_of(changes: list[AlarmChange]) -> Moves:
    """States before and after, of each alarm that follows from verdicts."""
    moves: Moves = defaultdict(list)
    for change in changes:
        if change.alarm.cause in CAUSES:
            moves[change.alarm.stream, change.alarm.cause].append((change.before, change.alarm.state))
    return dict(moves)
