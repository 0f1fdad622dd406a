"""What messages about alarms say."""

from __future__ import annotations

from dataclasses import replace
from zoneinfo import ZoneInfo

from dqm.alarm import Acknowledgement, Alarm, AlarmState, Cause, Guidance, Notice, NoticeKind, Priority, Shelf
from dqm.export.notice_text import NoticeWriter

AT = 1_790_000_000.0
ALARM = Alarm(
    "chamber-2", Cause.RATE, Priority.P1,
    Guidance("Too few events.", "Check high voltage.", "Muon expert, 16-2345"),
    AlarmState.ACTIVE, AT, raised_at=AT, group="muon/station-1",
    text="2 of the last 3 windows have another number: 30 events where 488 are expected (p < 1e-15)",
)  # fmt: skip
WRITER = NoticeWriter("https://dqm.example.org", ZoneInfo("Europe/Zurich"))


def write(*notices: Notice, writer: NoticeWriter = WRITER, others: tuple[Alarm, ...] = ()) -> tuple[str, str]:
    everything = [notice.alarm for notice in notices] + list(others)
    message = writer.write(notices, everything, AT + 125.0)
    return message.title, message.body


def test_one_alarm_is_told_with_all_that_a_crew_needs() -> None:
    title, body = write(Notice(NoticeKind.RAISED, ALARM))
    assert title == "dqm: P1 rate: chamber-2 (muon/station-1)"
    assert body.splitlines() == [
        "ALARM P1 rate: chamber-2 (muon/station-1)",
        f"Seen: {ALARM.text}",
        "Since: 2026-09-21 16:13:20 CEST, for 2 min 05 s",
        "Means: Too few events.",
        "Do: Check high voltage.",
        "Call: Muon expert, 16-2345",
        "https://dqm.example.org/alarms/chamber-2/rate",
    ]
    assert "https" not in write(Notice(NoticeKind.RAISED, ALARM), writer=replace(WRITER, page=None))[1]


def test_250_streams_of_a_group_are_one_block_with_names_and_their_number() -> None:
    alarms = [
        replace(
            ALARM, stream=f"chamber-{n:03}", cause=Cause.SILENT, group=f"muon/station-{n % 5}", text="none"
        )
        for n in range(250)
    ]
    title, body = write(*(Notice(NoticeKind.RAISED, alarm) for alarm in alarms))
    assert title == "dqm: P1 silent: 250 streams of muon"
    assert body.count("ALARM") == 1
    assert "Streams: chamber-000, chamber-001, " in body
    assert "chamber-011 and 238 more\n" in body
    assert body.endswith("https://dqm.example.org/alarms")
    assert len(body) < 1000


def test_many_alarms_of_many_kinds_are_cut_off_and_counted() -> None:
    alarms = [replace(ALARM, stream=f"s{n}", group=f"g{n}") for n in range(30)]
    healthy = tuple(
        replace(a, stream=f"{a.stream}-{k}", state=AlarmState.NORMAL) for a in alarms for k in range(2)
    )
    title, body = write(*(Notice(NoticeKind.RAISED, alarm) for alarm in alarms), others=healthy)
    assert title.endswith(" and 29 more")
    assert body.count("ALARM") == 8
    assert body.endswith("... and 22 more, see the page: https://dqm.example.org/alarms")


def test_what_ended_and_what_came_and_went_says_from_when_to_when() -> None:
    ended = replace(ALARM, state=AlarmState.NORMAL, since=AT + 60.0, text="")
    title, body = write(Notice(NoticeKind.ENDED, ended))
    assert title == "dqm: ended: rate: chamber-2 (muon/station-1)"
    assert "From 2026-09-21 16:13:20 CEST to 2026-09-21 16:14:20 CEST: the condition has gone\n" in body
    assert "could not be told before" in write(Notice(NoticeKind.MISSED, ended))[1]
    shelf = Shelf("ann", "known", AT, None, one_shot=True)
    assert (
        ": shelved by ann\n"
        in write(Notice(NoticeKind.ENDED, replace(ended, state=AlarmState.SHELVED, shelf=shelf)))[1]
    )


def test_a_reminder_says_for_how_long_and_what_was_acknowledged_says_by_whom() -> None:
    assert write(Notice(NoticeKind.REMINDER, ALARM))[1].startswith("NOT ACKNOWLEDGED P1 rate: chamber-2")
    seen = replace(ALARM, acknowledged=Acknowledgement("ann", "x", AT))
    assert "Acknowledged by ann" in write(Notice(NoticeKind.RAISED, seen))[1]


def test_text_from_outside_is_data() -> None:
    nasty = "NaN\r\nBcc: x@y.org\x1b[2J <!channel> @all \u202e" + "x" * 2000
    title, body = write(Notice(NoticeKind.RAISED, replace(ALARM, text=nasty)))
    assert len(body.splitlines()) == 7
    assert not {"\r", "\x1b", "\u202e", "@"} & set(body + title)
    assert "<!" not in body
    assert len(body) < 1000
