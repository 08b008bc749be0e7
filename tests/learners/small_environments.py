"""Environments that each test one ability of a learner, and helpers to train and evaluate it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jaxtyping
import torch
from pydantic import Field
from torch import Tensor

from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.learner import Learner
from mores.core.people import People
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part, Space
from mores.sim.simulator import Simulator


@dataclasses.dataclass(frozen=True)
class State:
    round: Tensor  # [world]
    world: Tensor  # [world]: number of the world within its replicate
    replicate: Tensor  # [world]
    luck: Tensor  # [world, agent]: uniform random number of the episode
    reward: Tensor  # [world, agent]: of the last round
    action: Tensor  # [world, agent]: last choice


class OneRole(Environment[State]):
    """Base of the environments here: one role, and a count of rounds."""

    num_agents: int = Field(1, ge=1)

    def observation_space(self) -> Box:
        return Box.of(round=1, world=1, luck=1)

    def action_space(self) -> Space:
        return Discrete(2)

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("actor", self.num_agents, self.observation_space()),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("act", {"actor": self.action_space()}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> State:
        luck = streams.uniform("luck", self.num_agents)[..., 0]
        zero = torch.zeros(streams.num_worlds)
        return State(
            zero, streams.world.float(), streams.replicate.float(), luck, 0 * luck, 0 * luck
        )

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        parts = [x[:, None].expand(-1, self.num_agents) for x in (state.round, state.world)]
        return torch.stack([*parts, state.luck], -1)

    def reward(self, state: State, action: Tensor, streams: RandomStreams) -> Tensor:
        return torch.zeros_like(state.luck)

    def terminated(self, state: State) -> Tensor | None:
        return None

    def feedback(self, state: State) -> dict[str, Tensor]:
        return {}

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[State]:
        action = actions["actor"]
        reward = self.reward(state, action, streams)
        choice = action.float() if action.dim() == 2 else action[..., 0].float()
        state = dataclasses.replace(state, round=state.round + 1, reward=reward, action=choice)
        values = self.feedback(state)
        feedback = {"actor": values} if values else {}
        return StepResult(state, {"actor": reward}, self.terminated(state), feedback)

    def metrics(self, state: State) -> Mapping[str, Tensor]:
        return {"reward": state.reward, "action": state.action, "round": state.round}


class Minimal(Environment[Tensor]):
    """No observation and no metric; the reward is the number of the action."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("actor", 2, Box.of()),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("act", {"actor": Discrete(2)}),)

    def reset(self, streams: RandomStreams, people: object = None) -> Tensor:
        return torch.zeros(streams.num_worlds)

    def observe(self, state: Tensor, role: str, phase: str) -> Tensor:
        return torch.zeros(len(state), 2, 0)

    def step(
        self, state: Tensor, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Tensor]:
        return StepResult(state, {"actor": actions["actor"].float()})

    def metrics(self, state: Tensor) -> Mapping[str, Tensor]:
        return {}


class FixedLengths(OneRole):
    """Episodes of world w last `lengths[w]` rounds; round t has reward t + 1 for every action.

    Feedback in the last round: the world and the luck of the agent; in earlier rounds: NaN.
    """

    lengths: tuple[int, ...] = (3,)

    def length(self, state: State) -> Tensor:
        return torch.tensor(self.lengths)[state.world.long()]

    def reward(self, state: State, action: Tensor, streams: RandomStreams) -> Tensor:
        return (state.round + 1)[:, None].expand_as(state.luck)

    def terminated(self, state: State) -> Tensor:
        return state.round >= self.length(state)

    def feedback(self, state: State) -> dict[str, Tensor]:
        world = state.world[:, None].expand_as(state.luck)
        value = torch.stack([world, state.luck], -1)
        return {"reward": torch.where(self.terminated(state)[:, None, None], value, torch.nan)}


class FixedLengthsNoFeedback(FixedLengths):
    """`FixedLengths` without feedback."""

    def feedback(self, state: State) -> dict[str, Tensor]:
        return {}


class Faulty(OneRole):
    """Rewards the second option; has a fault in one replicate, from a certain round on.

    `reward`: NaN rewards. `observation`: NaN observations. `scale`: rewards times a million.
    """

    faulty_replicate: int = -1
    faulty_from: int = 0
    fault: str = "reward"

    def has_fault(self, state: State, fault: str) -> Tensor:
        faulty = (state.replicate == self.faulty_replicate) & (state.round >= self.faulty_from)
        return (faulty & (self.fault == fault))[:, None]

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        observation = super().observe(state, role, phase)
        return torch.where(self.has_fault(state, "observation")[..., None], torch.nan, observation)

    def reward(self, state: State, action: Tensor, streams: RandomStreams) -> Tensor:
        reward = action.float() + 0.1 * streams.normal("luck", self.num_agents)[..., 0]
        reward = torch.where(self.has_fault(state, "scale"), 1e6 * reward, reward)
        return torch.where(self.has_fault(state, "reward"), torch.nan, reward)


class TargetPoint(OneRole):
    """The reward of a point is minus its squared distance from a target that depends on luck."""

    bounded: bool = True

    def action_space(self) -> Space:
        return Box.of(at=Part(2, -2.0, 6.0) if self.bounded else Part(2))

    def target(self, luck: Tensor) -> Tensor:
        return torch.stack([2.0 * luck, 1.5 - luck], -1)

    def reward(self, state: State, action: Tensor, streams: RandomStreams) -> Tensor:
        return -(action - self.target(state.luck)).square().sum(-1)


