"""Random and classic graphs by the generators of networkx."""

from __future__ import annotations

import functools
import inspect
import json
from collections.abc import Callable
from typing import Any

from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.errors import ParameterError, did_you_mean
from mores.core.graph import GraphSource
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import GRAPH_SEED
from mores.envs.graphs.csr_graph import CsrGraph

Number = bool | int | float
NetworkxParameter = Number | str | list[Number] | list[list[Number]]


class NetworkxGenerator(GraphSource):
    """A graph by a generator of networkx, such as `watts_strogatz_graph`.

    The generator's number of nodes `n` is the number of people, unless it is given, as for grids,
    where `n` is one of the sides.
    """

    generator: str = Field(description="name of the generator, with or without `_graph` at its end")
    parameters: dict[str, NetworkxParameter] = Field(
        default={}, description="the generator's parameters, without `seed`"
    )
    per_world: bool = Field(
        default=False, description="whether each world and episode has its own random graph"
    )
    graph_seed: int = Field(
        default=0, ge=0, description="seed of a random graph that all worlds share"
    )

    @property
    def elements_per_person(self) -> int:
        """For some ten ties of a person."""
        return 64 if self.per_world else 0

    def check_num_people(self, num_people: int) -> None:
        """Refuse unknown generators and parameters, and graphs of other sizes."""
        found = _generator(self.generator)
        if found is None:
            raise ParameterError(
                "generator",
                message=f"no networkx generator {self.generator!r}"
                f"{did_you_mean(self.generator, _names())}",
                code="unknown_name",
            )
        reserved = {"seed": "graph_seed sets it", "create_using": "it is not supported"}
        for name in reserved.keys() & self.parameters.keys():
            message = f"{name!r} cannot be given: {reserved[name]}"
            raise ParameterError("parameters", name, message=message, code="conflict")
        nodes = self.parameters.get("n")
        if isinstance(nodes, (int, float)) and nodes > num_people:  # before they are made
            message = f"n: {nodes} is more than num_people, {num_people}"
            raise ParameterError("parameters", "n", message=message, code="conflict")
        if self.per_world and "seed" not in inspect.signature(found).parameters:
            message = f"{self.generator} is not random: per_world has no effect"
            raise ParameterError("per_world", message=message, code="conflict")
        people = _shared_graph(*self._arguments, num_people, self.graph_seed).num_people
        if people != num_people:
            message = f"{self.generator} has {people} people; num_people is {num_people}"
            raise ParameterError("generator", message=message, code="conflict")

    def shared_graph(self, num_people: int) -> CsrGraph | None:
        """The graph of all worlds."""
        if self.per_world:
            return None
        return _shared_graph(*self._arguments, num_people, self.graph_seed)

    def world_graphs(
        self, values: Float[Tensor, "world agent value"], streams: RandomStreams
    ) -> list[CsrGraph]:
        """One random graph for each world."""
        seeds = streams.uniform(GRAPH_SEED)[:, 0, 0] * 2**24
        return [_generate(*self._arguments, values.shape[1], int(seed)) for seed in seeds]

    @property
    def _arguments(self) -> tuple[str, str]:
        return self.generator, json.dumps(self.parameters, sort_keys=True)


def _generate(name: str, parameters: str, num_people: int, seed: int) -> CsrGraph:
    """The graph of a generator with parameters in JSON."""
    generator = _generator(name)
    assert generator is not None  # `check_num_people`
    known = inspect.signature(generator).parameters
    own = {"n": num_people, "seed": seed}
    given = {key: value for key, value in own.items() if key in known}
    try:
        return CsrGraph.from_networkx(generator(**{**given, **json.loads(parameters)}))
    except Exception as error:  # networkx raises many kinds
        message = f"{name}: {type(error).__name__}: {error}"
        raise ParameterError("parameters", message=message) from None


_shared_graph = functools.lru_cache(maxsize=4)(_generate)  # it is checked once and used once


def _generator(name: str) -> Callable[..., Any] | None:
    """A function of `networkx.generators` that makes graphs; None: there is none."""
    import networkx as nx

    for full_name in (name, f"{name}_graph"):
        found = getattr(nx, full_name, None)
        if callable(found) and getattr(found, "__module__", "").startswith("networkx.generators."):
            return found
    return None


def _names() -> list[str]:
    import networkx as nx

    return [name for name in dir(nx) if name.endswith("_graph") and _generator(name)]
