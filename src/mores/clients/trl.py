"""A game whose seats are played by the model that TRL trains: rollouts for its `GRPOTrainer`.

The game drives, TRL only updates: `TRLRollouts` is a `rollout_func`. A row of data names a world; rows
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
were asked for, at the end of the episode. `TRLRollouts.reward_function` makes a reward function of any of them.

How a game is told, and how the model replies, is the speaker's business:
`mores.agents.language.lm_policy.DialoguePolicy` is one.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mores.clients import resolve
from mores.core.environment import Environment, Policy, Role
from mores.core.errors import UserError, did_you_mean
from mores.core.random_streams import RandomStreams, Worlds
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.simulator import Simulator

PROMPT = re.compile(r"world (\d+)")


@runtime_checkable
class DialoguesProtocol(Protocol):
    """What a model heard and said at several seats, as tokens; see `language.speaker`."""

    prompts: list[list[int]]
    completions: list[list[int]]
    masks: list[list[int]]
    logps: list[list[float]]

    def act(
        self, phase: Any, observation: Any, action_mask: Any, active: Any, uniforms: Any
    ) -> Tensor:
        """Acts of the seats, `[dialogue]` or `[dialogue, size]`."""
        ...


@runtime_checkable
class LMPolicyProtocol(Protocol):
    """Somebody who can have dialogues with a model about a game."""

    def check(self, phases: Any, role: Role) -> None:
        """Refuse a game that it cannot talk about."""
        ...

    def start_dialogues(
        self, model: Any, tokenizer: Any, role: Role, num_dialogues: int, temperature: float
    ) -> Any:
        """So many dialogues, in which nothing was said yet: see `DialoguesProtocol`."""
        ...


class TRLRollouts:
    """Rollouts of a game for TRL's `GRPOTrainer`, and the rows and rewards that go with them.

    Args:
        environment: the name of an environment, or a game.
        lm_policy: how the model is told the game and how it replies.
        agent: the seat the model takes, as in `person_3`, or a role: all its seats, which then
            share a group of completions evenly; by default the first seat of the role with the
            fewest.
        rounds: length of an episode.
        policies: by role, for all other seats; by default the game's baseline.
        population: where people come from; by default the game's own.
        metrics: names of measures to give to reward functions.
        seed: of all draws.
        **parameters: of the environment, where it is given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        lm_policy: LMPolicyProtocol,
        agent: str | None = None,
        rounds: int = 10,
        policies: Mapping[str, Policy | resolve.SpecMapping] | None = None,
        population: Any = None,
        metrics: Sequence[str] = (),
        seed: int = 0,
        **parameters: Any,
    ) -> None:
        self.environment, self.lm_policy = (
            resolve.resolve_environment(environment, parameters),
            lm_policy,
        )
        self.rounds, self.seed, self.metric_names = rounds, seed, tuple(metrics)
        counts = {role.name: role.num_agents for role in self.environment.roles}
        if agent in counts:
            self.role, self.agent_indices = agent, list(range(counts[agent]))
        else:
            one = resolve.resolve_agent(self.environment, agent)
            self.role, self.agent_indices = one.role, [one.agent_index]
        self.policies = resolve.resolve_policies(self.environment, policies)
        self.population = resolve.resolve_population(population)
        self._role_definition = next(
            role for role in self.environment.roles if role.name == self.role
        )
        self._calls: dict[tuple[str, int], int] = {}
        self._make_simulator(Worlds.of(1), None)  # complains now of what does not fit
        lm_policy.check(self.environment.phases, self._role_definition)

    def dataset(self, worlds: int | Sequence[int]) -> Any:
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

    def reward_function(self, field: str, index: int | None = None) -> Callable[..., list[float]]:
        """A reward function of TRL's: one of the fields of the module's docstring.

        Args:
            field: its name.
            index: which number of it, where it has several (a seat of the role, a principal); by
                default their sum.
        """

        def reward(**given: Any) -> list[float]:
            if field not in given:
                raise UserError(
                    f"rollouts give no {field!r}{did_you_mean(field, given)}",
                    code="unknown_name",
                    path=field,
                )
            return [_to_scalar(value, field, index) for value in given[field]]

        reward.__name__ = field if index is None else f"{field}_{index}"
        return reward

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        """Play the worlds that these prompts name, by the trainer's model.

        Args:
            prompts: `world 3`, ...; a world that follows itself is one group.
            trainer: of TRL.

        Raises:
            UserError: a prompt that names no world, or groups that cannot be shared evenly.
        """
        numbers = self._world_numbers(prompts)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        draws = self._reply_streams(numbers, trainer)
        dialogues = self.lm_policy.start_dialogues(
            model,
            trainer.processing_class,
            self._role_definition,
            len(prompts),
            trainer.args.temperature,
        )
        fields = self._simulate(numbers[:: len(self.agent_indices)], dialogues, draws)
        return {
            "prompt_ids": dialogues.prompts,
            "completion_ids": dialogues.completions,
            "logprobs": dialogues.logps,
            "env_mask": dialogues.masks,
            **fields,
        }

    # --- worlds --------------------------------------------------------------------------------

    def _world_numbers(self, prompts: Sequence[Any]) -> list[int]:
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
        several = len(self.agent_indices)
        for start in range(0, len(numbers), several):
            if len(set(numbers[start : start + several])) > 1 or len(numbers) % several:
                raise UserError(
                    f"{several} seats of {self.role!r} share each group: num_generations must be "
                    f"a multiple of {several}",
                    code="invalid_value",
                    path="num_generations",
                )
        return numbers

    def _make_simulator(self, worlds: Worlds, recorder: EpisodeRecorder | None) -> Simulator:
        return Simulator(
            self.environment,
            self.policies,
            {self.role: self.agent_indices},
            worlds,
            self.rounds,
            population=self.population,
            recorder=recorder,
        )

    def _reply_streams(self, numbers: Sequence[int], trainer: Any) -> RandomStreams:
        """Chance of the model's replies: another at every call, for every completion."""
        mode = "train" if trainer.model.training else "eval"
        step = int(trainer.state.global_step)
        call = self._calls.get((mode, step), 0)
        self._calls = {(m, s): n for (m, s), n in self._calls.items() if m != mode}
        self._calls[mode, step] = call + 1
        first = trainer.accelerator.process_index * len(numbers)
        place = torch.arange(first, first + len(numbers))
        worlds = Worlds(torch.tensor(numbers, dtype=torch.int64), place)
        return RandomStreams.of(self.seed, worlds, stage=call, episode=step).child(
            f"replies/{mode}"
        )

    # --- playing -------------------------------------------------------------------------------

    def _simulate(
        self, numbers: Sequence[int], dialogues: DialoguesProtocol, streams: RandomStreams
    ) -> dict[str, Any]:
        """One episode in each of these worlds; returns fields of each dialogue."""
        replicate = torch.tensor(numbers, dtype=torch.int64)
        books = _RewardTotals([role.name for role in self.environment.roles])
        table = self._make_simulator(Worlds(replicate, torch.zeros_like(replicate)), books)
        table.reset(self.seed)
        several = len(self.agent_indices)
        own = torch.zeros(len(numbers), several)
        unread = torch.zeros(len(numbers), several, dtype=torch.int64)
        turns = torch.zeros(len(numbers), dtype=torch.int64)
        while not table.all_finished:
            over = (
                torch.zeros(len(numbers), dtype=torch.bool)
                if table.finished is None
                else table.finished
            )
            acts = dialogues.act(
                table.phase,
                table.observe(self.role)[:, self.agent_indices].flatten(0, 1),
                self._action_mask(table),
                (~over).repeat_interleave(several),
                _uniforms(streams.at(int(table.round.max())).child(table.phase.name)),
            )
            turns += ~over
            turn = table.step({self.role: acts.unflatten(0, (len(numbers), several))})
            own += turn.reward[self.role][:, self.agent_indices]
            unread += turn.projected[self.role] & ~over[:, None]
        fields = {
            "pay": own.flatten().tolist(),
            "unread": unread.flatten().tolist(),
            "turns": turns.repeat_interleave(several).tolist(),
        }
        for name, earned in books.reward.items():
            fields[f"pay_{name}"] = earned.repeat_interleave(several, 0).tolist()
        for name, told in books.feedback.get(self.role, {}).items():
            fields[f"told_{name}"] = told[:, self.agent_indices].flatten(0, 1).tolist()
        for name, value in resolve.selected_metrics(table, table.state, self.metric_names).items():
            fields[name] = value.repeat_interleave(several, 0).tolist()
        return fields

    def _action_mask(self, simulator: Simulator) -> Tensor | None:
        """Options open to each dialogue; `None`: all."""
        legal = self.environment.action_mask(simulator.state, self.role, simulator.phase.name)
        return None if legal is None else legal[:, self.agent_indices].flatten(0, 1)


