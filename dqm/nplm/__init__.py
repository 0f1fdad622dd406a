"""The New Physics Learning Machine (NPLM) with Gaussian kernels: numerics on arrays, without I/O.

``__init__.pyi`` lists the names; each is loaded when it is used first, as in `dqm` itself.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
