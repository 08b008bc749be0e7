"""Peers: who people listen to, and by which rule that moves them."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Config
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics import degroot, friedkin_johnsen
from mores.envs.graphs import influence_graph
from mores.envs.graphs.influence_graph import InfluenceGraph


class PeerMeans(NamedTuple):
    """What each person heard from those they listen to.

    Attributes:
        neighbor_mean: weighted mean of what these said.
        weighted_mean: mean of that and one's own view, by their weights: DeGroot's `P x`.
    """

    neighbor_mean: Float[Tensor, "world agent value"]
    weighted_mean: Float[Tensor, "world agent value"]


class Peers(Config):
    """Parameters of people's influence on each other; nobody listens to peers by default."""

    rule: Literal["none", "degroot", "friedkin_johnsen"] = Field(
        default="none", description="how people move each other"
    )
    susceptibility: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Friedkin-Johnsen: weight of others against one's own start",
    )
    graph: Literal["homophily", "permuted", "karate_club"] = Field(
        default="homophily",
        description="who listens to whom; rewired: the likeness network among strangers",
    )
    degree: int = Field(
        default=8, ge=1, le=1000, description="likeness: how many each person listens to"
    )
    num_candidates: int = Field(
        default=64, ge=1, le=10_000, description="likeness: how many others each gets to know"
    )
    homophily_scale: float = Field(
        default=0.3, gt=0, description="likeness: distance over which it falls by e"
    )
    peer_weight: float = Field(
        default=0.5, ge=0, le=1, description="likeness: weight of peers together"
    )

    def check_parameters(self, num_people: int) -> None:
        """Refuse what does not go together.

        Raises:
            ValueError: with what is wrong.
        """
        given = self.model_fields_set
        if given and "rule" not in given:
            raise ParameterError(
                message=f"peers: {min(given)} says nothing without a rule: none is the default",
                code="conflict",
            )
        if self.rule == "none":
            return
        if self.graph == "karate_club" and num_people != 34:
            raise ParameterError(message="peers: the karate club has 34 people", code="conflict")
        if self.graph != "karate_club" and num_people < 2:
            raise ParameterError(
                message="peers: a network by likeness needs at least 2 people", code="conflict"
            )
        if self.graph != "karate_club" and self.degree > self.num_candidates:
            raise ParameterError(
                message="peers: ties: nobody listens to more people than they have met",
                code="conflict",
            )

    def sample_graph(
        self, values: Float[Tensor, "world agent value"], streams: RandomStreams
    ) -> InfluenceGraph | None:
        """The network of each world, where worlds differ."""
        if self.rule == "none" or self.graph == "karate_club":
            return None
        liked = influence_graph.homophily_graph(
            values,
            self.degree,
            self.peer_weight,
            self.homophily_scale,
            self.num_candidates,
            streams,
        )
        return influence_graph.permute_nodes(liked, streams) if self.graph == "permuted" else liked

    def peer_means(
        self,
        own_values: Float[Tensor, "world agent value"],
        answers: Float[Tensor, "world agent value"],
        graph: InfluenceGraph | None,
    ) -> PeerMeans:
        """What those one listens to said on average, alone and together with one's own view."""
        ties = graph or self._fixed_graph
        peers = influence_graph.neighbor_sum(ties, answers)
        listening = (1.0 - ties.self_weight[..., None]).clamp(min=torch.finfo(torch.float32).tiny)
        low, high = answers.amin(1, keepdim=True), answers.amax(1, keepdim=True)
        alone = (peers / listening).clamp(low, high)  # a mean, but for rounding
        return PeerMeans(alone, influence_graph.add_self(ties, own_values, peers))

    def step(
        self,
        weighted_mean: Float[Tensor, "world agent value"],
        anchor: Float[Tensor, "world agent value"],
    ) -> Float[Tensor, "world agent value"]:
        """Where people stand after hearing that."""
        if self.rule == "friedkin_johnsen":
            return friedkin_johnsen.friedkin_johnsen_step(
                weighted_mean, anchor, self.susceptibility
            )
        return weighted_mean

    @functools.cached_property
    def influence_matrix(self) -> Float[np.ndarray, "agent agent"] | None:
        """The network as a matrix, where it is the same in all worlds."""
        fixed = self.rule != "none" and self.graph == "karate_club"
        return influence_graph.karate_club_matrix() if fixed else None

    @functools.cached_property
    def equilibrium_matrix(self) -> Float[Tensor, "agent agent"] | None:
        """Where everybody ends, as weights of everybody's start, if only peers move people."""
        if self.influence_matrix is None:
            return None
        if self._is_anchored:
            kernel = friedkin_johnsen.equilibrium_matrix(self.influence_matrix, self.susceptibility)
        else:
            kernel = np.tile(
                degroot.consensus_weights(self.influence_matrix), (len(self.influence_matrix), 1)
            )
        return torch.from_numpy(kernel).to(torch.float32)

    def analytic_values(self) -> dict[str, float]:
        """How fast people agree, where theory says it."""
        if self.influence_matrix is None:
            return {}
        if self._is_anchored:
            radius = np.abs(np.linalg.eigvals(self.influence_matrix)).max()
            return {"convergence_factor": float(self.susceptibility * radius)}
        return {
            "contraction_factor": degroot.contraction_factor(self.influence_matrix),
            "half_life": degroot.half_life(self.influence_matrix),
        }

    @property
    def _is_anchored(self) -> bool:
        return self.rule == "friedkin_johnsen" and self.susceptibility < 1

    @functools.cached_property
    def _fixed_graph(self) -> InfluenceGraph:
        assert self.influence_matrix is not None
        return influence_graph.from_matrix(self.influence_matrix)
