"""The log of a process, as a machine and as a terminal read it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

EVERYTHING = r"""
import logging, math, sys, threading, warnings
import structlog
from dqm.service.process_log import log_to_stderr

log_to_stderr()
log = structlog.get_logger()
evil = "HV\x1b[2J\x9b31m\u202egpj\nforged line"
log.warning("alarm", what=evil, limits={"drift": math.inf}, p=math.nan)
logging.getLogger("uvicorn.error").error("in the server: %s", evil)
warnings.warn("something is old", stacklevel=1)
try:
    raise ValueError(evil)
except ValueError:
    log.exception("test failed", stream="chamber-1", run=7, seq=3)
    logging.getLogger("asyncio").exception("in a task")
thread = threading.Thread(target=lambda: 1 / 0)
thread.start()
thread.join()
class Bad:
    def __del__(self):
        raise RuntimeError("at the end")
Bad()
raise KeyError(evil)
"""


def test_every_line_is_json_whoever_wrote_it(tmp_path: Path) -> None:
    told = subprocess.run(
        [sys.executable, "-c", EVERYTHING], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert (told.returncode, told.stdout) == (1, "")
    lines: list[dict[str, Any]] = [
        json.loads(line, parse_constant=pytest.fail) for line in told.stderr.splitlines()
    ]
    assert all(line.keys() >= {"event", "level", "timestamp"} for line in lines)
    alarm, server, warning, failed, task, thread, unraisable, end = lines
    assert alarm["limits"] == {"drift": "inf"}
    assert (server["logger"], server["level"]) == ("uvicorn.error", "error")
    assert "something is old" in warning["event"]
    assert (failed["stream"], failed["run"], failed["seq"]) == ("chamber-1", 7, 3)
    assert "ValueError" in failed["exception"]
    assert "ValueError" in task["exception"]
    assert "ZeroDivisionError" in thread["exception"]
    assert "at the end" in unraisable["exception"]
    assert "KeyError" in end["exception"]
    assert told.stderr.isascii()


def test_a_terminal_obeys_nothing_that_is_logged(tmp_path: Path) -> None:
    master, slave = pty.openpty()
    environment = os.environ | {"NO_COLOR": "1", "TERM": "dumb"}
    subprocess.run(
        [sys.executable, "-c", EVERYTHING],
        cwd=tmp_path,
        stdout=slave,
        stderr=slave,
        env=environment,
        check=False,
    )
    os.close(slave)
    told = b""
    while True:
        try:
            told += os.read(master, 65536)
        except OSError:
            break
    os.close(master)
    text = told.decode()
    assert r"HV\x1b[2J\x9b31m\u202egpj" in text
    assert not {"\x9b", "\u202e"} & set(text)
    assert "\x1b[2J" not in text
