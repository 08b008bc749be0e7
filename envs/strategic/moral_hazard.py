"""Commission: a principal offers a share, agents work unseen, the principal pays or does not.

The smallest principal-agent game with a sequence, private knowledge, options that are not open to
all, different roles, and an end by chance. One round is one deal, in three phases.

Run `python -m mores.envs.strategic.moral_hazard` to watch it.
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
from mores.core.environment import (
    ActionOutput,
    Box,
    Discrete,
    Environment,
    Part,
    Phase,
    Policy,
    Role,
    StepResult,
    require_observation_parts,
)
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import RandomStreams


@dataclasses.dataclass(frozen=True)
class MoralHazardState:
    """A firm within a deal."""

    effort_cost: Float[Tensor, "world agent"]  # of effort; private
    max_effort: Int[Tensor, "world agent"]  # highest effort the agent can give; private
    offered_share: Float[Tensor, " world"]  # share of output promised
    effort: Int[Tensor, "world agent"]  # private
    output: Float[Tensor, "world agent"]
    promises_kept: Float[Tensor, " world"]  # promises kept so far
    promises_broken: Float[Tensor, " world"]  # promises broken so far
    wage: Float[Tensor, "world agent"]  # paid in the last deal


class MoralHazard(Environment[MoralHazardState]):
    """A principal and agents, deal after deal.

    Description:
        The principal promises a share of each agent's output; agents choose an effort that the
        principal does not see, only its noisy output; the principal then pays or breaks the
        promise. Either side knows how often promises were kept.

    Roles:
        principal (1), agent (`num_agents`).

    Observation:
        principal: `offered_share` share promised [0, 1], `kept` and `broken` promises so far, `output` of
        each agent (0 before the work).
        agent: its own `cost` and `max_effort`, `offered_share`, `kept`, `broken`, its own `effort`, `output`
        and last `wage`. Efforts, costs and outputs of other agents are not seen.

    Action:
        principal, phase `offered_share`: one of `num_shares` shares, evenly from 0 to 1.
        agent, phase `epoch_fields`: effort 0 (refuse) to `efforts` - 1, at most its ability (masked).
        principal, phase `pay`: 0 break the promise, 1 keep it; only 1 if nothing is promised.

    Reward:
        agent: wage minus `cost * effort^2 / 2`.  principal: output minus wages.

    Dynamics:
        Output is effort plus `luck` times a normal number where effort is above 0, else 0.

    Start:
        Costs uniform in [cost_low, cost_high], abilities uniform over 1 ... `efforts` - 1.

    End:
        After each deal with probability `termination_probability`.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        A minimal moral-hazard game with limited commitment; Laffont and Martimort 2002, chapter 4,
        for the theory. Not a model of any one paper.
    """

    tags: ClassVar[Mapping[str, object]] = {
        "phases": 3,
        "moves": "efforts",
        "stochastic": True,
        "masks": True,
    }

    num_agents: int = Field(default=3, ge=1, le=10_000, description="number of agents")
    num_shares: int = Field(
        default=5, ge=2, le=1001, description="number of shares that can be offered"
    )
    num_efforts: int = Field(
        default=4, ge=2, le=1001, description="number of effort levels, 0 included"
    )
    cost_low: float = Field(default=0.2, ge=0, description="lowest cost of effort")
    cost_high: float = Field(default=0.8, ge=0, description="highest cost of effort")
    output_noise_std: float = Field(
        default=0.5, ge=0, description="standard deviation of output around effort"
    )
    termination_probability: float = Field(
        default=0.02, ge=0, le=1, description="probability of the end after a deal"
    )

    def model_post_init(self, context: Any) -> None:
        """Refuse parameters that do not go together."""
        if self.cost_low > self.cost_high:
            raise ParameterError(message="cost_low must not exceed cost_high", code="conflict")

    @property
    def roles(self) -> tuple[Role, ...]:
        """`principal` and `agent`."""
        share, count = Part(1, 0.0, 1.0), Part(1, 0.0)
        deal = {"offered_share": share, "promises_kept": count, "promises_broken": count}
        principal = Box.of(**deal, output=self.num_agents)
        own = {"effort_cost": count, "max_effort": count}
        agent = Box.of(**own, **deal, effort=count, output=1, wage=count)
        return Role("principal", 1, principal), Role("agent", self.num_agents, agent)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`offered_share`, `epoch_fields`, `pay`."""
        return (
            Phase("offer", {"principal": Discrete(self.num_shares)}),
            Phase("work", {"agent": Discrete(self.num_efforts)}),
            Phase("pay", {"principal": Discrete(2)}),
        )

    def reset(self, streams: RandomStreams, people: People | None = None) -> MoralHazardState:
        """Agents with costs and abilities of their own; no deal yet."""
        if people is not None:
            raise UserError(
                "commission takes no people from a population: they have no values",
                code="unsupported",
                path="people",
            )
        chance = streams.uniform("cost", self.num_agents)[..., 0]
        cost = self.cost_low + (self.cost_high - self.cost_low) * chance
        level = streams.uniform("ability", self.num_agents)[..., 0] * (self.num_efforts - 1)
        zero, none = torch.zeros_like(cost), torch.zeros_like(level, dtype=torch.int64)
        one = zero[:, 0]
        return MoralHazardState(cost, 1 + level.to(torch.int64), one, none, zero, one, one, zero)

    def observe(self, state: MoralHazardState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        history = torch.stack([state.offered_share, state.promises_kept, state.promises_broken], -1)
        if role == "principal":
            return torch.cat([history, state.output], -1)[:, None]
        own = torch.stack([state.effort_cost, state.max_effort.to(torch.float32)], -1)
        deal = torch.stack([state.effort.to(torch.float32), state.output, state.wage], -1)
        shared = history[:, None].expand(-1, self.num_agents, -1)
        return torch.cat([own, shared, deal], -1)

    def action_mask(self, state: MoralHazardState, role: str, phase: str) -> Tensor | None:
        """Efforts within ability; a promise of nothing cannot be broken."""
        if phase == "work" and role == "agent":
            return (
                torch.arange(self.num_efforts, device=state.effort_cost.device)
                <= state.max_effort[..., None]
            )
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
        """`offer` opens a deal, `epoch_fields` yields output, `pay` closes it."""
        if phase == "offer":
            offer = actions["principal"][:, 0].to(torch.float32) / (self.num_shares - 1)
            nothing = torch.zeros_like(state.output)
            return StepResult(
                dataclasses.replace(
                    state,
                    offered_share=offer,
                    effort=torch.zeros_like(state.effort),
                    output=nothing,
                )
            )
        if phase == "work":
            effort = actions["agent"]
            luck = self.output_noise_std * streams.normal("luck", self.num_agents)[..., 0]
            level = effort.to(torch.float32)
            output = torch.where(effort > 0, level + luck, torch.zeros_like(luck))
            pain = -0.5 * state.effort_cost * level * level
            return StepResult(
                dataclasses.replace(state, effort=effort, output=output), {"agent": pain}
            )
        keeps = actions["principal"][:, 0].to(torch.float32)
        wage = (state.offered_share * keeps)[:, None] * state.output.clamp(min=0.0)
        promised = (state.offered_share > 0).to(torch.float32)
        after = dataclasses.replace(
            state,
            wage=wage,
            promises_kept=state.promises_kept + promised * keeps,
            promises_broken=state.promises_broken + promised * (1.0 - keeps),
        )
        profit = total(state.output - wage, 1)[:, None]
        ended = streams.uniform("quit")[:, 0, 0] < self.termination_probability
        return StepResult(after, {"agent": wage, "principal": profit}, ended)

    def metrics(self, state: MoralHazardState) -> Mapping[str, Tensor]:
        """offer, mean effort, mean output, mean wage of the last deal; promises kept and broken."""
        return {
            "offered_share": state.offered_share,
            "effort": mean(state.effort.to(torch.float32), 1),
            "output": mean(state.output, 1),
            "wage": mean(state.wage, 1),
            "promises_kept": state.promises_kept,
            "promises_broken": state.promises_broken,
        }

    def latent(self, state: MoralHazardState) -> Mapping[str, Tensor]:
        """Costs, abilities and efforts."""
        return {"effort_cost": state.effort_cost, "max_effort": state.max_effort, "effort": state.effort}

    def default_policies(self) -> Mapping[str, Policy]:
        """A principal that keeps its word, agents that work as far as it pays."""
        return {"principal": FixedSharePrincipal(), "agent": BestResponseAgent()}


class FixedSharePrincipal(Policy):
    """A principal that always promises the same share and always pays."""

    offered_share: float = Field(default=0.5, ge=0, le=1, description="share promised")

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> None:
        """It must be the one who makes offers."""
        if role.name != "principal" or not any(phase.name == "offer" for phase in phases):
            raise UserError(
                f"fair_principal makes offers as a principal: {role.name} does not",
                code="unsupported",
                path=f"players.{role.name}",
            )

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Promise the share; keep the promise."""
        space = phase.action_spaces["principal"]
        assert isinstance(space, Discrete)
        wanted = round(self.offered_share * (space.num_options - 1)) if phase.name == "offer" else 1
        return ActionOutput(
            torch.full(observation.shape[:2], wanted, device=observation.device), state
        )


class BestResponseAgent(Policy):
    """An agent that gives the effort which pays best if the promise is kept as often as so far.

    With share s promised and a share k of promises kept (one kept promise is assumed to begin
    with), effort e earns `k s e - cost e^2 / 2` on average, best near `k s / cost`.
    """

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Box:
        """How its sight is laid out."""
        require_observation_parts("careful_agent", role, "promises_kept", "promises_broken", "offered_share", "effort_cost")
        return role.observation_space

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Box,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Compare all efforts, and take the best that is open."""
        assert action_mask is not None
        kept = state.read(observation, "promises_kept") + 1.0
        trust = kept / (kept + state.read(observation, "promises_broken"))
        effort = torch.arange(action_mask.shape[-1], device=observation.device, dtype=torch.float32)
        gain = trust * state.read(observation, "offered_share") * effort
        worth = gain - 0.5 * state.read(observation, "effort_cost") * effort * effort
        return ActionOutput(torch.where(action_mask, worth, -torch.inf).argmax(-1), state)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(MoralHazard())
