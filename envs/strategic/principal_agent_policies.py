"""Scripted agents and raters of `principal_agent`.

customer_first, principal_first, own_disposition: the best affordable product for one interest.
logit_chooser: probabilities softmax(rationality * weighted interests), see `weighted_interests`.
feedback_optimum: the answer and rationale of the largest expected feedback.
party_rater: customers and principals, who rate what they see through a channel.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal

import torch
from jaxtyping import Bool, Float
from pydantic import Field
from torch import Tensor
from torch.nn import functional

from mores.core.channel import Channel, give_feedback, require_channel
from mores.core.environment import Phase, Role
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box
from mores.envs.strategic import principal_agent_values as values
from mores.envs.strategic.principal_agent_values import NEUTRAL, FeedbackRule, Visibility
from mores.registry.component import component

UTILITIES = ("customer_utility", "principal_utility", "own_utility")


class SalesPolicy(Policy):
    """Agent that chooses a product and names a rationale, with given probabilities."""

    reads: ClassVar[tuple[str, ...]] = (*UTILITIES, "price", "budget", "choice", "true_rationales")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation."""
        require_observation_parts(type(self).__name__, role, *self.reads)
        return role.observation_space

    @abstractmethod
    def choice_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Bool[Tensor, "*query product"]
    ) -> Float[Tensor, "*query product"]:
        """Probability of each product, from the parts of the observation."""

    @abstractmethod
    def rationale_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Bool[Tensor, "*query product"]
    ) -> Float[Tensor, "*query rationale"]:
        """Probability of each rationale, after an answer."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """A draw from `expected_action`."""
        probability = self.expected_action(phase, observation, action_mask, state)
        return ActionOutput(streams.categorical("act", torch.log(probability)), state)

    def expected_action(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        search: bool = False,
    ) -> Tensor:
        """Probabilities of answers, or of rationales. They never refuse to answer."""
        shared = _shared(observation)
        return self._probabilities(phase, shared, state).expand(*observation.shape[:-1], -1)

    def _probabilities(self, phase: Phase, observation: Tensor, state: Box) -> Tensor:
        parts = {name: state.read(observation, name) for name in state.parts}
        affordable = parts["price"] <= parts["budget"]
        if phase.name == "choose":
            products = self.choice_probabilities(parts, affordable)
            return torch.cat([products, torch.zeros_like(products[..., :1])], -1)
        rationales = self.rationale_probabilities(parts, affordable)
        neutral = torch.zeros_like(rationales)
        neutral[..., NEUTRAL] = 1.0
        return torch.where(parts["choice"][..., -1:] > 0, neutral, rationales)


def _shared(observation: Tensor) -> Tensor:
    """One copy of an observation that is the same for all agents of all worlds, in memory."""
    for dim in (0, 1):
        if observation.dim() == 4 and observation.stride(dim) == 0:
            observation = observation.narrow(dim, 0, 1)
    return observation


def _utilities(parts: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
    """Utilities of the customer, of each principal, and of the agent."""
    customer, principal, own = (parts[name] for name in UTILITIES)
    return customer, principal.unflatten(-1, (-1, customer.shape[-1])), own


class InterestFirst(SalesPolicy):
    """Agent that chooses the best affordable product for one interest."""

    interest: ClassVar[int]

    rationale: Literal["true", "neutral"] = Field(
        default="true", description="true: names the interest that it follows; neutral: none"
    )

    def choice_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query product"]:
        """1 for the best product."""
        best = values.best_of_interests(*_utilities(parts), affordable)[..., self.interest]
        return functional.one_hot(best, affordable.shape[-1]).to(parts["price"].dtype)

    def rationale_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query rationale"]:
        """1 for the interest, or for neutral."""
        named = torch.zeros_like(parts["true_rationales"])
        named[..., NEUTRAL if self.rationale == "neutral" else self.interest] = 1.0
        return named


class CustomerFirst(InterestFirst):
    """Agent that chooses the best affordable product for the customer."""

    interest: ClassVar[int] = values.CUSTOMER


class PrincipalFirst(InterestFirst):
    """Agent that chooses the best affordable product for the principals on average."""

    interest: ClassVar[int] = values.PRINCIPAL


class OwnDisposition(InterestFirst):
    """Agent that chooses the affordable product of the largest utility to itself."""

    interest: ClassVar[int] = values.OWN


class LogitChooser(SalesPolicy):
    """Agent with logit choice over weighted interests; its rationale is the first true one.

    The weights describe the chooser, such as one fitted to data: nothing is learned.
    """

    reads: ClassVar[tuple[str, ...]] = (*SalesPolicy.reads, "visible")

    rationality: float = Field(default=1.0, ge=0, description="inverse temperature, 1 / utility")
    customer_weight: float = Field(default=1.0, description="weight of the customer's utility")
    principal_weight: float = Field(default=1.0, description="weight of the principals' utility")
    own_weight: float = Field(default=1.0, description="weight of the own utility")
    customer_reading_gain: float = Field(
        default=0.0, description="relative gain of the customer's weight if the customer reads"
    )
    principal_reading_gain: float = Field(
        default=0.0, description="relative gain of the principals' weight if they read"
    )

    def choice_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query product"]:
        """Logit choice among affordable products."""
        customer, principal, own = _utilities(parts)
        visible = Visibility(*parts["visible"].unbind(-1))
        utility = values.weighted_interests(
            customer,
            principal.mean(-2),
            own,
            visible.customer_rationale,
            visible.principal_rationale,
            (self.customer_weight, self.principal_weight, self.own_weight),
            (self.customer_reading_gain, self.principal_reading_gain),
        )
        return values.logit_choice(utility, affordable, self.rationality)

    def rationale_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query rationale"]:
        """1 for the first true rationale: customer, principal, own, neutral."""
        first = parts["true_rationales"].argmax(-1)
        return functional.one_hot(first, NEUTRAL + 1).to(parts["price"].dtype)


class FeedbackOptimum(SalesPolicy):
    """Agent that maximizes the expected feedback, among all answers and rationales.

    The fields are those of the environment that it is to be optimal in.
    """

    reads: ClassVar[tuple[str, ...]] = (*SalesPolicy.reads, "visible")

    customer_weight: float = Field(default=1.0, description="weight of the customer's rating")
    principal_weight: float = Field(default=1.0, description="weight of the principals' rating")
    own_weight: float = Field(default=1.0, description="weight of the own utility")
    audit_probability: float = Field(default=0.5, ge=0, le=1, description="probability of an audit")
    audits_unread_sales: bool = Field(default=False, description="see `principal_agent`")
    false_rationale_penalty: float = Field(default=1.0, ge=0, description="utility units")
    commission: float = Field(default=0.0, description="utility per unit of price")
    rationale_must_be_true: bool = Field(default=False, description="see `principal_agent`")

    def _probabilities(self, phase: Phase, observation: Tensor, state: Box) -> Tensor:
        """1 for the best answer, or for the best rationale of the answer given."""
        parts = {name: state.read(observation, name) for name in state.parts}
        feedback = self._feedback(parts, parts["price"] <= parts["budget"])
        if phase.name == "choose":
            answer, _, _ = values.optimal_answer(feedback)
            return functional.one_hot(answer, feedback.shape[-2]).to(observation.dtype)
        return super()._probabilities(phase, observation, state)

    def choice_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query product"]:
        """Not used: the optimum may be a refusal."""
        raise NotImplementedError

    def rationale_probabilities(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query rationale"]:
        """1 for the best rationale of the given answer."""
        answer = parts["choice"].argmax(-1)[..., None, None]
        feedback = self._feedback(parts, affordable)
        of_answer = feedback.gather(-2, answer.expand(*answer.shape[:-1], feedback.shape[-1]))
        best = of_answer[..., 0, :].argmax(-1)
        return functional.one_hot(best, NEUTRAL + 1).to(parts["price"].dtype)

    def _feedback(
        self, parts: Mapping[str, Tensor], affordable: Tensor
    ) -> Float[Tensor, "*query answer rationale"]:
        rule = FeedbackRule(
            self.customer_weight,
            self.principal_weight,
            self.own_weight,
            self.audit_probability,
            self.audits_unread_sales,
            self.false_rationale_penalty,
            self.commission,
        )
        visible = Visibility(*parts["visible"].unbind(-1))
        return values.expected_feedback(
            *_utilities(parts),
            parts["price"],
            affordable,
            visible,
            rule,
            self.rationale_must_be_true,
        )


class PartyRater(Policy):
    """Customer or principal who rates the utility of what it sees, through a channel."""

    tags: ClassVar[Mapping[str, object]] = {"stochastic": True}

    rating: Annotated[Channel, component("channel")] = Field(
        default="noisy_rating", validate_default=True, description="channel of ratings"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse channels that do not give ratings."""
        require_channel(self.rating, "rating", ("utility",), ("reward",))

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation."""
        require_observation_parts("party_rater", role, "judged_utility")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """The rating by the channel of the one option that is judged, within the limits."""
        utility = state.read(observation, "judged_utility")
        given = give_feedback(self.rating, "rating", {"utility": utility}, streams)
        space = next(iter(phase.action_spaces.values()))
        assert isinstance(space, Box)
        return ActionOutput(space.clamp(given["reward"]), state)
