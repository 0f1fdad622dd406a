"""The New Physics Learning Machine with small neural networks, for cross-checks offline."""

from dqm.nplm.neural.clipping import ClippingChoice, ClippingTrial, choose_clipping
from dqm.nplm.neural.fit import Expansion, NetworkFit, NetworkProblem, Rows, minimise
from dqm.nplm.neural.network import Perceptron
from dqm.nplm.neural.neural_test import NeuralResult, NeuralTest
from dqm.nplm.neural.neural_two_sample_test import NetworkSetting, NeuralTwoSampleTest

__all__ = [
    "ClippingChoice",
    "ClippingTrial",
    "Expansion",
    "NetworkFit",
    "NetworkProblem",
    "NetworkSetting",
    "NeuralResult",
    "NeuralTest",
    "NeuralTwoSampleTest",
    "Perceptron",
    "Rows",
    "choose_clipping",
    "minimise",
]