class MaskedChoices(OneRole):
    """Two choices at once, masked by luck; the reward is the sum of their numbers."""

    options: tuple[int, ...] = (4, 3)

    def action_space(self) -> Space:
        return MultiDiscrete(self.options)

    def action_mask(self, state: State, role: str, phase: str) -> Tensor:
        low = state.luck[..., None] < 0.5
        first = (torch.arange(4) < 3) | ~low  # low luck: the last option is illegal
        second = (torch.arange(3) < 2) | low  # high luck: the last option is illegal
        return torch.cat([first, second], -1)

    def reward(self, state: State, action: Tensor, streams: RandomStreams) -> Tensor:
        return action.float().sum(-1)


class DelayedRecall(OneRole):
    """The first observation shows a cue; the last of `delay + 1` rounds rewards its repetition."""

    delay: int = 3

    def observation_space(self) -> Box:
        return Box.of(cue=Part(2, 0.0, 1.0), last=Part(1, 0.0, 1.0))

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        cue = torch.nn.functional.one_hot((state.luck < 0.5).long(), 2).float()
        cue = torch.where((state.round == 0)[:, None, None], cue, 0.0)
        last = (state.round >= self.delay).float()[:, None, None].expand(-1, self.num_agents, 1)
        return torch.cat([cue, last], -1)

    def reward(self, state: State, action: Tensor, streams: RandomStreams) -> Tensor:
        right = action == (state.luck < 0.5).long()
        return torch.where((state.round >= self.delay)[:, None], right.float(), 0.0)

    def terminated(self, state: State) -> Tensor:
        return state.round > self.delay


class TwoPhases(OneRole):
    """Two phases: a choice of three options, then a point; reward comes after the second only.

    The reward is the value of the option minus the distance of the point from the option's
    number. The observation in the second phase shows the option.
    """

    option_values: tuple[float, ...] = (0.0, 1.0, 0.5)

    def observation_space(self) -> Box:
        return Box.of(option=Part(3, 0.0, 1.0), second_phase=Part(1, 0.0, 1.0))

    @property
    def phases(self) -> tuple[Phase, ...]:
        point = Box.of(point=Part(1, -1.0, 3.0))
        return Phase("draft", {"actor": Discrete(3)}), Phase("point", {"actor": point})

    def observe(self, state: State, role: str, phase: str) -> Tensor:
        second = phase == "point"
        option = torch.nn.functional.one_hot(state.action.long(), 3).float() * second
        return torch.cat([option, torch.full_like(option[..., :1], float(second))], -1)

    def step(
        self, state: State, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[State]:
        action = actions["actor"]
        if phase == "draft":
            return StepResult(dataclasses.replace(state, action=action.float()))
        distance = (action[..., 0] - state.action).abs()
        reward = torch.tensor(self.option_values)[state.action.long()] - distance
        state = dataclasses.replace(state, round=state.round + 1, reward=reward)
        return StepResult(state, {"actor": reward})


# --- training and evaluation --------------------------------------------------------------------


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Disable the shape checks, which take most of the time of training small networks.

    Also a decorator, `@unchecked()`. Shorter tests of the same code are checked.
    """
    before = jaxtyping.config.jaxtyping_disable
    jaxtyping.config.update("jaxtyping_disable", True)
    try:
        yield
    finally:
        jaxtyping.config.update("jaxtyping_disable", before)


def simulate_episodes(
    environment: Environment[Any],
    policies: Mapping[str, Policy],
    worlds: Worlds,
    episodes: int = 1,
    rounds: int = 100,
    seed: int = 0,
    **options: Any,
) -> Simulator:
    """A simulator after some episodes."""
    simulator = Simulator(environment, policies, worlds=worlds, rounds=rounds, **options)
    simulator.reset(seed)
    run_episodes(simulator, episodes)
    return simulator


def run_episodes(simulator: Simulator, episodes: int) -> None:
    """Run the rest of the current episode, and further ones."""
    for episode in range(episodes):
        if episode:
            simulator.next_episode()
        while not simulator.all_finished:
            simulator.step()


def evaluation_simulator(
    simulator: Simulator, environment: Environment[Any] | None = None, **more: Any
) -> Simulator:
    """A simulator without training that takes the likeliest actions, before its first step."""
    options = {
        "rounds": simulator.rounds,
        "stage": 9,
        "roles_to_train": [],
        "search": True,
        "worlds": simulator.worlds,
        **more,
    }
    evaluation = Simulator(environment or simulator.environment, simulator.policies, **options)
    evaluation.reset(simulator.seed or 0, simulator.policy_states)
    return evaluation


def copy_model_parameters(simulator: Simulator, role: str | None = None) -> dict[str, Tensor]:
    """Copies of the parameters of the models of a role, by name."""
    state = simulator.policy_states[role or next(iter(simulator.policy_states))]
    return {n: t.clone() for n, t in state.persistent_state.train_state.parameters.items()}


def stop_reasons(learner: Learner, state: Any) -> list[str]:
    """Models that stopped training, one line each."""
    return [line for entry in learner.diagnostics(state) for line in entry.messages]
