"""Rollouts for TRL's `GRPOTrainer`: the trained language model acts for agents of an environment.

`TRLRollouts` is a `rollout_func`: it simulates the environment, TRL only updates the model. A row
of the dataset names a world: world n is the only world of replicate n, with n from 0 to 2^32 - 1.
Consecutive rows of one world (a GRPO group) are copies of that world with the same people and
random numbers, so group members differ only by the model's actions.
At every turn the model gets its agent's observation as text (`Environment.describe`) and replies.
Tokens of observations have `env_mask` 0 and are excluded from the loss.

    rollouts = TRLRollouts("moral_hazard", DialoguePolicy(), agent="principal_0", rounds=3)
    reward = rollouts.reward_function("reward")
    trainer = GRPOTrainer(model, reward, args, train_dataset=rollouts.dataset(64),
                          processing_class=tokenizer, rollout_func=rollouts)

Reward functions get, summed over the episode: `reward` of the agent; `reward_<role>` of each agent
of every role; `feedback_<name>`, numeric feedback to the agent (for instance the reward from each
principal); `num_invalid_actions` (replies that were no legal action); `num_turns`; and the
requested metrics at the end of the episode. `TRLRollouts.reward_function` selects one of them.

The LM policy converts observations to text and replies to actions: for instance
`mores.agents.language.lm_policy.DialoguePolicy`.

`mores.clients.trl_environment` is for models that act by tool calls (`environment_factory`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor

from mores.clients import resolve
from mores.core.arguments import check_integer, check_names, check_seed
from mores.core.environment import Environment, Role, get_role, with_text
from mores.core.errors import UserError, did_you_mean
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.sim.recorder import Recorder
from mores.sim.simulator import Simulator

PROMPT_PATTERN = re.compile(r"world (\d+)")


def world_dataset(worlds: int | Sequence[int], prompt: Callable[[int], Any]) -> Any:
    """Dataset for a trainer with one row per world: `prompt` and `world`.

    Args:
        worlds: number of worlds, or their numbers.
        prompt: prompt of a world.
    """
    try:
        from datasets import Dataset  # type: ignore[import-untyped]
    except ImportError as error:
        raise UserError(
            f"datasets is not installed ({error}): pip install 'mores[hf]'",
            code="not_installed",
            path="datasets",
        ) from None
    is_list = isinstance(worlds, Iterable) and not isinstance(worlds, str)
    listed = worlds if is_list else range(check_integer("worlds", worlds, maximum=2**32))
    numbers = Worlds.of(listed).replicate.tolist()
    return Dataset.from_dict({"prompt": [prompt(n) for n in numbers], "world": numbers})


@runtime_checkable
class DialoguesProtocol(Protocol):
    """Dialogues of a language model with several agents' environments, as tokens."""

    prompts: list[list[int]]
    completions: list[list[int]]
    masks: list[list[int]]
    logps: list[list[float]]

    def act(
        self, phase: Any, observation: Any, action_mask: Any, active: Any, uniforms: Any
    ) -> Tensor:
        """Actions of the agents, `[dialogue]` or `[dialogue, size]`."""
        ...


@runtime_checkable
class LMPolicyProtocol(Protocol):
    """Converter between an environment and dialogues with a language model."""

    def check(self, phases: Any, role: Role) -> None:
        """Raise a `UserError` if the environment cannot be described as text."""
        ...

    def start_dialogues(
        self, model: Any, tokenizer: Any, role: Role, num_dialogues: int, temperature: float
    ) -> Any:
        """Empty dialogues: see `DialoguesProtocol`."""
        ...


