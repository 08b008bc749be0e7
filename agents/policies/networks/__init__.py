"""Networks for many policies at once: parameters `[policy, in, out]`, one program for all."""

from mores.agents.policies.networks.bodies import GRU, MLP, Body
from mores.agents.policies.networks.layers import Layer, Parameters, linear
from mores.agents.policies.networks.transformer import Transformer

__all__ = ["GRU", "MLP", "Body", "Layer", "Parameters", "Transformer", "linear"]
