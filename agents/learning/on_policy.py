"""Learning from reward while acting: the loop `improve`.

PPO learns every `horizon` rounds, wherever episodes stand. Recipes of whole answers (REINFORCE,
GRPO ...; `answers.py`) learn when every world has completed an episode; a *sample* is one seat's
episode. Where worlds begin anew by themselves, what they do after their first complete episode is
left out until the others are done.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, ClassVar

import torch
from jaxtyping import Bool, Shaped
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner import Learner, with_persistent_state
from mores.agents.learning.learner_state import LearnerState, PersistentState
from mores.agents.learning.rollout_buffer import RolloutBuffer
from mores.agents.learning.update import UpdateBatch, update_models
from mores.core.environment import Transition
from mores.core.random_streams import RandomStreams

UnitInterval = Annotated[float, Field(ge=0, le=1)]


class OnPolicyLearner(Learner):
    """Learns from reward as it acts."""

    epoch_fields: ClassVar[tuple[str, ...]] = ("update_epochs",)

    temperature: float = Field(
        default=1.0, ge=1, le=1, description="it draws as it learns; assist takes the likeliest"
    )
    update_epochs: int = Field(
        default=4, ge=1, le=1000, description="passes over what was gathered"
    )
    num_minibatches: int = Field(default=1, ge=1, le=100_000, description="parts of a pass")
    gamma: UnitInterval = Field(default=0.99, description="of the next round's reward")

    @abstractmethod
    def ready_to_update(self, rollout: RolloutBuffer, transition: Transition) -> bool:
        """Whether it is time to learn; the rollout has this round already."""

    @abstractmethod
    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """What is to be learned from what was gathered, `[policy, row, round]` by phase."""

    def update(
        self, state: LearnerState, transition: Transition, streams: RandomStreams
    ) -> LearnerState:
        """Keep the round, and learn when it is time."""
        learned = state.persistent_state
        learned.num_rounds.add_(1)
        ahead = self._bootstrap_value(state, transition)
        rollout = learned.rollout.add(state.last_decisions, transition, ahead)
        if self.episodic:
            rollout.mark_complete(transition.done)
        if rollout is not learned.rollout:
            learned = _with_rollout(learned, rollout)
            state = with_persistent_state(state, learned)
        if not self.ready_to_update(rollout, transition):
            return state
        with torch.no_grad():
            learned.train_state.deactivate(~self.finite_rewards(state), learned.num_rounds)
            batches = buffer_batches(state)
            lesson = self.make_update_batch(batches, state)
        self.validate_update_batch(lesson)
        update_models(self, state, lesson, streams, self.update_epochs, self.num_minibatches)
        rollout.clear(state.recurrent_state, self.episodic)
        return state

    def finite_rewards(self, state: LearnerState) -> Bool[Tensor, " policy"]:
        """Policies to which all that was paid is a number.

        Not every lesson would notice: whose answer is the best of its group may still be told.
        """
        rollout = state.persistent_state.rollout
        pay = torch.where(rollout.valid[..., None], rollout.reward, 0.0)
        return buffer_by_model(state, pay).isfinite().flatten(1).all(1)

    def _bootstrap_value(self, state: LearnerState, transition: Transition) -> Tensor | None:
        """What the value head expects of the sight after the round, where that is needed."""
        if not self.has_critic:
            return None
        learned = state.persistent_state
        last = int(learned.rollout.length) + 1 >= self.initial_capacity
        if not last and not bool(transition.truncated.any()):
            return None
        seats = learned.mapping
        with torch.no_grad():
            values = state.spec.stacked_model.predict_values(
                learned.train_state.parameters,
                seats.by_model(transition.next_observation),
                seats.by_model(state.recurrent_state),
            )
        return seats.by_world(values)


def _with_rollout(persistent_state: PersistentState, rollout: RolloutBuffer) -> PersistentState:
    return PersistentState(
        persistent_state.mapping,
        persistent_state.train_state,
        persistent_state.num_rounds,
        rollout,
        persistent_state.extra,
    )


def buffer_by_model(
    state: LearnerState, x: Shaped[Tensor, "round world agent *more"]
) -> Shaped[Tensor, "policy row count *more"]:
    """What a rollout keeps of seats, of the rounds that were gathered."""
    learned = state.persistent_state
    return learned.mapping.by_model(x[: int(learned.rollout.length)].movedim(0, 2))


def world_flags_by_model(
    state: LearnerState, x: Shaped[Tensor, "round world"]
) -> Shaped[Tensor, "policy row count"]:
    """What a rollout keeps of worlds, for each of their seats."""
    agents = state.persistent_state.mapping.shape[1]
    return buffer_by_model(state, x[..., None].expand(*x.shape, agents))


def buffer_batches(state: LearnerState) -> dict[str, FeedbackBatch]:
    """What was gathered, by phase: `[policy, row, round]`, a row being a seat in a world."""
    seats, rollout = state.persistent_state.mapping, state.persistent_state.rollout
    mask = world_flags_by_model(state, rollout.valid) & seats.valid[..., None]
    begins = world_flags_by_model(state, rollout.episode_start)
    carry = seats.by_model(rollout.recurrent_state) if rollout.recurrent_state.shape[-1] else None
    found = {}
    for phase, done in rollout.decisions.items():
        found[phase] = FeedbackBatch(
            buffer_by_model(state, done.observation),
            buffer_by_model(state, done.action),
            mask,
            action_mask=buffer_by_model(state, done.action_mask)
            if done.action_mask.shape[-1]
            else None,
            episode_start=begins,
            recurrent_state=carry,
            old_logp=buffer_by_model(state, done.logp),
            old_value=buffer_by_model(state, done.value),
        )
    return found


def buffer_rewards(state: LearnerState) -> dict[str, Tensor]:
    """Reward, expectation at cuts, ends: `[policy, row, round]` by name."""
    rollout = state.persistent_state.rollout
    return {
        "terminated": world_flags_by_model(state, rollout.terminated),
        "truncated": world_flags_by_model(state, rollout.truncated),
        "reward": buffer_by_model(state, rollout.reward),
        "bootstrap_value": buffer_by_model(state, rollout.bootstrap_value),
    }


def buffer_feedback(state: LearnerState) -> dict[str, Tensor]:
    """What was said of each row's episode, `[policy, row, ...]` by name."""
    seats = state.persistent_state.mapping
    return {name: seats.by_model(x) for name, x in state.persistent_state.rollout.feedback.items()}
