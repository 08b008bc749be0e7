"""Keys and values of the rows of a forward pass, in buffers that are allocated once.

A buffer has `rows` conversations with `slots` places for tokens. A pass over rows from `first_row`
on writes the keys and values of its tokens to slots from `start` on, and attends to the slots
before `visible`. Which of them hold a token of the row is in the mask, so that places may stay
empty: prompts of different lengths leave a gap before the reply, and no row depends on the lengths
of others.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from mores.agents.language.optional_imports import import_optional

# Keys and values of all layers for one block of tokens: `[head, token, size]` each.
Block = tuple[Tensor, ...]


class KeyValues:
    """Buffers of keys and values, made at the first pass.

    Args:
        rows: number of rows.
        slots: number of places of each row.

    Attributes:
        first_row: first row of the next pass.
        start: first slot that it writes.
        visible: number of slots to which it attends.
        tensors: keys and values of each layer in turn, `[row, head, slot, size]`.
        filled: which slots hold a token.
        positions: position of that token in its conversation.
    """

    def __init__(self, rows: int, slots: int, device: torch.device) -> None:
        self.rows, self.slots, self.device = rows, slots, device
        self.first_row = self.start = self.visible = 0
        self.tensors: list[Tensor] = []
        self.filled: Bool[Tensor, "row slot"] = torch.zeros(
            rows, slots, dtype=torch.bool, device=device
        )
        self.positions: Int[Tensor, "row slot"] = torch.zeros(
            rows, slots, dtype=torch.int64, device=device
        )

    def write(self, layer: int, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add keys and values of a layer for the rows of a pass; return all that is visible."""
        rows = slice(self.first_row, self.first_row + len(keys))
        end = self.start + keys.shape[2]
        while len(self.tensors) <= 2 * layer + 1:
            like = keys if len(self.tensors) % 2 == 0 else values
            shape = (self.rows, like.shape[1], self.slots, like.shape[3])
            self.tensors.append(like.new_zeros(shape))
        found = []
        for buffer, new in zip(
            self.tensors[2 * layer : 2 * layer + 2], (keys, values), strict=True
        ):
            buffer[rows, :, self.start : end] = new
            found.append(buffer[rows, :, : self.visible])
        return found[0], found[1]

    def block(self, row: int, start: int, length: int) -> Block:
        """A copy of keys and values of some slots of a row."""
        return tuple(t[row, :, start : start + length].clone() for t in self.tensors)

    def fill(self, rows: Sequence[int], blocks: Sequence[Block]) -> None:
        """Write blocks to the first slots of these rows."""
        if not blocks:
            return
        length = blocks[0][0].shape[1] * len(blocks)
        if not self.tensors:
            all_rows = len(set(rows)) == self.rows  # then these slots need no zeros
            for part in blocks[0]:
                shape = (self.rows, part.shape[0], self.slots, part.shape[2])
                self.tensors.append(part.new_empty(shape))
                self.tensors[-1][:, :, length if all_rows else 0 :].zero_()
        index: Tensor | slice = torch.tensor(rows, device=self.device)
        if list(rows) == list(range(rows[0], rows[0] + len(rows))):
            index = slice(rows[0], rows[0] + len(rows))  # faster
        for place, tensor in enumerate(self.tensors):
            whole = torch.cat([block[place] for block in blocks], 1)  # head token size
            tensor[index, :, : whole.shape[1]] = whole
        self.filled[index, :length] = True
        self.positions[index, :length] = torch.arange(length, device=self.device)

    def take(self, rows: Int[Tensor, " some"], slots: int) -> KeyValues:
        """Copies of some rows, with another number of slots, not fewer than are filled."""
        taken = KeyValues(len(rows), slots, self.device)
        kept = min(slots, self.slots)
        taken.filled[:, :kept] = self.filled[rows, :kept]
        taken.positions[:, :kept] = self.positions[rows, :kept]
        for tensor in self.tensors:
            new = tensor.new_empty(len(rows), tensor.shape[1], slots, tensor.shape[3])
            new[:, :, :kept] = tensor[rows, :, :kept]
            new[:, :, kept:].zero_()
            taken.tensors.append(new)
        return taken


@functools.cache
def _layer_class() -> type[Any]:
    cache_utils = import_optional("transformers.cache_utils")

    class BufferLayer(cache_utils.DynamicLayer):
        """A layer of a cache of transformers that writes to `KeyValues`."""

        def __init__(self, buffer: KeyValues, index: int) -> None:
            super().__init__()
            self.buffer, self.index = buffer, index
            self.is_initialized = True

        def update(self, key_states: Any, value_states: Any, *args: Any, **kwargs: Any) -> Any:
            return self.buffer.write(self.index, key_states, value_states)

        def get_seq_length(self, *args: Any) -> int:
            return self.buffer.start

    return BufferLayer


def as_cache(buffer: KeyValues, num_layers: int) -> Any:
    """The buffer as a cache of transformers."""
    cache_utils = import_optional("transformers.cache_utils")
    layers = [_layer_class()(buffer, index) for index in range(num_layers)]
    return cache_utils.Cache(layers=layers)
