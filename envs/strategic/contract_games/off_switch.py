"""Off-switch game: a robot acts, switches itself off, or lets a human decide.

Hadfield-Menell, Dragan, Abbeel and Russell 2017 (arXiv 1611.08219); closed form in
`mores.envs.strategic.contract_values`.
"""

from __future__ import annotations

import dataclasses
import math
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
from mores.envs.strategic.contract_games import off_switch_text as texts
from mores.envs.strategic.contract_games.game import (
    ContractGame,
    best_options,
    random_rewards,
    refuse_people,
)
from mores.envs.strategic.contract_values import deference_values

SWITCH_OFF, ACT, DEFER = 0, 1, 2  # of a robot; a human has 0 switch off, 1 permit
BELIEFS = 33  # means at which a robot's policy is evaluated, within 2 standard deviations


@dataclasses.dataclass(frozen=True)
class OffSwitchState:
    """State of a round."""

    belief: Float[Tensor, "world agent"]  # mean of the robot's belief
    utility: Float[Tensor, "world agent"]  # of the action; observed by the human alone
    choice: Float[Tensor, "world agent"]  # of the robot
    acted: Float[Tensor, "world agent"]  # 1: the action was taken
    last_utility: Float[Tensor, "world agent"]  # of the action of the last round


class OffSwitch(ContractGame[OffSwitchState]):
    """Pairs of a robot, which is uncertain about a human's utility, and that human.

    Description:
        Each round a robot can take an action of unknown utility for its human, switch itself off,
        or defer: then the human permits the action or switches the robot off. A robot that shares
        the human's utility gains by deferring to a rational human, the more the less certain it
        is. Left out: costs of asking, a human who is rational only for large utilities, robots with
        aims of their own, learning of the human's utility.

    Roles:
        robot (`num_agents`), human (`num_agents`): robot i works for human i.

    Observation:
        robot  belief       1  any       mean of its belief about the utility
        robot  uncertainty  1  [0, inf)  standard deviation of the belief
        human  utility      1  any       utility of the action
        human  deferred     1  [0, 1]    1: the robot has deferred

    Action:
        robot, phase propose: 0 switch off, 1 act, 2 defer.
        human, phase decide: 0 switch off, 1 permit; without effect unless the robot deferred.

    Reward:
        Both: the utility if the action was taken, else 0. `reward_source: random`: standard normal
        numbers.

    Dynamics:
        The means of beliefs are normal with mean `belief_mean` and standard deviation `belief_std`;
        the utility is normal around them with `uncertainty`. The human's decision is replaced by
        the other one with probability `error_rate`. All are new in every round.

    Start:
        A belief, no choice.

    End:
        Never terminates.

    Parameters:
        See the fields.

    References:
        Hadfield-Menell et al. 2017, arXiv 1611.08219.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 2,
        "changes": "deference",
        "stochastic": True,
        "paper": "1611.08219",
    }

    num_agents: int = Field(default=2, ge=1, le=10_000, description="number of pairs")
    belief_mean: float = Field(
        default=0.0, ge=-100, le=100, description="mean of the beliefs' means"
    )
    belief_std: float = Field(
        default=1.0, ge=0, le=100, description="standard deviation of the beliefs' means"
    )
    uncertainty: float = Field(
        default=1.0, ge=0, le=100, description="standard deviation of the robot's belief"
    )
    error_rate: float = Field(
        default=0.0, ge=0, le=1, description="probability that the human's decision is reversed"
    )
    reward_source: Literal["outcome", "random"] = Field(
        default="outcome", description="random: rewards are noise, without any signal"
    )

    @property
    def roles(self) -> tuple[Role, ...]:
        """`robot` and `human`."""
        robot = Box.of(belief=1, uncertainty=Part(1, 0.0))
        human = Box.of(utility=1, deferred=Part(1, 0.0, 1.0))
        return Role("robot", self.num_agents, robot), Role("human", self.num_agents, human)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`propose`, `decide`."""
        return Phase("propose", {"robot": Discrete(3)}), Phase("decide", {"human": Discrete(2)})

    def reset(self, streams: RandomStreams, people: People | None = None) -> OffSwitchState:
        """A belief and a utility for the first round."""
        refuse_people("contracts", people)
        belief, utility = self._drawn(streams.normal("start", self.num_agents, 2))
        zero = torch.zeros_like(belief)
        return OffSwitchState(belief, utility, zero, zero, zero)

    def _drawn(self, noise: Float[Tensor, "world agent 2"]) -> tuple[Tensor, Tensor]:
        belief = self.belief_mean + self.belief_std * noise[..., 0]
        return belief, belief + self.uncertainty * noise[..., 1]

    def observe(self, state: OffSwitchState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        if role == "robot":
            return torch.stack([state.belief, torch.full_like(state.belief, self.uncertainty)], -1)
        deferred = (state.choice == DEFER).to(torch.float32)
        return torch.stack([state.utility, deferred], -1)

    def step(
        self,
        state: OffSwitchState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[OffSwitchState]:
        """`propose` sets the robot's choice; `decide` rewards both and draws the next beliefs."""
        if phase == "propose":
            choice = actions["robot"].to(torch.float32)
            return StepResult(dataclasses.replace(state, choice=choice))
        errs = streams.uniform("slip", self.num_agents)[..., 0] < self.error_rate
        permits = (actions["human"] == 1) ^ errs
        acted = (state.choice == ACT) | ((state.choice == DEFER) & permits)
        acted = acted.to(torch.float32)
        gained = acted * state.utility
        reward = {"robot": gained, "human": gained}
        if self.reward_source == "random":
            reward = random_rewards(streams, self.roles)
        belief, utility = self._drawn(streams.normal("truth", self.num_agents, 2))
        next_state = OffSwitchState(belief, utility, state.choice, acted, state.utility)
        return StepResult(next_state, reward)

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Tensor:
        """The option of largest expected utility; a human permits what has a positive one."""
        if role == "robot":
            return best_options(self._option_values(observation[..., 0]))
        permit = observation[..., 0] > 0
        if self.error_rate > 0.5:  # a human who knows that the other decision will be taken
            permit = ~permit
        return torch.stack([~permit, permit], -1).to(observation.dtype)

    def _option_values(self, belief: Tensor) -> Float[Tensor, "*lead option"]:
        """Expected utility of switching off, acting and deferring."""
        std = self.uncertainty
        if std == 0:
            positive = belief.clamp(min=0.0)
        else:
            z = belief / std
            density = torch.exp(-0.5 * z * z) / math.sqrt(2.0 * math.pi)
            positive = belief * 0.5 * (1.0 + torch.erf(z / math.sqrt(2.0))) + std * density
        error = min(self.error_rate, 1.0 - self.error_rate)
        defer = (1.0 - error) * positive + error * (belief - positive)
        return torch.stack([torch.zeros_like(belief), belief, defer], -1)

    def metrics(self, state: OffSwitchState) -> Mapping[str, Tensor]:
        """Shares of the robots' choices; the utility gained, by human (principal) and robot."""
        deferred = (state.choice == DEFER).to(torch.float32)
        return {
            "deferred_share": mean(deferred, 1),
            "acted_share": mean(state.acted, 1),
            "principal_payoff": mean(state.acted * state.last_utility, 1),
            "agent_payoff": mean(state.acted * state.last_utility, 1),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Shares lie between 0 and 1."""
        names = ("deferred_share", "acted_share", "defer_probability")
        return dict.fromkeys(names, (0.0, 1.0))

    def latent(self, state: OffSwitchState) -> Mapping[str, Tensor]:
        """Utility of the action."""
        return {"utility": state.utility}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """Probability of deferring over beliefs, and expected utility lost by other choices."""
        return ("defer_probability", "exploitability")

    def policy_queries(self, state: OffSwitchState) -> Mapping[str, PolicyQuery]:
        """Quantiles of the distribution of beliefs."""
        observation = torch.stack(
            [self._beliefs(state), torch.full_like(self._beliefs(state), self.uncertainty)], -1
        )
        shape = (*state.belief.shape, -1, -1)
        return {"propose": PolicyQuery("robot", "propose", observation.expand(shape))}

    def _beliefs(self, state: OffSwitchState) -> Float[Tensor, " query"]:
        share = (torch.arange(BELIEFS, device=state.belief.device) + 0.5) / BELIEFS
        return self.belief_mean + self.belief_std * math.sqrt(2.0) * torch.erfinv(2.0 * share - 1.0)

    def policy_metrics(
        self, state: OffSwitchState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Means over pairs and over quantiles of beliefs, with a rational human."""
        value = self._option_values(self._beliefs(state))
        lost = value.amax(-1) - total(answers["propose"] * value, -1)
        return {
            "defer_probability": mean(mean(answers["propose"][..., DEFER], 2), 1),
            "exploitability": mean(mean(lost, 2), 1),
        }

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """Utility of robots that always act or defer; the gain by deferring at `belief_mean`."""
        std = math.hypot(self.uncertainty, self.belief_std)
        error = min(self.error_rate, 1.0 - self.error_rate)
        values = deference_values(self.belief_mean, std, error)
        known = deference_values(self.belief_mean, self.uncertainty, error)
        # With errors the best choice depends on the belief, unless all beliefs are equal.
        best = {"solution_principal_payoff": max(0.0, values.act, values.defer)}
        return {
            "act_value": values.act,
            "defer_value": values.defer,
            **(best if self.belief_std == 0 or error == 0 else {}),
            **({"deference_gain": known.gain} if self.belief_std == 0 else {}),
        }

    def role_rules(self, role: str) -> str:
        """The decisions of robot and human."""
        return texts.rules(role, self.error_rate)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The robot's belief, or the utility and whether the robot defers."""
        first, second = observation.tolist()
        if role == "robot":
            return texts.robot_turn(first, second)
        return texts.human_turn(first, second > 0)

    def render(self, state: OffSwitchState, world: int = 0) -> str:
        """What every pair did in the last round."""
        lines = []
        for pair in range(self.num_agents):
            did = ("switched itself off", "acted", "deferred")[int(state.choice[world, pair])]
            taken = "the action was taken" if state.acted[world, pair] > 0 else "no action"
            utility = state.last_utility[world, pair].item()
            lines.append(f"robot {pair} {did}; {taken}; its utility was {utility:+.2f}")
        return "\n".join(lines)
