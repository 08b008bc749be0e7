"""Kept keys and values of the beginnings of prompts, in blocks of tokens.

A prompt is cut into blocks of a fixed number of tokens, from its start. The keys and values of a
block are a function of the tokens up to its end, and they are always computed in a pass over that
block alone. So they are the same numbers whether a block is computed for one conversation, shared
by many, or kept from an earlier call: sharing changes the time and no result.
"""

from __future__ import annotations

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Sequence

from mores.agents.language.models.key_values import Block


def block_keys(tokens: Sequence[int], block: int, origin: str) -> list[bytes]:
    """Key of each whole block of a prompt but the last: a hash of all tokens up to its end.

    The last token is in none of them: its pass gives the logits of the reply.

    Args:
        tokens: the prompt.
        block: number of tokens of a block.
        origin: what else determines the numbers: the adapter.
    """
    keys, key = list[bytes](), origin.encode()
    for start in range(0, (len(tokens) - 1) // block * block, block):
        content = array("q", tokens[start : start + block]).tobytes()
        key = hashlib.blake2b(key + content, digest_size=16).digest()
        keys.append(key)
    return keys


class BlockStore:
    """The blocks that were used last.

    Args:
        max_bytes: largest size of all blocks together.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes, self.num_bytes = max_bytes, 0
        self._blocks: OrderedDict[bytes, Block] = OrderedDict()

    def __contains__(self, key: bytes) -> bool:
        return key in self._blocks

    def __getitem__(self, key: bytes) -> Block:
        return self._blocks[key]

    def use(self, keys: Sequence[bytes]) -> None:
        """Mark blocks of a prompt as used last, its beginning after its end."""
        for key in reversed(keys):
            if key in self._blocks:
                self._blocks.move_to_end(key)

    def add(self, key: bytes, block: Block) -> None:
        """Keep a block; those that were used least recently are dropped."""
        if key in self._blocks:
            return
        self._blocks[key] = block
        self.num_bytes += _size(block)
        while self.num_bytes > self.max_bytes and self._blocks:
            _, dropped = self._blocks.popitem(last=False)
            self.num_bytes -= _size(dropped)

    def clear(self) -> None:
        """Drop all blocks."""
        self._blocks.clear()
        self.num_bytes = 0


def _size(block: Block) -> int:
    return sum(part.numel() * part.element_size() for part in block)
