"""Linear contracts: principals offer salaries and piece rates for several tasks.

The LEN model (linear contracts, exponential utility, normal noise) with any number of tasks,
principals and agents: equations and sources in `mores.envs.strategic.linear_contract_values`.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import Phase, PolicyQuery, Role, StepResult
from mores.core.people import People
from mores.core.plain_text import read_parts
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.spaces import Box, Part
from mores.core.stream_addresses import OUTPUT_NOISE
from mores.core.turn_text import TurnText
from mores.envs.strategic.contract_games import linear_text as texts
from mores.envs.strategic.contract_games.game import ContractGame, random_rewards, refuse_people
from mores.envs.strategic.contract_games.linear_batch import AgentTypes, LinearBatch, apply, dot
from mores.envs.strategic.contract_games.linear_metrics import POLICY_METRICS, LinearValues
from mores.envs.strategic.contract_games.linear_parameters import LinearParameters


@dataclasses.dataclass(frozen=True)
class LinearState:
    """State of the game in a round."""

    risk_aversion: Float[Tensor, "world agent"]
    effort_cost: Float[Tensor, "world agent"]
    noise_variance: Float[Tensor, "world agent"]
    outside_option: Float[Tensor, "world agent"]  # private, redrawn in every round
    slopes: Float[Tensor, "world principal agent task"]  # offered piece rates
    salary: Float[Tensor, "world principal agent"]
    accepted: Float[Tensor, "world agent"]  # 1: accepted all offers, 0: refused
    effort: Float[Tensor, "world agent task"]  # private
    output: Float[Tensor, "world agent task"]
    profit: Float[Tensor, "world principal"]
    income: Float[Tensor, "world agent"]  # wage less effort cost, or the outside option

    @property
    def types(self) -> AgentTypes:
        """Types (risk aversion, effort cost, noise variance) of the agents."""
        return AgentTypes(self.risk_aversion, self.effort_cost, self.noise_variance)


class Linear(LinearParameters, ContractGame[LinearState]):
    """Linear contracts for several tasks, between several principals and agents.

    Description:
        Each round every principal offers every agent a salary and a piece rate (`slopes`) for each
        measured task. An agent accepts all offers or none, and chooses efforts that principals do
        not observe; wages depend on noisy outputs. Rounds are independent contracts. Left out:
        acceptance of some of the offers, pay by relative performance, adverse selection in types,
        and reputation.

    Roles:
        principal (number of rows of `benefits`), agent (`num_agents`).

    Observation (K tasks; no effort, no outside option of an agent is observed by principals):
        principal  risk_aversion   num_agents  [0, inf)  of each agent, 1 / unit of income
        principal  effort_cost     num_agents  (0, inf)  scale of each agent's cost matrix
        principal  noise_variance  num_agents  [0, inf)  scale of each agent's noise covariance
        principal  benefits        K           any       own benefit per unit of each output
        agent      risk_aversion, effort_cost, noise_variance: own, 1 each
        agent      slopes          K           any       sum of the offered piece rates
        agent      salary          1           any       sum of the offered salaries
        agent      outside_option  1           any       own certainty equivalent of refusing

    Action:
        principal, phase offer: `slopes`, agent by agent for the measured tasks, in
        [-max_slope, max_slope]; `salary` for each agent, in [-max_salary, max_salary].
        agent, phase work: `acceptance` in [-1, 1]; above 0: accept all offers, else refuse all;
        `effort` in each task, in [-max_effort, max_effort]; ignored after a refusal.

    Reward:
        principal: sum over accepting agents of (B - b)' output - salary, with own benefits B and
        piece rates b.
        agent, by `agent_reward`; income y is wage less effort cost, or the outside option.
        `utility`: exponential, (1 - exp(-r y)) / r, with y clipped from below at `income_floor`;
        its certainty equivalent is that of the closed form. `mean_variance`: y less the risk
        premium r T' s S T / 2 with the piece rates T summed over principals, so that the expected
        reward is the certainty equivalent.
        `reward_source: random`: standard normal rewards for both roles.

    Dynamics:
        Output is effort + normal noise with covariance `noise_variance` * `noise`. Effort cost is
        (e - m)' C (e - m) / 2 with C = `effort_cost` * `cost`, m = `intrinsic_effort`.

    Start:
        Types uniform in their ranges, fixed in a replicate (`types_fixed`, by `type_seed`) or new
        in every episode; the outside option is uniform in its range in every round.

    End:
        Never terminates.

    Parameters:
        See the fields: each has its range and meaning.

    References:
        Holmstrom and Milgrom 1987, 1991; Bernheim and Whinston 1986; Dixit 1996.
    """

    tags: ClassVar[Mapping[str, object]] = {"phases": 2, "changes": "contracts", "stochastic": True}
    dimension_names: ClassVar[Mapping[str, tuple[str, ...]]] = {
        **dict.fromkeys(("slope_sum", "effort", "policy_slopes", "policy_effort"), ("task",)),
        "intrinsic_effort": ("task",),
        "profit": ("principal",),
    }

    def values(self, device: torch.device) -> LinearValues:
        """Evaluator of offers and of agents' decisions, without sampling."""
        space = self.roles[1].observation_space
        benefits = self.benefit_rows.to(device)
        return LinearValues(self.batch.to(device), benefits, self.outside_option, space)

    @property
    def roles(self) -> tuple[Role, ...]:
        """`principal` and `agent`."""
        agents, tasks, positive = self.num_agents, self.num_tasks, Part(1, 0.0)
        names = ("risk_aversion", "effort_cost", "noise_variance")
        principal = Box.of(**{n: Part(agents, 0.0) for n in names}, benefits=tasks)
        own = dict.fromkeys(names, positive)
        agent = Box.of(**own, slopes=tasks, salary=1, outside_option=1)
        return (
            Role("principal", self.num_principals, principal),
            Role("agent", self.num_agents, agent),
        )

    @property
    def phases(self) -> tuple[Phase, ...]:
        """`offer`, `work`."""
        agents, measured = self.num_agents, sum(self.is_measured)
        offer = Box.of(
            slopes=Part(agents * measured, -self.max_slope, self.max_slope),
            salary=Part(agents, -self.max_salary, self.max_salary),
        )
        effort = Part(self.num_tasks, -self.max_effort, self.max_effort)
        work = Box.of(acceptance=Part(1, -1.0, 1.0), effort=effort)
        return Phase("offer", {"principal": offer}), Phase("work", {"agent": work})

    # --- dynamics --------------------------------------------------------------------------------

    def reset(self, streams: RandomStreams, people: People | None = None) -> LinearState:
        """Initial state: types of the agents, and contracts of zeros."""
        refuse_people("contracts", people)
        source = streams
        if self.types_fixed:
            worlds = Worlds(streams.replicate.cpu(), torch.zeros_like(streams.replicate).cpu())
            source = RandomStreams.of(self.type_seed, worlds, device=streams.device)
        u = source.uniform("agent type", self.num_agents, 3)
        ranges = (self.risk_aversion, self.effort_cost, self.noise_variance)
        types = [low + (high - low) * u[..., i] for i, (low, high) in enumerate(ranges)]
        agent = torch.zeros_like(types[0])
        task = agent[..., None].expand(-1, -1, self.num_tasks).contiguous()
        principal = agent.new_zeros(len(agent), self.num_principals)
        slopes = agent.new_zeros(*principal.shape, self.num_agents, self.num_tasks)
        return LinearState(
            risk_aversion=types[0],
            effort_cost=types[1],
            noise_variance=types[2],
            outside_option=agent,
            slopes=slopes,
            salary=slopes[..., 0],
            accepted=agent,
            effort=task,
            output=task,
            profit=principal,
            income=agent,
        )

    def observe(self, state: LinearState, role: str, phase: str) -> Tensor:
        """See the class docstring."""
        types = (state.risk_aversion, state.effort_cost, state.noise_variance)
        if role == "principal":
            worlds, principals = state.profit.shape
            shared = torch.cat(types, -1)[:, None].expand(-1, principals, -1)
            benefits = self.benefit_rows.to(shared.device).expand(worlds, -1, -1)
            return torch.cat([shared, benefits], -1)
        own = torch.stack(types, -1)
        rest = torch.stack([total(state.salary, 1), state.outside_option], -1)
        return torch.cat([own, total(state.slopes, 1), rest], -1)

    def split_offer(self, action: Float[Tensor, "*lead size"]) -> tuple[Tensor, Tensor]:
        """Slopes `[..., agent, task]`, 0 for tasks that are not measured, and salaries."""
        agents, tasks = self.num_agents, [k for k, yes in enumerate(self.is_measured) if yes]
        measured = action[..., : agents * len(tasks)].unflatten(-1, (agents, len(tasks)))
        slopes = action.new_zeros(*measured.shape[:-1], self.num_tasks)
        slopes[..., tasks] = measured
        return slopes, action[..., agents * len(tasks) :]

    def step(
        self, state: LinearState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[LinearState]:
        """State and reward after a phase: contract of `offer`, output and wages of `work`."""
        if phase == "offer":
            slopes, salary = self.split_offer(actions["principal"].to(torch.float32))
            low, high = self.outside_option
            u = streams.uniform("outside option", self.num_agents)[..., 0]
            return StepResult(
                dataclasses.replace(
                    state,
                    slopes=slopes,
                    salary=salary,
                    outside_option=low + (high - low) * u,
                    accepted=torch.zeros_like(u),
                )
            )
        return self._work(state, actions["agent"].to(torch.float32), streams)

    def _work(
        self, state: LinearState, chosen: Tensor, streams: RandomStreams
    ) -> StepResult[LinearState]:
        """State and rewards after phase `work`; efforts and outputs of refusing agents are 0."""
        batch, types = self.batch.to(chosen.device), state.types
        accepts = chosen[..., :1] > 0
        accepted = accepts[..., 0].to(chosen.dtype)
        effort = torch.where(accepts, chosen[..., 1:], 0.0)
        noise = streams.normal(OUTPUT_NOISE, self.num_agents, self.num_tasks)
        noise = types.noise_variance.sqrt()[..., None] * apply(batch.noise_root, noise)
        output = torch.where(accepts, effort + noise, 0.0)
        slopes, salary = total(state.slopes, 1), total(state.salary, 1)
        net_wage = salary + dot(slopes, output) - batch.effort_loss(effort, types)
        income = torch.where(accepts[..., 0], net_wage, state.outside_option)
        net_benefit = self.benefit_rows.to(chosen.device)[:, None] - state.slopes
        profit = accepted[:, None] * (dot(net_benefit, output[:, None]) - state.salary)
        profit = total(profit, -1)
        premium = accepted * batch.risk_premium(slopes, types)
        next_state = dataclasses.replace(
            state, accepted=accepted, effort=effort, output=output, profit=profit, income=income
        )
        reward = {"principal": profit, "agent": self._agent_reward(income, premium, types)}
        if self.reward_source == "random":
            reward = random_rewards(streams, self.roles)
        return StepResult(next_state, reward)

    def _agent_reward(self, income: Tensor, premium: Tensor, types: AgentTypes) -> Tensor:
        if self.agent_reward == "mean_variance":
            return income - premium
        averse = types.risk_aversion > 0
        r = torch.where(averse, types.risk_aversion, torch.ones_like(income))
        utility = (1.0 - torch.exp(-r * income.clamp(min=self.income_floor))) / r
        return torch.where(averse, utility, income)

    # --- values ----------------------------------------------------------------------------------

    def solution(
        self, role: str, phase: str, observation: Float[Tensor, "world agent query size"]
    ) -> Tensor:
        """Equilibrium offers; acceptance and effort with the largest certainty equivalent."""
        batch = self.batch.to(observation.device)
        space = next(each.observation_space for each in self.roles if each.name == role)
        if role == "principal":
            return self._offers(observation, space, batch)
        names = ("risk_aversion", "effort_cost", "noise_variance")
        types = AgentTypes(*(space.read(observation, name)[..., 0] for name in names))
        slopes = space.read(observation, "slopes")
        effort = batch.best_effort(slopes, types)
        salary = space.read(observation, "salary")[..., 0]
        utility = batch.certainty_equivalent(slopes, salary, effort, types)
        # Offers have rounding errors: one that equals the outside option is accepted.
        accept = utility >= space.read(observation, "outside_option")[..., 0] - 1e-5
        return torch.cat([2.0 * accept[..., None] - 1.0, effort], -1)

    def _offers(self, observation: Tensor, space: Box, batch: LinearBatch) -> Tensor:
        """Equilibrium offer of each principal to each agent; all principals have equal profits."""
        names = ("risk_aversion", "effort_cost", "noise_variance")
        types = AgentTypes(*(space.read(observation, name) for name in names))
        benefits = space.read(observation, "benefits")[..., None, :]  # ... agent, task
        count, benefit_sum = self.num_principals, total(self.benefit_rows, 0).to(observation.device)
        slope_sum, salary_sum, _ = self.values(observation.device).equilibrium(types)
        slopes = batch.principal_slopes(benefits, benefit_sum, count, types.risk_cost)
        # Each has an equal share of the joint profit: benefits less wages.
        effort = batch.best_effort(slope_sum, types)
        profit = (dot(benefit_sum - slope_sum, effort) - salary_sum) / count
        salary = dot(benefits - slopes, effort) - profit
        measured = [k for k, yes in enumerate(self.is_measured) if yes]
        return torch.cat([slopes[..., measured].flatten(-2), salary], -1)

    def metrics(self, state: LinearState) -> Mapping[str, Tensor]:
        """Metrics of each world, in units of income unless stated; means over agents.

        slope_sum: piece rates, summed over principals `[world, task]`
        salary: salary, summed over principals
        accepted_share: share of agents who accepted
        effort: effort, 0 after a refusal, units of effort `[world, task]`
        offered_utility: certainty equivalent of the offers at the optimal effort
        profit: realized profit of each principal, summed over agents `[world, principal]`
        principal_payoff: sum of the profits, divided by the number of agents
        agent_payoff: realized income (wage less effort cost, or the outside option)
        risk_cost: risk aversion * effort cost * noise variance of the agents' types (k = r c s)
        """
        slopes, salary = total(state.slopes, 1), total(state.salary, 1)
        batch = self.batch.to(slopes.device)
        utility = batch.best_certainty_equivalent(slopes, salary, state.types)
        return {
            "slope_sum": mean(slopes, 1),
            "salary": mean(salary, 1),
            "accepted_share": mean(state.accepted, 1),
            "effort": mean(state.effort, 1),
            "offered_utility": mean(utility, 1),
            "profit": state.profit,
            "principal_payoff": total(state.profit, 1) / self.num_agents,
            "agent_payoff": mean(state.income, 1),
            "risk_cost": mean(state.types.risk_cost, 1),
        }

    @property
    def metric_bounds(self) -> Mapping[str, tuple[float, float]]:
        """Range of each bounded metric."""
        return {"accepted_share": (0.0, 1.0), "participation": (0.0, 1.0)}

    def latent(self, state: LinearState) -> Mapping[str, Tensor]:
        """Latent variables: outside options and efforts."""
        return {"outside_option": state.outside_option, "effort": state.effort}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        """See `mores.envs.strategic.contract_games.linear_metrics`."""
        return POLICY_METRICS

    def policy_queries(self, state: LinearState) -> Mapping[str, PolicyQuery]:
        """Offers to the present types; responses to equilibrium, other and last contracts."""
        observation = self.observe(state, "principal", "offer")
        values = self.values(state.risk_aversion.device)
        return values.queries(observation, state.slopes, state.salary, state.types)

    def policy_metrics(
        self, state: LinearState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        """Metrics of policies from their answers to `policy_queries`, without sampling noise."""
        offered = self.split_offer(answers["offer"][:, :, 0])
        last_contract = (state.slopes, state.salary)
        return self.values(state.slopes.device).metrics(
            offered, last_contract, answers, state.types
        )

    def analytic_values(self, policies: Mapping[str, Any], rounds: int) -> Mapping[str, float]:
        """See `LinearParameters.equilibrium_values`."""
        return self.equilibrium_values()

    def role_rules(self, role: str) -> str:
        """System prompt of a role: contract, output, cost of effort and reward."""
        if role == "principal":
            return texts.principal_rules(self.num_principals, self.num_agents, self.num_tasks)
        return texts.agent_rules(
            self.cost,
            self.idle_effort.tolist(),
            self.noise_covariance.tolist(),
            self.agent_reward,
            self.income_floor,
        )

    def describe(
        self, role: str, phase: str, observation: Tensor, action_mask: Tensor | None = None
    ) -> TurnText:
        """Prompt of a turn: types and benefits (principal), or offers and own type (agent)."""
        spaces = {each.name: each.observation_space for each in self.roles}
        parts = read_parts(spaces[role], observation)
        if role == "principal":
            limits = (self.max_slope, self.max_salary)
            return texts.principal_turn(parts, self.is_measured, limits)
        return texts.agent_turn(parts, self.max_effort)

    def render(self, state: LinearState, world: int = 0) -> str:
        """Text with contract, decision and result of each agent."""
        lines = []
        for agent in range(self.num_agents):
            slopes = total(state.slopes, 1)[world, agent].tolist()
            salary = total(state.salary, 1)[world, agent].item()
            decision = "accepts" if state.accepted[world, agent] > 0 else "has not accepted"
            text = ", ".join(f"{x:.2f}" for x in slopes)
            lines.append(
                f"agent {agent} is offered a salary of {salary:.2f} and piece rates of {text}, and "
                f"{decision}"
            )
            if state.accepted[world, agent] > 0:
                effort = ", ".join(f"{x:.2f}" for x in state.effort[world, agent].tolist())
                output = ", ".join(f"{x:.2f}" for x in state.output[world, agent].tolist())
                income = state.income[world, agent].item()
                lines.append(f"  effort {effort}; output {output}; net income {income:.2f}")
        profits = ", ".join(f"{x + 0.0:.2f}" for x in state.profit[world].tolist())
        return "\n".join([*lines, f"profits of the principals: {profits}"])


if __name__ == "__main__":
    from mores.sim.demo import show

    show(Linear())
