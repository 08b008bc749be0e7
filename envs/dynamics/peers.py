"""Peers: who people listen to, and by which rule that moves them."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.environment import Configured
from mores.core.errors import ParameterError
from mores.core.random_streams import Draws
from mores.envs.dynamics import degroot, friedkin_johnsen
from mores.envs.graphs import influence_graph
from mores.envs.graphs.influence_graph import Network


class Heard(NamedTuple):
    """What each person heard from those they listen to.

    Attributes:
        peers: weighted mean of what these said.
        together: mean of that and one's own view, by their weights: DeGroot's `P x`.
    """

    peers: Float[Tensor, "world agent value"]
    together: Float[Tensor, "world agent value"]


class Peers(Configured):
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
    network: Literal["likeness", "rewired", "karate"] = Field(
        default="likeness",
        description="who listens to whom; rewired: the likeness network among strangers",
    )
    ties: int = Field(
        default=8, ge=1, le=1000, description="likeness: how many each person listens to"
    )
    meetings: int = Field(
        default=64, ge=1, le=10_000, description="likeness: how many others each gets to know"
    )
    closeness: float = Field(
        default=0.3, gt=0, description="likeness: distance over which it falls by e"
    )
    listening: float = Field(
        default=0.5, ge=0, le=1, description="likeness: weight of peers together"
    )

    def check(self, people: int) -> None:
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
        if self.network == "karate" and people != 34:
            raise ParameterError(message="peers: the karate club has 34 people", code="conflict")
        if self.network != "karate" and people < 2:
            raise ParameterError(
                message="peers: a network by likeness needs at least 2 people", code="conflict"
            )
        if self.network != "karate" and self.ties > self.meetings:
            raise ParameterError(
                message="peers: ties: nobody listens to more people than they have met",
                code="conflict",
            )

    def ties_of(self, values: Float[Tensor, "world agent value"], draws: Draws) -> Network | None:
        """The network of each world, where worlds differ."""
        if self.rule == "none" or self.network == "karate":
            return None
        liked = influence_graph.by_likeness(
            values, self.ties, self.listening, self.closeness, self.meetings, draws
        )
        return influence_graph.rewired(liked, draws) if self.network == "rewired" else liked

    def heard(
        self,
        own: Float[Tensor, "world agent value"],
        said: Float[Tensor, "world agent value"],
        network: Network | None,
    ) -> Heard:
        """What those one listens to said on average, alone and together with one's own view."""
        ties = network or self._fixed_network
        peers = influence_graph.told(ties, said)
        listening = (1.0 - ties.own[..., None]).clamp(min=torch.finfo(torch.float32).tiny)
        low, high = said.amin(1, keepdim=True), said.amax(1, keepdim=True)
        alone = (peers / listening).clamp(low, high)  # a mean, but for rounding
        return Heard(alone, influence_graph.together(ties, own, peers))

    def moved(
        self,
        heard: Float[Tensor, "world agent value"],
        anchor: Float[Tensor, "world agent value"],
    ) -> Float[Tensor, "world agent value"]:
        """Where people stand after hearing that."""
        if self.rule == "friedkin_johnsen":
            return friedkin_johnsen.step(heard, anchor, self.susceptibility)
        return heard

    @functools.cached_property
    def matrix(self) -> Float[np.ndarray, "agent agent"] | None:
        """The network as a matrix, where it is the same in all worlds."""
        fixed = self.rule != "none" and self.network == "karate"
        return influence_graph.karate_matrix() if fixed else None

    @functools.cached_property
    def kernel(self) -> Float[Tensor, "agent agent"] | None:
        """Where everybody ends, as weights of everybody's start, if only peers move people."""
        if self.matrix is None:
            return None
        if self._anchored:
            kernel = friedkin_johnsen.kernel(self.matrix, self.susceptibility)
        else:
            kernel = np.tile(degroot.consensus_weights(self.matrix), (len(self.matrix), 1))
        return torch.from_numpy(kernel).to(torch.float32)

    def predictions(self) -> dict[str, float]:
        """How fast people agree, where theory says it."""
        if self.matrix is None:
            return {}
        if self._anchored:
            radius = np.abs(np.linalg.eigvals(self.matrix)).max()
            return {"approach": float(self.susceptibility * radius)}
        return {
            "contraction": degroot.contraction(self.matrix),
            "half_life": degroot.half_life(self.matrix),
        }

    @property
    def _anchored(self) -> bool:
        return self.rule == "friedkin_johnsen" and self.susceptibility < 1

    @functools.cached_property
    def _fixed_network(self) -> Network:
        assert self.matrix is not None
        return influence_graph.from_matrix(self.matrix)
