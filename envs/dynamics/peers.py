"""Peer influence: who listens to whom, and the rule by which peers move a person's values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, NamedTuple

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError, UserError, describe_exception
from mores.core.graph import GraphSource
from mores.core.people import Population
from mores.core.random_streams import RandomStreams
from mores.core.update_rule import PeerInputs, RuleResult, UpdateRule
from mores.core.value_checking import values_are_checked
from mores.envs.graphs.convert import to_influence_graph
from mores.envs.graphs.homophily import Homophily
from mores.envs.graphs.influence_graph import InfluenceGraph
from mores.registry.component import component

MAX_COMPARED = 2000  # people in shared graphs that are made twice, to find unseeded ones

PersonValues = Float[Tensor, "world agent value"]


class PeerInfluence(NamedTuple):
    """A round of peer influence.

    Attributes:
        values: people's values after it.
        neighbor_mean: weighted mean of the neighbors' answers; 0 for people without neighbors.
        rule_state: next state of the update rule.
    """

    values: PersonValues
    neighbor_mean: PersonValues
    rule_state: Any


class Peers(Config):
    """Parameters of people's influence on each other; default: none."""

    rule: Annotated[UpdateRule, component("update_rule")] | None = Field(
        default=None, description="update rule; null: none"
    )
    graph: Annotated[GraphSource, component("graph")] = Field(
        default=Homophily(), description="graph of who listens to whom"
    )

    def check_parameters(self, num_people: int, names: Sequence[str] = ()) -> None:
        """Refuse incompatible parameters.

        Args:
            num_people: number of people.
            names: see `shared_graph`.

        Raises:
            ParameterError: a graph without a rule, one that does not fit `num_people`, or one that
                differs when it is made again.
        """
        if self.rule is None:
            if "graph" in self.model_fields_set:
                message = "has no effect without a rule (default: none)"
                raise ParameterError("peers", "graph", message=message, code="conflict")
            return
        try:
            self.graph.for_people(names).check_num_people(num_people)
            if num_people <= MAX_COMPARED:
                self._check_shared_graph(num_people, names)
        except ParameterError as error:
            path = ("peers", "graph", *error.path)
            raise ParameterError(*path, message=str(error), code=error.code) from None

    def _check_shared_graph(self, num_people: int, names: Sequence[str]) -> None:
        """Make the shared graph twice; both must be equal."""
        name = type(self.graph).__name__
        try:
            first, second = (self.shared_graph(num_people, names) for _ in range(2))
        except (ParameterError, MemoryError):
            raise
        except UserError as error:
            raise ParameterError(message=f"{name}: {error}", code=error.code) from None
        except Exception as error:  # of a user's function
            message = f"{name}: {describe_exception(error)}"
            raise ParameterError(message=message, code="failed") from None
        if first is not None and second is not None and not first.equals(second):
            message = f"{name}: differs when it is made again: seed its random numbers"
            raise ParameterError(message=message, code="unseeded")

    def check_population(self, population: Population, names: Sequence[str]) -> None:
        """Refuse people whose graph is not that of these names.

        Raises:
            UserError: the graph depends on the names of people, and the population has others.
        """
        if self.rule is None or population.person_names in ((), tuple(names)):
            return
        if self.graph.for_people(population.person_names) != self.graph.for_people(names):
            made_for = f"people named {', '.join(names)}" if names else "people without names"
            raise UserError(
                f"population: its people are named {', '.join(population.person_names):.60}, but "
                f"the graph is made for {made_for:.60}: use environment.with_population"
                "(population)",
                code="conflict",
                path="population",
            )

    def remarks(self, num_people: int, names: Sequence[str]) -> tuple[str, ...]:
        """Notes on the data of the graph; for the arguments see `shared_graph`."""
        return () if self.rule is None else self.graph.for_people(names).remarks(num_people)

    def shared_graph(self, num_people: int, names: Sequence[str] = ()) -> InfluenceGraph | None:
        """The graph that all worlds share; None: each world has its own, or there is no rule.

        Args:
            num_people: number of people.
            names: names of the people in their order, by which a file may name them; empty: none.
        """
        if self.rule is None:
            return None
        graph = self.graph.for_people(names).shared_graph(num_people)
        if graph is None:
            return None
        if isinstance(graph, (list, tuple)):
            message = "graphs of each world need an argument `values` or `streams`"
            raise UserError(message, code="wrong_type", path="peers.graph")
        return to_influence_graph(graph, num_people)

    def world_graphs(self, values: PersonValues, streams: RandomStreams) -> InfluenceGraph:
        """A graph for each world."""
        made = self.graph.world_graphs(values, streams)
        try:
            graphs = to_influence_graph(made, values.shape[1])
        except UserError as error:
            message = f"peers.graph: {error}"
            raise UserError(message, code=error.code, path="peers.graph") from None
        if graphs.is_shared or len(graphs.indptr) != len(values):
            given = "one" if graphs.is_shared else str(len(graphs.indptr))
            raise UserError(
                f"peers.graph: needs {len(values)} graphs, one for each world, not {given}",
                code="wrong_shape",
                path="peers.graph",
            )
        return graphs.to(values.device)

    def move(
        self,
        values: PersonValues,
        answers: PersonValues,
        anchor: PersonValues,
        graph: InfluenceGraph,
        rule_state: Any,
        streams: RandomStreams,
    ) -> PeerInfluence:
        """One round of the rule; there must be one.

        Raises:
            UserError: the rule returns another type, shape or dtype, or modifies its inputs; in
                checked rounds also values that are not finite.
        """
        assert self.rule is not None
        inputs = PeerInputs(values, answers, anchor, graph, streams)
        versions = values._version, answers._version, anchor._version
        result = self.rule.step(inputs, rule_state)
        if (values._version, answers._version, anchor._version) != versions:
            message = "modifies its inputs: return new values (no +=, no function that ends in _)"
            raise _rule_error(self.rule, message, "modified_input")
        _check_result(self.rule, result, values)
        return PeerInfluence(result.values, _neighbor_mean(inputs, graph), result.state)


