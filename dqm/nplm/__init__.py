"""The New Physics Learning Machine with kernels: pure numerics, arrays in and numbers out."""

from dqm.nplm.loss import LossName
from dqm.nplm.nuisance import Normalisation, Nuisance, Shape
from dqm.nplm.test import KernelResult, KernelTest

__all__ = [
    "KernelResult",
    "KernelTest",
    "LossName",
    "Normalisation",
    "Nuisance",
    "Shape",
]
