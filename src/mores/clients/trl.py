"""A game whose seats are played by the model that TRL trains: rollouts for its `GRPOTrainer`.

The game drives, TRL only updates: `Rollouts` is a `rollout_func`. A row of data names a world; rows
of the same world that follow each other, a group of GRPO, are the same world played as often, with
the same people and the same chance, so that its members differ by what the model did and by nothing
else. Every turn the model is told what its seat sees and replies; what it is told in between has
`env_mask` 0 and is not learned from.

    rollouts = Rollouts("commission", Speaker(), seat="principal_0", rounds=3)
    trainer = GRPOTrainer(model, rollouts.reward("pay"), args, train_dataset=rollouts.rows(64),
                          processing_class=tokenizer, rollout_func=rollouts)

Reward functions get what was earned, by whom: `pay` of the seat itself, `pay_<role>` of each seat
of every role, `told_<name>` the sums of numbers that the game's feedback tells the seat (a reward
from each principal, say), `unread` replies that were no legal act, `turns`, and the measures that
were asked for, at the end of the episode. `Rollouts.reward` makes a reward function of any of them.

How a game is told, and how the model replies, is the speaker's business:
`mores.agents.language.lm_policy.Speaker` is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mores.clients import resolve
from mores.core.environment import Game, Player, Role
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import Draws, Worlds
from mores.sim.episode_dataset import Diary
from mores.sim.simulator import Table

PROMPT = re.compile(r"world (\d+)")


@runtime_checkable
class Dialogues(Protocol):
    """What a model heard and said at several seats, as tokens; see `language.speaker`."""

    prompts: list[list[int]]
    completions: list[list[int]]
    masks: list[list[int]]
    logps: list[list[float]]

    def answer(self, phase: Any, seen: Any, legal: Any, going: Any, chance: Any) -> Tensor:
        """Acts of the seats, `[dialogue]` or `[dialogue, size]`."""
        ...


@runtime_checkable
class Speaker(Protocol):
    """Somebody who can have dialogues with a model about a game."""

    def check(self, phases: Any, role: Role) -> None:
        """Refuse a game that it cannot talk about."""
        ...

    def dialogues(
        self, model: Any, tokenizer: Any, role: Role, count: int, temperature: float
    ) -> Any:
        """So many dialogues, in which nothing was said yet: see `Dialogues`."""
        ...


class Rollouts:
    """Rollouts of a game for TRL's `GRPOTrainer`, and the rows and rewards that go with them.

    Args:
        game: the name of an environment, or a game.
        speaker: how the model is told the game and how it replies.
        seat: the seat the model takes, as in `person_3`, or a role: all its seats, which then
            share a group of completions evenly; by default the first seat of the role with the
            fewest.
        rounds: length of an episode.
        players: by role, for all other seats; by default the game's baseline.
        population: where people come from; by default the game's own.
        measures: names of measures to give to reward functions.
        seed: of all draws.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        game: str | Game[Any],
        speaker: Speaker,
        seat: str | None = None,
        rounds: int = 10,
        players: Mapping[str, Player | resolve.Made] | None = None,
        population: Any = None,
        measures: Sequence[str] = (),
        seed: int = 0,
        **parameters: Any,
    ) -> None:
        self.game, self.speaker = resolve.game_from(game, parameters), speaker
        self.rounds, self.seed, self.measures = rounds, seed, tuple(measures)
        counts = {role.name: role.count for role in self.game.roles}
        if seat in counts:
            self.role, self.seats = seat, list(range(counts[seat]))
        else:
            one = resolve.one_seat(self.game, seat)
            self.role, self.seats = one.role, [one.number]
        self.players = resolve.players_from(self.game, players)
        self.population = resolve.population_from(population)
        self._plays = next(role for role in self.game.roles if role.name == self.role)
        self._calls: dict[tuple[str, int], int] = {}
        self._table(Worlds.of(1), None)  # complains now of what does not fit
        speaker.check(self.game.phases, self._plays)

    def rows(self, worlds: int | Sequence[int]) -> Any:
        """A data set for the trainer: a row a world, `prompt` and `world`.

        Args:
            worlds: how many, or their numbers. Each is played anew whenever its row comes up, by
                the same people and the same chance: many worlds are better than many epochs.
        """
        try:
            from datasets import Dataset  # type: ignore[import-untyped]
        except ImportError as error:
            raise UserError(
                f"datasets is not installed ({error}): pip install 'mores[hf]'",
                code="not_installed",
                path="datasets",
            ) from None
        numbers = list(range(worlds)) if isinstance(worlds, int) else [int(n) for n in worlds]
        if not numbers or min(numbers) < 0:
            raise UserError(
                f"worlds are numbered from 0, and there is at least one: {worlds}",
                code="out_of_range",
                path="worlds",
            )
        return Dataset.from_dict({"prompt": [f"world {n}" for n in numbers], "world": numbers})

    def reward(self, field: str, place: int | None = None) -> Callable[..., list[float]]:
        """A reward function of TRL's: one of the fields of the module's docstring.

        Args:
            field: its name.
            place: which number of it, where it has several (a seat of the role, a principal); by
                default their sum.
        """

        def reward(**given: Any) -> list[float]:
            if field not in given:
                raise UserError(
                    f"rollouts give no {field!r}{did_you_mean(field, given)}",
                    code="unknown_name",
                    path=field,
                )
            return [_number(value, field, place) for value in given[field]]

        reward.__name__ = field if place is None else f"{field}_{place}"
        return reward

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        """Play the worlds that these prompts name, by the trainer's model.

        Args:
            prompts: `world 3`, ...; a world that follows itself is one group.
            trainer: of TRL.

        Raises:
            UserError: a prompt that names no world, or groups that cannot be shared evenly.
        """
        numbers = self._worlds(prompts)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        draws = self._draws(numbers, trainer)
        dialogues = self.speaker.dialogues(
            model,
            trainer.processing_class,
            self._plays,
            len(prompts),
            trainer.args.temperature,
        )
        fields = self._play(numbers[:: len(self.seats)], dialogues, draws)
        return {
            "prompt_ids": dialogues.prompts,
            "completion_ids": dialogues.completions,
            "logprobs": dialogues.logps,
            "env_mask": dialogues.masks,
            **fields,
        }

    # --- worlds --------------------------------------------------------------------------------

    def _worlds(self, prompts: Sequence[Any]) -> list[int]:
        """The world of each prompt."""
        numbers = []
        for prompt in prompts:
            named = PROMPT.fullmatch(prompt) if isinstance(prompt, str) else None
            if named is None:
                raise UserError(
                    f"a prompt names a world, as in 'world 3', not {prompt!r}: use rows()",
                    code="invalid_value",
                    path="prompt",
                )
            numbers.append(int(named[1]))
        several = len(self.seats)
        for start in range(0, len(numbers), several):
            if len(set(numbers[start : start + several])) > 1 or len(numbers) % several:
                raise UserError(
                    f"{several} seats of {self.role!r} share each group: num_generations must be "
                    f"a multiple of {several}",
                    code="invalid_value",
                    path="num_generations",
                )
        return numbers

    def _table(self, worlds: Worlds, diary: Diary | None) -> Table:
        return Table(
            self.game,
            self.players,
            {self.role: self.seats},
            worlds,
            self.rounds,
            people=self.population,
            diary=diary,
        )

    def _draws(self, numbers: Sequence[int], trainer: Any) -> Draws:
        """Chance of the model's replies: another at every call, for every completion."""
        mode = "train" if trainer.model.training else "eval"
        step = int(trainer.state.global_step)
        call = self._calls.get((mode, step), 0)
        self._calls = {(m, s): n for (m, s), n in self._calls.items() if m != mode}
        self._calls[mode, step] = call + 1
        first = trainer.accelerator.process_index * len(numbers)
        place = torch.arange(first, first + len(numbers))
        worlds = Worlds(torch.tensor(numbers, dtype=torch.int64), place)
        return Draws.of(self.seed, worlds, stage=call, episode=step).within(f"replies/{mode}")

    # --- playing -------------------------------------------------------------------------------

    def _play(self, numbers: Sequence[int], dialogues: Dialogues, draws: Draws) -> dict[str, Any]:
        """One episode in each of these worlds; returns fields of each dialogue."""
        replicate = torch.tensor(numbers, dtype=torch.int64)
        books = _Books([role.name for role in self.game.roles])
        table = self._table(Worlds(replicate, torch.zeros_like(replicate)), books)
        table.reset(self.seed)
        several = len(self.seats)
        own = torch.zeros(len(numbers), several)
        unread = torch.zeros(len(numbers), several, dtype=torch.int64)
        turns = torch.zeros(len(numbers), dtype=torch.int64)
        while not table.finished:
            over = torch.zeros(len(numbers), dtype=torch.bool) if table.over is None else table.over
            acts = dialogues.answer(
                table.phase,
                table.observe(self.role)[:, self.seats].flatten(0, 1),
                self._legal(table),
                (~over).repeat_interleave(several),
                _chance(draws.at(int(table.round.max())).within(table.phase.name)),
            )
            turns += ~over
            turn = table.step({self.role: acts.unflatten(0, (len(numbers), several))})
            own += turn.pay[self.role][:, self.seats]
            unread += turn.repaired[self.role] & ~over[:, None]
        fields = {
            "pay": own.flatten().tolist(),
            "unread": unread.flatten().tolist(),
            "turns": turns.repeat_interleave(several).tolist(),
        }
        for name, earned in books.pay.items():
            fields[f"pay_{name}"] = earned.repeat_interleave(several, 0).tolist()
        for name, told in books.feedback.get(self.role, {}).items():
            fields[f"told_{name}"] = told[:, self.seats].flatten(0, 1).tolist()
        for name, value in resolve.chosen_measures(table, table.state, self.measures).items():
            fields[name] = value.repeat_interleave(several, 0).tolist()
        return fields

    def _legal(self, table: Table) -> Tensor | None:
        """Options open to each dialogue; `None`: all."""
        legal = self.game.legal(table.state, self.role, table.phase.name)
        return None if legal is None else legal[:, self.seats].flatten(0, 1)


