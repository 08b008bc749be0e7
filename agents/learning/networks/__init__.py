"""Networks of stacked models: parameters `[model, ...]`, one tensor program for many models."""

from mores.agents.learning.networks.encoders import GRU, MLP
from mores.agents.learning.networks.layers import LinearSpec, Parameters, linear
from mores.agents.learning.networks.network import Network
from mores.agents.learning.networks.transformer import Transformer

__all__ = ["GRU", "MLP", "LinearSpec", "Network", "Parameters", "Transformer", "linear"]
