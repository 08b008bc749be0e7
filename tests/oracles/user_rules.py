"""Update rules as a user writes them, for comparisons with independent programs."""

from __future__ import annotations

from typing import Any

import torch
from pydantic import Field

from mores.core.update_rule import PeerInputs, RuleResult, UpdateRule


class HegselmannKrause(UpdateRule):
    """Mean of the own value and the answers within a distance (Hegselmann and Krause 2002)."""

    confidence: float = Field(default=0.5, gt=0, description="largest distance, value units")

    def step(self, inputs: PeerInputs, state: Any) -> RuleResult:
        graph = inputs.graph
        answers, own = graph.neighbor_values(inputs.answers), graph.own_values(inputs.values)
        close = ((answers - own).norm(dim=-1, keepdim=True) <= self.confidence).float()
        count = 1 + graph.sum_ties(close)
        return RuleResult((inputs.values + graph.sum_ties(close * answers)) / count)


class Deffuant(UpdateRule):
    """Pairs that choose each other move towards each other if they are close (Deffuant 2000)."""

    confidence: float = 1.5
    convergence: float = 0.3

    def step(self, inputs: PeerInputs, state: Any) -> RuleResult:
        people = inputs.graph.num_people
        u = inputs.streams.uniform("partner", people)[..., 0]
        partner = inputs.graph.sample_neighbors(u)
        mutual = partner.gather(1, partner) == torch.arange(people)
        other = inputs.answers.gather(1, partner[..., None].expand_as(inputs.answers))
        gap = other - inputs.values
        meet = mutual & (gap.norm(dim=-1) <= self.confidence)
        return RuleResult(inputs.values + self.convergence * meet[..., None] * gap)


class Voter(UpdateRule):
    """Each person adopts the answer of one neighbor; the state counts changes of mind."""

    def initial_state(self, values: Any, graph: Any, streams: Any) -> torch.Tensor:
        return torch.zeros(values.shape[:2])

    def step(self, inputs: PeerInputs, state: torch.Tensor) -> RuleResult:
        u = inputs.streams.uniform("neighbor", inputs.graph.num_people)[..., 0]
        neighbor = inputs.graph.sample_neighbors(u)[..., None].expand_as(inputs.answers)
        adopted = inputs.answers.gather(1, neighbor)
        return RuleResult(adopted, state + (adopted != inputs.values).any(-1))