class _RewardTotals(EpisodeRecorder):
    """Sums of what everybody earned, and of the numbers they were told, until their world ended."""

    def __init__(self, roles: Sequence[str]) -> None:
        super().__init__(roles)
        self.reward: dict[str, Tensor] = {}
        self.feedback: dict[str, dict[str, Tensor]] = {role: {} for role in roles}
        self._inactive: Tensor | None = None

    def record_action(
        self,
        role: str,
        phase: Any,
        observation: Tensor,
        action: Tensor,
        action_mask: Tensor | None = None,
    ) -> None:
        """Is not kept."""

    def record_reward(self, role: str, reward: Tensor) -> None:
        """Add up what was earned."""
        self.reward[role] = reward + self.reward[role] if role in self.reward else reward

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Add up numbers that were told."""
        kept = self.feedback[role]
        for name, told in feedback.items():
            if not told.is_floating_point():
                continue
            if self._inactive is not None:
                told = torch.where(self._inactive.view(-1, *[1] * (told.dim() - 1)), 0.0, told)
            kept[name] = told + kept[name] if name in kept else told

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """From now on these worlds stand still."""
        self._inactive = done | finished


def _uniforms(streams: RandomStreams) -> Callable[[str, int], Tensor]:
    """Uniform numbers of each dialogue, by purpose."""
    return lambda purpose, width: streams.uniform(purpose, 1, width)[:, 0]


def _to_scalar(value: Any, field: str, index: int | None) -> float:
    """A field of one completion as one number."""
    if not isinstance(value, (list, tuple)):
        if index is not None:
            raise UserError(
                f"{field!r} is one number, and has no place {index}", code="conflict", path="place"
            )
        return float(value)
    if index is None:
        return float(sum(value))
    if not 0 <= index < len(value):
        raise UserError(
            f"{field!r} has places 0 to {len(value) - 1}, not {index}",
            code="out_of_range",
            path="place",
        )
    return float(value[index])
