"""Running ``dqm`` as a user does."""

from __future__ import annotations

import json
import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import structlog

from dqm.cli.main import run

PROGRAM = Path(sys.executable).with_name("dqm")
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("DQM_")} | {
    "OMP_NUM_THREADS": "1",
    "COLUMNS": "200",
}
WAIT_SECONDS = 120.0


def run_dqm(*arguments: object, cwd: Path, code: int = 0) -> subprocess.CompletedProcess[str]:
    """Run a command to its end and check its exit code."""
    told = subprocess.run(
        [PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=WAIT_SECONDS,
        check=False,
    )
    assert told.returncode == code, told.stdout + told.stderr
    return told


def call_dqm(*arguments: object, columns: int = 200) -> int:
    """Run a command within this process, from its entry point to its exit code."""
    structlog.reset_defaults()  # a test that captured the log leaves it configured
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COLUMNS", str(columns))
        for owner in (sys, threading):
            patch.setattr(owner, "excepthook", owner.excepthook)  # `log_to_stderr` sets its own
        patch.setattr(sys, "unraisablehook", sys.unraisablehook)
        patch.setattr(logging.root, "handlers", logging.root.handlers[:])
        patch.setattr(sys, "argv", ["dqm", *map(str, arguments)])
        with pytest.raises(SystemExit) as end:
            run()
    structlog.reset_defaults()
    logging.captureWarnings(False)
    for number, handler in handlers.items():
        signal.signal(number, handler)
    code = end.value.code or 0
    assert isinstance(code, int)
    return code


def start_dqm(
    *arguments: object, cwd: Path, log: Path, through: Sequence[str] = (), **variables: str
) -> subprocess.Popen[bytes]:
    """Start a command in a session of its own; both its outputs go to the log.

    It may go through another program, such as ``ip netns exec NAME``, and have more variables.
    """
    with log.open("wb") as file:
        return subprocess.Popen(
            [*through, PROGRAM, *map(str, arguments)],
            cwd=cwd,
            env=ENVIRONMENT | variables,
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            # tests that run in the background of a script inherit an ignored Ctrl-C
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )


def json_lines(text: str) -> list[dict[str, Any]]:
    """Parse one JSON object a line."""
    return [json.loads(line) for line in text.splitlines()]


def logged(log: Path, event: str) -> dict[str, Any] | None:
    """Find an event in the JSON log of a daemon or collector."""
    for line in log.read_text().splitlines():
        if line.startswith("{") and json.loads(line)["event"] == event:
            return dict(json.loads(line))
    return None
