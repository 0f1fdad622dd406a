"""Other tests behind the same interface, for comparison; toys calibrate them in the same way."""

from dqm.nplm.peers.classifiers import BoostedTreesTest, NeuralClassifierTest
from dqm.nplm.peers.distances import EnergyTest, FuseTest, MmdTest, NystroemTest
from dqm.nplm.peers.outliers import AutoencoderTest, IsolationForestTest
from dqm.nplm.peers.single_features import ChiSquaredTest, KolmogorovTest

__all__ = [
    "AutoencoderTest",
    "BoostedTreesTest",
    "ChiSquaredTest",
    "EnergyTest",
    "FuseTest",
    "IsolationForestTest",
    "KolmogorovTest",
    "MmdTest",
    "NeuralClassifierTest",
    "NystroemTest",
]
