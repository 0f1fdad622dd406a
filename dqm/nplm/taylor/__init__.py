"""Learn from samples at shifted conditions how the reference changes with a nuisance parameter."""

from dqm.nplm.taylor.check import BinnedRatio, bin_log_ratio, classification_gain, effective_share
from dqm.nplm.taylor.kernel import Kernel
from dqm.nplm.taylor.model import TaylorModel, learn_taylor
from dqm.nplm.taylor.network import Network
from dqm.nplm.taylor.samples import ShiftedSample

__all__ = [
    "BinnedRatio",
    "Kernel",
    "Network",
    "ShiftedSample",
    "TaylorModel",
    "bin_log_ratio",
    "classification_gain",
    "effective_share",
    "learn_taylor",
]
