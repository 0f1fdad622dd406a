"""What "good" is: reference bundles, their null tables, and the evaluation of windows with them.

``__init__.pyi`` lists the names; each is loaded when it is used first, as in `dqm` itself.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
