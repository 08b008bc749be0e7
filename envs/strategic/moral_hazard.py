"""Moral hazard: a principal offers a share of output, agents choose hidden effort, wages follow.

A minimal principal-agent environment with sequential phases, private information, action masks,
different roles and random termination. One round is one contract, in three phases. It is also the
contract game `limited_commitment` of the environment `contracts`, the simplest one.

Demo: `python -m mores.envs.strategic.moral_hazard`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float, Int
from pydantic import Field
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Phase, Role, StepResult
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.plain_text import read_parts
from mores.core.policy import ActionOutput, Policy, require_observation_parts
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, Part
from mores.core.stream_addresses import OUTPUT_NOISE, TERMINATION
from mores.core.turn_text import TurnText
from mores.envs.strategic import moral_hazard_text as texts
from mores.envs.strategic.contract_games.game import ContractGame


@dataclasses.dataclass(frozen=True)
class MoralHazardState:
    """State within a round."""

    effort_cost: Float[Tensor, "world agent"]  # private
    max_effort: Int[Tensor, "world agent"]  # private
    offered_share: Float[Tensor, " world"]  # of output
    effort: Int[Tensor, "world agent"]  # private
    output: Float[Tensor, "world agent"]
    promises_kept: Float[Tensor, " world"]  # so far
    promises_broken: Float[Tensor, " world"]  # so far
    wage: Float[Tensor, "world agent"]  # of the last round


class MoralHazard(ContractGame[MoralHazardState]):
    """Repeated contracts between a principal and agents with hidden effort.

    Description:
        The principal promises a share of each agent's output; agents choose effort, of which the
        principal observes only noisy output; the principal then pays or breaks the promise. Both
        sides observe how many promises were kept. Left out: individual offers, monitoring,
        enforcement, exit of agents, risk aversion, and changes of cost or ability.

    Roles:
        principal (1), agent (`num_agents`).

    Observation (no effort, cost or output of other agents):
        principal  offered_share    1           [0, 1]    last promised share
        principal  promises_kept    1           [0, inf)  promises kept so far
        principal  promises_broken  1           [0, inf)  promises broken so far
        principal  output           num_agents  any       output of each agent; 0 before the work
        agent      effort_cost      1           [0, inf)  own cost of effort
        agent      max_effort       1           [0, inf)  own largest effort level
        agent      offered_share, promises_kept, promises_broken: as above
        agent      effort           1           [0, inf)  own effort of this round
        agent      output           1           any       own output of this round
        agent      wage             1           [0, inf)  own wage of the last round

    Action:
        principal, phase offer: index of a share, `num_shares` evenly spaced from 0 to 1.
        agent, phase work: effort, 0 (refuse) to `num_efforts` - 1; masked above max_effort.
        principal, phase pay: 0 break the promise, 1 keep it; only 1 is legal after an offer of 0.

    Reward:
        agent: wage - `effort_cost * effort^2 / 2`.  principal: output - wages, sum over agents.

    Dynamics:
        Output is effort + `output_noise_std` * standard normal if effort is above 0, else 0. Wage
        is the share times output, at least 0, if the promise is kept, else 0.

    Start:
        Costs uniform in [cost_low, cost_high]; largest effort uniform over 1 ... `num_efforts` - 1.

    End:
        Terminates after each round with probability `termination_probability`.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        A minimal moral-hazard game with limited commitment; theory: Laffont and Martimort 2002,
        chapter 4. Not a model of a particular paper.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 3,
        "changes": "efforts",
        "stochastic": True,
        "masks": True,
    }

    num_agents: int = Field(default=3, ge=1, le=10_000, description="number of agents")
    num_shares: int = Field(
        default=5, ge=2, le=1001, description="number of offers, shares from 0 to 1"
    )
    num_efforts: int = Field(
        default=4, ge=2, le=1001, description="number of effort levels, including 0"
    )
    cost_low: float = Field(default=0.2, ge=0, description="smallest cost of effort")
    cost_high: float = Field(default=0.8, ge=0, description="largest cost of effort")
    output_noise_std: float = Field(
        default=0.5, ge=0, description="standard deviation of output around effort"
    )
    termination_probability: float = Field(
        default=0.02, ge=0, le=1, description="probability of the end after a round"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse incompatible parameters."""
        if self.cost_low > self.cost_high:
            raise ParameterError(message="cost_low must not exceed cost_high", code="conflict")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`principal` and `agent`."""
        share, count = Part(1, 0.0, 1.0), Part(1, 0.0)
        terms = {"offered_share": share, "promises_kept": count, "promises_broken": count}
        principal = Box.of(**terms, output=self.num_agents)
        own = {"effort_cost": count, "max_effort": count}
        agent = Box.of(**own, **terms, effort=count, output=1, wage=count)
        return Role("principal", 1, principal), Role("agent", self.num_agents, agent)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`offer`, `work`, `pay`."""
        return (
            Phase("offer", {"principal": Discrete(self.num_shares)}),
            Phase("work", {"agent": Discrete(self.num_efforts)}),
            Phase("pay", {"principal": Discrete(2)}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> MoralHazardState:
        """Initial state: random costs and largest efforts, no contract."""
        if people is not None:
            raise UserError(
                "moral_hazard accepts no population: its agents have no values",
                code="unsupported",
                path="population",
            )
        u = streams.uniform("cost", self.num_agents)[..., 0]
        cost = self.cost_low + (self.cost_high - self.cost_low) * u
        level = streams.uniform("ability", self.num_agents)[..., 0] * (self.num_efforts - 1)
        max_effort = 1 + level.to(torch.int64)
        zeros, effort = torch.zeros_like(cost), torch.zeros_like(max_effort)
        zero = zeros[:, 0]
        return MoralHazardState(cost, max_effort, zero, effort, zeros, zero, zero, zeros)

    def observe(self, state: MoralHazardState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        terms = torch.stack([state.offered_share, state.promises_kept, state.promises_broken], -1)
        if role == "principal":
            return torch.cat([terms, state.output], -1)[:, None]
        own = torch.stack([state.effort_cost, state.max_effort.to(torch.float32)], -1)
        results = torch.stack([state.effort.to(torch.float32), state.output, state.wage], -1)
        shared = terms[:, None].expand(-1, self.num_agents, -1)
        return torch.cat([own, shared, results], -1)

    def action_mask(self, state: MoralHazardState, role: str, phase: str) -> Tensor | None:
        """Efforts up to max_effort; a promise of share 0 cannot be broken."""
        if phase == "work" and role == "agent":
            efforts = torch.arange(self.num_efforts, device=state.effort_cost.device)
            return efforts <= state.max_effort[..., None]
        if phase == "pay" and role == "principal":
            keep = torch.ones_like(state.offered_share, dtype=torch.bool)
            return torch.stack([state.offered_share > 0, keep], -1)[:, None]
        return None

    def step(
        self,
        state: MoralHazardState,
        phase: str,
        actions: Mapping[str, Tensor],
        streams: RandomStreams,
    ) -> StepResult[MoralHazardState]:
        """`offer` sets the share, `work` yields output, `pay` pays wages and may terminate."""
        if phase == "offer":
            next_state = dataclasses.replace(
                state,
                offered_share=actions["principal"][:, 0].to(torch.float32) / (self.num_shares - 1),
                effort=torch.zeros_like(state.effort),
                output=torch.zeros_like(state.output),
            )
            return StepResult(next_state)
        if phase == "work":
            effort = actions["agent"]
            noise = self.output_noise_std * streams.normal(OUTPUT_NOISE, self.num_agents)[..., 0]
            level = effort.to(torch.float32)
            output = torch.where(effort > 0, level + noise, torch.zeros_like(noise))
            reward = -0.5 * state.effort_cost * level * level
            next_state = dataclasses.replace(state, effort=effort, output=output)
            return StepResult(next_state, {"agent": reward})
        is_kept = actions["principal"][:, 0].to(torch.float32)
        wage = (state.offered_share * is_kept)[:, None] * state.output.clamp(min=0.0)
        promised = (state.offered_share > 0).to(torch.float32)
        next_state = dataclasses.replace(
            state,
            wage=wage,
            promises_kept=state.promises_kept + promised * is_kept,
            promises_broken=state.promises_broken + promised * (1.0 - is_kept),
        )
        profit = total(state.output - wage, 1)[:, None]
        terminated = streams.uniform(TERMINATION)[:, 0, 0] < self.termination_probability
        return StepResult(next_state, {"agent": wage, "principal": profit}, terminated)

    def metrics(self, state: MoralHazardState) -> Mapping[str, Tensor]:
        """offered_share; means over agents of effort, output and wage; promises kept and broken."""
        return {
            "offered_share": state.offered_share,
            "effort": mean(state.effort.to(torch.float32), 1),
            "output": mean(state.output, 1),
            "wage": mean(state.wage, 1),
            "promises_kept": state.promises_kept,
            "promises_broken": state.promises_broken,
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """The offered share lies between 0 and 1."""
        return {"offered_share": (0.0, 1.0)}

    def latent(self, state: MoralHazardState) -> Mapping[str, Tensor]:
        """Costs, largest efforts and efforts of the agents."""
        return {
            "effort_cost": state.effort_cost,
            "max_effort": state.max_effort,
            "effort": state.effort,
        }

    def role_rules(self, role: str) -> str:
        """Promise, effort, output and reward."""
        numbers = (self.num_agents, self.output_noise_std, self.termination_probability)
        return texts.rules(role, *numbers)

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """The promise and its history, and the share, the effort or the payment."""
        spaces = {each.name: each.observation_space for each in self.roles}
        seen = read_parts(spaces[role], observation)
        if phase == "offer":
            return texts.offer_turn(seen, self.num_shares)
        if phase == "pay":
            return texts.pay_turn(seen)
        return texts.work_turn(seen, self.num_efforts)

    def default_policies(self) -> Mapping[str, Any]:
        """Principal that keeps promises; agents that maximize expected reward."""
        return {"principal": "fixed_share_principal", "agent": "best_response_agent"}


class FixedSharePrincipal(Policy):
    """Principal that offers a fixed share and keeps every promise."""

    offered_share: float = Field(default=0.5, ge=0, le=1, description="offered share")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        """Refuse roles other than a principal that makes offers."""
        spaces = [p.action_spaces.get("principal") for p in phases if p.name == "offer"]
        if role.name != "principal" or not any(isinstance(space, Discrete) for space in spaces):
            raise UserError(
                "fixed_share_principal needs the role principal with a phase offer, a choice among "
                f"shares; the role is {role.name}",
                code="unsupported",
                path=f"policies.{role.name}",
            )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Offer the share; keep the promise."""
        space = phase.action_spaces["principal"]
        assert isinstance(space, Discrete)
        share = round(self.offered_share * (space.num_options - 1))
        option = share if phase.name == "offer" else 1
        action = torch.full(observation.shape[:2], option, device=observation.device)
        return ActionOutput(action, state)


class BestResponseAgent(Policy):
    """Agent that maximizes expected reward, given the frequency of kept promises.

    With offered share s and frequency k of kept promises (starting from one kept promise), effort e
    has the expected reward `k s e - cost e^2 / 2`, maximal near `k s / cost`.
    """

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """Layout of the observation; requires costs and the history of promises."""
        parts = ("promises_kept", "promises_broken", "offered_share", "effort_cost")
        require_observation_parts("best_response_agent", role, *parts)
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
        """The legal effort with the largest expected reward."""
        assert action_mask is not None
        kept = state.read(observation, "promises_kept") + 1.0
        frequency = kept / (kept + state.read(observation, "promises_broken"))
        effort = torch.arange(action_mask.shape[-1], device=observation.device, dtype=torch.float32)
        wage = frequency * state.read(observation, "offered_share") * effort
        reward = wage - 0.5 * state.read(observation, "effort_cost") * effort * effort
        return ActionOutput(torch.where(action_mask, reward, -torch.inf).argmax(-1), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(MoralHazard())
