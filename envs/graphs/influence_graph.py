"""Shares of influence between people, one graph for all worlds or one graph a world.

The new value of an averaging person i is `self_weight[i] x_i + sum_k weights[k] x_indices[k]` over
the ties k of row i. The absolute shares of a person sum to 1 in the graphs that `CsrGraph` makes.
"""

from __future__ import annotations

import dataclasses
import functools
from typing import ClassVar

import scipy.sparse
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core import pytree
from mores.core.deterministic_sum import total
from mores.core.graph import Ties
from mores.envs.graphs.row_sums import RowSums

PersonValues = Float[Tensor, "world agent value"]
TieValues = Float[Tensor, "world tie value"]

MAX_CLOSED_FORM = 200  # people in graphs whose closed forms are computed, with dense matrices


@dataclasses.dataclass(frozen=True, eq=False)
class InfluenceGraph(pytree.Growing):
    """Compressed sparse rows of ties and weights; see `mores.core.graph.Graph`.

    Graphs of several worlds with different numbers of ties are padded with zeros at the end, which
    no row contains.

    Attributes:
        indptr: row i holds the ties `indptr[i]` to `indptr[i + 1]`, the people who influence i.
        indices: the influencing person of each tie; int32.
        weights: share of influence of each tie.
        self_weight: share of each person's own value.
        exact_matrix: all shares in float64, own shares on the diagonal; None: in larger graphs, and
            in those of one world.
    """

    growing_fields: ClassVar[tuple[str, ...]] = ("indices", "weights")

    indptr: Int[Tensor, "*world agent_plus_1"]
    indices: Int[Tensor, "*world tie"]
    weights: Float[Tensor, "*world tie"]
    self_weight: Float[Tensor, "*world agent"]
    exact_matrix: scipy.sparse.csr_array | None = None

    @staticmethod
    def from_slots(
        neighbors: Int[Tensor, "*world agent slot"], weights: Float[Tensor, "*world agent slot"]
    ) -> InfluenceGraph:
        """Graph of people with equally many neighbors; their own share is the remainder to 1."""
        *worlds, agents, slots = neighbors.shape
        indptr = torch.arange(agents + 1, dtype=torch.int32, device=neighbors.device) * slots
        return InfluenceGraph(
            indptr.expand(*worlds, -1).contiguous(),
            neighbors.flatten(-2).to(torch.int32),
            weights.flatten(-2),
            1.0 - total(weights, -1),
        )

    @staticmethod
    def stack(graphs: list[InfluenceGraph]) -> InfluenceGraph:
        """One graph a world, from graphs of equally many people."""
        ties = max(len(graph.indices) for graph in graphs)

        def pad(x: Tensor) -> Tensor:
            return torch.nn.functional.pad(x, (0, ties - len(x)))

        return InfluenceGraph(
            torch.stack([graph.indptr for graph in graphs]),
            torch.stack([pad(graph.indices) for graph in graphs]),
            torch.stack([pad(graph.weights) for graph in graphs]),
            torch.stack([graph.self_weight for graph in graphs]),
        )

    def to(self, device: torch.device) -> InfluenceGraph:
        """The graph on a device."""
        if self.indptr.device == device:
            return self
        fields = (self.indptr, self.indices, self.weights, self.self_weight)
        parts = (field.to(device) for field in fields)
        return InfluenceGraph(*parts, exact_matrix=self.exact_matrix)

    def equals(self, other: InfluenceGraph) -> bool:
        """Whether the ties and all shares are equal."""
        names = ("indptr", "indices", "weights", "self_weight")
        return all(torch.equal(getattr(self, name), getattr(other, name)) for name in names)

    @property
    def num_people(self) -> int:
        """Number of people."""
        return self.self_weight.shape[-1]

    @property
    def is_shared(self) -> bool:
        """Whether all worlds have this graph."""
        return self.indptr.dim() == 1

    @property
    def degree(self) -> Int[Tensor, "*world agent"]:
        """Number of ties of each person."""
        return self.indptr[..., 1:] - self.indptr[..., :-1]

    @functools.cached_property
    def peer_weight(self) -> Float[Tensor, "*world agent 1"]:
        """Share of all neighbors together; a tiny positive number for isolated people."""
        tiny = torch.finfo(torch.float32).tiny
        return (1.0 - self.self_weight.abs()).clamp(min=tiny)[..., None]

    @functools.cached_property
    def has_negative_weights(self) -> bool:
        """Whether any influence is negative."""
        return bool((self.weights < 0).any() | (self.self_weight < 0).any())

    @functools.cached_property
    def isolated(self) -> Bool[Tensor, "*world agent"] | None:
        """People without ties; None: there are none."""
        isolated = self.degree == 0
        return isolated if bool(isolated.any()) else None

    # --- sums over ties ----------------------------------------------------------------------

    def neighbor_sum(self, x: PersonValues) -> PersonValues:
        """Weighted sum of the neighbors' `x` of each person."""
        return self._unflatten(self._row_sums.weighted(self._flatten(x)), x)

    def neighbor_values(self, x: PersonValues) -> TieValues:
        """The neighbor's `x` at each tie."""
        if self.is_shared:
            return x[:, self.indices]
        return x.gather(1, self.indices.to(torch.int64)[..., None].expand(-1, -1, x.shape[2]))

    def own_values(self, x: PersonValues) -> TieValues:
        """The influenced person's own `x` at each tie."""
        if self.is_shared:
            return x[:, self._people]
        return x.gather(1, self._people[..., None].expand(-1, -1, x.shape[2]))

    def sum_ties(self, x: TieValues) -> PersonValues:
        """Sum of `x` over the ties of each person, without weights."""
        ties = self._flatten(x) if self._valid is None else x[self._valid]
        return self._unflatten(self._row_sums.plain(ties), x)

    def sample_neighbors(self, u: Float[Tensor, "world agent"]) -> Int[Tensor, "world agent"]:
        """A neighbor of each person, with probability proportional to the absolute weight.

        Args:
            u: uniform random numbers in [0, 1).

        Returns:
            Indices of people; isolated people get their own.
        """
        own = torch.arange(self.num_people, device=u.device)
        if not self.indices.shape[-1]:
            return own.expand(len(u), -1)
        start, end = (self._cumulative.gather(-1, p) for p in self._row_bounds)
        target = start + u.to(torch.float64) * (end - start)  # [world, agent]
        tie = torch.searchsorted(
            self._cumulative.expand(len(u), -1).contiguous(), target, right=True
        )
        first, last = (p.expand(len(u), -1) for p in self._row_bounds)
        tie = torch.minimum(torch.maximum(tie - 1, first), last - 1).clamp(min=0)
        neighbor = self.indices.to(torch.int64).expand(len(u), -1).gather(1, tie)
        return neighbor if self.isolated is None else torch.where(self.isolated, own, neighbor)

    def ties(self, world: int) -> Ties:
        """The ties of a world, by its index, without padding."""
        parts = (self.indptr, self.indices, self.weights)
        indptr, indices, weights = (part if self.is_shared else part[world] for part in parts)
        count = int(indptr[-1])
        people = torch.arange(self.num_people, device=indptr.device)
        person = people.repeat_interleave((indptr[1:] - indptr[:-1]).long(), output_size=count)
        return Ties(person, indices[:count].long(), weights[:count])

    def matrix(self) -> scipy.sparse.csr_array:
        """Shares of influence of a shared graph, own shares on the diagonal, in float64."""
        if self.exact_matrix is not None:
            return self.exact_matrix
        parts = (self.weights.double().cpu(), self.indices.cpu(), self.indptr.cpu())
        size = (self.num_people, self.num_people)
        ties = scipy.sparse.csr_array(tuple(part.numpy() for part in parts), shape=size)
        own = self.self_weight.double().cpu().numpy()
        return ties + scipy.sparse.diags_array(own, format="csr")

    # --- layout ------------------------------------------------------------------------------

    @functools.cached_property
    def _row_sums(self) -> RowSums:
        """Ties of all rows: people, or people of all worlds one after another."""
        if self.is_shared:
            return RowSums(self.indptr, self.indices, self.weights)
        worlds, ties = self.indices.shape
        wide = max(worlds * ties, worlds * self.num_people) >= 2**31
        index = torch.int64 if wide else torch.int32
        world = torch.arange(worlds, dtype=index, device=self.indices.device)
        columns = self.indices + world[:, None] * self.num_people
        count = self.indptr[:, -1:].to(index)
        start = count.cumsum(0, dtype=index) - count
        rows = (self.indptr[:, :-1] + start).flatten()
        indptr = torch.cat([rows, (start + count)[-1]])
        valid = slice(None) if self._valid is None else self._valid.flatten()
        return RowSums(indptr, columns.flatten()[valid], self.weights.flatten()[valid])

    @functools.cached_property
    def _valid(self) -> Bool[Tensor, "world tie"] | None:
        """Ties that are not padding; None: all."""
        if self.is_shared or bool((self.indptr[:, -1] == self.indices.shape[1]).all()):
            return None
        return torch.arange(self.indices.shape[1], device=self.indptr.device) < self.indptr[:, -1:]

    @functools.cached_property
    def _people(self) -> Int[Tensor, "*world tie"]:
        """The influenced person of each tie; the last person at padding."""
        ties = torch.arange(self.indices.shape[-1], device=self.indptr.device)
        ties = ties.to(self.indptr.dtype).expand_as(self.indices).contiguous()
        person = torch.searchsorted(self.indptr[..., 1:].contiguous(), ties, right=True)
        return person.clamp(max=self.num_people - 1)

    @functools.cached_property
    def _cumulative(self) -> Float[Tensor, "*world tie_plus_1"]:
        """Sums of absolute weights of all ties before each one."""
        return torch.nn.functional.pad(self.weights.double().abs().cumsum(-1), (1, 0))

    @functools.cached_property
    def _row_bounds(self) -> tuple[Tensor, Tensor]:
        bounds = self.indptr.to(torch.int64)
        return bounds[..., :-1], bounds[..., 1:]

    def _flatten(self, x: Float[Tensor, "world part value"]) -> Float[Tensor, "row item"]:
        """Worlds beside the values if they share the graph, else beside the people."""
        if self._worlds_beside_values(x):
            return x.transpose(0, 1).reshape(x.shape[1], -1)
        return x.reshape(-1, x.shape[2])

    def _unflatten(self, x: Float[Tensor, "row item"], like: Tensor) -> PersonValues:
        """The reverse of `_flatten`, with the worlds stored as in `like`: first or innermost."""
        worlds, _, values = like.shape
        if not self._worlds_beside_values(like):
            return x.view(worlds, self.num_people, values)
        x = x.view(self.num_people, worlds, values).transpose(0, 1)
        return x if like.transpose(0, 1).is_contiguous() else x.contiguous()

    def _worlds_beside_values(self, x: Float[Tensor, "world part value"]) -> bool:
        """Whether rows are people of all worlds; a single world needs no change of layout."""
        return x.shape[0] > 1 and self.is_shared
