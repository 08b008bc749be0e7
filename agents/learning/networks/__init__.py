"""Networks for many policies at once: parameters `[policy, in, out]`, one program for all."""

from mores.agents.learning.networks.encoders import GRU, MLP, Encoder
from mores.agents.learning.networks.layers import LinearSpec, Parameters, linear
from mores.agents.learning.networks.transformer import Transformer

__all__ = ["GRU", "MLP", "Encoder", "LinearSpec", "Parameters", "Transformer", "linear"]
