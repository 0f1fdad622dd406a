"""Learn from samples at shifted conditions how the reference changes with a nuisance parameter.

``__init__.pyi`` lists the names; each is loaded when it is used first, as in `dqm` itself: most of them need
torch.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
