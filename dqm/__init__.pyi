from ._version import __version__
from .events import Window
from .nplm import KernelTest
from .reference import build_bundle, open_bundle

__all__ = ["KernelTest", "Window", "__version__", "build_bundle", "open_bundle"]
