"""Many seats of one world through PettingZoo: all at once (`Parallel`), or one by one (`AEC`)."""

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
from mores.clients.array_conversion import known_mode, numbers, plain, sampling_mask
from mores.clients.resolve import Made, Seat
from mores.core.arguments import names_in
from mores.core.environment import Game, Player, role_named
from mores.core.errors import UserError
from mores.sim.simulator import Population, Table

Observation = Float[np.ndarray, " size"]


class Phase(NamedTuple):
    """What a phase brought: pay by agent, and whether the episode is over."""

    pay: dict[str, float]
    terminated: bool
    truncated: bool


class _Seats:
    """What both interfaces share: the table with one world, names, spaces, sights.

    For the arguments see `Parallel`.
    """

    def __init__(
        self,
        game: str | Game[Any],
        outside: Sequence[str] | None = None,
        players: Mapping[str, Player | Made] | None = None,
        rounds: int = 100,
        max_cycles: int | None = None,
        population: Population | Made | None = None,
        measures: Sequence[str] = (),
        render_mode: str | None = None,
        **parameters: Any,
    ) -> None:
        known_mode(render_mode)
        if max_cycles is not None and max_cycles < 1:
            raise UserError(
                f"max_cycles is at least 1, not {max_cycles}",
                code="out_of_range",
                path="max_cycles",
            )
        self.game = resolve.game_from(game, parameters)
        out = resolve.outside_seats(self.game, outside, players)
        within = resolve.players_from(self.game, players)
        people = resolve.population_from(population)
        self.table = Table(self.game, within, out, 1, rounds, people=people)
        self.max_cycles, self.measures = max_cycles, tuple(names_in("measures", measures))
        self.render_mode = render_mode
        name = game if isinstance(game, str) else type(game).__name__.lower()
        self.metadata = {
            "name": f"{name}_v0",
            "render_modes": list(text_rendering.MODES),
            "render_fps": 4,
            "is_parallelizable": True,
        }
        chosen = [Seat(role, number) for role, numbers in out.items() for number in numbers]
        self.seats = {seat.name: seat for seat in chosen}
        self.possible_agents = list(self.seats)
        self.agents: list[str] = []
        # Each agent has spaces of its own: sampling from one must not move another's generator.
        self.observation_spaces = {
            name: gymnasium_spaces.observation_space(role_named(self.game, seat.role))
            for name, seat in self.seats.items()
        }
        self.action_spaces = {
            name: gymnasium_spaces.action_space(self.game, seat.role)
            for name, seat in self.seats.items()
        }
        self.state_space = gymnasium_spaces.side_by_side(list(self.observation_spaces.values()))
        self._options = {
            self.seats[name].role: options
            for name, space in self.action_spaces.items()
            if (options := gymnasium_spaces.options(space)) is not None
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
        seat = self.seats[agent]
        return self._seen[seat.role][seat.number].copy()

    def state(self) -> Float[np.ndarray, " all"]:
        """What all outside seats see, one after the other; nothing that is hidden from them."""
        return np.concatenate([self.observe(agent) for agent in self.possible_agents])

    def render(self) -> str | None:
        """What the outside seats see, as text; in mode `human` it is printed at every step."""
        return self._page() if self.render_mode == "ansi" else None

    def close(self) -> None:
        """Nothing is held open."""

    def _begin(self, seed: int | None) -> None:
        if seed is not None or self._generator is None:
            self._generator, _ = seeding.np_random(seed)
        self.table.reset(int(self._generator.integers(2**63 - 1)))
        self.agents = self.possible_agents[:]
        self._cycles = 0
        self._repaired = dict.fromkeys(self.possible_agents, False)
        self._look(None)

    def _acting(self) -> list[str]:
        """Agents that act in this phase."""
        roles = set(self.table.acting)
        return [name for name, seat in self.seats.items() if seat.role in roles]

    def _play(self, actions: Mapping[str, Any]) -> Phase:
        """Let the acting agents act, and play on to the next phase that asks anybody outside."""
        asked = self._acting()
        acts: dict[str, list[torch.Tensor]] = {role: [] for role in self.table.acting}
        for name in asked:
            if name not in actions:
                raise UserError(
                    f"no action for {name}, who acts in {self.table.phase.name!r}",
                    code="missing",
                    path=f"actions.{name}",
                )
            acts[self.seats[name].role].append(numbers(actions[name], name))
        turn = self.table.step({role: _together(role, each) for role, each in acts.items()})
        changed = {role: iter(flags[0].tolist()) for role, flags in turn.repaired.items()}
        self._repaired = dict.fromkeys(self.possible_agents, False)
        for name in asked:
            self._repaired[name] = next(changed[self.seats[name].role])
        self._cycles += 1
        self._look(turn.final)
        pay = {role: earned[0].tolist() for role, earned in turn.pay.items()}
        terminated, truncated = bool(turn.terminated[0]), bool(turn.truncated[0])
        if self.max_cycles is not None and self._cycles >= self.max_cycles:
            truncated = not terminated
        return Phase(
            {name: pay[seat.role][seat.number] for name, seat in self.seats.items()},
            terminated,
            truncated,
        )

    def _look(self, final: Mapping[str, torch.Tensor] | None) -> None:
        """Keep what the seats see now, `[agent, size]` by role; at the end, what they last saw."""
        self._seen = {
            role: (self.table.observe(role) if final is None else final[role])[0].numpy()
            for role in self.table.outside
        }
        if self.render_mode == "human":
            print(self._page())

    def _sights(self) -> dict[str, Observation]:
        return {agent: self.observe(agent) for agent in self.possible_agents}

    def _infos(self) -> dict[str, dict[str, Any]]:
        """What every agent is told besides, in objects of their own."""
        acting = set(self.table.acting)
        masks = {role: self.table.mask(role, options)[0] for role, options in self._options.items()}
        told = resolve.chosen_measures(self.table, self.table.state, self.measures)
        infos: dict[str, dict[str, Any]] = {}
        for name, seat in self.seats.items():
            infos[name] = {"acting": seat.role in acting, "repaired": self._repaired[name]}
            if seat.role in masks:
                mask = masks[seat.role][seat.number]
                infos[name]["action_mask"] = sampling_mask(mask, self._options[seat.role])
            infos[name] |= {measure: plain(value[0]) for measure, value in told.items()}
        return infos

    def _page(self) -> str:
        told = resolve.chosen_measures(self.table, self.table.state, self.measures)
        return text_rendering.page(self.table, list(self.seats.values()), told)


class Parallel(_Seats, ParallelEnv[str, Observation, Any]):
    """All outside seats act at once: one step is one phase in which somebody outside acts.

    Every agent is listed at every step. Who does not act in a phase has `info["acting"]` False;
    whatever they do is ignored (where actions are choices, only 0 is open to them). `info` also
    holds `action_mask` where actions are choices (int8, as `action_space.sample` takes it: where
    several are made at once, a tuple with a mask for each), `repaired`: whether the last action was
    out of range or illegal and had to be changed, and the measures that were asked for.

    Args:
        game: the name of an environment (`mores list`), or a game.
        outside: roles (`person`) and seats (`person_3`) that the client plays; by default all
            roles for which no player is named.
        players: by role, for the seats inside: `{"person": {"kind": "respondent"}}`, or ready
            players; by default the game's baseline.
        rounds: length of an episode.
        max_cycles: most steps of an episode; by default there is no limit but `rounds`.
        population: where people come from: `{"kind": "anes96"}`; by default the game's own.
        measures: names of measures to put in every seat's info. They may tell what seats must
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
        self._begin(seed)
        return self._sights(), self._infos()

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
        pay, terminated, truncated = self._play(actions)
        if terminated or truncated:
            self.agents = []
        ends = dict.fromkeys(pay, terminated), dict.fromkeys(pay, truncated)
        return self._sights(), pay, *ends, self._infos()


class AEC(_Seats, AECEnv[str, Observation, Any]):
    """Outside seats act one by one: one step is one seat's act, and only who acts is asked.

    Those who act in the same phase all see the same: what they do takes effect when the last of
    them has acted. Arguments and `info` are as in `Parallel`, and `max_cycles` counts phases.
    """

    def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Begin an episode. Without a seed, the next one of the generator that was seeded last."""
        self._begin(seed)
        self.rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards: dict[str, float] = dict.fromkeys(self.agents, 0.0)
        self.terminations: dict[str, bool] = dict.fromkeys(self.agents, False)
        self.truncations: dict[str, bool] = dict.fromkeys(self.agents, False)
        self._skip_agent_selection = None  # PettingZoo's own: who is next after the dead
        self._ask()

    def step(self, action: Any) -> None:
        """Let the selected agent act; when the last one of a phase has, it is played."""
        agent = self.agent_selection
        if self.terminations[agent] or self.truncations[agent]:
            self._was_dead_step(action)
            return
        self._cumulative_rewards[agent] = 0.0
        self._clear_rewards()
        self._acts[agent] = action
        if self._waiting:
            self.agent_selection = self._waiting.pop(0)
            return
        self.rewards, terminated, truncated = self._play(self._acts)
        self._accumulate_rewards()
        if terminated or truncated:
            self.terminations = dict.fromkeys(self.agents, terminated)
            self.truncations = dict.fromkeys(self.agents, truncated)
            self.infos = self._infos()
            self.agent_selection = self.agents[0]
        else:
            self._ask()

    def _ask(self) -> None:
        """Ask those who act in this phase, one after the other."""
        self._waiting, self._acts = self._acting(), {}
        self.agent_selection = self._waiting.pop(0)
        self.infos = self._infos()


def _together(role: str, acts: list[torch.Tensor]) -> torch.Tensor:
    """Actions of a role's outside seats in one world, `[1, seat]` or `[1, seat, size]`."""
    shapes = {tuple(act.shape) for act in acts}
    if len(shapes) > 1:
        raise UserError(
            f"actions of {role!r} are of different shapes: {sorted(shapes)}",
            code="wrong_shape",
            path=f"actions.{role}",
        )
    return torch.stack(acts)[None]
