"""Cheap talk: an expert with other interests advises a decision maker.

Crawford and Sobel 1982 (Econometrica 50), uniform state and quadratic losses; closed form in
`mores.envs.strategic.contract_values`.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Phase, PolicyQuery, Role, StepResult
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.turn_text import TurnText
from mores.envs.strategic.contract_games import cheap_talk_text as texts
from mores.envs.strategic.contract_games.game import ContractGame, random_rewards, refuse_people
from mores.envs.strategic.contract_values import CheapTalkEquilibrium, cheap_talk_equilibrium

NUM_STATES = 240  # midpoints of the state at which policies are evaluated


@dataclasses.dataclass(frozen=True)
class CheapTalkState:
    """State of a round."""

    truth: Float[Tensor, "world agent"]  # private to the sender, new in every round
    message: Float[Tensor, "world agent"]  # -1: none
    action: Float[Tensor, "world agent"]
    error: Float[Tensor, "world agent"]  # action less state, of the last round


class CheapTalk(ContractGame[CheapTalkState]):
    """Pairs of a sender, who knows the state and has a bias, and a receiver, who acts.

    Description:
        Each round a sender observes a number and sends a message without cost; the receiver acts on
        the message. Both lose the squared distance to their best action, which differ by the bias.
        Messages have no meaning but that of equilibrium; the closed form is the most informative
        one, and there is always one in which messages carry no information. Left out: costs of
        lying, several senders, verification, repeated advice with reputation.

    Roles:
        sender (`num_agents`), receiver (`num_agents`): sender i advises receiver i.

    Observation:
        sender    truth    1             [0, 1]   the state
        receiver  message  num_messages  one-hot  the message; 0 before it

    Action:
        sender, phase send: a message, 0 to `num_messages` - 1.
        receiver, phase decide: `action` in [0, 1].

    Reward:
        sender: -(action - truth - bias)^2. receiver: -(action - truth)^2.
        `reward_source: random`: standard normal numbers.

    Dynamics:
        The state is uniform on [0, 1] in every round.

    Start:
        A state, no message.

    End:
        Never terminates.

    Parameters:
        See the fields.

    References:
        Crawford and Sobel 1982, section 4.
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 2, "changes": "advice", "stochastic": True}

    num_agents: int = Field(default=2, ge=1, le=10_000, description="number of pairs")
    bias: float = Field(
        default=0.1,
        gt=0,
        le=10,
        description="optimal action of the senders minus that of the receivers",
    )
    num_messages: int = Field(default=3, ge=1, le=50, description="number of messages")
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome", description="random: rewards are noise, without any signal"
    )

    @functools.cached_property
    def equilibrium(self) -> CheapTalkEquilibrium:
        """The most informative equilibrium with at most `num_messages` messages."""
        return cheap_talk_equilibrium(self.bias, self.num_messages)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`sender` and `receiver`."""
        truth, message = Part(1, 0.0, 1.0), Part(self.num_messages, 0.0, 1.0)
        return (
            Role("sender", self.num_agents, Box.of(truth=truth)),
            Role("receiver", self.num_agents, Box.of(message=message)),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`send`, `decide`."""
        return (
            Phase("send", {"sender": Discrete(self.num_messages)}),
            Phase("decide", {"receiver": Box.of(action=Part(1, 0.0, 1.0))}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> CheapTalkState:
        """A state for the first round."""
        refuse_people("contracts", people)
        truth = streams.uniform("start", self.num_agents)[..., 0]
        zero = torch.zeros_like(truth)
        return CheapTalkState(truth, zero - 1.0, zero, zero)

    def observe(self, state: CheapTalkState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "sender":
            return state.truth[..., None]
        messages = torch.arange(self.num_messages, device=state.truth.device)
        return (state.message[..., None] == messages).to(torch.float32)

    def step(
        self,
        state: CheapTalkState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[CheapTalkState]:
        """`send` delivers the message, `decide` rewards both and draws the next state."""
        if phase == "send":
            message = actions["sender"].to(torch.float32)
            return StepResult(dataclasses.replace(state, message=message))
        action = actions["receiver"][..., 0].to(torch.float32)
        error = action - state.truth
        reward = {"sender": -(error - self.bias).square(), "receiver": -error.square()}
        if self.reward_source == "random":
            reward = random_rewards(streams, self.roles)
        truth = streams.uniform("truth", self.num_agents)[..., 0]
        return StepResult(CheapTalkState(truth, state.message, action, error), reward)

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Tensor:
        """The message of the interval of the state; the middle of the interval of the message."""
        boundaries = torch.from_numpy(self.equilibrium.boundaries).to(observation)
        if role == "sender":
            index = (observation >= boundaries[1:-1]).sum(-1)
            messages = torch.arange(self.num_messages, device=observation.device)
            return (index[..., None] == messages).to(observation.dtype)
        middles = 0.5 * (boundaries[1:] + boundaries[:-1])
        # A message that nobody sends is read as the last one: so no sender gains by it.
        unused = middles[-1:].expand(self.num_messages - len(middles))
        return total(torch.cat([middles, unused]) * observation, -1)[..., None]

    def metrics(self, state: CheapTalkState) -> Mapping[str, Tensor]:
        """Payoffs of receivers, who decide, and of senders, as those of principals and agents."""
        return {
            "principal_payoff": -mean(state.error.square(), 1),
            "agent_payoff": -mean((state.error - self.bias).square(), 1),
        }

    def latent(self, state: CheapTalkState) -> Mapping[str, Tensor]:
        """The state."""
        return {"truth": state.truth}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Losses without sampling, loss if the sender's strategy is known, exploitability."""
        return (
            *("policy_receiver_loss", "policy_sender_loss", "message_loss", "sender_gain"),
            *("receiver_gain", "exploitability"),
        )

    def policy_queries(self, state: CheapTalkState) -> Mapping[str, PolicyQuery]:
        """A grid of states; all messages."""
        worlds, pairs = state.truth.shape
        grid = (torch.arange(NUM_STATES, device=state.truth.device) + 0.5) / NUM_STATES
        messages = torch.eye(self.num_messages, device=state.truth.device)
        return {
            "send": PolicyQuery("sender", "send", grid[:, None].expand(worlds, pairs, -1, -1)),
            "decide": PolicyQuery("receiver", "decide", messages.expand(worlds, pairs, -1, -1)),
        }

    def policy_metrics(
        self, state: CheapTalkState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Losses of the senders' mixed messages and the receivers' mean actions.

        `message_loss` is the loss of a receiver who knows the sender's strategy: the variance of
        the state given the message. Means over pairs. The grid's
        own error, 1 / (12 * 240^2), is 1.4e-6.
        """
        probability = answers["send"]  # world, pair, state, message
        action = answers["decide"][..., 0]  # world, pair, message
        grid = (torch.arange(NUM_STATES, device=action.device) + 0.5) / NUM_STATES
        error = action[:, :, None] - grid[:, None]
        receiver = mean(total(probability * error.square(), -1), 2)
        loss = (error - self.bias).square()
        sender = mean(total(probability * loss, -1), 2)
        share = mean(probability, 2)
        center = mean(probability * grid[:, None], 2) / share.clamp(min=1e-12)
        informed = total(mean(probability * (center[:, :, None] - grid[:, None]).square(), 2), -1)
        best = mean(loss.amin(-1), 2)
        gains = {"sender_gain": sender - best, "receiver_gain": receiver - informed}
        values = {
            "policy_receiver_loss": receiver,
            "policy_sender_loss": sender,
            "message_loss": informed,
            **gains,
            "exploitability": gains["sender_gain"] + gains["receiver_gain"],
        }
        return {name: mean(value, 1) for name, value in values.items()}

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """The most informative equilibrium, and the loss without information, 1 / 12."""
        best = self.equilibrium
        return {
            "equilibrium_messages": float(len(best.boundaries) - 1),
            "equilibrium_receiver_loss": best.receiver_loss,
            "solution_principal_payoff": -best.receiver_loss,
            "solution_agent_payoff": -best.sender_loss,
            "babbling_loss": 1.0 / 12.0,
        }

    def role_rules(self, role: str) -> str:
        """The conflict of interest of sender and receiver."""
        return texts.rules(role, self.bias, self.num_messages)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The true number and the messages, or the message received."""
        if role == "sender":
            return texts.sender_turn(float(observation[0]), self.num_messages)
        return texts.receiver_turn(observation.tolist())

    def render(self, state: CheapTalkState, world: int = 0) -> str:
        """Message, action and error of every pair."""
        lines = []
        for pair in range(self.num_agents):
            message = int(state.message[world, pair])
            said = "has said nothing" if message < 0 else f"said {message}"
            action, error = state.action[world, pair].item(), state.error[world, pair].item()
            lines.append(
                f"sender {pair} {said}; receiver {pair} did {action:.3f}, off by {error:+.3f}"
            )
        return "\n".join(lines)
