"""Text from outside on a terminal, in reports and in annotations: nothing of it is obeyed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.table import Table

from dqm.alarm import AcknowledgeAlarm, AddMask, Alarm, AlarmChange, AlarmState, Cause, Guidance, Priority
from dqm.alarm.commands import Command
from dqm.cli.main import COMMANDS, load_command
from dqm.cli.tables import print_table
from dqm.errors import escape_text
from dqm.export.annotator import _text
from dqm.store import STORE_FILE, VerdictStore, sqlite_url
from dqm.web import HttpServer, create_app
from tests.world import World, make_world, verdict_of

from .conftest import Told

Dqm = Callable[..., Told]

EVIL = "gas\x85\u202e[red]x[/red]\u200b\u2028:smile: Müller"
"""What a store may have from earlier, and what comments may still have: C1, bidirectional marks, markup."""

HARMLESS = r"gas\x85\u202e[red]x[/red]\u200b\u2028:smile: Müller"
OBEYED = set("\x1b\x85\x9b\u202e\u200b\u2028")


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = make_world(tmp_path / STORE_FILE, {"muon": ["chamber-1", "chamber-2"]})
    conditions = {"trigger": EVIL}
    made.judge(*(verdict_of("chamber-2", n, p=2e-9, reason=EVIL, conditions=conditions) for n in range(3)))
    stored = _unchecked(AcknowledgeAlarm("chamber-2", Cause.DIFFERS, "x"), EVIL)
    made.alarm_service.apply(stored, "m\x9b31maria")
    made.alarm_service.apply(_unchecked(AddMask("3f9a", "chamber-1", "x"), EVIL), "m\x9b31maria")
    yield made
    made.store.close()


def _unchecked(command: Command, comment: str) -> Command:
    object.__setattr__(command, "comment", comment)  # as it was stored by an earlier version
    return command


@pytest.fixture
def url(world: World) -> Iterator[str]:
    server = HttpServer(create_app(world.metrics, lambda: 0.0, queries=world.queries), "127.0.0.1", 0)
    server.start()
    yield f"http://{server.address}"
    server.stop()


@pytest.mark.parametrize("columns", [40, 200])
@pytest.mark.parametrize("command", ["alarms list", "alarms history", "alarms masks"])
def test_alarms_are_listed_with_harmless_text(
    dqm: Dqm, url: str, monkeypatch: pytest.MonkeyPatch, command: str, columns: int
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    told = dqm(*command.split(), url, columns=columns)
    assert told.code == 0
    assert HARMLESS.replace(" ", "") in "".join(told.out.split())
    assert not OBEYED & set(told.out.replace("\x1b[", ""))


@pytest.mark.parametrize("command", ["alarms list", "alarms history", "alarms masks"])
def test_json_holds_the_same_text_in_ascii(dqm: Dqm, url: str, command: str) -> None:
    told = dqm(*command.split(), url, "--json")
    assert told.out.isascii()
    assert any(EVIL in text for text in _texts(json.loads(told.out)))


def _texts(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)
    elif isinstance(value, str):
        yield value


@pytest.mark.usefixtures("world")
def test_verdicts_are_shown_with_harmless_text(dqm: Dqm, tmp_path: Path) -> None:
    store = tmp_path / STORE_FILE
    assert HARMLESS in dqm("history", store).out
    told = dqm("history", store, "--json")
    assert told.out.isascii()
    assert json.loads(told.out.splitlines()[0])["conditions"]["trigger"] == EVIL
    flags = dqm("flags", store, "--format", "csv", "--by-judgement").out
    assert not OBEYED & set(flags)


@pytest.mark.parametrize("columns", [40, 200])
def test_titles_and_columns_of_tables_are_harmless(
    dqm: Dqm, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    with VerdictStore(sqlite_url(tmp_path / STORE_FILE)) as store:  # of an older version, or from elsewhere
        store.append(verdict_of(EVIL, 1, p=0.4, conditions={EVIL: -1200.0}))
    told = dqm("trend", tmp_path / STORE_FILE, columns=columns)
    assert "".join(told.out.split()).count(HARMLESS.replace(" ", "")) == 2
    assert not OBEYED & set(told.out.replace("\x1b[", ""))
    told = dqm("trend", tmp_path / STORE_FILE, "--json")
    assert (told.out.isascii(), json.loads(told.out)["stream"]) == (True, EVIL)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of seven conditions beside each run; all differ in the last run."""
    path = tmp_path_factory.mktemp("wide") / STORE_FILE
    with VerdictStore(sqlite_url(path)) as opened:
        for n in range(60):
            conditions = {f"hv_layer_{k}": 1200.0 if n < 54 else 600.0 for k in range(7)}
            opened.append(verdict_of("chamber-1", n, run=1 + n // 6, conditions=conditions, reason=LONG))
    return path


LONG = "run `dqm reference calibrate chamber1.dqmref --toys 20000` in the directory of the bundle"


@pytest.mark.parametrize("columns", [80, 100, 130, None])
def test_tables_are_complete_on_narrow_terminals_and_in_pipes(
    dqm: Dqm, wide: Path, monkeypatch: pytest.MonkeyPatch, columns: int | None
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "0" if columns is None else "1")
    monkeypatch.setenv("NO_COLOR", "1")
    width = 80 if columns is None else columns

    def shown(*arguments: object) -> list[str]:
        lines = re.sub(r"\x1b\[\d*m", "", dqm(*arguments, columns=width).out).splitlines()
        assert "…" not in "".join(lines)
        assert columns is None or max(map(len, lines)) <= columns
        return lines

    told = shown("trend", wide, "--stream", "chamber-1")
    words = set(re.split(r"[ :;]+", " ".join(told)))
    assert words >= {"begin", "windows", *(f"hv_layer_{k}" for k in range(7)), "1200", "600", "differs"}
    assert words >= {"condition", "before", "more", "values"}, "the last column"
    assert " ".join(shown("history", wide)).count("20000") == 60


def test_a_table_that_has_no_room_for_its_words_becomes_a_list(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("COLUMNS", "50")
    table = Table("where", "do", "empty")
    table.add_row("y" * 31, LONG, "")
    print_table(table)
    assert "".join(capsys.readouterr().out.split()) == "".join(f"where:{'y' * 31}do:{LONG}".split())


@pytest.mark.usefixtures("world")
def test_a_report_has_harmless_text(dqm: Dqm, tmp_path: Path) -> None:
    assert dqm("report", tmp_path / STORE_FILE, "-o", "r.html").code == 0
    text = (tmp_path / "r.html").read_text().partition("<body")[2]
    assert HARMLESS in text
    assert not OBEYED & set(text)


def test_an_annotation_has_harmless_text() -> None:
    guidance = Guidance("c", "do <b>\u202e", "who")
    alarm = Alarm("s", Cause.DIFFERS, Priority.P2, guidance, AlarmState.ACTIVE, 0.0, text=EVIL)
    text = _text(AlarmChange(alarm, AlarmState.NORMAL, 0.0, "window"))
    assert not OBEYED & set(text)
    assert "<b>" not in text


def test_names_of_files_are_harmless_in_messages(dqm: Dqm) -> None:
    told = dqm("reference", "show", "evil\x1b[2J\u202e")
    assert (told.code, escape_text("evil\x1b[2J\u202e") in told.err) == (2, True)
    assert not OBEYED & set(told.err)


@pytest.mark.parametrize("character", ["\x00", "\x1b", "\x7f", "\x9b"])
def test_a_comment_with_control_characters_is_refused(character: str) -> None:
    with pytest.raises(ValueError, match="must not have control characters"):
        AcknowledgeAlarm("s", Cause.DIFFERS, f"HV{character}trips")


def test_a_comment_of_any_language_and_several_lines_is_taken() -> None:
    text = "HV trips\n\t\u202b\u05e9\u05dc\u05d5\u05dd\u202c, 12 µm, 高電圧"
    assert AcknowledgeAlarm("s", Cause.DIFFERS, text).comment == text


def test_no_help_text_has_brackets_that_would_be_taken_for_markup() -> None:
    def texts(command: Any) -> Iterator[str]:
        yield from [command.help or "", *(getattr(one, "help", None) or "" for one in command.params)]
        for each in getattr(command, "commands", {}).values():
            yield from texts(each)

    found = [text for name in COMMANDS for text in texts(load_command(name))]
    assert len(found) > 300
    assert [text for text in found if re.search(r"\[/?[a-z]", text)] == []
