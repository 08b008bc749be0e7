"""Classes of `torch.nn.Module` as a user writes them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


class GatedCell(nn.Module):
    """A minimal gated unit, of operations that `vmap` supports; `layers` is a name of networks."""

    def __init__(self, input_size: int, hidden: int = 6, layers: int = 1) -> None:
        super().__init__()
        self.recurrent_state_size = hidden
        self.gate = nn.Linear(input_size + hidden, hidden)
        self.new = nn.ModuleList(nn.Linear(input_size + hidden, hidden) for _ in range(layers))

    def forward(self, observation: Tensor, recurrent_state: Tensor) -> tuple[Tensor, Tensor]:
        x = torch.cat([observation, recurrent_state], -1)
        gate, new = torch.sigmoid(self.gate(x)), sum(torch.tanh(each(x)) for each in self.new)
        state = gate * recurrent_state + (1 - gate) * new
        return state, state


class LSTM(nn.Module):
    """`vmap` does not support `nn.LSTM`: its models run one after another."""

    recurrent_state_size = 8

    def __init__(self, input_size: int) -> None:
        super().__init__()
        self.lstm = nn.LSTM(input_size, 4)

    def forward(self, observation: Tensor, recurrent_state: Tensor) -> tuple[Tensor, Tensor]:
        hidden, cell = recurrent_state.contiguous().chunk(2, -1)
        output, after = self.lstm(
            observation[None], (hidden[None].contiguous(), cell[None].contiguous())
        )
        return output[0], torch.cat(after, -1)[0]


class Attention(nn.Module):
    """Attention between the numbers of an observation, with a constant buffer."""

    def __init__(self, input_size: int, width: int = 4) -> None:
        super().__init__()
        self.embed = nn.Linear(1, width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        self.register_buffer("position", torch.linspace(-1, 1, input_size)[:, None])

    def forward(self, observation: Tensor) -> Tensor:
        x = self.embed(observation[..., None]) + self.position
        return self.attention(x, x, x, need_weights=False)[0].mean(1)


def followed_by(layer: Any) -> type[nn.Module]:
    """A class: a linear layer to six features, then another layer."""

    class Network(nn.Module):
        def __init__(self, input_size: int) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(input_size, 6), layer()

        def forward(self, observation: Tensor) -> Tensor:
            return self.second(self.first(observation))

    return Network
