"""Environments for TRL's `GRPOTrainer(environment_factory=...)`: the model acts by a tool call.

    environments = TRLEnvironments("moral_hazard", agent="principal_0", rounds=3)
    trainer = GRPOTrainer(model, args=args, train_dataset=environments.dataset(64),
                          processing_class=tokenizer, environment_factory=environments)

Each rollout of a batch has an environment of its own, which TRL uses again in later batches. TRL
calls `reset` with the fields of the row, adds the returned text to the prompt, generates, and
answers every call of the tool `act` with the text that it returns, until the model replies without
a call. `get_reward` is the agent's return. The tokenizer's chat template must support tools. World
n is the only world of replicate n, with n from 0 to 2^32 - 1. Rows with the same world (a GRPO
group) have the same people and random numbers, so group members differ only by the model's actions.

`mores.clients.trl` is for models without tool calls: there all dialogues of a batch are simulated
together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from mores.clients import resolve
from mores.clients.trl import world_dataset
from mores.core.arguments import check_integer, check_names, check_seed
from mores.core.environment import Environment, get_role, with_text
from mores.core.errors import UserError
from mores.core.policy import Policy
from mores.core.random_streams import Worlds
from mores.core.turn_text import written_turn
from mores.sim.simulator import Simulator

INSTRUCTION = "Answer every question by a call of the tool `act`."


class TRLEnvironments:
    """Factory of environments of one agent for `environment_factory`, with their dataset.

    Args:
        environment: name of an environment (`mores list`), or an environment.
        agent: agent of the model, as in `person_3`; default: the first agent of the role with the
            fewest.
        rounds: maximum length of an episode (truncation).
        policies: policies of the other agents, by role; default: the environment's.
        population: source of the people; default: the environment's.
        metrics: names of metrics for reward functions: `TRLEnvironment.metrics`.
        seed: seed of all random streams.
        **parameters: of an environment given by name.

    Raises:
        UserError: an unknown name or parameter, or a wrong value.
    """

    def __init__(
        self,
        environment: str | Environment[Any],
        agent: str | None = None,
        rounds: int = 10,
        policies: Mapping[str, Policy | resolve.Spec] | None = None,
        population: Any = None,
        metrics: Sequence[str] = (),
        seed: int = 0,
        **parameters: Any,
    ) -> None:
        self._population = resolve.resolve_population(population)
        self.environment = resolve.resolve_environment(
            environment, parameters, self._population, type(self)
        )
        self.agent_id = resolve.resolve_agent(self.environment, agent)
        self._external = {self.agent_id.role: [self.agent_id.agent_index]}
        self._policies = resolve.resolve_policies(self.environment, policies, self._external)
        self._rounds, self._seed = rounds, check_seed(seed)
        self.metric_names = tuple(check_names("metrics", metrics))
        text = with_text(self.environment, get_role(self.environment, self.agent_id.role)).text
        assert text is not None
        self.text = text
        simulator = self.start(0)  # raises now if arguments are inconsistent, and unknown metrics
        resolve.selected_metrics(simulator, simulator.state, self.metric_names)

    def __call__(self) -> TRLEnvironment:
        """A new environment; TRL resets it for one rollout of each batch."""
        return TRLEnvironment(self)

    def dataset(self, worlds: int | Sequence[int]) -> Any:
        """Dataset for the trainer with one row per world: `prompt` and `world`.

        Args:
            worlds: number of worlds, or their numbers. Every epoch simulates a world with the same
                people and random numbers: many worlds are better than many epochs.
        """
        return world_dataset(worlds, lambda _: [{"role": "user", "content": ""}])

    def start(self, world: int) -> Simulator:
        """A simulator of one world at the start of its episode."""
        worlds = Worlds.of([check_integer("world", world, 0, 2**32 - 1)])
        simulator = Simulator(
            self.environment,
            self._policies,
            self._external,
            worlds,
            self._rounds,
            population=self._population,
        )
        simulator.reset(self._seed)
        return simulator


class TRLEnvironment:
    """One world in which the model acts for an agent. Made by `TRLEnvironments`.

    Attributes:
        total_reward: reward of the agent in this episode.
        num_turns: number of its actions.
        num_invalid_actions: number of calls that were no legal action: the state does not change,
            and `act` raises a `UserError`, whose text the model reads.
        metrics: the requested metrics now.
    """

    def __init__(self, environments: TRLEnvironments) -> None:
        self._environments = environments
        self._simulator: Simulator | None = None
        self.total_reward, self.num_turns, self.num_invalid_actions = 0.0, 0, 0

    def reset(self, world: int = 0, **_: Any) -> str:
        """Start the episode of a world and return what the agent reads first."""
        self._simulator = self._environments.start(world)
        self.total_reward, self.num_turns, self.num_invalid_actions = 0.0, 0, 0
        rules = self._environments.environment.role_rules(self._environments.agent_id.role)
        return "\n".join(filter(None, (rules, INSTRUCTION, self._question(self._simulator))))

    # TRL sends the docstring of `act` to the model, as the description of the tool. It names no
    # errors, therefore: a `UserError` if the reply is no legal action, or the episode is over.
    def act(self, action: str) -> str:
        """Act in the current turn.

        Args:
            action: The number of an option, the numbers, or the message that the question asks for.

        Returns:
            The next observation and question, or that the episode is over.
        """
        simulator = self._running()
        role, index = self._environments.agent_id
        mask = self._action_mask(simulator)
        parsed = self._environments.text.parse_reply(simulator.phase.name, str(action), mask)
        if parsed is None:
            self.num_invalid_actions += 1
            raise UserError(
                f"action: {action!r:.60} answers no option of the question",
                code="invalid_value",
                path="action",
            )
        turn = simulator.step({role: parsed[None, None]})
        self.total_reward += float(turn.reward[role][0, index])
        self.num_turns += 1
        return "The episode is over." if simulator.all_finished else self._question(simulator)

    def get_reward(self) -> float:
        """Reward of the agent in this episode so far."""
        return self.total_reward

    @property
    def metrics(self) -> dict[str, list[float]]:
        """The requested metrics now: the numbers of each."""
        if self._simulator is None:
            return {}
        names = self._environments.metric_names
        metrics = resolve.selected_metrics(self._simulator, self._simulator.state, names)
        return {name: metric[0].reshape(-1).tolist() for name, metric in metrics.items()}

    def _running(self) -> Simulator:
        if self._simulator is None or self._simulator.all_finished:
            message = "the episode is over" if self._simulator else "call reset first"
            raise UserError(message, code="wrong_order")
        return self._simulator

    def _action_mask(self, simulator: Simulator) -> Tensor | None:
        """Legal options of the agent now. `None`: all are legal."""
        role, index = self._environments.agent_id
        mask = simulator.environment.action_mask(simulator.state, role, simulator.phase.name)
        return None if mask is None else mask[0, index]

    def _question(self, simulator: Simulator) -> str:
        """What the agent observes and is asked now."""
        role, index = self._environments.agent_id
        observation, mask = simulator.observe(role)[0, index], self._action_mask(simulator)
        turn = self._environments.text.describe(simulator.phase.name, observation, mask)
        return written_turn(turn, mask)
