"""Many seats of one world through PettingZoo: all at once (`PettingZooParallelEnv`), or one by one (`PettingZooAECEnv`)."""

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
from mores.clients.resolve import AgentId, SpecMapping
from mores.core.arguments import check_names
from mores.core.environment import Environment, Policy, get_role
from mores.core.errors import UserError
from mores.sim.simulator import Population, Simulator

Observation = Float[np.ndarray, " size"]


class _PhaseResult(NamedTuple):
    """What a phase brought: pay by agent, and whether the episode is over."""

    rewards: dict[str, float]
    terminated: bool
    truncated: bool


class _PettingZooBase:
    """What both interfaces share: the table with one world, names, spaces, sights.

    For the arguments see `PettingZooParallelEnv`.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        external: Sequence[str] | None = None,
        policies: Mapping[str, Policy | SpecMapping] | None = None,
        rounds: int = 100,
        max_cycles: int | None = None,
        population: Population | SpecMapping | None = None,
        metrics: Sequence[str] = (),
        render_mode: str | None = None,
        **parameters: Any,
    ) -> None:
        check_render_mode(render_mode)
        if max_cycles is not None and max_cycles < 1:
            raise UserError(
                f"max_cycles is at least 1, not {max_cycles}",
                code="out_of_range",
                path="max_cycles",
            )
        self.environment = resolve.resolve_environment(environment, parameters)
        out = resolve.resolve_external_agents(self.environment, external, policies)
        within = resolve.resolve_policies(self.environment, policies)
        people = resolve.resolve_population(population)
        self.simulator = Simulator(self.environment, within, out, 1, rounds, population=people)
        self.max_cycles, self.metric_names = max_cycles, tuple(check_names("measures", metrics))
        self.render_mode = render_mode
        name = environment if isinstance(environment, str) else type(environment).__name__.lower()
        self.metadata = {
            "name": f"{name}_v0",
            "render_modes": list(text_rendering.RENDER_MODES),
            "render_fps": 4,
            "is_parallelizable": True,
        }
        chosen = [AgentId(role, number) for role, numbers in out.items() for number in numbers]
        self.agent_ids = {seat.name: seat for seat in chosen}
        self.possible_agents = list(self.agent_ids)
        self.agents: list[str] = []
        # Each agent has spaces of its own: sampling from one must not move another's generator.
        self.observation_spaces = {
            name: gymnasium_spaces.observation_space(get_role(self.environment, seat.role))
            for name, seat in self.agent_ids.items()
        }
        self.action_spaces = {
            name: gymnasium_spaces.action_space(self.environment, seat.role)
            for name, seat in self.agent_ids.items()
        }
        self.state_space = gymnasium_spaces.concatenate_boxes(
            list(self.observation_spaces.values())
        )
        self._num_options = {
            self.agent_ids[name].role: options
            for name, space in self.action_spaces.items()
            if (options := gymnasium_spaces.num_options(space)) is not None
        }
        self._generator: np.random.Generator | None = None

    def observation_space(self, agent: str) -> gymnasium.spaces.Box:
        """What an agent sees: the same object at every call."""
        return self.observation_spaces[agent]

    def action_space(self, agent: str) -> gymnasium_spaces.ActionSpace:
        """What an agent may do: the same object at every call."""
        return self.action_spaces[agent]

    def observe(self, agent: str) -> Observation:
        """What an agent sees now."""
        seat = self.agent_ids[agent]
        return self._observations[seat.role][seat.agent_index].copy()

    def state(self) -> Float[np.ndarray, " all"]:
        """What all outside seats see, one after the other; nothing that is hidden from them."""
        return np.concatenate([self.observe(agent) for agent in self.possible_agents])

    def render(self) -> str | None:
        """What the outside seats see, as text; in mode `human` it is printed at every step."""
        return self._render_text() if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Nothing is held open."""

    def _reset(self, seed: int | None) -> None:
        if seed is not None or self._generator is None:
            self._generator, _ = seeding.np_random(seed)
        self.simulator.reset(int(self._generator.integers(2**63 - 1)))
        self.agents = self.possible_agents[:]
        self._cycles = 0
        self._projected = dict.fromkeys(self.possible_agents, False)
        self._update_observations(None)

    def _acting_agents(self) -> list[str]:
        """Agents that act in this phase."""
        roles = set(self.simulator.acting_roles)
        return [name for name, seat in self.agent_ids.items() if seat.role in roles]

    def _step_phase(self, actions: Mapping[str, Any]) -> _PhaseResult:
        """Let the acting agents act, and play on to the next phase that asks anybody outside."""
        asked = self._acting_agents()
        acts: dict[str, list[torch.Tensor]] = {role: [] for role in self.simulator.acting_roles}
        for name in asked:
            if name not in actions:
                raise UserError(
                    f"no action for {name}, who acts in {self.simulator.phase.name!r}",
                    code="missing",
                    path=f"actions.{name}",
                )
            acts[self.agent_ids[name].role].append(action_to_tensor(actions[name], name))
        turn = self.simulator.step(
            {role: _stack_actions(role, each) for role, each in acts.items()}
        )
        changed = {role: iter(flags[0].tolist()) for role, flags in turn.projected.items()}
        self._projected = dict.fromkeys(self.possible_agents, False)
        for name in asked:
            self._projected[name] = next(changed[self.agent_ids[name].role])
        self._cycles += 1
        self._update_observations(turn.final_observation)
        pay = {role: earned[0].tolist() for role, earned in turn.reward.items()}
        terminated, truncated = bool(turn.terminated[0]), bool(turn.truncated[0])
        if self.max_cycles is not None and self._cycles >= self.max_cycles:
            truncated = not terminated
        return _PhaseResult(
            {name: pay[seat.role][seat.agent_index] for name, seat in self.agent_ids.items()},
            terminated,
            truncated,
        )

    def _update_observations(self, final_observation: Mapping[str, torch.Tensor] | None) -> None:
        """Keep what the seats see now, `[agent, size]` by role; at the end, what they last saw."""
        self._observations = {
            role: (
                self.simulator.observe(role)
                if final_observation is None
                else final_observation[role]
            )[0].numpy()
            for role in self.simulator.external
        }
        if self.render_mode == "human":
            print(self._render_text())

    def _observation_dict(self) -> dict[str, Observation]:
        return {agent: self.observe(agent) for agent in self.possible_agents}

    def _infos(self) -> dict[str, dict[str, Any]]:
        """What every agent is told besides, in objects of their own."""
        acting = set(self.simulator.acting_roles)
        masks = {
            role: self.simulator.action_mask(role, options)[0]
            for role, options in self._num_options.items()
        }
        told = resolve.selected_metrics(self.simulator, self.simulator.state, self.metric_names)
        infos: dict[str, dict[str, Any]] = {}
        for name, seat in self.agent_ids.items():
            infos[name] = {"acting": seat.role in acting, "repaired": self._projected[name]}
            if seat.role in masks:
                mask = masks[seat.role][seat.agent_index]
                infos[name]["action_mask"] = sampling_mask(mask, self._num_options[seat.role])
            infos[name] |= {measure: metric_to_numpy(value[0]) for measure, value in told.items()}
        return infos

    def _render_text(self) -> str:
        told = resolve.selected_metrics(self.simulator, self.simulator.state, self.metric_names)
        return text_rendering.render_text(self.simulator, list(self.agent_ids.values()), told)


