"""What the wheel needs on a monitor host, with the installed versions: input of the bill of materials.

``python -m tests.runtime_requirements`` prints one line ``NAME==VERSION`` for each distribution that
``dqm[monitor]`` requires, directly or not.
"""

from __future__ import annotations

import sys
from importlib.metadata import PackageNotFoundError, distribution

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

__all__ = ["runtime_requirements"]


def runtime_requirements(name: str = "dqm", extra: str = "monitor") -> dict[str, str]:
    """Follow the requirements of an installed distribution; gives versions by canonical name."""
    found: dict[str, str] = {}
    seen: set[tuple[str, str]] = set()
    waiting = [(name, extra)]
    while waiting:
        here = waiting.pop()
        if here in seen:
            continue
        seen.add(here)
        for text in distribution(here[0]).requires or ():
            requirement = Requirement(text)
            if requirement.marker is not None and not requirement.marker.evaluate({"extra": here[1]}):
                continue
            needed = canonicalize_name(requirement.name)
            try:
                found[needed] = distribution(needed).version
            except PackageNotFoundError:  # only for another platform
                continue
            waiting += [(needed, one) for one in ("", *requirement.extras)]
    return dict(sorted(found.items()))


if __name__ == "__main__":
    sys.stdout.writelines(f"{name}=={version}\n" for name, version in runtime_requirements().items())
