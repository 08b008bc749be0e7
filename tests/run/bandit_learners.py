"""A bandit and learners for it: small, stacked, updated in place as real learners are.

Tests import it; runs in other processes load it: `mores run FILE --load bandit_learners.py`.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.core import pytree
from mores.core.environment import Environment, Phase, Role, StepResult, Transition
from mores.core.learner import Learner, TrainingDiagnostics
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete

MEAN_REWARDS = (0.0, 1.0, 0.2)  # of each option
BEST = 1


@dataclasses.dataclass(frozen=True)
class BanditState:
    reward: Tensor  # [world], mean over gamblers, last round
    best: Tensor  # [world], share of the gamblers that chose the best option


class MultiAgentBandit(Environment[BanditState]):
    """Gamblers, each at a machine whose options have random rewards."""

    num_gamblers: int = Field(default=2, ge=0)
    noise_std: float = Field(default=0.5, ge=0)

    @property
    def roles(self) -> tuple[Role, ...]:
        guard = Role("guard", 1, Box.of(nothing=1))
        gambler = Role("gambler", self.num_gamblers, Box.of(nothing=1))
        return (gambler, guard) if self.num_gamblers else (guard,)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("choose", {r.name: Discrete(len(MEAN_REWARDS)) for r in self.roles}),)

    def reset(self, streams: RandomStreams, people: Any = None) -> BanditState:
        return BanditState(torch.zeros(streams.num_worlds), torch.zeros(streams.num_worlds))

    def observe(self, state: BanditState, role: str, phase: str) -> Tensor:
        num_agents = self.num_gamblers if role == "gambler" else 1
        return torch.zeros(len(state.reward), num_agents, 1)

    def step(
        self, state: BanditState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[BanditState]:
        if not self.num_gamblers:
            return StepResult(state)
        action = actions["gambler"]
        noise = self.noise_std * streams.normal("pay", self.num_gamblers)[..., 0]
        reward = torch.tensor(MEAN_REWARDS)[action] + noise
        best = (action == BEST).float().mean(1)
        return StepResult(BanditState(reward.mean(1), best), {"gambler": reward})

    def metrics(self, state: BanditState) -> Mapping[str, Tensor]:
        return {"reward": state.reward, "best": state.best}

    def latent(self, state: BanditState) -> Mapping[str, Tensor]:
        return {"reward": state.reward}

    def default_policies(self) -> Mapping[str, Policy]:
        return {role.name: RandomGambler() for role in self.roles}


class RandomGambler(Policy):
    """Chooses uniformly at random."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        uniform = streams.uniform("which", observation.shape[1])[..., 0]
        return ActionOutput((uniform * len(MEAN_REWARDS)).long(), state)


class Layout:
    """A description without tensors, equal to itself only."""

    def __init__(self, num_agents: int) -> None:
        self.num_agents = num_agents


@dataclasses.dataclass(frozen=True)
class BanditLearnerState:
    last_action: Tensor  # [world, agent]
    layout: Layout
    learned: pytree.Persistent  # by name, [model, ...]: a model for each agent of a replicate


