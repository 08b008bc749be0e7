"""Prompts of a batch, computed block by block; what several of them share is computed once."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.language.models.key_values import Block, KeyValues
from mores.agents.language.models.local_forward import Forward
from mores.agents.language.models.local_prefixes import BlockStore, block_keys


@dataclasses.dataclass(frozen=True, order=True)
class Prompt:
    """Tokens of a conversation up to the reply, and the adapter of the model.

    Two requests with equal prompts are computed once.
    """

    adapter: int
    tokens: tuple[int, ...]


@dataclasses.dataclass
class Prefilled:
    """Prompts whose keys and values are known.

    Attributes:
        prompts: the prompts; row i of the buffer is that of prompt i.
        buffer: keys and values, padded with rows that mean nothing.
        logits: logits of the first token of the reply.
        computed_tokens: number of tokens that were computed for it.
    """

    prompts: list[Prompt]
    buffer: KeyValues
    logits: Float[Tensor, "prompt token"]
    computed_tokens: int


def prefill(
    forward: Forward, store: BlockStore, prompts: Sequence[Prompt], block: int, slots: int
) -> Prefilled:
    """Compute the prompts, at most as many as a pass has rows.

    Args:
        forward: the model.
        store: kept blocks; new ones are added.
        prompts: distinct prompts.
        block: number of tokens of a block.
        slots: number of slots of a row, at least the prompts' length in whole blocks.
    """
    revision = 0 if forward.adapters is None else forward.adapters.revision
    keys = {
        p: block_keys(p.tokens, block, f"{p.adapter} {0 if p.adapter < 0 else revision}")
        for p in prompts
    }
    known, computed = _shared_blocks(forward, store, keys, block)
    begun = {p: _num_known(keys[p], known) for p in prompts}
    order = sorted(prompts, key=lambda p: begun[p])
    rows = forward.padded(len(order))
    buffer = KeyValues(rows, slots, forward.device)
    _fill(buffer, order, {p: keys[p][: begun[p]] for p in order}, known)
    last = {p: (len(p.tokens) - 1) // block for p in order}
    logits = dict[Prompt, Tensor]()
    for index in range(min(begun.values()), max(last.values()) + 1):
        # rows that fill up the pass repeat what is known of their prompts
        active = order[: forward.padded(sum(begun[p] <= index for p in order))]
        ending = [row for row, p in enumerate(active) if last[p] == index]
        column = {row: len(active[row].tokens) - 1 - index * block for row in ending}
        found = _pass(forward, buffer, active, index, block, [(row, column[row]) for row in ending])
        for row, values in zip(ending, found, strict=True):
            logits[active[row]] = values
        for row, p in enumerate(active):
            if index < len(keys[p]):
                store.add(keys[p][index], buffer.block(row, index * block, block))
    for p in prompts:
        store.use(keys[p])
    computed += sum(len(p.tokens) - begun[p] * block for p in order)
    return Prefilled(order, buffer, torch.stack([logits[p] for p in order]), computed)


def _shared_blocks(
    forward: Forward, store: BlockStore, keys: dict[Prompt, list[bytes]], block: int
) -> tuple[dict[bytes, Block], int]:
    """Blocks of these prompts that are kept or shared by several; number of computed tokens."""
    known = {key: store[key] for each in keys.values() for key in each if key in store}
    computed = 0
    uses = Counter(key for each in keys.values() for key in each)
    for index in range(max(map(len, keys.values()), default=0)):
        missing = dict[bytes, Prompt]()
        for p, each in keys.items():
            if index < len(each) and uses[each[index]] > 1 and each[index] not in known:
                missing[each[index]] = p
        owners = list(missing.values())
        computed += len(owners) * block
        for first in range(0, len(owners), forward.row_counts[-1]):
            part = owners[first : first + forward.row_counts[-1]]
            buffer = KeyValues(forward.padded(len(part)), (index + 1) * block, forward.device)
            _fill(buffer, part, {p: keys[p][:index] for p in part}, known)
            _pass(forward, buffer, part, index, block, [])
            for row, p in enumerate(part):
                known[keys[p][index]] = buffer.block(row, index * block, block)
                store.add(keys[p][index], known[keys[p][index]])
    return known, computed


def _num_known(keys: Sequence[bytes], known: dict[bytes, Block]) -> int:
    """Number of blocks from the start that are known."""
    return next((index for index, key in enumerate(keys) if key not in known), len(keys))


def _fill(
    buffer: KeyValues,
    prompts: Sequence[Prompt],
    keys: dict[Prompt, list[bytes]],
    known: dict[bytes, Block],
) -> None:
    """Write known blocks to the rows of the prompts, each beginning once."""
    rows = dict[tuple[bytes, ...], list[int]]()
    for row, p in enumerate(prompts):
        rows.setdefault(tuple(keys[p]), []).append(row)
    for each, where in rows.items():
        buffer.fill(where, [known[key] for key in each])


def _pass(
    forward: Forward,
    buffer: KeyValues,
    prompts: Sequence[Prompt],
    index: int,
    block: int,
    read: Sequence[tuple[int, int]],
) -> Float[Tensor, "read token"]:
    """Block `index` of the prompts, whose rows are the first of the buffer."""
    start = index * block
    parts = [p.tokens[start : start + block] for p in prompts]
    padding = forward.padded(len(prompts)) - len(prompts)
    tokens = torch.zeros(len(prompts), block, dtype=torch.int64)
    valid = torch.zeros(len(prompts), block, dtype=torch.bool)
    for row, part in enumerate(parts):
        tokens[row, : len(part)] = torch.tensor(part, dtype=torch.int64)
        valid[row, : len(part)] = True
    repeat = torch.tensor([*range(len(prompts)), *[0] * padding])
    adapters = [p.adapter for p in prompts]
    positions = (start + torch.arange(block)).expand(len(repeat), block)
    return forward(
        tokens[repeat].to(forward.device),
        valid[repeat].to(forward.device),
        positions.to(forward.device),
        [*adapters, *[adapters[0]] * padding],
        buffer,
        start,
        start + block,
        read,
    )
