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
    Act,
    Box,
    Discrete,
    Game,
    Part,
    Phase,
    Player,
    Role,
    Step,
    needs_sight,
)
from mores.core.errors import ParameterError, UserError
from mores.core.people import People
from mores.core.random_streams import Draws


@dataclasses.dataclass(frozen=True)
class State:
    """A firm within a deal."""

    cost: Float[Tensor, "world agent"]  # of effort; private
    ability: Int[Tensor, "world agent"]  # highest effort the agent can give; private
    offer: Float[Tensor, " world"]  # share of output promised
    effort: Int[Tensor, "world agent"]  # private
    output: Float[Tensor, "world agent"]
    kept: Float[Tensor, " world"]  # promises kept so far
    broken: Float[Tensor, " world"]  # promises broken so far
    wage: Float[Tensor, "world agent"]  # paid in the last deal


class Commission(Game[State]):
    """A principal and agents, deal after deal.

    Description:
        The principal promises a share of each agent's output; agents choose an effort that the
        principal does not see, only its noisy output; the principal then pays or breaks the
        promise. Either side knows how often promises were kept.

    Roles:
        principal (1), agent (`agents`).

    Observation:
        principal: `offer` share promised [0, 1], `kept` and `broken` promises so far, `output` of
        each agent (0 before the work).
        agent: its own `cost` and `ability`, `offer`, `kept`, `broken`, its own `effort`, `output`
        and last `wage`. Efforts, costs and outputs of other agents are not seen.

    Action:
        principal, phase `offer`: one of `shares` shares, evenly from 0 to 1.
        agent, phase `work`: effort 0 (refuse) to `efforts` - 1, at most its ability (masked).
        principal, phase `pay`: 0 break the promise, 1 keep it; only 1 if nothing is promised.

    Reward:
        agent: wage minus `cost * effort^2 / 2`.  principal: output minus wages.

    Dynamics:
        Output is effort plus `luck` times a normal number where effort is above 0, else 0.

    Start:
        Costs uniform in [cost_low, cost_high], abilities uniform over 1 ... `efforts` - 1.

    End:
        After each deal with probability `quits`.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        A minimal moral-hazard game with limited commitment; Laffont and Martimort 2002, chapter 4,
        for the theory. Not a model of any one paper.
    """

    traits: ClassVar[Mapping[str, object]] = {
        "phases": 3,
        "moves": "efforts",
        "stochastic": True,
        "masks": True,
    }

    agents: int = Field(default=3, ge=1, le=10_000, description="number of agents")
    shares: int = Field(
        default=5, ge=2, le=1001, description="number of shares that can be offered"
    )
    efforts: int = Field(
        default=4, ge=2, le=1001, description="number of effort levels, 0 included"
    )
    cost_low: float = Field(default=0.2, ge=0, description="lowest cost of effort")
    cost_high: float = Field(default=0.8, ge=0, description="highest cost of effort")
    luck: float = Field(default=0.5, ge=0, description="standard deviation of output around effort")
    quits: float = Field(
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
        deal = {"offer": share, "kept": count, "broken": count}
        principal = Box.of(**deal, output=self.agents)
        own = {"cost": count, "ability": count}
        agent = Box.of(**own, **deal, effort=count, output=1, wage=count)
        return Role("principal", 1, principal), Role("agent", self.agents, agent)

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`offer`, `work`, `pay`."""
        return (
            Phase("offer", {"principal": Discrete(self.shares)}),
            Phase("work", {"agent": Discrete(self.efforts)}),
            Phase("pay", {"principal": Discrete(2)}),
        )

    def reset(self, draws: Draws, start: People | None = None) -> State:
        """Agents with costs and abilities of their own; no deal yet."""
        if start is not None:
            raise UserError(
                "commission takes no people from a population: they have no values",
                code="unsupported",
                path="people",
            )
        chance = draws.uniform("cost", self.agents)[..., 0]
        cost = self.cost_low + (self.cost_high - self.cost_low) * chance
        level = draws.uniform("ability", self.agents)[..., 0] * (self.efforts - 1)
        zero, none = torch.zeros_like(cost), torch.zeros_like(level, dtype=torch.int64)
        one = zero[:, 0]
        return State(cost, 1 + level.to(torch.int64), one, none, zero, one, one, zero)

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        history = torch.stack([state.offer, state.kept, state.broken], -1)
        if role == "principal":
            return torch.cat([history, state.output], -1)[:, None]
        own = torch.stack([state.cost, state.ability.to(torch.float32)], -1)
        deal = torch.stack([state.effort.to(torch.float32), state.output, state.wage], -1)
        shared = history[:, None].expand(-1, self.agents, -1)
        return torch.cat([own, shared, deal], -1)

    def legal(self, state: State, role: str, phase: str) -> Tensor | None:
        """Efforts within ability; a promise of nothing cannot be broken."""
        if phase == "work" and role == "agent":
            return torch.arange(self.efforts, device=state.cost.device) <= state.ability[..., None]
        if phase == "pay" and role == "principal":
            keep = torch.ones_like(state.offer, dtype=torch.bool)
            return torch.stack([state.offer > 0, keep], -1)[:, None]
        return None

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], draws: Draws
    ) -> Step[State]:
        """`offer` opens a deal, `work` yields output, `pay` closes it."""
        if phase == "offer":
            offer = actions["principal"][:, 0].to(torch.float32) / (self.shares - 1)
            nothing = torch.zeros_like(state.output)
            return Step(
                dataclasses.replace(
                    state, offer=offer, effort=torch.zeros_like(state.effort), output=nothing
                )
            )
        if phase == "work":
            effort = actions["agent"]
            luck = self.luck * draws.normal("luck", self.agents)[..., 0]
            level = effort.to(torch.float32)
            output = torch.where(effort > 0, level + luck, torch.zeros_like(luck))
            pain = -0.5 * state.cost * level * level
            return Step(dataclasses.replace(state, effort=effort, output=output), {"agent": pain})
        keeps = actions["principal"][:, 0].to(torch.float32)
        wage = (state.offer * keeps)[:, None] * state.output.clamp(min=0.0)
        promised = (state.offer > 0).to(torch.float32)
        after = dataclasses.replace(
            state,
            wage=wage,
            kept=state.kept + promised * keeps,
            broken=state.broken + promised * (1.0 - keeps),
        )
        profit = total(state.output - wage, 1)[:, None]
        ended = draws.uniform("quit")[:, 0, 0] < self.quits
        return Step(after, {"agent": wage, "principal": profit}, ended)

    def measures(self, state: State) -> Mapping[str, Tensor]:
        """offer, mean effort, mean output, mean wage of the last deal; promises kept and broken."""
        return {
            "offer": state.offer,
            "effort": mean(state.effort.to(torch.float32), 1),
            "output": mean(state.output, 1),
            "wage": mean(state.wage, 1),
            "kept": state.kept,
            "broken": state.broken,
        }

    def hidden(self, state: State) -> Mapping[str, Tensor]:
        """Costs, abilities and efforts."""
        return {"cost": state.cost, "ability": state.ability, "effort": state.effort}

    def baseline(self) -> Mapping[str, Player]:
        """A principal that keeps its word, agents that work as far as it pays."""
        return {"principal": FairPrincipal(), "agent": CarefulAgent()}


class FairPrincipal(Player):
    """A principal that always promises the same share and always pays."""

    share: float = Field(default=0.5, ge=0, le=1, description="share promised")

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> None:
        """It must be the one who makes offers."""
        if role.name != "principal" or not any(phase.name == "offer" for phase in phases):
            raise UserError(
                f"fair_principal makes offers as a principal: {role.name} does not",
                code="unsupported",
                path=f"players.{role.name}",
            )

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Any, draws: Draws
    ) -> Act:
        """Promise the share; keep the promise."""
        space = phase.acts["principal"]
        assert isinstance(space, Discrete)
        wanted = round(self.share * (space.options - 1)) if phase.name == "offer" else 1
        return Act(torch.full(seen.shape[:2], wanted, device=seen.device), memory)


class CarefulAgent(Player):
    """An agent that gives the effort which pays best if the promise is kept as often as so far.

    With share s promised and a share k of promises kept (one kept promise is assumed to begin
    with), effort e earns `k s e - cost e^2 / 2` on average, best near `k s / cost`.
    """

    def start(self, role: Role, phases: tuple[Phase, ...], draws: Draws) -> Box:
        """How its sight is laid out."""
        needs_sight("careful_agent", role, "kept", "broken", "offer", "cost")
        return role.sees

    def act(
        self, phase: Phase, seen: Tensor, legal: Tensor | None, memory: Box, draws: Draws
    ) -> Act:
        """Compare all efforts, and take the best that is open."""
        assert legal is not None
        kept = memory.read(seen, "kept") + 1.0
        trust = kept / (kept + memory.read(seen, "broken"))
        effort = torch.arange(legal.shape[-1], device=seen.device, dtype=torch.float32)
        gain = trust * memory.read(seen, "offer") * effort
        worth = gain - 0.5 * memory.read(seen, "cost") * effort * effort
        return Act(torch.where(legal, worth, -torch.inf).argmax(-1), memory)


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Commission())
