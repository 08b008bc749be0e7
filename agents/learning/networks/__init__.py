"""Stacked networks: parameters `[model, in, out]`, one tensor program for many models."""

from mores.agents.learning.networks.encoders import GRU, MLP, Encoder
from mores.agents.learning.networks.layers import LinearSpec, Parameters, linear
from mores.agents.learning.networks.transformer import Transformer

__all__ = ["GRU", "MLP", "Encoder", "LinearSpec", "Parameters", "Transformer", "linear"]
