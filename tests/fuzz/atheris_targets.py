"""Coverage-guided fuzzing of one target: ``python -m tests.fuzz.atheris_targets NAME [libFuzzer options]``.

Anything but `DqmError` is a finding; libFuzzer writes the input to ``crash-...`` in the working directory.
Needs the extra ``fuzz``.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["dqm", "collectors", "uproot"]):
    from dqm.errors import DqmError
    from dqm_collectors.root_process import SPARE_BYTES, limit_memory
    from tests.fuzz.targets import TARGETS


def main(arguments: list[str]) -> None:
    """Fuzz until libFuzzer's options say that it is enough."""
    target = TARGETS[arguments[1]]
    with tempfile.TemporaryDirectory() as corpus, tempfile.TemporaryDirectory() as scratch:
        for number, seed in enumerate(target.seeds):
            Path(corpus, f"seed-{number}").write_bytes(seed)

        if arguments[1] == "features-root":
            limit_memory(SPARE_BYTES)

        def read(data: bytes) -> None:
            with suppress(DqmError):
                target.read(data, Path(scratch))

        atheris.Setup([arguments[0], *arguments[2:], corpus], read)
        atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv)