class BanditLearner(Learner):
    """Chooses by weights that a subclass trains."""

    state_kind: ClassVar = "bandit"

    learning_rate: float = Field(default=0.3, ge=0)
    stopping_replicate: int = Field(default=-1, description="its first model stops in round 5")
    unserializable: bool = Field(default=False, description="the state cannot be saved")

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> BanditLearnerState:
        replicates, index = streams.replicate.unique(return_inverse=True)
        rows = torch.stack([(index == n).nonzero()[0, 0] for n in range(len(replicates))])
        initial = streams.take(rows).normal("weights", role.num_agents, len(MEAN_REWARDS))
        initial = initial.flatten(0, 1)
        learned = {
            "weights": 0.1 * initial.t().contiguous().t(),  # column-major: strides must be kept
            "moments": {"mean": torch.zeros(len(initial), len(MEAN_REWARDS))},
            "stopped_at": torch.full((len(initial),), -1),
            "replicate": replicates.repeat_interleave(role.num_agents),
            "rounds": torch.zeros((), dtype=torch.int64),
            "rewards": {},
        }
        if self.unserializable:
            learned["generator"] = random.Random(0)
        last_action = torch.zeros(streams.num_worlds, role.num_agents, dtype=torch.int64)
        return BanditLearnerState(last_action, Layout(role.num_agents), pytree.Persistent(learned))

    def _models(self, state: BanditLearnerState, streams: RandomStreams) -> Tensor:
        """Model of each agent, `[world, agent]`."""
        num_agents = state.layout.num_agents
        _, index = streams.replicate.unique(return_inverse=True)
        return index[:, None] * num_agents + torch.arange(num_agents)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: BanditLearnerState,
        streams: RandomStreams,
    ) -> ActionOutput:
        weights = state.learned.value["weights"][self._models(state, streams)]
        action = streams.categorical("which", weights)
        return ActionOutput(action, dataclasses.replace(state, last_action=action))

    def state_dict(self, state: BanditLearnerState) -> Mapping[str, Tensor]:
        return {name: state.learned.value[name] for name in ("weights", "replicate", "stopped_at")}

    def diagnostics(self, state: BanditLearnerState) -> list[TrainingDiagnostics]:
        learned, num_agents = state.learned.value, state.layout.num_agents
        stop_reasons = [
            f"gambler, replicate {int(learned['replicate'][m])}, model {m % num_agents}: "
            f"NaN in round {int(learned['stopped_at'][m])} of its training"
            for m in (learned["stopped_at"] >= 0).nonzero()[:, 0].tolist()
        ]
        return [TrainingDiagnostics(stop_reasons=stop_reasons)]

    def _train(
        self, state: BanditLearnerState, action: Tensor, reward: Tensor, streams: RandomStreams
    ) -> BanditLearnerState:
        """Policy gradient step, in place."""
        learned, models = state.learned.value, self._models(state, streams)
        weights, mean = learned["weights"], learned["moments"]["mean"]
        learned["rounds"].add_(1)
        rounds = int(learned["rounds"])
        if self.unserializable:
            learned["generator"].random()
        learned["rewards"][f"reward {rounds % 2}"] = reward.mean(0)
        score = torch.eye(len(MEAN_REWARDS))[action] - weights.softmax(-1)[models]
        gradient = torch.zeros_like(weights)
        gradient.index_add_(0, models.flatten(), (score * reward[..., None]).flatten(0, 1))
        mean.mul_(0.8).add_(0.2 * gradient)
        first = torch.arange(len(weights)) % state.layout.num_agents == 0
        stops = first & (learned["replicate"] == self.stopping_replicate) & (rounds >= 5)
        learned["stopped_at"][stops & (learned["stopped_at"] < 0)] = rounds
        active = (learned["stopped_at"] < 0)[:, None]
        weights.add_(torch.where(active, self.learning_rate * mean, 0.0))
        return state


class OnlineLearner(BanditLearner):
    """Trains on reward."""

    trains: ClassVar = {"online"}

    noise_reward: bool = Field(default=False, description="trains on noise in place of reward")

    def update(
        self, state: BanditLearnerState, transition: Transition, streams: RandomStreams
    ) -> BanditLearnerState:
        reward = transition.reward
        if self.noise_reward:
            reward = streams.normal("noise", reward.shape[1])[..., 0]
        return self._train(state, state.last_action, reward, streams)


class OfflineLearner(BanditLearner):
    """Trains on recorded episodes."""

    trains: ClassVar = {"offline"}

    def fit_offline(
        self, state: BanditLearnerState, dataset: Any, streams: RandomStreams
    ) -> BanditLearnerState:
        action = dataset.action["choose"]
        for time in range(action.shape[1]):
            self._train(state, action[:, time], dataset.reward[:, time], streams)
        return state


class EpisodeCounter(Policy):
    """Counts its episodes in a state of another class."""

    keeps_state: ClassVar = True

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> Tensor:
        return torch.zeros(streams.num_worlds)

    def on_episode_start(self, state: Tensor, initial: Any, reset_mask: Tensor) -> Tensor:
        return state + 1

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Tensor,
        streams: RandomStreams,
    ) -> ActionOutput:
        action = state.long().clamp(max=len(MEAN_REWARDS) - 1)
        return ActionOutput(action[:, None].expand(-1, observation.shape[1]), state)


class StageCounter(EpisodeCounter):
    """Counts its episodes, anew in every stage."""

    keeps_state: ClassVar = False


ENVIRONMENT_KINDS: dict[str, type] = {"multi_agent_bandit": MultiAgentBandit}
POLICY_KINDS: dict[str, type] = {
    "random_gambler": RandomGambler,
    "online_learner": OnlineLearner,
    "offline_learner": OfflineLearner,
    "episode_counter": EpisodeCounter,
    "stage_counter": StageCounter,
}
if __name__.startswith("mores_loaded_"):
    from mores import register

    for name, cls in ENVIRONMENT_KINDS.items():
        register("environment", name, cls)
    for name, cls in POLICY_KINDS.items():
        register("policy", name, cls)
