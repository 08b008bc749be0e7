"""Peer influence: the influence graph and the rule by which peers move a person's values."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.config import Config
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics import degroot, friedkin_johnsen
from mores.envs.graphs import influence_graph
from mores.envs.graphs.influence_graph import InfluenceGraph


class PeerMeans(NamedTuple):
    """Means of answers over each person's neighbors.

    Attributes:
        neighbor_mean: weighted mean of the neighbors' answers.
        weighted_mean: weighted mean of these and the person's own value: DeGroot's `P x`.
    """

    neighbor_mean: Float[Tensor, "world agent value"]
    weighted_mean: Float[Tensor, "world agent value"]


class Peers(Config):
    """Parameters of people's influence on each other; default: none."""

    rule: Literal["none", "degroot", "friedkin_johnsen"] = Field(
        default="none", description="update rule"
    )
    susceptibility: float = Field(
        default=0.9,
        ge=0,
        le=1,
        description="Friedkin-Johnsen: weight of the weighted mean `P x`; the anchor has the rest",
    )
    graph: Literal["homophily", "permuted", "karate_club"] = Field(
        default="homophily",
        description="influence graph; permuted: homophily graph with people permuted; "
        "karate_club: 34 people",
    )
    degree: int = Field(
        default=8,
        ge=1,
        le=1000,
        description="homophily: neighbors of each person, drawn with replacement",
    )
    num_candidates: int = Field(
        default=64, ge=1, le=10_000, description="homophily: candidates sampled per person"
    )
    homophily_scale: float = Field(
        default=0.3,
        gt=0,
        description="homophily: distance at which the sampling weight falls by the factor e",
    )
    peer_weight: float = Field(
        default=0.5,
        ge=0,
        le=1,
        description="homophily: weight of all neighbors in `P x`, in equal parts",
    )

    def check_parameters(self, num_people: int) -> None:
        """Refuse incompatible parameters.

        Raises:
            ParameterError: parameters that exclude each other or do not fit `num_people`.
        """
        given = self.model_fields_set
        if given and "rule" not in given:
            raise ParameterError(
                message=f"peers: {min(given)} has no effect without a rule (default: none)",
                code="conflict",
            )
        if self.rule == "none":
            return
        if self.graph == "karate_club" and num_people != 34:
            raise ParameterError(
                message="peers: the karate club graph needs num_people=34", code="conflict"
            )
        if self.graph != "karate_club" and num_people < 2:
            raise ParameterError(
                message="peers: a homophily graph needs num_people >= 2", code="conflict"
            )
        if self.graph != "karate_club" and self.degree > self.num_candidates:
            raise ParameterError(
                message="peers: degree must not exceed num_candidates",
                code="conflict",
            )

    def sample_graph(
        self, values: Float[Tensor, "world agent value"], streams: RandomStreams
    ) -> InfluenceGraph | None:
        """Influence graph of each world; None if all worlds share one graph or none."""
        if self.rule == "none" or self.graph == "karate_club":
            return None
        graph = influence_graph.homophily_graph(
            values,
            self.degree,
            self.peer_weight,
            self.homophily_scale,
            self.num_candidates,
            streams,
        )
        return influence_graph.permute_nodes(graph, streams) if self.graph == "permuted" else graph

    def peer_means(
        self,
        own_values: Float[Tensor, "world agent value"],
        answers: Float[Tensor, "world agent value"],
        graph: InfluenceGraph | None,
    ) -> PeerMeans:
        """Means of the neighbors' answers, without and with the person's own value."""
        graph = graph or self._fixed_graph
        weighted_sum = influence_graph.neighbor_sum(graph, answers)
        weight = (1.0 - graph.self_weight[..., None]).clamp(min=torch.finfo(torch.float32).tiny)
        low, high = answers.amin(1, keepdim=True), answers.amax(1, keepdim=True)
        neighbor_mean = (weighted_sum / weight).clamp(low, high)  # rounding may leave the range
        return PeerMeans(neighbor_mean, influence_graph.add_self(graph, own_values, weighted_sum))

    def step(
        self,
        weighted_mean: Float[Tensor, "world agent value"],
        anchor: Float[Tensor, "world agent value"],
    ) -> Float[Tensor, "world agent value"]:
        """Values after one round of the rule."""
        if self.rule == "friedkin_johnsen":
            return friedkin_johnsen.friedkin_johnsen_step(
                weighted_mean, anchor, self.susceptibility
            )
        return weighted_mean

    @functools.cached_property
    def influence_matrix(self) -> Float[np.ndarray, "agent agent"] | None:
        """Matrix of the graph if all worlds share it, else None."""
        fixed = self.rule != "none" and self.graph == "karate_club"
        return influence_graph.karate_club_matrix() if fixed else None

    @functools.cached_property
    def equilibrium_matrix(self) -> Float[Tensor, "agent agent"] | None:
        """Weights of initial values (columns) in equilibrium values, if only peers move people."""
        if self.influence_matrix is None:
            return None
        if self._is_anchored:
            matrix = friedkin_johnsen.equilibrium_matrix(self.influence_matrix, self.susceptibility)
        else:
            matrix = np.tile(
                degroot.consensus_weights(self.influence_matrix), (len(self.influence_matrix), 1)
            )
        return torch.from_numpy(matrix).to(torch.float32)

    def analytic_values(self) -> dict[str, float]:
        """Closed-form convergence rates; empty without a fixed graph."""
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
