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
from mores.agents.language.models.key_values import KeyValues, as_cache
from mores.agents.language.models.row_independence import independent_counts
from mores.core.errors import UserError

# Numbers of rows of a pass. Any number is padded to the next of these, larger ones to multiples of
# the last, so that there are few shapes and at most a third of the rows is padding from 4 rows on.
ROW_COUNTS = (4, 8, 12, 16, 24, 32, 48, 64)


class Forward:
    """Forward passes of a model.

    Args:
        model: causal, of transformers.
        rows: largest number of rows of a pass.
        full: whether every pass has exactly this number of rows.
        block: number of tokens of a row in most passes.

    Attributes:
        row_counts: possible numbers of rows: those that `row_independence` allows.
        adapters: adapters of the model, one of them per row, if there are any.
    """

    def __init__(self, model: nn.Module, rows: int, full: bool, block: int) -> None:
        self.model = model
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
        counts = (*(count for count in ROW_COUNTS if count < rows), rows)
        self.row_counts = (rows,) if full else independent_counts(inner, counts, (1, 2, block))

    @property
    def vocabulary_size(self) -> int:
        """Number of logits of a token."""
        return self._head.weight.shape[0]

    @functools.cached_property
    def max_length(self) -> int | None:
        """Tokens of the model's context; of its shortest window, if attention is limited to one."""
        limits = [max_context_length(self.model), getattr(self._config, "sliding_window", None)]
        return min((limit for limit in limits if limit is not None), default=None)

    def padded(self, rows: int) -> int:
        """Number of rows to which a number of rows is padded."""
        for count in self.row_counts:
            if rows <= count:
                return count
        return -(-rows // self.row_counts[-1]) * self.row_counts[-1]

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
    ) -> Float[Tensor, "read token"]:
        """Logits after some of the tokens.

        Args:
            tokens: tokens of each row, the first rows of the buffer.
            valid: which of them are no padding, a beginning of each row.
            positions: position of each token in its conversation.
            adapters: index of the adapter of each row.
            buffer: keys and values, to which those of these tokens are added.
            start: slot of the first of them.
            visible: number of slots to which they attend.
            read: row and column of each token after which logits are computed.
        """
        rows, columns = tokens.shape
        end = start + columns
        buffer.start, buffer.visible = start, visible
        buffer.filled[:rows, start:end] = valid
        mask = self._mask(buffer.filled[:rows, :visible], columns, start)
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
            with self._active(adapters), torch.inference_mode():
                logits = self.model(**inputs).logits  # read 1 token
        finally:
            selection.remove()
        return logits[: len(read), 0].float()

    def _mask(
        self, filled: Bool[Tensor, "row slot"], columns: int, start: int
    ) -> Float[Tensor, "row 1 column slot"]:
        """What is added to attention scores: 0 for filled slots up to the token, else -inf."""
        slots = torch.arange(filled.shape[1], device=self.device)
        own = start + torch.arange(columns, device=self.device)[:, None]
        seen = filled[:, None] & (slots <= own)
        seen = seen | (slots == own)  # padding attends to itself, since softmax needs a score
        dtype = self._head.weight.dtype
        zero = torch.zeros((), dtype=dtype, device=self.device)
        return torch.where(seen, zero, torch.finfo(dtype).min)[:, None]

    def _active(self, adapters: Sequence[int]) -> contextlib.AbstractContextManager[None]:
        if self.adapters is None:
            return contextlib.nullcontext()
        return self.adapters.active(torch.tensor(adapters, device=self.device))
