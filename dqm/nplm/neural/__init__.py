"""The New Physics Learning Machine with small neural networks, for cross-checks offline."""

from dqm.nplm.neural.fit import Expansion, Fit, Problem, Rows, minimise
from dqm.nplm.neural.network import Network
from dqm.nplm.neural.neural_test import NeuralResult, NeuralTest

__all__ = ["Expansion", "Fit", "Network", "NeuralResult", "NeuralTest", "Problem", "Rows", "minimise"]