class _Books(Diary):
    """Sums of what everybody earned, and of the numbers they were told, until their world ended."""

    def __init__(self, roles: Sequence[str]) -> None:
        super().__init__(roles)
        self.pay: dict[str, Tensor] = {}
        self.feedback: dict[str, dict[str, Tensor]] = {role: {} for role in roles}
        self._still: Tensor | None = None

    def acted(
        self, role: str, phase: Any, seen: Tensor, action: Tensor, legal: Tensor | None = None
    ) -> None:
        """Is not kept."""

    def paid(self, role: str, reward: Tensor) -> None:
        """Add up what was earned."""
        self.pay[role] = reward + self.pay[role] if role in self.pay else reward

    def told(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Add up numbers that were told."""
        kept = self.feedback[role]
        for name, told in feedback.items():
            if not told.is_floating_point():
                continue
            if self._still is not None:
                told = torch.where(self._still.view(-1, *[1] * (told.dim() - 1)), 0.0, told)
            kept[name] = told + kept[name] if name in kept else told

    def round(self, ended: Tensor, over: Tensor) -> None:
        """From now on these worlds stand still."""
        self._still = ended | over


def _chance(draws: Draws) -> Callable[[str, int], Tensor]:
    """Uniform numbers of each dialogue, by purpose."""
    return lambda purpose, width: draws.uniform(purpose, 1, width)[:, 0]


def _number(value: Any, field: str, place: int | None) -> float:
    """A field of one completion as one number."""
    if not isinstance(value, (list, tuple)):
        if place is not None:
            raise UserError(
                f"{field!r} is one number, and has no place {place}", code="conflict", path="place"
            )
        return float(value)
    if place is None:
        return float(sum(value))
    if not 0 <= place < len(value):
        raise UserError(
            f"{field!r} has places 0 to {len(value) - 1}, not {place}",
            code="out_of_range",
            path="place",
        )
    return float(value[place])