def _check_result(rule: UpdateRule, result: Any, values: PersonValues) -> None:
    """Check the result of a rule that was given `values`."""
    given = result.values if isinstance(result, RuleResult) else None
    if not isinstance(given, Tensor):
        wrong = result if not isinstance(result, RuleResult) else given
        message, code = f"a {type(wrong).__name__}", "wrong_type"
    elif given.shape != values.shape or given.dtype != values.dtype:
        message = f"{given.dtype} {list(given.shape)}"
        code = "wrong_type" if given.shape == values.shape else "wrong_shape"
    elif values_are_checked() and not given.isfinite().all():
        raise _rule_error(rule, "returns values that are NaN or infinite", "not_finite")
    else:
        return
    expected = f"RuleResult with {values.dtype} [world, agent, value] = {list(values.shape)}"
    message = f"must return {expected}, not {message}".replace("torch.", "")
    raise _rule_error(rule, message, code)


def _rule_error(rule: UpdateRule, message: str, code: str) -> UserError:
    return UserError(f"{type(rule).__name__}.step {message}", code=code, path="peers.rule")


def _neighbor_mean(inputs: PeerInputs, graph: InfluenceGraph) -> PersonValues:
    """Weighted mean of the neighbors' answers, within their range, which rounding may leave."""
    answers = inputs.answers
    by_value = answers.transpose(1, 2).contiguous()  # torch is fastest over the last dimension
    low, high = by_value.amin(2)[:, None], by_value.amax(2)[:, None]
    if graph.has_negative_weights:
        high = torch.maximum(high, -low)
        low = -high
    neighbor_mean = (inputs.neighbor_sum / graph.peer_weight).clamp_(low, high)
    if graph.isolated is not None:
        neighbor_mean = neighbor_mean.masked_fill(graph.isolated[..., None], 0.0)
    return neighbor_mean