class TRLRollouts:
    """Rollout function of an environment for TRL's `GRPOTrainer`, with its dataset and rewards.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        lm_policy: converter between observations, replies and actions.
        agent: agent of the model, as in `person_3`, or a role: all its agents, which divide each
            group of completions evenly; default: the first agent of the role with the fewest.
        rounds: maximum length of an episode (truncation).
        policies: policies of the other agents, by role; default: the environment's.
        population: source of the people; default: the environment's.
        metrics: names of metrics to pass to reward functions.
        seed: seed of all random streams.
        **parameters: of an environment given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        lm_policy: LMPolicyProtocol,
        agent: str | None = None,
        rounds: int = 10,
        policies: Mapping[str, Policy | resolve.Spec] | None = None,
        population: Any = None,
        metrics: Sequence[str] = (),
        seed: int = 0,
        **parameters: Any,
    ) -> None:
        self.population = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(
            environment, parameters, self.population, type(self)
        )
        if not isinstance(lm_policy, LMPolicyProtocol):
            message = "lm_policy: an object with the methods check and start_dialogues, such as "
            message += f"DialoguePolicy(), not {lm_policy!r:.60}"
            raise UserError(message, code="wrong_type", path="lm_policy")
        self.lm_policy = lm_policy
        self.rounds, self.seed = rounds, check_seed(seed)
        self.metric_names = tuple(check_names("metrics", metrics))
        counts = {role.name: role.num_agents for role in self.environment.roles}
        if agent in counts:
            self.role, self.agent_indices = agent, list(range(counts[agent]))
        else:
            agent_id = resolve.resolve_agent(self.environment, agent)
            self.role, self.agent_indices = agent_id.role, [agent_id.agent_index]
        external = {self.role: self.agent_indices}
        self.policies = resolve.resolve_policies(self.environment, policies, external)
        self._role_definition = with_text(self.environment, get_role(self.environment, self.role))
        self._calls: dict[tuple[str, int], int] = {}
        simulator = self._make_simulator(Worlds.of(1), None)  # raises now for wrong arguments
        if self.metric_names:
            simulator.reset(self.seed)
            resolve.selected_metrics(simulator, simulator.state, self.metric_names)
        lm_policy.check(self.environment.phases, self._role_definition)

    def dataset(self, worlds: int | Sequence[int]) -> Any:
        """Dataset for the trainer with one row per world: `prompt` and `world`.

        Args:
            worlds: number of worlds, or their numbers. Every epoch simulates a world with the same
                people and random numbers: many worlds are better than many epochs.
        """
        return world_dataset(worlds, lambda number: f"world {number}")

    def reward_function(self, field: str, index: int | None = None) -> Callable[..., list[float]]:
        """Reward function for TRL that returns one of the fields of the module docstring.

        Args:
            field: name of the field.
            index: index into a field with several numbers (agents of a role, principals); default:
                their sum.
        """

        def reward(**fields: Any) -> list[float]:
            if field not in fields:
                raise UserError(
                    f"rollouts have no field {field!r}{did_you_mean(field, fields)}",
                    code="unknown_name",
                    path=field,
                )
            return [_to_scalar(value, field, index) for value in fields[field]]

        reward.__name__ = field if index is None else f"{field}_{index}"
        return reward

    def __call__(self, prompts: list[Any], trainer: Any) -> dict[str, list[Any]]:
        """Simulate the worlds named by the prompts with the trainer's model.

        Args:
            prompts: `world 3`, ...; consecutive prompts of one world are a group.
            trainer: TRL's trainer.

        Raises:
            UserError: a prompt names no world, or the agents cannot divide a group evenly.
        """
        numbers = self._world_numbers(prompts)
        model = trainer.accelerator.unwrap_model(trainer.model_wrapped)
        streams = self._reply_streams(numbers, trainer)
        dialogues = self.lm_policy.start_dialogues(
            model,
            trainer.processing_class,
            self._role_definition,
            len(prompts),
            trainer.args.temperature,
        )
        fields = self._simulate(numbers[:: len(self.agent_indices)], dialogues, streams)
        return {
            "prompt_ids": dialogues.prompts,
            "completion_ids": dialogues.completions,
            "logprobs": dialogues.logps,
            "env_mask": dialogues.masks,
            **fields,
        }

    # --- worlds --------------------------------------------------------------------------------

    def _world_numbers(self, prompts: Sequence[Any]) -> list[int]:
        """World number of each prompt."""
        numbers = []
        for prompt in prompts:
            match = PROMPT_PATTERN.fullmatch(prompt) if isinstance(prompt, str) else None
            if match is None:
                raise UserError(
                    f"prompt: a world, as in 'world 3', not {prompt!r}: use dataset()",
                    code="invalid_value",
                    path="prompt",
                )
            numbers.append(int(match[1]))
        num_agents = len(self.agent_indices)
        for start in range(0, len(numbers), num_agents):
            if len(set(numbers[start : start + num_agents])) > 1 or len(numbers) % num_agents:
                raise UserError(
                    f"num_generations: a multiple of {num_agents}, since the agents of "
                    f"{self.role!r} divide each group evenly",
                    code="invalid_value",
                    path="num_generations",
                )
        return numbers

    def _make_simulator(self, worlds: Worlds, recorder: Recorder | None) -> Simulator:
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
        """Random streams of the replies, different for every call and completion."""
        mode = "train" if trainer.model.training else "eval"
        step = int(trainer.state.global_step)
        call = self._calls.get((mode, step), 0)
        self._calls = {(m, s): n for (m, s), n in self._calls.items() if m != mode}
        self._calls[mode, step] = call + 1
        first = trainer.accelerator.process_index * len(numbers)
        completion = torch.arange(first, first + len(numbers))
        worlds = Worlds(torch.tensor(numbers, dtype=torch.int64), completion)
        return RandomStreams.of(self.seed, worlds, stage=call, episode=step).child(
            f"replies/{mode}"
        )

    # --- simulation ----------------------------------------------------------------------------

    def _simulate(
        self, numbers: Sequence[int], dialogues: DialoguesProtocol, streams: RandomStreams
    ) -> dict[str, Any]:
        """Fields of each dialogue after one episode in each of the worlds."""
        replicate = torch.tensor(numbers, dtype=torch.int64)
        totals = _RewardTotals([role.name for role in self.environment.roles])
        simulator = self._make_simulator(Worlds(replicate, torch.zeros_like(replicate)), totals)
        simulator.reset(self.seed)
        num_agents = len(self.agent_indices)
        reward = torch.zeros(len(numbers), num_agents)
        num_invalid = torch.zeros(len(numbers), num_agents, dtype=torch.int64)
        num_turns = torch.zeros(len(numbers), dtype=torch.int64)
        while not simulator.all_finished:
            finished = simulator.finished
            active = torch.ones_like(num_turns, dtype=torch.bool) if finished is None else ~finished
            actions = dialogues.act(
                simulator.phase,
                simulator.observe(self.role)[:, self.agent_indices].flatten(0, 1),
                self._action_mask(simulator),
                active.repeat_interleave(num_agents),
                _uniforms(streams.at(int(simulator.round.max())).child(simulator.phase.name)),
            )
            num_turns += active
            turn = simulator.step({self.role: actions.unflatten(0, (len(numbers), num_agents))})
            reward += turn.reward[self.role][:, self.agent_indices]
            num_invalid += turn.projected[self.role] & active[:, None]
        fields = {
            "reward": reward.flatten().tolist(),
            "num_invalid_actions": num_invalid.flatten().tolist(),
            "num_turns": num_turns.repeat_interleave(num_agents).tolist(),
        }
        for name, total in totals.reward.items():
            fields[f"reward_{name}"] = total.repeat_interleave(num_agents, 0).tolist()
        for name, total in totals.feedback.get(self.role, {}).items():
            fields[f"feedback_{name}"] = total[:, self.agent_indices].flatten(0, 1).tolist()
        metrics = resolve.selected_metrics(simulator, simulator.state, self.metric_names)
        for name, metric in metrics.items():
            fields[name] = metric.repeat_interleave(num_agents, 0).tolist()
        return fields

    def _action_mask(self, simulator: Simulator) -> Tensor | None:
        """Legal options of each dialogue. `None`: all options are legal."""
        mask = self.environment.action_mask(simulator.state, self.role, simulator.phase.name)
        return None if mask is None else mask[:, self.agent_indices].flatten(0, 1)


class _RewardTotals(Recorder):
    """Rewards and numeric feedback of every agent, summed until the world finishes."""

    def __init__(self, roles: Sequence[str]) -> None:
        self.reward: dict[str, Tensor] = {}
        self.feedback: dict[str, dict[str, Tensor]] = {role: {} for role in roles}
        self._inactive: Tensor | None = None

    def record_reward(self, role: str, reward: Tensor) -> None:
        """Add rewards of a role."""
        self.reward[role] = reward + self.reward[role] if role in self.reward else reward

    def record_feedback(self, role: str, feedback: Mapping[str, Tensor]) -> None:
        """Add the floating-point feedback of a role, except in inactive worlds."""
        totals = self.feedback[role]
        for name, value in feedback.items():
            if not value.is_floating_point():
                continue
            if self._inactive is not None:
                value = torch.where(self._inactive.view(-1, *[1] * (value.dim() - 1)), 0.0, value)
            totals[name] = value + totals[name] if name in totals else value

    def record_round(self, done: Tensor, finished: Tensor) -> None:
        """Mark finished worlds as inactive."""
        self._inactive = done | finished


def _uniforms(streams: RandomStreams) -> Callable[[str, int], Tensor]:
    """Uniform numbers of each dialogue, by stream and width."""
    return lambda stream, width: streams.uniform(stream, 1, width)[:, 0]


def _to_scalar(value: Any, field: str, index: int | None) -> float:
    """Field of one completion as one number."""
    if not isinstance(value, (list, tuple)):
        if index is not None:
            raise UserError(
                f"{field!r} is one number: leave out index {index}", code="conflict", path="index"
            )
        return float(value)
    if index is None:
        return float(sum(value))
    if not 0 <= index < len(value):
        raise UserError(
            f"index of {field!r}: 0 to {len(value) - 1}, not {index}",
            code="out_of_range",
            path="index",
        )
    return float(value[index])
