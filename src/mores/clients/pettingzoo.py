"""PettingZoo environments: the external agents of one world, in parallel or one by one (AEC)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import gymnasium
import numpy as np
import torch
from gymnasium.utils import seeding
from jaxtyping import Float
from pettingzoo import AECEnv, ParallelEnv

from mores.clients import gymnasium_spaces, resolve, text_rendering
from mores.clients.array_conversion import (
    action_to_tensor,
    check_render_mode,
    metric_to_numpy,
    sampling_mask,
)
from mores.clients.episode_trace import EpisodeTrace
from mores.clients.observation_format import check_format, format_observation, format_space
from mores.clients.picture import Picture
from mores.clients.registration import versioned
from mores.clients.resolve import AgentId, Spec
from mores.core.arguments import check_integer, check_names
from mores.core.environment import Environment, get_role
from mores.core.errors import UserError
from mores.core.people import Population
from mores.core.policy import Policy
from mores.sim.simulator import Simulator

Observation = Float[np.ndarray, " size"] | dict[str, np.ndarray]


class NotResetError(UserError, AttributeError):
    """What an episode defines was read before any. An `AttributeError`, so that `hasattr` works."""


# What `reset` defines.
EPISODE_ATTRIBUTES = {
    *("_observations", "_masks", "_cycles", "_projected", "_actions", "_agents_to_act"),
    *("agent_selection", "rewards", "_cumulative_rewards", "terminations", "truncations", "infos"),
}


class _PhaseResult(NamedTuple):
    """Result of one phase: rewards by agent, and whether the episode ended."""

    rewards: dict[str, float]
    terminated: bool
    truncated: bool


class _PettingZooBase:
    """Shared by both interfaces: a simulator of one world, agent names, spaces, observations.

    For the arguments see `PettingZooParallelEnv`.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        external: Sequence[str] | None = None,
        policies: Mapping[str, Policy | Spec] | None = None,
        rounds: int = 100,
        max_cycles: int | None = None,
        population: Population | Spec | None = None,
        metrics: Sequence[str] = (),
        render_mode: str | None = None,
        observation: str = "vector",
        **parameters: Any,
    ) -> None:
        check_render_mode(render_mode)
        self._observation_format = check_format(observation)
        if max_cycles is not None:
            check_integer("max_cycles", max_cycles, maximum=None)
        people = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(environment, parameters, people, type(self))
        agents = resolve.resolve_external_agents(self.environment, external, policies)
        policies = resolve.resolve_policies(self.environment, policies, agents)
        self._trace = EpisodeTrace(self.environment) if render_mode == "rgb_array" else None
        self._picture: Picture | None = None
        self.simulator = Simulator(
            self.environment,
            policies,
            agents,
            1,
            rounds,
            population=people,
            recorder=self._trace,
        )
        self.max_cycles, self.metric_names = max_cycles, tuple(check_names("metrics", metrics))
        self.render_mode = render_mode
        name = environment if isinstance(environment, str) else type(environment).__name__.lower()
        self.metadata = {
            "name": versioned(name),
            "render_modes": list(text_rendering.RENDER_MODES),
            "render_fps": 4,
            "is_parallelizable": self._is_parallelizable(),
        }
        agent_ids = [AgentId(role, index) for role in agents for index in agents[role]]
        self.agent_ids = {agent_id.name: agent_id for agent_id in agent_ids}
        self.possible_agents = list(self.agent_ids)
        self.agents: list[str] = []
        # One space object per agent: sampling from one must not advance another's generator.
        self.action_spaces = {
            name: gymnasium_spaces.action_space(self.environment, agent_id.role)
            for name, agent_id in self.agent_ids.items()
        }
        self._num_options = {
            agent_id.role: options
            for name, agent_id in self.agent_ids.items()
            if (options := gymnasium_spaces.num_options(self.action_spaces[name])) is not None
        }
        boxes = {
            name: gymnasium_spaces.observation_space(get_role(self.environment, agent_id.role))
            for name, agent_id in self.agent_ids.items()
        }
        self.observation_spaces = {
            name: format_space(box, self._num_options.get(self.agent_ids[name].role), observation)
            for name, box in boxes.items()
        }
        self.state_space = gymnasium_spaces.concatenate_boxes(list(boxes.values()))
        self._generator: np.random.Generator | None = None

    def _is_parallelizable(self) -> bool:
        """Whether all agents act whenever one does, so that a cycle of them is one step.

        Else a conversion of AEC to parallel would ask some agents to act on observations that are
        older than the phase in which they act; PettingZoo's `aec_to_parallel` reads this value.
        """
        roles = self.simulator.external.keys()
        acting = [roles & phase.action_spaces.keys() for phase in self.environment.phases]
        return all(each in (roles, set()) for each in acting)

    @property
    def np_random(self) -> np.random.Generator:
        """The generator of seeds, which wrappers (SuperSuit's `frame_skip`) also draw from."""
        if self._generator is None:
            self._generator, _ = seeding.np_random()
        return self._generator

    def __getattr__(self, name: str) -> Any:
        if name in EPISODE_ATTRIBUTES:
            raise NotResetError("call reset first", code="wrong_order")
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")

    def observation_space(self, agent: str) -> gymnasium.spaces.Space[Any]:
        """Observation space of an agent: the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium_spaces.ActionSpace:
        """Action space of an agent: the same object at every call."""
        return self.action_spaces[agent]

    def observe(self, agent: str) -> Observation:
        """Current observation of an agent."""
        role, index = self.agent_ids[agent]
        mask = self._masks.get(role)
        mask = None if mask is None else mask[index].numpy()
        return format_observation(
            self._observations[role][index].copy(), mask, self._observation_format
        )

    def state(self) -> Float[np.ndarray, " all"]:
        """Concatenated observations of all external agents, without any latent quantity."""
        vectors = [self._observations[role][i] for role, i in self.agent_ids.values()]
        return np.concatenate(vectors)

    def render(self) -> str | np.ndarray | None:
        """The external agents' observations as text, or a picture: see `GymnasiumEnv.render`."""
        self.simulator.check_reset("render")
        if self._trace is not None:
            if self._picture is None:
                agents = list(self.agent_ids.values())
                self._picture = Picture(self.simulator, self._trace, agents)
            return self._picture.draw()
        return self._render_text() if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Do nothing: there are no resources to release."""

    def _reset(self, seed: int | None) -> None:
        if seed is not None:
            self._generator, _ = seeding.np_random(seed)
        if self._trace is not None:
            self._trace.start()
            self._picture = None
        self.simulator.reset(int(self.np_random.integers(2**63 - 1)))
        self.agents = self.possible_agents[:]
        self._cycles = 0
        self._projected = dict.fromkeys(self.possible_agents, False)
        self._update_observations(None, None)

    def _acting_agents(self) -> list[str]:
        """Names of the agents that act in the current phase."""
        roles = set(self.simulator.acting_roles)
        return [name for name, agent_id in self.agent_ids.items() if agent_id.role in roles]

    def _step_phase(self, actions: Mapping[str, Any]) -> _PhaseResult:
        """Apply the acting agents' actions and simulate until an external agent must act."""
        if not isinstance(actions, Mapping):
            message = f"actions: a mapping of agents to actions, not {actions!r:.60}"
            raise UserError(message, code="wrong_type", path="actions")
        acting = self._acting_agents()
        tensors: dict[str, list[torch.Tensor]] = {role: [] for role in self.simulator.acting_roles}
        for name in acting:
            if name not in actions:
                raise UserError(
                    f"no action for {name}, which acts in phase {self.simulator.phase.name!r}",
                    code="missing",
                    path=f"actions.{name}",
                )
            tensors[self.agent_ids[name].role].append(action_to_tensor(actions[name], name))
        stacked = {role: _stack_actions(role, values) for role, values in tensors.items()}
        turn = self.simulator.step(stacked)
        projected = {role: iter(flags[0].tolist()) for role, flags in turn.projected.items()}
        self._projected = dict.fromkeys(self.possible_agents, False)
        for name in acting:
            self._projected[name] = next(projected[self.agent_ids[name].role])
        self._cycles += 1
        self._update_observations(turn.final_observation, turn.final_state)
        rewards = {role: reward[0].tolist() for role, reward in turn.reward.items()}
        terminated, truncated = bool(turn.terminated[0]), bool(turn.truncated[0])
        if self.max_cycles is not None and self._cycles >= self.max_cycles:
            truncated = not terminated
        return _PhaseResult(
            {name: rewards[role][index] for name, (role, index) in self.agent_ids.items()},
            terminated,
            truncated,
        )

    def _update_observations(
        self, final_observation: Mapping[str, torch.Tensor] | None, final_state: Any
    ) -> None:
        """Store observations, `[agent, size]` by role, and masks; at an episode's end the final."""
        observe, final = self.simulator.observe, final_observation
        self._observations = {
            role: (observe(role) if final is None else final[role])[0].numpy()
            for role in self.simulator.external
        }
        self._masks = {
            role: (
                self.simulator.action_mask(role, options)
                if final is None
                else self.simulator.next_action_mask(role, final_state, options)
            )[0]
            for role, options in self._num_options.items()
        }
        if self.render_mode == "human":
            print(self._render_text())
        if self._trace is not None:
            self._trace.observe_state(self.simulator)

    def _observation_dict(self) -> dict[str, Observation]:
        return {agent: self.observe(agent) for agent in self.possible_agents}

    def _infos(self) -> dict[str, dict[str, Any]]:
        """`info` of every agent, in separate dictionaries and arrays."""
        acting = set(self.simulator.acting_roles)
        metrics = self._metrics()
        infos: dict[str, dict[str, Any]] = {}
        for name, (role, index) in self.agent_ids.items():
            infos[name] = {"acting": role in acting, "projected": self._projected[name]}
            if role in self._masks:
                options = self._num_options[role]
                infos[name]["action_mask"] = sampling_mask(self._masks[role][index], options)
            infos[name] |= {key: metric_to_numpy(value[0]) for key, value in metrics.items()}
        return infos

    def _metrics(self) -> dict[str, torch.Tensor]:
        return resolve.selected_metrics(self.simulator, self.simulator.state, self.metric_names)

    def _render_text(self) -> str:
        agent_ids = list(self.agent_ids.values())
        return text_rendering.render_text(self.simulator, agent_ids, self._metrics())


