"""Sums over the ties of each person, in the order in which the ties are stored.

Each sum is a chain of additions in a fixed order, so that a world's results do not depend on the
batch. Two methods give equal bits: scipy's product of a CSR matrix on CPU, and a loop over *slots*
(all first ties, all second ties, ...) in torch, on other devices and where a gradient is needed.
scipy's product is 9 to 26 times as fast on CPU. Compilers may contract its multiplication and
addition on processors other than x86-64; the last bit may then differ.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import scipy.sparse
import torch
from jaxtyping import Float, Int
from torch import Tensor


class Slot(NamedTuple):
    """The k-th ties of all rows that have so many, rows in order of decreasing length."""

    tie: Int[Tensor, " row"]
    column: Int[Tensor, " row"]
    weight: Float[Tensor, "row 1"]


class RowSums:
    """Ties of rows as compressed sparse rows.

    Args:
        indptr: row r has the ties `indptr[r]` to `indptr[r + 1]`.
        columns: column of each tie, less than the number of rows.
        weights: weight of each tie.
    """

    def __init__(
        self,
        indptr: Int[Tensor, " row_plus_1"],
        columns: Int[Tensor, " tie"],
        weights: Float[Tensor, " tie"],
    ) -> None:
        self.indptr, self.columns, self.weights = indptr, columns, weights

    def weighted(self, x: Float[Tensor, "row item"]) -> Float[Tensor, "row item"]:
        """Sum over the ties of each row of weight times row `column` of `x`."""
        if _needs_slots(x):
            return self._add_slots(x, (slot.weight * x[slot.column] for slot in self._slots))
        return torch.from_numpy(self._matrix @ x.numpy())

    def plain(self, x: Float[Tensor, "tie item"]) -> Float[Tensor, "row item"]:
        """Sum of `x` over the ties of each row."""
        if _needs_slots(x):
            return self._add_slots(x, (x[slot.tie] for slot in self._slots))
        return torch.from_numpy(self._tie_matrix @ x.numpy())

    def _add_slots(self, x: Tensor, terms: Iterable[Tensor]) -> Tensor:
        total = x.new_zeros(len(self.indptr) - 1, x.shape[1])
        for term in terms:
            total[: len(term)] += term
        return total if self._position is None else total[self._position]

    @functools.cached_property
    def _matrix(self) -> scipy.sparse.csr_array:
        rows = len(self.indptr) - 1
        parts = (self.weights.numpy(), self.columns.numpy(), self.indptr.numpy())
        return scipy.sparse.csr_array(parts, shape=(rows, rows))

    @functools.cached_property
    def _tie_matrix(self) -> scipy.sparse.csr_array:
        ties = len(self.columns)
        parts = (np.ones(ties, np.float32), np.arange(ties, dtype=np.int32), self.indptr.numpy())
        return scipy.sparse.csr_array(parts, shape=(len(self.indptr) - 1, ties))

    @functools.cached_property
    def _degree(self) -> Int[Tensor, " row"]:
        return self.indptr[1:] - self.indptr[:-1]

    @functools.cached_property
    def _order(self) -> Int[Tensor, " row"]:
        return torch.sort(self._degree, descending=True, stable=True).indices

    @functools.cached_property
    def _position(self) -> Int[Tensor, " row"] | None:
        """Position of each row in the order of the slots; None: the same."""
        if bool((self._degree == self._degree[0]).all()):
            return None
        return torch.sort(self._order, stable=True).indices

    @functools.cached_property
    def _slots(self) -> list[Slot]:
        first = self.indptr[:-1][self._order].to(torch.int64)
        longest_first = self._degree[self._order]
        slots = []
        for k in range(int(longest_first[0])):
            tie = first[: int((longest_first > k).sum())] + k
            slots.append(Slot(tie, self.columns[tie].to(torch.int64), self.weights[tie][:, None]))
        return slots


def _needs_slots(x: Tensor) -> bool:
    return x.requires_grad or x.device.type != "cpu" or torch.compiler.is_compiling()
