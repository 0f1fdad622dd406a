"""Coverage-guided fuzzing of one target: ``python -m tests.fuzz.atheris_targets NAME [libFuzzer options]``.

Anything but `DqmError` is a finding; libFuzzer writes the input to ``crash-...`` in the working directory.
Needs the extra ``fuzz``.
"""

from __future__ import annotations

import resource
import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dqm", "collectors", "uproot"]):
    from dqm.errors import DqmError
    from tests.fuzz.targets import TARGETS


def limit_memory(spare_bytes: int) -> None:
    """Let the process take so much more than it has."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + spare_bytes,) * 2)


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    target = TARGETS[arguments[1]]
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as scratch:
        for number, seed in enumerate(target.seeds):
            Path(corpus, f"seed-{number}").write_bytes(seed)

        if arguments[1] == "features-root":  # uproot takes what a file claims: see docs/reliability.md
            limit_memory(2**30)

        def read(data: bytes) -> None:
            with suppress(DqmError):
                target.read(data, Path(scratch))

        atheris.Setup([arguments[0], *arguments[2:], corpus], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
