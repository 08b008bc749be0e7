"""Graphs between people: what an update rule can ask of one, and where one comes from."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from mores.core.config import Config
from mores.core.random_streams import RandomStreams

PersonValues = Float[Tensor, "world agent value"]
TieValues = Float[Tensor, "world tie value"]


class Ties(NamedTuple):
    """Ties of one world, in the order of the influenced people.

    Attributes:
        person: index of the influenced person.
        neighbor: index of the person who influences.
        weight: share of influence.
    """

    person: Int[Tensor, " tie"]
    neighbor: Int[Tensor, " tie"]
    weight: Float[Tensor, " tie"]


@runtime_checkable
class Graph(Protocol):
    """Who influences whom, in all worlds: ties, each from a person to a neighbor who influences it.

    Sums add the ties of a person in a fixed order, so that a world's results do not depend on the
    batch.
    """

    @property
    def num_people(self) -> int:
        """Number of people."""
        ...

    @property
    def is_shared(self) -> bool:
        """Whether all worlds have the same graph."""
        ...

    @property
    def degree(self) -> Int[Tensor, "*world agent"]:
        """Number of ties of each person."""
        ...

    @property
    def self_weight(self) -> Float[Tensor, "*world agent"]:
        """Share of each person's own value in averages."""
        ...

    def neighbor_sum(self, x: PersonValues) -> PersonValues:
        """Sum of the neighbors' `x` of each person, weighted by the shares of influence."""
        ...

    def neighbor_values(self, x: PersonValues) -> TieValues:
        """The neighbor's `x` at each tie."""
        ...

    def own_values(self, x: PersonValues) -> TieValues:
        """The influenced person's own `x` at each tie."""
        ...

    def sum_ties(self, x: TieValues) -> PersonValues:
        """Sum of `x` over the ties of each person, without weights."""
        ...

    def sample_neighbors(self, u: Float[Tensor, "world agent"]) -> Int[Tensor, "world agent"]:
        """Index of one neighbor of each person, by weight, from uniform random numbers in [0, 1).

        Isolated people get their own index.
        """
        ...

    def ties(self, world: int) -> Ties:
        """The ties of a world, by its index."""
        ...

    def matrix(self) -> Any:
        """Shares of influence of a shared graph as a scipy sparse array, own shares included."""
        ...


class GraphSource(Config):
    """A registered kind of graph. A subclass overrides one of the two methods that make graphs.

    They return anything that `mores.envs.graphs.convert.to_influence_graph` reads: a networkx
    graph, a scipy sparse matrix, a `CsrGraph`, an `InfluenceGraph`.
    """

    @property
    def elements_per_person(self) -> int:
        """Approximate tensor elements that the graphs of a world take, per person."""
        return 0

    def for_people(self, names: Sequence[str]) -> GraphSource:
        """The source of graphs between people of these names, in their order; empty: no names."""
        return self

    def check_num_people(self, num_people: int) -> None:
        """Refuse a number of people that the graph cannot have, and parameters that do not fit it.

        Raises:
            ParameterError: with the path of the wrong parameter.
        """

    def remarks(self, num_people: int) -> tuple[str, ...]:
        """Notes on the data for the user, such as ties that are left out; as `Population.remarks`.

        Args:
            num_people: a number of people that `check_num_people` accepts.
        """
        return ()

    def shared_graph(self, num_people: int) -> Any:
        """The graph of all worlds and episodes; None: each has its own (`world_graphs`)."""
        return None

    def world_graphs(self, values: PersonValues, streams: RandomStreams) -> Any:
        """A list of graphs, one for each world, for a new episode.

        Args:
            values: initial values of the people.
            streams: random streams of the worlds.
        """
        raise NotImplementedError(f"{type(self).__name__} makes no graph")