class PettingZooParallelEnv(_PettingZooBase, ParallelEnv[str, Observation, Any]):
    """All external agents step at once: one step is one phase in which an external agent acts.

    Every agent is listed at every step. An agent that does not act in a phase has `info["acting"]`
    False and its action is ignored (of discrete actions, only 0 is legal). `info` also holds
    `action_mask` for discrete actions (int8, as `action_space.sample` takes it; for multi-discrete
    actions a tuple with one mask per component), `projected` (the last action was out of range or
    illegal and was projected to a legal one) and the requested metrics.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        external: roles (`person`) and agents (`person_3`) controlled by the client; default: all
            roles without an entry in `policies`.
        policies: policies of the other agents by role: `{"person": {"kind": "random"}}`, or
            objects; default: the environment's.
        rounds: maximum length of an episode (truncation).
        max_cycles: maximum number of steps of an episode; None: no limit but `rounds`.
        population: source of the people: `{"kind": "anes96"}`; default: the environment's.
        metrics: names of metrics to add to every `info`. Metrics can reveal latent quantities.
        render_mode: `ansi` returns text, `human` prints it, `rgb_array` returns a picture of the
            episode so far; None: no rendering.
        observation: `vector`: an array; `dict`: a mapping of `observation` and, for discrete
            actions, `action_mask` (int8; masks of a multi-discrete action are concatenated).
        **parameters: of an environment given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Start an episode. Without a seed, the seed comes from the last seeded generator."""
        self._reset(seed)
        return self._observation_dict(), self._infos()

    def step(
        self, actions: dict[str, Any]
    ) -> tuple[
        dict[str, Observation],
        dict[str, float],
        dict[str, bool],
        dict[str, bool],
        dict[str, dict[str, Any]],
    ]:
        """Step to the next phase in which an external agent acts."""
        if self.simulator.seed is None:
            raise NotResetError("call reset before step", code="wrong_order")
        if not self.agents:  # the episode is over
            return {}, {}, {}, {}, {}
        rewards, terminated, truncated = self._step_phase(actions)
        if terminated or truncated:
            self.agents = []
        ends = dict.fromkeys(rewards, terminated), dict.fromkeys(rewards, truncated)
        return self._observation_dict(), rewards, *ends, self._infos()


