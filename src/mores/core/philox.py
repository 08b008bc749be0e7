"""Philox4x32-10: random words from a counter and a key.

Salmon et al. 2011, SC '11, doi 10.1145/2063384.2063405.

A block is a pure function of a 128-bit counter and a 64-bit key, so any word can be computed
directly and in any order. Two functions give the same words: `philox_numpy` on the CPU, where
unsigned products wrap by definition, and `philox_torch` for other devices and `torch.compile`.
The latter forms products in halves: a wrapped int64 product is undefined when compiled, and
compiled vector tails had wrong values.
"""

from __future__ import annotations

import numpy as np
from torch import Tensor

MULTIPLIER_0, MULTIPLIER_1 = 0xD2511F53, 0xCD9E8D57
WEYL_0, WEYL_1 = 0x9E3779B9, 0xBB67AE85
MASK = 0xFFFFFFFF
ROUNDS = 10
SHIFT, WORD_MASK = np.uint64(32), np.uint64(MASK)
ROUND_CONSTANTS = np.arange(ROUNDS, dtype=np.uint64)[:, None] * np.array(
    [WEYL_0, WEYL_1], np.uint64
)

Words = tuple[Tensor, Tensor, Tensor, Tensor]
Arrays = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _product(word: Tensor, multiplier: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of `word * multiplier`, by 16-bit halves of the multiplier."""
    low = word * (multiplier & 0xFFFF)  # below 2^48
    high = word * (multiplier >> 16) + (low >> 16)  # below 2^49
    return high >> 16, (high & 0xFFFF) << 16 | (low & 0xFFFF)


def philox_torch(counter: Words, key: tuple[Tensor, Tensor]) -> Words:
    """Ten rounds on int64 tensors that hold unsigned 32-bit words and broadcast together."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(ROUNDS):
        high_0, low_0 = _product(c0, MULTIPLIER_0)
        high_1, low_1 = _product(c2, MULTIPLIER_1)
        c0, c1, c2, c3 = high_1 ^ c1 ^ k0, low_1, high_0 ^ c3 ^ k1, low_0
        k0, k1 = (k0 + WEYL_0) & MASK, (k1 + WEYL_1) & MASK
    return c0, c1, c2, c3


def philox_numpy(counter: Arrays, key: tuple[np.ndarray, np.ndarray]) -> Arrays:
    """Ten rounds on uint64 arrays that hold unsigned 32-bit words and broadcast together.

    Both products of a round are one operation on `even`, the words 0 and 2: for small arrays the
    number of operations is the cost.
    """
    c0, c1, c2, c3 = counter
    shape = np.broadcast_shapes(*(array.shape for array in (*counter, *key)))
    even, odd, product, high = np.empty((4, 2, *shape), np.uint64)
    even[0], even[1], odd[0], odd[1] = c0, c2, c1, c3
    multiplier = np.array([MULTIPLIER_0, MULTIPLIER_1], np.uint64).reshape(2, *[1] * len(shape))
    for round_key in _round_keys(*key, len(shape)):
        np.multiply(even, multiplier, out=product)
        np.right_shift(product, SHIFT, out=high)
        np.bitwise_xor(high[::-1], odd, out=even)
        np.bitwise_xor(even, round_key, out=even)
        np.bitwise_and(product[::-1], WORD_MASK, out=odd)
    return even[0], odd[0], even[1], odd[1]


def _round_keys(k0: np.ndarray, k1: np.ndarray, dims: int) -> np.ndarray:
    """Keys of all rounds, `[round, 2, ...]` with `dims` trailing dimensions."""
    keys = np.array((k0, k1)).reshape(2, *[1] * (dims - k0.ndim), *k0.shape)
    return (keys + ROUND_CONSTANTS.reshape(ROUNDS, 2, *[1] * dims)) & WORD_MASK
