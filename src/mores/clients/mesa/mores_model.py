"""Any environment as a Mesa model: its agents on a network, a step is a round.

    model = MoresModel("coevolution", seed=1, num_people=30, policies={"person": "truthful"})
    model.step()
    model.datacollector.get_model_vars_dataframe()

The model is one world, replicate 0 of `mores.simulate` with the same seed, bit for bit. Policies
decide for all agents; none of them uses Mesa's random numbers (`model.random`).
"""

from __future__ import annotations

import functools
import random
from collections.abc import Mapping, Sequence
from typing import Any

import networkx as nx
import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from mores.clients import resolve
from mores.clients.mesa.installed_mesa import mesa
from mores.core.arguments import check_seed
from mores.core.component_names import NamedDimensions, component_labels, component_names
from mores.core.environment import Environment
from mores.core.errors import UserError, describe_value
from mores.core.people import Population
from mores.core.policy import Policy
from mores.registry.specs import Spec
from mores.sim.metric_tracker import MetricSpecs, MetricTracker, resolve_metrics
from mores.sim.policy_parameters import PERSON
from mores.sim.simulator import Simulator


class CommunityAgent(mesa.discrete_space.CellAgent):
    """An agent of an environment, in a cell of its own.

    People are the agents of role `person` if their number equals the number of people; without
    that role, of the first role with that number of agents; if no role has it, agents named
    `person` are added that do not act.

    Attributes:
        role: name of the role.
        agent_index: index within the role; the agent is named `person_3` elsewhere.
        values: copy of the person's values, value units; None: the agent is not a person with
            values.
        reward: reward of the last round.
        total_reward: sum over the episode.
    """

    model: MoresModel  # pyright: ignore[reportIncompatibleVariableOverride]

    def __init__(self, model: MoresModel, agent: resolve.AgentId, cell: Any) -> None:
        super().__init__(model)
        self.role, self.agent_index = agent
        self.name = agent.name
        self.values: np.ndarray | None = None
        self.reward = self.total_reward = 0.0
        self.cell = cell


