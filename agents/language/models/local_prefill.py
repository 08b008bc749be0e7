"""Prompts of a batch, computed block by block; what several of them share is computed once."""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Mapping, Sequence

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
    forward: Forward, store: BlockStore, prompts: Sequence[Prompt], slots: int
) -> Prefilled:
    """Compute the prompts, at most as many as a pass has rows.

    Args:
        forward: the model.
        store: kept blocks; new ones are added.
        prompts: distinct prompts.
        slots: number of slots of a row, at least the prompts' length in whole blocks.
    """
    block = forward.block
    revision = 0 if forward.adapters is None else forward.adapters.revision
    keys = {
        p: block_keys(p.tokens, block, f"{p.adapter} {0 if p.adapter < 0 else revision}")
        for p in prompts
    }
    known, computed = _shared_blocks(forward, store, keys)
    begun = {p: _num_known(keys[p], known) for p in prompts}
    last = {p: (len(p.tokens) - 1) // block for p in prompts}
    order = sorted(prompts, key=lambda p: (begun[p], last[p]))
    buffer = KeyValues(forward.padded(len(order)), slots, forward.device)
    _fill(buffer, order, {p: keys[p][: begun[p]] for p in order}, known)
    logits = dict[Prompt, Tensor]()
    for rows, index, count in _passes(forward, order, begun, last, buffer.rows):
        own = order[rows.start : rows.stop]
        ending = [row for row, p in enumerate(own) if index <= last[p] < index + count]
        read = [(row, len(own[row].tokens) - 1 - index * block) for row in ending]
        found = _pass(forward, buffer, own, index, count, read, rows)
        for row, values in zip(ending, found, strict=True):
            logits[own[row]] = values
        for row, p in enumerate(own, rows.start):
            for each in range(max(index, begun[p]), min(index + count, len(keys[p]))):
                store.add(keys[p][each], buffer.block(row, each * block, block))
    for p in prompts:
        store.use(keys[p])
    computed += sum(len(p.tokens) - begun[p] * block for p in order)
    return Prefilled(order, buffer, torch.stack([logits[p] for p in order]), computed)


def _passes(
    forward: Forward,
    order: Sequence[Prompt],
    begun: Mapping[Prompt, int],
    last: Mapping[Prompt, int],
    buffer_rows: int,
) -> list[tuple[range, int, int]]:
    """Rows, first block, and number of blocks of each pass.

    The rows that need a block are a range of the ordered prompts, together with rows beside them
    that fill up the pass: those have ended, or repeat what is known of their prompts.
    """
    passes = list[tuple[range, int, int]]()
    for index in range(min(begun.values()), max(last.values()) + 1):
        needed = [row for row, p in enumerate(order) if begun[p] <= index <= last[p]]
        if not needed:
            continue
        count = forward.padded(needed[-1] + 1 - needed[0], forward.block)
        first = max(0, min(needed[0], buffer_rows - count))
        rows = range(first, first + count)
        before = passes[-1] if passes else None
        if (
            before is not None
            and before[0] == rows
            and before[1] + before[2] == index
            and before[2] < forward.max_blocks(count)
        ):
            passes[-1] = rows, before[1], before[2] + 1
        else:
            passes.append((rows, index, 1))
    return passes


def _shared_blocks(
    forward: Forward, store: BlockStore, keys: Mapping[Prompt, Sequence[bytes]]
) -> tuple[dict[bytes, Block], int]:
    """Blocks of these prompts that are kept or shared by several; number of computed tokens."""
    block = forward.block
    known = {key: store[key] for each in keys.values() for key in each if key in store}
    uses = Counter(key for each in keys.values() for key in each)
    shared = {p: [key for key in each if uses[key] > 1] for p, each in keys.items()}
    by_length = sorted(keys, key=lambda p: len(shared[p]))
    computed, index = 0, 0
    while True:
        # of the prompts that share a block, the one that shares most
        owner = {shared[p][index]: p for p in by_length if index < len(shared[p])}
        if not owner:
            return known, computed
        missing = [p for key, p in owner.items() if key not in known][: forward.rows]
        if not missing:
            index += 1
            continue
        rows = range(forward.padded(len(missing), block))
        count = 1
        while count < forward.max_blocks(len(rows)) and _all_share(shared, missing, index + count):
            count += 1
        buffer = KeyValues(len(rows), (index + count) * block, forward.device)
        _fill(buffer, missing, {p: keys[p][:index] for p in missing}, known)
        _pass(forward, buffer, missing, index, count, [], rows)
        computed += len(missing) * count * block
        for row, p in enumerate(missing):
            for each in range(index, index + count):
                known[keys[p][each]] = buffer.block(row, each * block, block)
                store.add(keys[p][each], known[keys[p][each]])


def _all_share(
    shared: Mapping[Prompt, Sequence[bytes]], prompts: Sequence[Prompt], index: int
) -> bool:
    """Whether all of these prompts share their block at an index."""
    return all(index < len(shared[p]) for p in prompts)


def _num_known(keys: Sequence[bytes], known: Mapping[bytes, Block]) -> int:
    """Number of blocks from the start that are known."""
    return next((index for index, key in enumerate(keys) if key not in known), len(keys))


def _fill(
    buffer: KeyValues,
    prompts: Sequence[Prompt],
    keys: Mapping[Prompt, Sequence[bytes]],
    known: Mapping[bytes, Block],
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
    count: int,
    read: Sequence[tuple[int, int]],
    rows: range,
) -> Float[Tensor, "read token"]:
    """Blocks from `index` on of the prompts in these rows of the buffer, padded with the first."""
    start, columns = index * forward.block, count * forward.block
    tokens = torch.zeros(len(rows), columns, dtype=torch.int64)
    valid = torch.zeros(len(rows), columns, dtype=torch.bool)
    padded = [*prompts, *[prompts[0]] * (len(rows) - len(prompts))]
    for row, p in enumerate(padded):
        part = torch.tensor(p.tokens[start : start + columns], dtype=torch.int64)
        tokens[row, : len(part)], valid[row, : len(part)] = part, True
    return forward(
        tokens.to(forward.device),
        valid.to(forward.device),
        (start + torch.arange(columns)).expand(len(rows), columns).to(forward.device),
        [p.adapter for p in padded],
        buffer,
        start,
        start + columns,
        read,
        rows.start,
        in_blocks=True,
    )
