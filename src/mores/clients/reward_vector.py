"""Rewards as vectors, for multi-objective learners (MO-Gymnasium).

Components are named by agents, roles and numeric feedback (`StepResult.feedback`):

    assistant_0        the reward of this agent
    person             the reward of each agent of this role, one component each
    feedback.reward    feedback of this name to the external agent, for instance its reward from
                       each principal: one component for each number

Like a scalar reward, a component is the sum since the agent's last turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.clients.resolve import AgentId
from mores.core.arguments import check_names
from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean, nearest_name
from mores.core.people import Population
from mores.sim.recorder import Recorder
from mores.sim.simulator import Simulator

FEEDBACK = "feedback."
PROBE_WORLDS, PROBE_ROUNDS = 8, 100  # in which feedback must be given once, to know its size


class _Component(NamedTuple):
    """Account of the simulator's reward ledger, and an agent; `None`: all, one component each."""

    account: str
    agent_index: int | None


class RewardVector:
    """Components of the reward of one external agent.

    Args:
        names: names of the components: see the module docstring.
        simulator: simulator with the agent; its ledger reports the components from a reset on.
        agent: the external agent.

    Attributes:
        labels: name of each component: `person_3`, `feedback.reward_1`.

    Raises:
        UserError: an unknown or repeated name, or feedback that is no number or is never given.
    """

    def __init__(self, names: Sequence[str], simulator: Simulator, agent: AgentId) -> None:
        given, names = names, check_names("reward_vector", names)
        if repeated := next((name for name in names if [*given].count(name) > 1), None):
            message = f"reward_vector: {repeated!r} is named twice"
            raise UserError(message, code="duplicate", path="reward_vector")
        counts = {role: spec.num_agents for role, spec in simulator.roles.items()}
        feedback = [name.removeprefix(FEEDBACK) for name in names if name.startswith(FEEDBACK)]
        sizes = _feedback_sizes(
            simulator.environment, simulator.population, agent.role, feedback, simulator.rounds
        )
        ledger = simulator.reward_ledger
        self._components: list[_Component] = []
        self.labels: list[str] = []
        for name in names:
            if name.startswith(FEEDBACK):
                field = name.removeprefix(FEEDBACK)
                account = ledger.report_feedback(agent.role, field, sizes[field])
                self._components.append(_Component(account, agent.agent_index))
                indexed = [f"{name}_{i}" for i in range(sizes[field])]
                self.labels += indexed if sizes[field] > 1 else [name]
                continue
            role, agent_index = _role_and_agent(name, counts)
            self._components.append(_Component(ledger.report_reward(role), agent_index))
            agents = range(counts[role]) if agent_index is None else [agent_index]
            self.labels += [AgentId(role, index).name for index in agents]

    def read(self, reward: Mapping[str, Tensor]) -> Float[Tensor, "world component"]:
        """The vector, from the rewards of a turn (`ExternalTurn.reward`)."""
        return torch.cat(
            [
                reward[account]
                if agent is None
                else reward[account][:, agent].flatten(1)
                if reward[account].dim() > 2
                else reward[account][:, agent, None]
                for account, agent in self._components
            ],
            1,
        )


def _role_and_agent(name: str, counts: Mapping[str, int]) -> tuple[str, int | None]:
    """Role, and index of the agent; `None`: all agents of the role."""
    if name in counts:
        return name, None
    role, _, number = name.rpartition("_")
    if role in counts and number.isdecimal() and int(number) < counts[role]:
        return role, int(number)
    known = [*counts, *(AgentId(role, count - 1).name for role, count in counts.items())]
    raise UserError(
        f"reward_vector: no role, agent or feedback {name!r}"
        f"{nearest_name(name, known) or did_you_mean('', [*known, FEEDBACK + 'NAME'])}",
        code="unknown_name",
        path=f"reward_vector.{name}",
    )


class _FeedbackSizes(Recorder):
    """Numbers of an agent in each numeric feedback that its role has got, by name."""

    def __init__(self, role: str) -> None:
        self.sizes: dict[str, int] = {}
        self._role = role

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Keep the sizes of new feedback."""
        for name, value in feedback.items():
            if role == self._role and value.is_floating_point():
                self.sizes[name] = value[0, 0].numel()


def _feedback_sizes(
    environment: Environment[Any],
    population: Population | None,
    role: str,
    names: Sequence[str],
    rounds: int,
) -> dict[str, int]:
    """Numbers of an agent in each of these feedbacks, from episodes of random policies."""
    if not names:
        return {}
    recorder = _FeedbackSizes(role)
    simulator = Simulator(
        environment,
        dict.fromkeys((each.name for each in environment.roles), "random"),
        worlds=PROBE_WORLDS,
        rounds=rounds,
        autoreset_mode="same_step",
        population=population,
        recorder=recorder,
    )
    simulator.reset(0)
    num_rounds = 0
    while num_rounds < PROBE_ROUNDS and not recorder.sizes.keys() >= {*names}:
        simulator.step()
        num_rounds += 1
    for name in names:
        if name not in recorder.sizes:
            hint = did_you_mean(FEEDBACK + name, [FEEDBACK + known for known in recorder.sizes])
            raise UserError(
                f"reward_vector: {role} got no numeric feedback {name!r} in {num_rounds} rounds of "
                f"random policies in {PROBE_WORLDS} worlds{hint}",
                code="unknown_name",
                path=f"reward_vector.{FEEDBACK}{name}",
            )
    return recorder.sizes