class PettingZooAECEnv(_PettingZooBase, AECEnv[str, Observation, Any]):
    """External agents step one by one; only agents that act in a phase are selected.

    All agents of a phase observe the same state: their actions take effect when the last of them
    has stepped. Arguments and `info` are as in `PettingZooParallelEnv`; `max_cycles` counts phases.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Start an episode. Without a seed, the seed comes from the last seeded generator."""
        self._reset(seed)
        self.rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self.terminations: dict[str, bool] = dict.fromkeys(self.agents, False)
        self.truncations: dict[str, bool] = dict.fromkeys(self.agents, False)
        self._skip_agent_selection = None  # PettingZoo's: next agent after dead ones
        self._select_first_agent()

    def step(self, action: Any) -> None:
        """Store the selected agent's action; the last action of a phase steps the simulator."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._actions[agent] = action
        if self._agents_to_act:
            self.agent_selection = self._agents_to_act.pop(0)
            return
        self.rewards, terminated, truncated = self._step_phase(self._actions)
        self._accumulate_rewards()
        if terminated or truncated:
            self.terminations = dict.fromkeys(self.agents, terminated)
            self.truncations = dict.fromkeys(self.agents, truncated)
            self.infos = self._infos()
            self.agent_selection = self.agents[0]
        else:
            self._select_first_agent()

    def _select_first_agent(self) -> None:
        """Select the first of the agents that act in this phase."""
        self._agents_to_act, self._actions = self._acting_agents(), {}
        self.agent_selection = self._agents_to_act.pop(0)
        self.infos = self._infos()


def _stack_actions(role: str, actions: list[torch.Tensor]) -> torch.Tensor:
    """Actions of a role's external agents in one world, `[1, agent]` or `[1, agent, size]`."""
    shapes = {tuple(action.shape) for action in actions}
    if len(shapes) > 1:
        raise UserError(
            f"actions of {role!r} have different shapes: {sorted(shapes)}",
            code="wrong_shape",
            path=f"actions.{role}",
        )
    return torch.stack(actions)[None]
