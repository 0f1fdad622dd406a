"""Online data-quality monitor for particle detectors.

What a script starts with is here and is loaded when it is used: ``import dqm`` alone loads nothing.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dqm.events import Window
    from dqm.nplm import KernelTest
    from dqm.reference import build_bundle, open_bundle

    __version__: str

__all__ = ["KernelTest", "Window", "__version__", "build_bundle", "open_bundle"]

_HOMES = {
    "KernelTest": "dqm.nplm",
    "Window": "dqm.events",
    "build_bundle": "dqm.reference",
    "open_bundle": "dqm.reference",
}


if not TYPE_CHECKING:  # type checkers would take every name for one that exists

    def __getattr__(name: str) -> object:
        """Load a name of `__all__` when it is asked for first (PEP 562)."""
        if name == "__version__":
            from importlib.metadata import version

            found: object = version("dqm")
        elif name in _HOMES:
            from importlib import import_module

            found = getattr(import_module(_HOMES[name]), name)
        else:
            raise AttributeError(f"module 'dqm' has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """List what is loaded on demand as well."""
    return sorted({*globals(), *__all__})
