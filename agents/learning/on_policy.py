"""Online training: learners that update while they act.

PPO updates every `num_steps` rounds, at any point of an episode. Episodic recipes (REINFORCE, GRPO
...; `episodic.py`) update when every world has completed an episode; a *sample* is the episode of
one agent. With autoreset, a world's rounds after its first complete episode are left out until all
other worlds have completed one.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Set
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Shaped
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner import NetworkLearner
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.rollout_buffer import RolloutBuffer
from mores.agents.learning.update import UpdateBatch, update_models
from mores.core.environment import Transition
from mores.core.learner import TrainingMode
from mores.core.random_streams import RandomStreams

UnitInterval = Annotated[float, Field(ge=0, le=1)]


class OnPolicyLearner(NetworkLearner):
    """Learner that trains on reward while it acts."""

    trains: ClassVar[Set[TrainingMode]] = {"online"}
    epoch_fields: ClassVar[tuple[str, ...]] = ("update_epochs",)

    temperature: float = Field(
        default=1.0, ge=1, le=1, description="fixed to 1; search stages take the likeliest action"
    )
    update_epochs: int = Field(
        default=4, ge=1, le=1000, description="passes over the rollout in an update"
    )
    num_minibatches: int = Field(default=1, ge=1, le=100_000, description="minibatches of a pass")
    gamma: UnitInterval = Field(default=0.99, description="discount factor of a round")

    @abstractmethod
    def ready_to_update(self, rollout: RolloutBuffer, transition: Transition) -> bool:
        """Whether to update now; `transition` is already in the rollout."""

    @abstractmethod
    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Data and objective of an update, from the rollout by phase, `[model, row, round]`."""

    def update(
        self, state: LearnerState, transition: Transition, streams: RandomStreams
    ) -> LearnerState:
        """State with the transition in the rollout, and updated models if it is time."""
        persistent = state.persistent_state
        persistent.num_rounds.add_(1)
        bootstrap_value = self._bootstrap_value(state, transition)
        rollout = persistent.rollout.add(state.last_decisions, transition, bootstrap_value)
        if self.episodic:
            rollout.mark_complete(transition.done)
        persistent.rollout = rollout  # another one if it grew
        if not self.ready_to_update(rollout, transition):
            return state
        with torch.no_grad():
            persistent.train_state.deactivate(~self.finite_rewards(state), persistent.num_rounds)
            update_batch = self.make_update_batch(buffer_batches(state), state)
        self.validate_update_batch(update_batch)
        optimizer, epochs = self.optimizer_config, self.update_epochs
        update_models(state, update_batch, streams, optimizer, epochs, self.num_minibatches)
        rollout.clear(state.recurrent_state, self.episodic)
        return state

    def finite_rewards(self, state: LearnerState) -> Bool[Tensor, " model"]:
        """Models whose rewards are all finite.

        Not every loss becomes NaN with them: the best sample of a group may still be defined.
        """
        rollout = state.persistent_state.rollout
        reward = torch.where(rollout.valid[..., None], rollout.reward, 0.0)
        return buffer_by_model(state, reward).isfinite().flatten(1).all(1)

    def _bootstrap_value(self, state: LearnerState, transition: Transition) -> Tensor | None:
        """Predicted value of the next observation where it is needed; else `None`."""
        if not self.has_critic:
            return None
        persistent = state.persistent_state
        is_last = int(persistent.rollout.length) + 1 >= self.initial_capacity
        if not is_last and not bool(transition.truncated.any()):
            return None
        mapping = persistent.mapping
        with torch.no_grad():
            values = state.spec.stacked_model.predict_values(
                persistent.train_state.parameters,
                mapping.by_model(transition.next_observation),
                mapping.by_model(state.recurrent_state),
            )
        return mapping.by_world(values)


def buffer_by_model(
    state: LearnerState, x: Shaped[Tensor, "round world agent *more"]
) -> Shaped[Tensor, "model row count *more"]:
    """A field of the rollout by model, up to the last recorded round."""
    persistent = state.persistent_state
    return persistent.mapping.by_model(x[: int(persistent.rollout.length)].movedim(0, 2))


def world_flags_by_model(
    state: LearnerState, x: Shaped[Tensor, "round world"]
) -> Shaped[Tensor, "model row count"]:
    """A field of worlds in the rollout, for each of their agents by model."""
    agents = state.persistent_state.mapping.shape[1]
    return buffer_by_model(state, x[..., None].expand(*x.shape, agents))


def buffer_batches(state: LearnerState) -> dict[str, FeedbackBatch]:
    """The rollout by phase, `[model, row, round]`; a row is an agent in a world."""
    mapping, rollout = state.persistent_state.mapping, state.persistent_state.rollout
    mask = world_flags_by_model(state, rollout.valid) & mapping.valid[..., None]
    episode_start = world_flags_by_model(state, rollout.episode_start)
    recurrent = rollout.recurrent_state
    recurrent_state = mapping.by_model(recurrent) if recurrent.shape[-1] else None
    batches = {}
    for phase, decision in rollout.decisions.items():
        action_mask = decision.action_mask
        batches[phase] = FeedbackBatch(
            buffer_by_model(state, decision.observation),
            buffer_by_model(state, decision.action),
            mask,
            action_mask=buffer_by_model(state, action_mask) if action_mask.shape[-1] else None,
            episode_start=episode_start,
            recurrent_state=recurrent_state,
            old_logp=buffer_by_model(state, decision.logp),
            old_value=buffer_by_model(state, decision.value),
        )
    return batches


def buffer_rewards(state: LearnerState) -> dict[str, Tensor]:
    """Rewards, ends of episodes and bootstrap values, `[model, row, round]` by name."""
    rollout = state.persistent_state.rollout
    return {
        "terminated": world_flags_by_model(state, rollout.terminated),
        "truncated": world_flags_by_model(state, rollout.truncated),
        "reward": buffer_by_model(state, rollout.reward),
        "bootstrap_value": buffer_by_model(state, rollout.bootstrap_value),
    }


def buffer_feedback(state: LearnerState) -> dict[str, Tensor]:
    """Feedback on the episode of each row, `[model, row, ...]` by name."""
    mapping, feedback = state.persistent_state.mapping, state.persistent_state.rollout.feedback
    return {name: mapping.by_model(x) for name, x in feedback.items()}
