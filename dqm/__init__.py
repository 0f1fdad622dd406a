"""Online data-quality monitor for particle detectors.

What a script starts with is here and is loaded when it is used: ``import dqm`` alone loads nothing.
``__init__.pyi`` lists the names (SPEC 1 of Scientific Python).
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
