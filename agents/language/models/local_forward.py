"""One forward pass of a causal model over rows of equal shape, with kept keys and values."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from mores.agents.language.adapter_set import AdapterSet
from mores.agents.language.causal_lm import (
    forward_parameters,
    max_context_length,
    unwrap_model,
)
from mores.agents.language.models import block_attention
from mores.agents.language.models.key_values import KeyValues, as_cache
from mores.agents.language.models.row_independence import least_independent_rows
from mores.core.errors import UserError

# Numbers of rows of a pass. A batch is padded to the next of these, and beyond 64 to the largest
# number, so that there are few shapes. Up to 64 at most a third of the rows is padding, unless
# `least_independent_rows` asks for more.
ROW_COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
FULL, SLIDING = "full_attention", "sliding_attention"  # types of layers, in configurations
MAX_PASS_TOKENS = 2**12  # of a pass over prompts


class Forward:
    """Forward passes of a model.

    Args:
        model: causal, of transformers.
        rows: largest number of rows of a pass.
        full: whether every pass has exactly this number of rows, and one block of columns.
        block: number of tokens of a block of a prompt.
        max_bytes: limit of the keys and values of the rows of a pass; it lowers the number of rows
            of long conversations.

    Attributes:
        rows, full, block, max_bytes: as given. `full` is also set if, on this machine, matrix
            products of up to `rows` rows do not have the bits of larger ones (`row_independence`).
        adapters: adapters of the model, one of them per row, if there are any.
    """

    def __init__(
        self, model: nn.Module, rows: int, full: bool, block: int, max_bytes: int = 2**31
    ) -> None:
        self.model, self.rows, self.block, self.max_bytes = model, rows, block, max_bytes
        self.adapters: AdapterSet | None = None
        self._accepted = forward_parameters(model)
        inner = unwrap_model(model)
        self._config = inner.config.get_text_config()
        self._head = inner.get_output_embeddings()
        if self._head is None:
            raise UserError(
                f"{type(inner).__name__} has no output layer: it is no causal language model",
                code="unsupported",
                path="model",
            )
        self.device: torch.device = self._head.weight.device
        window = getattr(self._config, "sliding_window", None)
        self._layer_types = set(
            getattr(self._config, "layer_types", None) or [FULL if window is None else SLIDING]
        )
        self._window: int | None = window if SLIDING in self._layer_types else None
        self._least_rows = least_independent_rows(inner)
        self.full = full or self._least_rows > rows
        self._row_counts = (*(count for count in ROW_COUNTS if count < rows), rows)
        self._has_blocks = block_attention.install(inner)

    @property
    def dtype(self) -> torch.dtype:
        """Precision of the weights."""
        return self._head.weight.dtype

    @property
    def vocabulary_size(self) -> int:
        """Number of logits of a token."""
        return self._head.weight.shape[0]

    @functools.cached_property
    def max_length(self) -> int | None:
        """Tokens of the model's context, if its configuration states it."""
        return max_context_length(self.model)

    def padded(self, rows: int, columns: int = 1) -> int:
        """Number of rows of a pass after padding, from its rows and the tokens of each."""
        if self.full:
            return -(-rows // self.rows) * self.rows
        for count in self._row_counts:
            if rows <= count and self._least_rows <= count * columns:
                return count
        return -(-rows // self.rows) * self.rows

    def max_rows(self, slots: int) -> int:
        """Largest number of rows whose keys and values have room in `max_bytes`."""
        return min(self.rows, max(1, self.max_bytes // (slots * self._token_bytes)))

    @functools.cached_property
    def _token_bytes(self) -> int:
        """Size of keys and values of a token."""
        config = self._config
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None)
        size = size or config.hidden_size // config.num_attention_heads
        return 2 * config.num_hidden_layers * heads * size * self._head.weight.element_size()

    def max_blocks(self, rows: int) -> int:
        """Largest number of blocks of a pass over prompts with so many rows."""
        if self.full or not self._has_blocks:
            return 1
        return max(1, MAX_PASS_TOKENS // (rows * self.block))

    def __call__(
        self,
        tokens: Int[Tensor, "row column"],
        valid: Bool[Tensor, "row column"],
        positions: Int[Tensor, "row column"],
        adapters: Sequence[int],
        buffer: KeyValues,
        start: int,
        visible: int,
        read: Sequence[tuple[int, int]],
        first_row: int = 0,
        in_blocks: bool = False,
    ) -> Float[Tensor, "read token"]:
        """Logits after some of the tokens.

        Args:
            tokens: tokens of each row.
            valid: which of them are no padding, a beginning of each row.
            positions: position of each token in its conversation.
            adapters: index of the adapter of each row.
            buffer: keys and values, to which those of these tokens are added.
            start: slot of the first of them.
            visible: number of slots to which they attend.
            read: row and column of each token after which logits are computed.
            first_row: row of the buffer of the first row of tokens.
            in_blocks: whether the tokens are whole blocks of prompts.
        """
        rows, columns = slice(first_row, first_row + len(tokens)), tokens.shape[1]
        end = start + columns
        buffer.first_row, buffer.start, buffer.visible = first_row, start, visible
        buffer.filled[rows, start:end] = valid
        buffer.positions[rows, start:end] = positions
        mask = self._masks(buffer, rows, columns)
        count = self.padded(max(len(read), 1))
        padded = [*read, *[read[0] if read else (0, 0)] * (count - len(read))]
        where = torch.tensor(padded, device=self.device).T
        inputs: dict[str, Any] = {
            "input_ids": tokens,
            "attention_mask": mask,
            "use_cache": True,
            "cache" if "cache" in self._accepted else "past_key_values": as_cache(
                buffer, self._config.num_hidden_layers
            ),
        }
        if "position_ids" in self._accepted:
            inputs["position_ids"] = positions
        if "cache_position" in self._accepted:
            inputs["cache_position"] = torch.arange(start, end, device=self.device)
        selection = self._head.register_forward_pre_hook(
            lambda _, args: (args[0][where[0], where[1]][:, None], *args[1:])
        )
        try:
            with (
                self._active(adapters),
                block_attention.blocks(self.block if in_blocks else columns),
                torch.inference_mode(),
            ):
                logits = self.model(**inputs).logits  # read 1 token
        finally:
            selection.remove()
        return logits[: len(read), 0].float()

    def _masks(self, buffer: KeyValues, rows: slice, columns: int) -> Any:
        """What is added to attention scores, `[row, 1, column, slot]`: 0 or the least number.

        One mask for all layers, or one for each type of layer: those with a sliding window attend
        to the last tokens only.
        """
        slots = torch.arange(buffer.visible, device=self.device)
        own = buffer.start + torch.arange(columns, device=self.device)[:, None]
        seen = buffer.filled[rows, None, : buffer.visible] & (slots <= own)
        seen = seen | (slots == own)  # padding attends to itself, since softmax needs a score
        if self._window is None:
            return self._added(seen)
        positions = buffer.positions[rows]
        asking = positions[:, buffer.start : buffer.start + columns, None]
        near = seen & (asking - positions[:, None, : buffer.visible] < self._window)
        if self._layer_types == {SLIDING}:
            return self._added(near)
        return {FULL: self._added(seen), SLIDING: self._added(near)}

    def _added(self, seen: Bool[Tensor, "row column slot"]) -> Float[Tensor, "row 1 column slot"]:
        zero = torch.zeros((), dtype=self.dtype, device=self.device)
        return torch.where(seen, zero, torch.finfo(self.dtype).min)[:, None]

    def _active(self, adapters: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        if self.adapters is None:
            return contextlib.nullcontext()
        return self.adapters.active(torch.tensor(adapters, device=self.device))