class MoresModel(mesa.Model):
    """A Mesa model of one world of an environment.

    `space` is a `Network` with a cell for every agent. A person's cell is connected to those of the
    people who influence the person (`Environment.influence_graph`), other cells to none.
    `datacollector` has the metrics as model reporters, with the `seed` of the model, and of agents
    `role`, `agent_index`, `reward`, `total_reward` and every value, named as in results
    (`values[care]`, or `values[0]`). It collects at the start and after every step.

    The episode ends (`running` is False) by the environment's rules, or after `rounds` steps.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        seed: seed of all random streams, a whole number from 0 to 2^64 - 1.
        rng: another source of randomness, as Mesa takes it, from which the seed is drawn. Without
            both the seed is drawn from the operating system's entropy.
        policies: policies by role: `{"person": {"kind": "random"}}`, or objects; default: the
            environment's.
        rounds: largest number of rounds of the episode.
        population: source of the people: `{"kind": "anes96"}`; default: the environment's.
        metrics: metrics to collect, as in `mores.simulate`; of a vector every component
            (`mean_value[care]`). Default: those of the environment with one number a world.
        **kwargs: parameters of an environment given by name.

    Attributes:
        seed: the seed, which replays the model.
        simulator: the simulator of the world.
        influence: directed networkx graph of the same nodes, with the share of influence of each
            edge as its `weight`.
        metrics: current value of each metric.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any] = "coevolution",
        seed: int | None = None,
        rng: Any = None,
        policies: Mapping[str, Policy | Spec] | None = None,
        rounds: int = 100,
        population: Population | Spec | None = None,
        metrics: MetricSpecs | None = None,
        **kwargs: Any,
    ) -> None:
        if seed is not None and rng is not None:
            message = "seed and rng: give one of them"
            raise UserError(message, code="conflict", path="seed")
        seed = None if seed is None else check_seed(seed)
        super().__init__(seed=seed, rng=rng)
        if not isinstance(policies, Mapping | None):
            message = f"policies: a mapping of roles to policies, not {describe_value(policies)}"
            message += "; for mesa.batch_run put the mapping in a list: [{...}]"
            raise UserError(message, code="wrong_type", path="policies")
        self.seed = int(self.rng.integers(2**63 - 1)) if seed is None else seed
        people = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(environment, kwargs, people, type(self))
        self.simulator = Simulator(
            self.environment,
            resolve.resolve_policies(self.environment, policies, {}),
            rounds=rounds,
            population=people,
        )
        self.simulator.reset(self.seed)
        initial = self.environment.people(self.simulator.state)
        self._names = NamedDimensions.of(self.environment, people, initial)
        num_values = 0 if initial is None else initial.values.shape[2]
        value_labels = component_labels(self._names.value, num_values)
        self._tracker = self._track(metrics)
        self._rewards: dict[str, Tensor] = {}
        self.simulator.reward_ledger.listeners.append(self._add_reward)
        self._make_agents()
        self.metrics: dict[str, float] = {}
        self._update()
        self.datacollector = self._make_data_collector(value_labels)
        self.datacollector.collect(self)

    def step(self) -> None:
        """One round: all phases, in which the policies decide.

        Raises:
            UserError: the episode has ended.
        """
        if self.simulator.all_finished:
            message = "the episode has ended, `running` is False: make a new model"
            raise UserError(message, code="wrong_order")
        self._rewards = {}
        self._tracker.step()
        self._update()
        self.datacollector.collect(self)
        self.running = not self.simulator.all_finished

    # --- agents ------------------------------------------------------------------------------

    def _make_agents(self) -> None:
        """Make the network, with an agent on each node."""
        state = self.simulator.state
        people, influence = self.environment.people(state), self.environment.influence_graph(state)
        num_people = 0 if people is None else people.values.shape[1]
        counts = {role.name: role.num_agents for role in self.environment.roles}
        self._people_role = _people_role(counts, num_people)
        if self._people_role is not None:
            counts.setdefault(self._people_role, num_people)
        agents = [resolve.AgentId(role, index) for role in counts for index in range(counts[role])]
        self.influence: nx.DiGraph[int] = nx.DiGraph()
        self.influence.add_nodes_from(range(len(agents)))
        if influence is not None and self._people_role is not None:
            first = agents.index(resolve.AgentId(self._people_role, 0))
            person, neighbor, weight = (part.tolist() for part in influence.ties(0))
            for i, j, share in zip(person, neighbor, weight, strict=True):
                edge = first + i, first + j
                before = (
                    self.influence.edges[edge]["weight"] if edge in self.influence.edges else 0.0
                )
                self.influence.add_edge(*edge, weight=before + share)  # ties may be parallel
        self.space = _network(self.influence, self.random)
        cells = list(self.space.all_cells)
        CommunityAgent.create_agents(self, len(agents), agents, cells)

    def _add_reward(self, role: str, reward: Float[Tensor, "world agent"]) -> None:
        """Add the rewards of a phase to those of the round."""
        self._rewards[role] = reward + self._rewards.get(role, torch.zeros_like(reward))

    def _update(self) -> None:
        """Copy metrics, values and rewards of the current state."""
        people = self.environment.people(self.simulator.state)
        # A copy: writing to the values of an agent does not change the simulation.
        values = None if people is None else people.values[0].cpu().numpy().copy()
        rewards = {role: reward[0].tolist() for role, reward in self._rewards.items()}
        for agent in self.agents:
            assert isinstance(agent, CommunityAgent)
            if agent.role == self._people_role and values is not None:
                agent.values = values[agent.agent_index]
            role_rewards = rewards.get(agent.role)
            agent.reward = 0.0 if role_rewards is None else role_rewards[agent.agent_index]
            agent.total_reward += agent.reward
        self.metrics = self._current_metrics()

    # --- metrics -----------------------------------------------------------------------------

    def _make_data_collector(self, value_labels: Sequence[str]) -> mesa.DataCollector:
        """A collector of metrics, and of the agents' rewards and values."""
        return mesa.DataCollector(
            model_reporters={
                **{name: functools.partial(_metric, name=name) for name in self.metrics},
                "seed": "seed",
            },
            agent_reporters={
                **{name: name for name in ("role", "agent_index", "reward", "total_reward")},
                **{
                    f"values[{label}]": functools.partial(_value, index=index)
                    for index, label in enumerate(value_labels)
                },
            },
        )

    def _track(self, specs: MetricSpecs | None) -> MetricTracker:
        """A tracker of the metrics."""
        state = self.simulator.state
        if specs is None:
            own = self.environment.metrics(state)
            specs = [name for name, metric in own.items() if metric.dim() == 1]
        resolved = resolve_metrics(self.environment, state, 1, specs, self.simulator.policies)
        self._labels = component_names(self.environment, resolved, self._names)
        return MetricTracker(self.simulator, resolved)

    def _current_metrics(self) -> dict[str, float]:
        """The metrics; of vectors every component."""
        metrics: dict[str, float] = {}
        for name, metric in self._tracker.values().items():
            if metric.dim() == 1:
                metrics[name] = float(metric)
                continue
            labels = component_labels(self._labels.get(name, ()), metric.shape[1])
            for label, component in zip(labels, metric[0].tolist(), strict=True):
                metrics[f"{name}[{label}]"] = float(component)
        return metrics


def _people_role(num_agents: Mapping[str, int], num_people: int) -> str | None:
    """Role whose agents are the people of an environment.

    None: there are no people, or the role `person` has another number of agents.

    Args:
        num_agents: number of agents by role.
        num_people: number of people.
    """
    if not num_people:
        return None
    if PERSON in num_agents:
        return PERSON if num_agents[PERSON] == num_people else None
    fitting = [role for role, count in num_agents.items() if count == num_people]
    return fitting[0] if fitting else PERSON


def _network(influence: nx.DiGraph[int], generator: random.Random) -> mesa.discrete_space.Network:
    """The same graph as a space of Mesa: a cell has directed connections.

    Mesa draws no directed graphs (3.3.1), so the space's own graph, for drawing, is undirected.
    """
    nodes: nx.Graph[int] = nx.Graph()
    nodes.add_nodes_from(influence)
    # Mesa's stubs know pairs as keys
    space: Any = mesa.discrete_space.Network(nodes, capacity=1, random=generator)
    for person, neighbor in influence.edges:
        space[person].connect(space[neighbor], neighbor)
        nodes.add_edge(person, neighbor)
    return space


def _metric(model: MoresModel, name: str) -> float:
    """Model reporter."""
    return model.metrics[name]


def _value(agent: CommunityAgent, index: int) -> float:
    """Agent reporter; NaN of agents without values."""
    return float("nan") if agent.values is None else float(agent.values[index])