class PettingZooParallelEnv(_PettingZooBase, ParallelEnv[str, Observation, Any]):
    """All outside seats act at once: one step is one phase in which somebody outside acts.

    Every agent is listed at every step. Who does not act in a phase has `info["acting"]` False;
    whatever they do is ignored (where actions are choices, only 0 is open to them). `info` also
    holds `action_mask` where actions are choices (int8, as `action_space.sample` takes it: where
    several are made at once, a tuple with a mask for each), `projected`: whether the last action was
    out of range or illegal and had to be changed, and the measures that were asked for.

    Args:
        environment: the name of an environment (`mores list`), or a game.
        external: roles (`person`) and seats (`person_3`) that the client plays; by default all
            roles for which no player is named.
        policies: by role, for the seats inside: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        rounds: length of an episode.
        max_cycles: most steps of an episode; by default there is no limit but `rounds`.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        metric_names: names of measures to put in every seat's info. They may tell what seats must
            not see.
        render_mode: `ansi` gives text, `human` prints it; None shows nothing.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def reset(
        self, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Observation], dict[str, dict[str, Any]]]:
        """Begin an episode. Without a seed, the next one of the generator that was seeded last."""
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
        """Play a phase, and on to the next in which somebody outside acts."""
        if not self.agents:
            return {}, {}, {}, {}, {}
        pay, terminated, truncated = self._step_phase(actions)
        if terminated or truncated:
            self.agents = []
        ends = dict.fromkeys(pay, terminated), dict.fromkeys(pay, truncated)
        return self._observation_dict(), pay, *ends, self._infos()


class PettingZooAECEnv(_PettingZooBase, AECEnv[str, Observation, Any]):
    """Outside seats act one by one: one step is one seat's act, and only who acts is asked.

    Those who act in the same phase all see the same: what they do takes effect when the last of
    them has acted. Arguments and `info` are as in `PettingZooParallelEnv`, and `max_cycles` counts phases.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode. Without a seed, the next one of the generator that was seeded last."""
        self._reset(seed)
        self.rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self.terminations: dict[str, bool] = dict.fromkeys(self.agents, False)
        self.truncations: dict[str, bool] = dict.fromkeys(self.agents, False)
        self._skip_agent_selection = None  # PettingZoo's own: who is next after the dead
        self._select_first_agent()

    def step(self, action: Any) -> None:
        """Let the selected agent act; when the last one of a phase has, it is played."""
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
        """Ask those who act in this phase, one after the other."""
        self._agents_to_act, self._actions = self._acting_agents(), {}
        self.agent_selection = self._agents_to_act.pop(0)
        self.infos = self._infos()


def _stack_actions(role: str, actions: list[torch.Tensor]) -> torch.Tensor:
    """Actions of a role's outside seats in one world, `[1, seat]` or `[1, seat, size]`."""
    shapes = {tuple(act.shape) for act in actions}
    if len(shapes) > 1:
        raise UserError(
            f"actions of {role!r} are of different shapes: {sorted(shapes)}",
            code="wrong_shape",
            path=f"actions.{role}",
        )
    return torch.stack(actions)[None]
