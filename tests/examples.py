"""The example configurations, with the input files that they name."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

CONFIGS = Path(__file__).parents[1] / "configs"


def copy_examples(folder: Path) -> Path:
    """Copy the examples to ``configs`` in a folder, and make what they read, empty; gives that copy."""
    made = shutil.copytree(CONFIGS, folder / "configs")
    (folder / "data").mkdir()
    for path in made.glob("*.toml"):
        for file in re.findall(r"\.\./(data/[\w.]+)", path.read_text()):
            (folder / file).touch()
    return made
