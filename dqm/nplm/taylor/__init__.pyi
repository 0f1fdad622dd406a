from .check import BinnedRatio, bin_log_ratio, classification_gain, effective_share
from .kernel import Kernel
from .model import TaylorModel, learn_taylor
from .network import Network
from .samples import ShiftedSample

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
