"""Amendments, labels, withdrawals and sign-offs of a run: what counts, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from dqm.alarm import (
    AmendFlag,
    Amendment,
    CertifyCommand,
    Decision,
    Entry,
    LabelFault,
    Overlay,
    RunFacts,
    RunJournal,
    Scope,
    SignOff,
    SignOffRules,
    SignRun,
    Span,
    Withdrawal,
    WithdrawAmendment,
    certify,
    may_sign,
    parse_windows,
    propose_sign_off,
)
from dqm.errors import InputError
from dqm.events import Quality
from tests.verdicts import alter
from tests.world import verdict_of

RUN, STREAMS, N, LENGTH = 7, ("a", "b"), 6, 10.0
"""Each stream has N windows, one after the other, of so many seconds."""


def span(stream: str, seq: int, quality: Quality = Quality.GOOD) -> Span:
    verdict = alter(verdict_of(stream, seq), quality=quality, start=LENGTH * seq, end=LENGTH * (seq + 1))
    return Span(LENGTH * seq, LENGTH * (seq + 1), verdict)


SPANS = {stream: [span(stream, seq) for seq in range(N)] for stream in STREAMS}
RULES = SignOffRules()


def facts_of(journal: RunJournal, spans: dict[str, list[Span]] | None = None, **fields: object) -> RunFacts:
    found = SPANS if spans is None else spans
    seconds = {stream: {Quality.GOOD: LENGTH * len(of_stream)} for stream, of_stream in found.items()}
    facts = RunFacts(found, journal, propose_sign_off(RULES, seconds), record={"flags": []})
    return replace(facts, **fields)


def said(journal: RunJournal, command: CertifyCommand, user: str = "maria", **fields: object) -> RunJournal:
    """What the journal is after a command."""
    entry = certify(command, facts_of(journal, **fields), user=user, now=1000.0 + journal.version)
    return RunJournal(RUN, (*journal.entries, replace(entry, identifier=journal.version + 1)))


scopes = st.one_of(
    st.builds(lambda stream: Scope(RUN, stream), st.sampled_from(["", *STREAMS])),
    st.builds(
        lambda stream, first, n: Scope(RUN, stream, first, first + n),
        st.sampled_from(STREAMS), st.integers(0, N - 1), st.integers(0, N),
    ),
    st.builds(
        lambda stream, start, n: Scope(RUN, stream, start=start * 2.5, end=(start + n) * 2.5),
        st.sampled_from(["", *STREAMS]), st.integers(0, 23), st.integers(1, 30),
    ),
)  # fmt: skip
qualities = st.sampled_from(list(Quality))
amendments = st.builds(
    lambda scope, quality, fault, is_label: (scope, None, fault) if is_label else (scope, quality, ""),
    scopes, qualities, st.sampled_from(["HV trip", "noise"]), st.booleans(),
)  # fmt: skip


def covers(scope: Scope, stream: str, seq: int, moment: float) -> bool:
    """What a scope speaks of, written down once more."""
    if scope.stream and scope.stream != stream:
        return False
    if scope.first is not None and scope.last is not None:
        return seq in range(scope.first, scope.last + 1)
    if scope.start is not None and scope.end is not None:
        return not (moment < scope.start or moment >= scope.end)
    return True


@given(st.lists(st.tuples(amendments, st.booleans()), max_size=8))
def test_of_what_is_not_withdrawn_the_last_word_on_a_moment_counts(
    chosen: list[tuple[tuple[Scope, Quality | None, str], bool]],
) -> None:
    entries: list[Entry] = []
    for (scope, quality, fault), is_withdrawn in chosen:
        made = Amendment(len(entries) + 1, 0.0, "maria", "x", scope, quality, fault)
        entries.append(made)
        if is_withdrawn:
            entries.append(Withdrawal(len(entries) + 1, 0.0, "jo", "x", made))
    overlay = Overlay(RunJournal(RUN, tuple(entries)).amendments)
    for stream, spans in SPANS.items():
        for one in spans:
            window = one.verdict.window
            for moment in (one.start, one.start + 2.5, one.end - 0.1):
                flag = label = None
                for (scope, quality, fault), is_withdrawn in chosen:
                    if not is_withdrawn and covers(scope, stream, window.seq, moment):
                        flag, label = (quality or flag), (fault or label)
                found = overlay.flag(window, moment), overlay.label(window, moment)
                assert (found[0] and found[0].quality, found[1] and found[1].fault) == (flag, label)


def commands(scope: Scope, quality: Quality | None, fault: str, known: int = 0) -> CertifyCommand:
    return LabelFault(scope, fault, "x", known) if fault else AmendFlag(scope, quality, "x", known)


@given(st.lists(amendments, max_size=6), amendments)
def test_nobody_overrules_what_they_have_not_seen(
    before: Sequence[tuple[Scope, Quality | None, str]], asked: tuple[Scope, Quality | None, str]
) -> None:
    journal = RunJournal(RUN)
    for number, (scope, quality, fault) in enumerate(before):
        journal = said(journal, commands(scope, quality, fault, known=number))
    for known in range(len(before) + 1):
        unseen = journal.amendments[known:]
        window_spans = [one for spans in SPANS.values() for one in spans]
        overruled = [
            entry
            for entry in unseen
            for one in window_spans
            for moment in (one.start, one.start + 2.5, one.start + 5.0, one.start + 7.5)
            if bool(entry.fault) == bool(asked[2])
            and covers(entry.scope, one.verdict.window.stream, one.verdict.window.seq, moment)
            and covers(asked[0], one.verdict.window.stream, one.verdict.window.seq, moment)
        ]
        is_refused = journal.find_unseen(Amendment(0, 0.0, "jo", "x", *asked), known) is not None
        assert is_refused or not overruled
        assert unseen or not is_refused
        if is_refused:
            with pytest.raises(InputError, match="maria has changed it meanwhile"):
                said(journal, commands(*asked, known=known))
        else:
            assert said(journal, commands(*asked, known=known)).amendments[-1].scope == asked[0]
    said(journal, commands(*asked, known=journal.version))  # whoever has seen all is never refused


@pytest.mark.parametrize("known", [3, 99, 2**53])
def test_nobody_knows_an_entry_that_does_not_exist(known: int) -> None:
    asked = (Scope(RUN, "a", 0, 3), Quality.GOOD, "")
    journal = said(said(RunJournal(RUN), commands(*asked)), commands(*asked, known=1))
    for command in (
        commands(*asked, known=known),
        commands(asked[0], None, "noise", known=known),
        SignRun(RUN, Decision.GOOD, "looked at all of it", known=known),
    ):
        with pytest.raises(InputError, match=f"there is no entry {known}; the last is 2") as refused:
            said(journal, command)
        assert (
            refused.value.fix
            == "Look at the run, and give the number of the last entry that you have seen: 2"
        )
    with pytest.raises(InputError, match="nobody has said anything about the run"):
        said(RunJournal(RUN), commands(*asked, known=known))


def test_what_is_amended_says_how_the_windows_were_judged() -> None:
    spans = {"a": [span("a", 0), span("a", 1, Quality.BAD), span("a", 2, Quality.BAD)]}
    (entry,) = said(
        RunJournal(RUN), AmendFlag(Scope(RUN, "a", 1, 9), Quality.GOOD, "HV ramp"), spans=spans
    ).entries
    assert isinstance(entry, Amendment)
    assert (entry.judged, entry.user, entry.comment) == ({Quality.BAD: 2}, "maria", "HV ramp")


A0 = Scope(RUN, "a", 0, 0)


@pytest.mark.parametrize(
    ("command", "told"),
    [
        (AmendFlag(Scope(8), Quality.GOOD, "x"), "run 8: the run has no windows"),
        (
            AmendFlag(Scope(RUN, "c"), Quality.GOOD, "x"),
            "stream 'c' has no windows in it. Streams with windows: a, b",
        ),
        (
            AmendFlag(Scope(RUN, "a", 6, 9), Quality.GOOD, "x"),
            "no window in run 7 a, windows 6 to 9. It has windows 0 to 5",
        ),
        (LabelFault(Scope(RUN, "a", 6, 6), "trip", "x"), "no window in run 7 a, window 6"),
        (
            LabelFault(Scope(RUN, start=60.0, end=61.0), "trip", "x"),
            "no window in run 7 all streams, 1970-01-01 00:01:00 UTC to 1970-01-01 00:01:01 UTC. "
            "Its windows are from 1970-01-01 00:00:00 UTC to 1970-01-01 00:01:00 UTC",
        ),
        (WithdrawAmendment(RUN, 3, "x"), "no amendment and no label 3. There are none"),
        (SignRun(8, Decision.GOOD, "x"), "run 8: the run has no windows"),
        (SignRun(RUN, Decision.WITHOUT, "x", ("c",)), "no stream 'c' in it. There are a, b"),
        (SignRun(RUN, Decision.WITHOUT, "x"), "good without with 0 streams to leave out"),
        (SignRun(RUN, Decision.GOOD, "x", ("a",)), "good with 1 stream to leave out"),
        (
            SignRun(RUN, Decision.WITHOUT, "x", ("a", "b")),
            "all of its streams would be left out. Sign it as bad",
        ),
    ],
)
def test_what_cannot_be_is_refused_and_what_there_is_is_told(command: CertifyCommand, told: str) -> None:
    spans = {} if command.run == 8 else SPANS
    with pytest.raises(InputError) as refused:
        said(RunJournal(command.run), command, spans=spans)
    assert told in str(refused.value)


@pytest.mark.parametrize(
    ("start", "end", "n"),
    [(0.0, 10.0, 1), (5.0, 15.0, 2), (10.0, 11.0, 1), (59.0, 99.0, 2), (0.0, 60.0, 6), (64.0, 66.0, 1)],
)
def test_a_stretch_speaks_of_the_windows_that_it_touches(start: float, end: float, n: int) -> None:
    at_once = Span(65.0, 65.0, alter(verdict_of("a", 9), start=65.0, end=65.0))
    command = AmendFlag(Scope(RUN, start=start, end=end), Quality.BAD, "x")
    (entry,) = said(RunJournal(RUN), command, spans={"a": [*SPANS["a"], at_once]}).entries
    assert isinstance(entry, Amendment)
    assert sum(entry.judged.values()) == n


def test_an_amendment_meanwhile_is_told_with_who_when_and_what() -> None:
    journal = said(RunJournal(RUN), AmendFlag(Scope(RUN, "a", 0, 3), Quality.GOOD, "HV ramp"), user="jo")
    with pytest.raises(InputError) as refused:
        said(journal, AmendFlag(Scope(RUN, "a", 3, 5), Quality.BAD, "noisy"))
    assert str(refused.value) == (
        "run 7: jo has changed it meanwhile, at 1970-01-01 00:16:40 UTC: entry 1: "
        "run 7 a, windows 0 to 3 is Good (HV ramp). "
        "Look at it; if you want this all the same, say that you know entry 1: on the command line "
        "--known 1, in the API known"
    )
    said(journal, AmendFlag(Scope(RUN, "a", 4, 5), Quality.BAD, "noisy"))  # other windows
    said(journal, AmendFlag(Scope(RUN, "b"), Quality.BAD, "noisy"))  # another stream
    said(journal, LabelFault(Scope(RUN, "a"), "noise", "seen in the scope"))  # another question
    both = said(journal, AmendFlag(Scope(RUN, "a", 3, 5), Quality.BAD, "noisy", known=1))
    assert len(both.amendments) == 2


def test_a_withdrawal_counts_as_a_change_and_happens_once() -> None:
    journal = said(RunJournal(RUN), AmendFlag(A0, Quality.BAD, "noisy"))
    journal = said(journal, WithdrawAmendment(RUN, 1, "it was another run"), user="jo")
    assert journal.amendments == ()
    with pytest.raises(InputError, match=r"jo has changed it meanwhile.*withdraws entry 1"):
        said(journal, AmendFlag(A0, Quality.MEDIUM, "x", known=1))
    with pytest.raises(InputError, match=r"jo has withdrawn it at .*it was another run"):
        said(journal, WithdrawAmendment(RUN, 1, "x"))
    assert len(said(journal, AmendFlag(A0, Quality.MEDIUM, "x", known=2)).amendments) == 1


def test_whoever_signs_must_have_seen_all_that_was_said() -> None:
    journal = said(RunJournal(RUN), LabelFault(A0, "noise", "x"), user="jo")
    with pytest.raises(InputError, match=r"jo has changed it meanwhile.*is 'noise'"):
        said(journal, SignRun(RUN, Decision.GOOD, "looked at"))
    journal = said(journal, SignRun(RUN, Decision.WITHOUT, "looked at", ("b", "b"), known=1))
    signed = journal.sign_off
    assert signed is not None
    assert (signed.decision, signed.without, signed.proposed) == ("good without", ("b",), "good")
    assert signed.n_windows == 2 * N
    assert str(signed) == "good without b"
    journal = said(journal, AmendFlag(A0, Quality.BAD, "after all", known=2))
    assert [entry.identifier for entry in journal.since_sign_off] == [3]


def test_a_run_whose_windows_are_deleted_keeps_the_sign_off_that_it_has() -> None:
    journal = said(RunJournal(RUN), SignRun(RUN, Decision.GOOD, "looked at"))
    fewer = {"a": SPANS["a"][:4], "b": SPANS["b"]}
    with pytest.raises(InputError, match="2 of its windows are deleted since it was signed"):
        said(journal, SignRun(RUN, Decision.BAD, "x", known=1), spans=fewer)
    with pytest.raises(InputError, match=r"has no windows.*verdict_days"):
        said(journal, AmendFlag(Scope(RUN), Quality.BAD, "x"), spans={})


def test_a_fault_has_one_way_to_be_written() -> None:
    known = ("HV trip",)
    assert (
        said(RunJournal(RUN), LabelFault(A0, " HV trip ", "x"), faults=known).amendments[0].fault == "HV trip"
    )
    assert said(RunJournal(RUN), LabelFault(A0, "gas", "x"), faults=known).amendments[0].fault == "gas"
    with pytest.raises(InputError, match="'hv  Trip' is a fault already, written 'HV trip'"):
        said(RunJournal(RUN), LabelFault(A0, "hv  Trip", "x"), faults=known)


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"first": 1, "last": 2}, "name the stream"),
        ({"stream": "a", "first": 1}, "two ends"),
        ({"start": 1.0}, "two ends"),
        ({"stream": "a", "first": 1, "last": 2, "start": 1.0, "end": 2.0}, "by windows or by time"),
        ({"stream": "a", "first": 2, "last": 1}, "ends before it begins"),
        ({"start": 2.0, "end": 2.0}, "ends before it begins"),
        (
            {"start": 1577844000.0, "end": 1577840400.0},
            "or has no length: 2020-01-01 02:00:00 UTC to 2020-01-01 01:00:00 UTC",
        ),
        ({"stream": "a b"}, "pattern"),
        ({"start": 1.0, "end": float("inf")}, "finite|less than"),
    ],
)
def test_a_scope_that_contradicts_itself_cannot_be_made(values: dict[str, object], told: str) -> None:
    with pytest.raises(ValidationError, match=told):
        Scope(RUN, **values)


@pytest.mark.parametrize(("text", "ends"), [("3", (3, 3)), ("3-5", (3, 5)), (" 3 - 5 ", (3, 5))])
def test_windows_are_written_as_a_range(text: str, ends: tuple[int, int]) -> None:
    assert parse_windows(text) == ends


@pytest.mark.parametrize("text", ["", "x", "3-", "-3", "3-5-7", "3,5", "\u0663", "9" * 30])
def test_what_is_no_range_of_windows_is_told(text: str) -> None:
    with pytest.raises(InputError, match="no range of windows"):
        parse_windows(text)


def test_a_range_of_windows_that_ends_before_it_begins_is_told() -> None:
    with pytest.raises(InputError, match="'5-3' ends before it begins"):
        parse_windows("5-3")


def times(**seconds: float) -> dict[Quality, float]:
    return {Quality(name.capitalize()): value for name, value in seconds.items()}


GOOD, BAD, GONE = times(good=100.0), times(good=90.0, bad=10.0), times(null=100.0)


@pytest.mark.parametrize(
    ("rules", "streams", "proposed", "reason"),
    [
        ({}, {"a": GOOD, "b": times(good=95.0, bad=5.0)}, "good", "2 streams keep the rules"),
        ({}, {"a": GOOD}, "good", "1 stream keeps the rules"),
        ({}, {"a": GOOD, "b": BAD}, "good without b", "b (Bad for 10 % of the known time, more than 5 %)"),
        (
            {},
            {"a": GOOD, "b": times(good=79.0, null=21.0)},
            "good without b",
            "b (known for 79 % of the run, less than 80 %)",
        ),
        ({}, {"a": GOOD, "b": times(good=80.0, null=20.0)}, "good", "2 streams keep the rules"),
        (
            {},
            {"a": GOOD, "b": times(good=70.0, medium=10.0, null=20.0)},
            "good",
            "2 streams keep the rules",
        ),
        ({}, {"a": GOOD, "b": GONE}, "good without b", "b (nothing is known of it)"),
        ({}, {"a": GOOD, "b": {}}, "good without b", "b (nothing is known of it)"),
        ({"required": ("b*",)}, {"a": GOOD, "b": BAD}, "bad", "required: b (Bad for 10 %"),
        ({"required": ("a",)}, {"a": GOOD, "b": BAD}, "good without b", "b (Bad for 10 %"),
        ({}, {"a": BAD, "b": GONE}, "bad", "no stream is good: a (Bad"),
        ({}, {"a": GOOD, "b": BAD, "c": BAD}, "bad", "2 of 3 streams are not good, more than 50 %: b (Bad"),
        ({"largest_left_out_share": 0.7}, {"a": GOOD, "b": BAD, "c": BAD}, "good without b, c", "b (Bad"),
        ({"largest_bad_share": 0.1}, {"a": GOOD, "b": BAD}, "good", "2 streams keep"),
        (
            {"least_covered_share": 0.0},
            {"a": GOOD, "b": times(good=1.0, null=99.0)},
            "good",
            "2 streams keep",
        ),
    ],
)
def test_the_proposal_follows_from_the_rules(
    rules: dict[str, object], streams: dict[str, dict[Quality, float]], proposed: str, reason: str
) -> None:
    proposal = propose_sign_off(SignOffRules(**rules), streams)
    assert str(proposal) == proposed
    assert proposal.reason.startswith(reason)


@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.dictionaries(qualities, st.floats(0.0, 1e6), max_size=4),
        min_size=1,
    )
)
def test_a_proposal_is_one_that_could_be_signed(streams: dict[str, dict[Quality, float]]) -> None:
    proposal = propose_sign_off(RULES, streams)
    spans = dict.fromkeys(streams, SPANS["a"])
    facts = RunFacts(spans, RunJournal(RUN), proposal, record={})
    signed = certify(
        SignRun(RUN, proposal.decision, "as proposed", proposal.without), facts, user="jo", now=0.0
    )
    assert isinstance(signed, SignOff)
    assert signed.decision is signed.proposed
    assert proposal.reason


def test_who_may_sign_is_everybody_unless_some_are_named() -> None:
    assert may_sign("jo", frozenset())
    assert may_sign("jo", {"jo"})
    assert not may_sign("maria", {"jo"})
