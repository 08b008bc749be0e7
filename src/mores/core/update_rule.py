"""Update rules: how the people whom a person listens to change the person's values."""

from __future__ import annotations

import dataclasses
import functools
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from mores.core.config import Config
from mores.core.graph import Graph
from mores.core.random_streams import RandomStreams

PersonValues = Float[Tensor, "world agent value"]


@dataclasses.dataclass(frozen=True)
class PeerInputs:
    """What an update rule can use in a round.

    Attributes:
        values: people's own values.
        answers: the values that people reported, which is all that others know of them.
        anchor: initial values; of people who return to dispositions by themselves, the values
            before the rule.
        graph: who listens to whom.
        streams: random streams of the rule.
    """

    values: PersonValues
    answers: PersonValues
    anchor: PersonValues
    graph: Graph
    streams: RandomStreams

    @functools.cached_property
    def neighbor_sum(self) -> PersonValues:
        """Sum of the neighbors' answers, weighted by the shares of influence."""
        return self.graph.neighbor_sum(self.answers)

    @property
    def weighted_mean(self) -> PersonValues:
        """The same with the person's own value and its share, a new tensor: DeGroot's `P x`."""
        own = self.graph.self_weight[..., None] * self.values
        return own.add_(self.neighbor_sum)


class RuleResult(NamedTuple):
    """People's values after a round of a rule, and the rule's next state."""

    values: PersonValues
    state: Any = None


class UpdateRule(Config, ABC):
    """A registered rule: parameters as fields, and a pure function of inputs and state."""

    def initial_state(self, values: PersonValues, graph: Graph, streams: RandomStreams) -> Any:
        """State of the rule in a new episode: tensors whose first dimension is the world."""
        return None

    @abstractmethod
    def step(self, inputs: PeerInputs, state: Any) -> RuleResult:
        """Values after one round. The environment clamps them to their range."""

    def equilibrium_matrix(self, graph: Graph) -> Float[np.ndarray, "agent agent"] | None:
        """Weights of the anchors (columns) in equilibrium values, if only this rule moves people.

        None: unknown. Called with graphs of at most 200 people that all worlds share.
        """
        return None

    def analytic_values(self, graph: Graph) -> dict[str, float]:
        """Theoretical values of metrics, by name, under the same conditions."""
        return {}
