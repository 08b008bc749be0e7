"""What the in-process engine needs of a set of adapters: one of them per row of a forward pass.

The base model is loaded once. Several agents have own adapters, all of which are in memory at once;
a request names its adapter by index, -1 for the base model alone. The engine packs rows of several
adapters into one forward pass, and says around the pass which row has which:

    with engine.adapters.active(rows):          # rows: index of the adapter of each row, -1: none
        model(input_ids, ...)                   # input_ids [row, position]

Rows of padding repeat another row, with its adapter. Keys and values of prefixes are shared and
kept only between rows of the same adapter, and no longer than `revision` stays the same.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from jaxtyping import Int
from torch import Tensor


@runtime_checkable
class AdapterSet(Protocol):
    """Adapters of one model. An engine has at most one set (`LocalEngine.adapters`).

    Attributes:
        num_adapters: valid indices are 0 ... num_adapters - 1.
        revision: a number that changes whenever a weight changes, and that no other set has.
    """

    @property
    def num_adapters(self) -> int:
        """Number of adapters."""
        ...

    @property
    def revision(self) -> int:
        """Number of the weights: no other weights in this process have the same."""
        ...

    def active(self, rows: Int[Tensor, " row"]) -> AbstractContextManager[None]:
        """Context in which row i of every forward pass of the model has adapter `rows[i]`.

        The output of a row depends on its adapter alone, not on those of other rows, and with -1 it
        is that of the model without adapters, bit for bit. At the end no adapter is active.
        """
        ...
