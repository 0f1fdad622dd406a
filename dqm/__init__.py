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


if not TYPE_CHECKING:  # type checkers would take every name for one that exists

    def __getattr__(name: str) -> object:
        """Load a name of `__all__` when it is asked for first (PEP 562)."""
        match name:
            case "KernelTest":
                from dqm.nplm import KernelTest

                found: object = KernelTest
            case "Window":
                from dqm.events import Window

                found = Window
            case "build_bundle":
                from dqm.reference import build_bundle

                found = build_bundle
            case "open_bundle":
                from dqm.reference import open_bundle

                found = open_bundle
            case "__version__":
                from importlib.metadata import version

                found = version("dqm")
            case _:
                raise AttributeError(f"module 'dqm' has no attribute {name!r}")
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    """List what is loaded on demand as well."""
    return sorted({*globals(), *__all__})
