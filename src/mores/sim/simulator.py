"""The one loop of the house: worlds played until somebody outside must act.

Every view stands on the `Table`, and so does `play`, which is a table with nobody outside. It
owns the seats, the players' memories, the clock and the end of episodes; what is owed and told
for them stands in its books (`mores.sim.reward_ledger`).
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core import pytree
from mores.core.arguments import device_of, whole_number
from mores.core.environment import Discrete, Game, Outcome, Phase, Player, Role
from mores.core.errors import UserError
from mores.core.people import Population as Population
from mores.core.random_streams import Draws, Worlds
from mores.sim import action_masks, simulator_state
from mores.sim.action_validation import Repaired, repair
from mores.sim.check_policies import check_seats
from mores.sim.episode_dataset import Diary
from mores.sim.reward_ledger import Books


class Turn(NamedTuple):
    """What happened since the outside seats last acted.

    Attributes:
        pay: what the seats of each outside role earned, `[world, agent]`.
        terminated, truncated: worlds whose episode ended by itself, or by the limit of rounds.
        final: in those worlds, what each outside role last saw, `[world, agent, size]`; else None.
        repaired: outside actions that were out of range or illegal and had to be changed.
        ended_in: the state of all worlds in which some ended, before any began anew; else None.
    """

    pay: dict[str, Float[Tensor, "world agent"]]
    terminated: Bool[Tensor, " world"]
    truncated: Bool[Tensor, " world"]
    final: dict[str, Float[Tensor, "world agent size"]] | None
    repaired: dict[str, Bool[Tensor, "world seat"]]
    ended_in: Any = None


class Table:
    """A game being played in many worlds.

    Args:
        game: the environment.
        players: who sits where, by role.
        outside: seats filled from outside, by role; a player fills the other seats of the role.
        worlds: how many worlds, or the replicates to play, or a `Worlds`.
        rounds: after so many an episode is cut off.
        autoreset: begin a new episode at once in the worlds that ended; else they stand still.
        people: a population that makes the people of every episode.
        stage: number of the stage, so that stages have draws of their own.
        device: where tensors live.
        learning: roles whose players may learn from reward; by default all that can.
        assisting: players that can search when they decide do so (`Player.assist`).
        diary: told what everybody saw, did and earned.

    Attributes:
        learners: roles whose players learn from reward here.
    """

    def __init__(
        self,
        game: Game[Any],
        players: Mapping[str, Player] | None = None,
        outside: Mapping[str, Sequence[int]] | None = None,
        worlds: int | Sequence[int] | Worlds = 1,
        rounds: int = 100,
        autoreset: bool = False,
        people: Population | None = None,
        stage: int = 0,
        device: torch.device | str = "cpu",
        learning: Collection[str] | None = None,
        assisting: bool = False,
        diary: Diary | None = None,
    ) -> None:
        self.game, self.rounds, self.autoreset = game, whole_number("rounds", rounds), autoreset
        self.worlds = Worlds.of(worlds)
        self.people, self.stage, self.device = people, stage, device_of(device)
        self.roles: dict[str, Role] = {role.name: role for role in game.roles}
        self.phases: tuple[Phase, ...] = game.phases
        self.outside = {name: list(seats) for name, seats in (outside or {}).items() if seats}
        if not len(self.worlds):
            raise UserError("a table needs at least one world", code="out_of_range", path="worlds")
        check_seats(self.roles, self.phases, players or {}, self.outside)
        self.players = {
            name: player
            for name, player in (players or {}).items()
            if len(self.outside.get(name, ())) < self.roles[name].count
        }
        self.assisting, self._diary = assisting, diary
        self.learners = [
            name
            for name, player in self.players.items()
            if player.can("learn") and (learning is None or name in learning)
        ]
        self._seats = {
            name: torch.tensor(seats, device=self.device) for name, seats in self.outside.items()
        }
        self._outside_acting = [
            [name for name in phase.acts if name in self.outside] for phase in self.phases
        ]
        self._nobody = torch.zeros(len(self.worlds), dtype=torch.bool, device=self.device)
        counts = {name: role.count for name, role in self.roles.items()}
        self.books = Books(
            counts, len(self.worlds), self.outside, self.learners, diary, self.device
        )
        self.seed: int | None = None

    # --- the episode -------------------------------------------------------------------------

    def reset(self, seed: int, memory: Mapping[str, Any] | None = None) -> None:
        """Begin the first episode in every world, and play on to the first outside turn.

        Args:
            seed: of all draws.
            memory: by role, what players bring from an earlier stage; they begin `again` with it.
        """
        self.seed = seed
        self.episode = torch.zeros(len(self.worlds), dtype=torch.int64)
        self._open_span(torch.zeros_like(self.episode))
        everyone = ~self._nobody
        self.state, begin = self._fresh(everyone.cpu())
        kept = memory or {}
        self.memory = {}
        for name, fresh in begin.items():
            player = self.players[name]
            if name in kept:
                moved = player.move_on(kept[name], self.roles[name])
                self.memory[name] = player.again(moved, fresh, everyone)
            else:
                self.memory[name] = fresh()
        self.join()
        self._begin()

    def join(self) -> None:
        """Let equal players at several roles share what they learn, if that is how they are."""
        first: list[str] = []
        for name, player in self.players.items():
            if not player.can("join"):
                continue
            equal = next((other for other in first if self.players[other] == player), None)
            if equal is None:
                first.append(name)
            else:
                self.memory[name] = player.join(self.memory[name], self.memory[equal])

    def next_episode(self) -> None:
        """Begin a new episode in every world, wherever it stands."""
        if self.seed is None:
            raise UserError("reset the table before the next episode", code="wrong_order")
        self._restart(~self._nobody)
        self._begin()

    def _begin(self) -> None:
        """The clock and the books at an episode's start."""
        self.over: Bool[Tensor, " world"] | None = None
        self._at = 0
        self.books.open()
        while self.outside and not self.acting:
            self._play_phase({})

    def _open_span(self, rounds: Tensor) -> None:
        """From here on worlds stand at these rounds, `[world]`."""
        assert self.seed is not None
        equal = bool((rounds == rounds[0]).all())
        self._draws = Draws.of(
            self.seed,
            self.worlds,
            stage=self.stage,
            episode=self.episode,
            round=int(rounds[0]) if equal else rounds,
            device=self.device,
        )
        self._offset = 0  # rounds since the span was opened
        self._furthest = int(rounds.max())  # the most advanced world, known without a look

    def _fresh(self, over: Tensor) -> tuple[Any, dict[str, Callable[[], Any]]]:
        """First state of the worlds `over`, and what makes players' first memories of them."""
        draws = self._draws.take(over.nonzero()[:, 0].to(self.device)).within("start")
        start = None if self.people is None else self.people.people(draws.within("people"))
        state = self.game.reset(draws.within("game"), start)
        memory = {
            name: functools.partial(
                player.start, self.roles[name], self.phases, draws.within(f"player/{name}")
            )
            for name, player in self.players.items()
        }
        return state, memory

    def _restart(self, over: Tensor) -> None:
        """Begin a new episode in the worlds `over`."""
        on_host = over.cpu()
        self.episode = self.episode + on_host
        self._open_span(torch.where(on_host, 0, self.round.cpu()))
        state, memory = self._fresh(on_host)
        self.state = pytree.put(self.state, state, over)
        for name, player in self.players.items():
            self.memory[name] = player.again(self.memory[name], memory[name], over)

    # --- what is known from outside -----------------------------------------------------------

    @property
    def phase(self) -> Phase:
        """The phase to be played next."""
        return self.phases[self._at]

    @property
    def acting(self) -> list[str]:
        """Outside roles that must act now."""
        return self._outside_acting[self._at]

    @property
    def round(self) -> Int[Tensor, " world"]:
        """Rounds each world has completed in its episode."""
        return self._draws.round + self._offset

    @property
    def finished(self) -> bool:
        """No world plays on."""
        return self.over is not None and bool(self.over.all())

    def observe(self, role: str) -> Float[Tensor, "world agent size"]:
        """What the seats of a role see now."""
        return self.game.observe(self.state, role, self.phase.name)

    def mask(self, role: str, options: action_masks.Options) -> Bool[Tensor, "world agent option"]:
        """Which of so many options are open to each seat now, in one choice or each of several.

        A waiting seat has the first, and it is ignored. Masks of several choices stand one after
        the other.
        """
        length = sum(options) if isinstance(options, tuple) else options
        blank = self._nobody[:, None, None].expand(-1, self.roles[role].count, length)
        space = self.phase.acts.get(role)
        legal = None if space is None else self.game.legal(self.state, role, self.phase.name)
        return action_masks.lay_out(space, legal, options, blank)

    # --- playing --------------------------------------------------------------------------------

    def step(self, given: Mapping[str, Tensor] | None = None) -> Turn:
        """Let the outside seats act, and play on until they must act again.

        Args:
            given: by role, the actions of its outside seats: `[world, seat]`, or
                `[world, seat, size]` where a seat gives several numbers. With nobody outside, one
                whole round is played.
        """
        if self.seed is None:
            raise UserError("reset the table before the first step", code="wrong_order")
        if self.finished:
            raise UserError("every world has ended: reset the table", code="wrong_order")
        given = given or {}
        if wrong := given.keys() ^ set(self.acting):
            missing = sorted(wrong - given.keys())
            raise UserError(
                f"{self.acting} must act now, and nobody else; got {sorted(given)}",
                code="missing" if missing else "unknown_name",
                path=f"actions.{(missing or sorted(wrong))[0]}",
            )
        terminated = truncated = self._nobody
        final, ended_in, owed_then = None, None, None
        repaired = self._play_phase(given)
        while True:
            if self._at == 0 and self._may_end():
                terminated, truncated = self._ends()
                over = terminated | truncated
                if over.any():
                    final = {name: self._last_sight(name) for name in self.outside}
                    ended_in = self.state
                    if self.autoreset:
                        self._restart(over)
                        owed_then = self.books.cut(over)
                    else:
                        self.over = over if self.over is None else self.over | over
                        if self.finished:
                            break
            if self.acting or (self._at == 0 and not self.outside):
                break
            self._play_phase({})
        pay = self.books.settle(terminated | truncated, owed_then)
        return Turn(pay, terminated, truncated, final, repaired, ended_in)

    def _play_phase(self, given: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """One phase: all its roles see the same state, act, and the worlds move."""
        phase, before = self.phase, self.state
        game, draws = self.game, self._draws.at(self._offset)
        actions: dict[str, Tensor] = {}
        repaired: dict[str, Tensor] = {}
        for name in phase.acts:
            if name in self.players:
                player = self.players[name]
                decide = player.assist if self.assisting else player.act
                act = decide(
                    phase,
                    game.observe(before, name, phase.name),
                    game.legal(before, name, phase.name),
                    self.memory[name],
                    draws.within(f"player/{name}/{phase.name}"),
                )
                actions[name] = act.action
                self._remember(name, act.memory)
            if name in given:
                theirs, repaired[name] = self._repair(name, given[name])
                inside = actions.get(name, theirs)  # nobody inside: all seats are overwritten
                actions[name] = inside.index_copy(1, self._seats[name], theirs)
        if self._diary is not None:
            for name, action in actions.items():
                seen = game.observe(before, name, phase.name)
                legal = game.legal(before, name, phase.name)
                self._diary.acted(name, phase, seen, action, legal)
        step = game.step(before, phase.name, actions, draws.within("game"))
        self.state = (
            step.state if self.over is None else pytree.where(self.over, before, step.state)
        )
        if self.books.kept:
            self.books.pay(step.reward, self.over)
            self.books.tell(step.feedback)
        self._at = (self._at + 1) % len(self.phases)
        if self._at == 0:
            self._ended = step.ended
            self._offset += 1
            if self.learners or self._diary is not None:
                self._round_over(draws)
        return repaired

    def _remember(self, name: str, memory: Any) -> None:
        """Keep a player's memory; in worlds that are over it stands still, as their state does."""
        held = self.memory[name]
        self.memory[name] = memory if self.over is None else pytree.where(self.over, held, memory)

    def _round_over(self, draws: Draws) -> None:
        """Tell the players that learn what the round just completed led to."""
        terminated, truncated = self._ends()
        over = self._nobody if self.over is None else self.over
        if self._diary is not None:
            self._diary.round(terminated | truncated, over)
        for name in self.learners:
            earned, told = self.books.round(name)
            seen = self._last_sight(name)
            outcome = Outcome(earned, terminated, truncated, over, seen, told)
            learned = self.players[name].learn(
                self.memory[name], outcome, draws.within(f"learner/{name}")
            )
            self._remember(name, learned)

    def _ends(self) -> tuple[Tensor, Tensor]:
        """Which worlds ended in the round just completed: by themselves, by the limit."""
        terminated = self._nobody if self._ended is None else self._ended
        truncated = self._nobody
        if self._furthest + self._offset >= self.rounds:
            truncated = (self.round >= self.rounds) & ~terminated
        if self.over is not None:
            terminated, truncated = terminated & ~self.over, truncated & ~self.over
        return terminated, truncated

    def _may_end(self) -> bool:
        """Whether any world can have ended now, as far as is known without looking at tensors."""
        return self._ended is not None or self._furthest + self._offset >= self.rounds

    def _last_sight(self, name: str) -> Tensor:
        first = next(phase.name for phase in self.phases if name in phase.acts)
        return self.game.observe(self.state, name, first)

    def _repair(self, name: str, action: Tensor) -> Repaired:
        """What the outside seats of a role do, made legal."""
        space, seats = self.phase.acts[name], self._seats[name]
        expected = (len(self.worlds), len(seats))
        several = not isinstance(space, Discrete)
        if tuple(action.shape[:2]) != expected or action.dim() != 2 + several:
            wanted = (*expected, space.size) if several else expected
            raise UserError(
                f"actions of {name!r} are {wanted}, not {tuple(action.shape)}",
                code="wrong_shape",
                path=f"actions.{name}",
            )
        legal = self.game.legal(self.state, name, self.phase.name)
        if legal is not None:
            legal = legal[:, seats]
        return repair(space, action.to(self.device), legal, name)

    def state_dict(self) -> dict[str, Tensor]:
        """All that is needed to play on from here, as named tensors."""
        return simulator_state.state_dict(self)

    def load_state_dict(self, saved: Mapping[str, Tensor]) -> None:
        """Play on from a saved state of a table made with the same arguments.

        Raises:
            UserError: it was saved from another kind of table.
        """
        simulator_state.load_state_dict(self, saved)
