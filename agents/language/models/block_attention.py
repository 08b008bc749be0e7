"""Attention of a pass over several blocks of a prompt, with the bits of a pass over each alone.

The bits of attention depend on the numbers of tokens that ask and that are attended to, those of
all other operations do not. So a pass over many blocks computes attention block by block, each with
the keys up to its own end, and all else at once. Heads that share keys and values ask together:
they are not copied for each head.

    q [row, group * shared, token, size]  ->  [row, group, shared * token, size]
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from mores.agents.language.optional_imports import import_optional

NAME = "mores_blocks"
VARIANTS = ("softcap", "s_aux", "sinks", "position_bias")  # arguments of attention of other kinds
_block: ContextVar[int] = ContextVar("block", default=0)


def install(model: Any) -> bool:
    """Let a model use this attention; outside of `blocks` it has that of `sdpa`.

    Returns:
        Whether it does. Models without exchangeable attention, or with one other than `sdpa`, do
        not: they get one block a pass.
    """
    utilities = import_optional("transformers.modeling_utils")
    masks = import_optional("transformers.masking_utils")
    if getattr(model.config, "_attn_implementation", None) == NAME:
        return True
    if getattr(model.config, "_attn_implementation", None) != "sdpa" or not getattr(
        model, "_supports_attention_backend", False
    ):
        return False
    utilities.AttentionInterface.register(NAME, attend)
    masks.AttentionMaskInterface.register(NAME, masks.sdpa_mask)
    model.set_attn_implementation(NAME)
    return True


@contextlib.contextmanager
def blocks(size: int) -> Iterator[None]:
    """Context in which attention is computed in blocks of this number of tokens."""
    token = _block.set(size)
    try:
        yield
    finally:
        _block.reset(token)


def attend(
    module: nn.Module,
    query: Float[Tensor, "row head token size"],
    key: Float[Tensor, "row group slot size"],
    value: Float[Tensor, "row group slot other_size"],
    attention_mask: Tensor | None,
    **options: Any,
) -> tuple[Tensor, None]:
    """An attention function of transformers; the result is `[row, token, head, other_size]`."""
    sdpa = import_optional("transformers.integrations.sdpa_attention").sdpa_attention_forward
    size, tokens, slots = _block.get(), query.shape[2], key.shape[2]
    if size == 0 or attention_mask is None:
        return sdpa(module, query, key, value, attention_mask, **options)
    special = any(options.get(name) is not None for name in VARIANTS)
    parts = []
    for start in range(0, tokens, size):
        end = min(start + size, tokens)
        seen = slots if tokens <= size else slots - (tokens - end)
        part = query[:, :, start:end], key[:, :, :seen], value[:, :, :seen]
        mask = attention_mask[:, :, start:end, :seen]
        if special:
            parts.append(sdpa(module, *part, mask, **options)[0])
        else:
            parts.append(_attend_in_groups(*part, mask, options.get("scaling")))
    return parts[0] if len(parts) == 1 else torch.cat(parts, 1), None


def _attend_in_groups(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor, scaling: float | None
) -> Float[Tensor, "row token head other_size"]:
    rows, heads, tokens, _ = query.shape
    shared = heads // key.shape[1]
    if shared > 1:
        query = query.reshape(rows, key.shape[1], shared * tokens, -1)
        mask = mask.repeat(1, 1, shared, 1)
    found = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask, scale=scaling
    )
    return found.reshape(rows, heads, tokens, -1).transpose(1, 2).contiguous()
