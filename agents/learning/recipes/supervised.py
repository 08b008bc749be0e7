"""Supervised learning of the targets that an environment gives as feedback, round by round.

    L = CE(target, pi)                          cross-entropy to weighted options
    confidence loss    target = (1 - c) weak + c 1[option chosen by the student]
    product loss       target ~ p^strong_exponent weak^weak_exponent

The environment gives the feedback `target.PHASE` to the agents of a role. Either a weight of each
option, `[world, agent, option]`, for a `Discrete` action: options of weight 0 everywhere mean that
the agent is not taught in this round. Or integers, the right action: `[world, agent]` for a
`Discrete` action, `[world, agent, component]` for a `MultiDiscrete` one. Integers teach every
agent, and `confidence_weight`, `weak_exponent` and `strong_exponent` have no effect on them.
Actions of the models and rewards have no part in it. A phase without feedback in a round trains
nothing, and a round is trained on once: `update_epochs` passes of `num_minibatches` optimizer
steps.

The confidence and product losses are those of weak-to-strong generalization (Burns et al. 2023,
arXiv 2312.09390): `mores.agents.learning.losses.soft_target`. The student is the model that is
trained, p are its probabilities, and weak are the weights of the feedback, labels by a weaker
supervisor. The student chooses between two options by a threshold on p. The threshold is the
quantile of p over the minibatch at which the share of each option equals its share of the weak
labels; the chosen option need not be the one of larger p. c has the same value in all optimizer
steps on the targets of a phase in a round: `confidence_weight` times
min(1, earlier optimizer steps of the stage / `confidence_warmup`). In the published code the factor
rises to the share of the warm-up in all steps, and then jumps to 1.
"""

from __future__ import annotations

from collections.abc import Set
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner import NetworkLearner, UpdateObstacle
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import nll_loss, soft_target_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.update import UpdateBatch, update_models
from mores.core.environment import Phase, Role, Transition
from mores.core.errors import UserError
from mores.core.learner import TrainingMode
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space

PREFIX = "target."  # of the name of feedback, before that of the phase


class Supervised(NetworkLearner):
    """Supervised learning of targets from feedback: cross-entropy, confidence and product loss."""

    trains: ClassVar[Set[TrainingMode]] = {"online"}
    epoch_fields: ClassVar[tuple[str, ...]] = ("update_epochs",)

    update_epochs: int = Field(default=1, ge=1, le=1000, description="passes over a round's items")
    num_minibatches: int = Field(default=1, ge=1, le=100_000, description="minibatches of a pass")
    confidence_weight: float = Field(
        default=0.0,
        ge=0,
        le=1,
        description="weight in the target of the option that the student chooses, by a "
        "threshold on its probabilities (c); above 0: two options only",
    )
    confidence_warmup: int = Field(
        default=0, ge=0, le=1_000_000, description="optimizer steps until c has its full value"
    )
    weak_exponent: float = Field(
        default=1.0,
        ge=0,
        le=100,
        description="exponent of the target's weights in the product target; 1 together with "
        "strong_exponent 0: no product",
    )
    strong_exponent: float = Field(
        default=0.0,
        ge=0,
        le=100,
        description="exponent of the model's probabilities in the product target",
    )

    @property
    def conditional_fields(self) -> dict[str, tuple[str, bool]]:
        """Parameters that need a certain setting: the setting, and whether it holds."""
        confident = ("confidence_weight above 0", self.confidence_weight > 0)
        return {**super().conditional_fields, "confidence_warmup": confident}

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LearnerState:
        """State with new models, drawn for each replicate.

        Raises:
            UserError: the network has a recurrent state; see `NetworkLearner`.
        """
        state = super().initial_state(role, phases, streams)
        if state.spec.stacked_model.recurrent_state_size:
            raise UserError(
                "supervised trains each action alone, and needs a network without recurrent state, "
                "such as mlp",
                code="unsupported",
                path=f"policies.{role.name}.network",
            )
        return state

    def update_obstacle(self, state: LearnerState) -> UpdateObstacle:
        """Why an update without feedback does nothing."""
        return UpdateObstacle(f"it trains on the feedback {PREFIX}PHASE of an environment")

    def update(
        self, state: LearnerState, transition: Transition, streams: RandomStreams
    ) -> LearnerState:
        """State with models updated on the targets of this round, if there are any."""
        persistent = state.persistent_state
        persistent.num_rounds.add_(1)
        with torch.no_grad():
            for phase in state.last_decisions:
                target = transition.feedback.get(PREFIX + phase)
                if target is None:
                    continue
                batch, objective = self._supervised_batch(state, phase, target, transition.finished)
                update_batch = UpdateBatch({phase: batch}, objective)
                self.validate_update_batch(update_batch)
                update_models(
                    state,
                    update_batch,
                    streams,
                    self.optimizer_config,
                    self.update_epochs,
                    self.num_minibatches,
                )
        return state

    def _supervised_batch(
        self, state: LearnerState, phase: str, target: Tensor, finished: Tensor
    ) -> tuple[FeedbackBatch, Objective]:
        """Batch of a phase, a sample per agent and world, and its objective."""
        mapping, decision = state.persistent_state.mapping, state.last_decisions[phase]
        space = state.spec.stacked_model.action_spaces[phase]
        is_hard = not target.is_floating_point()
        _check_target(target, phase, space, is_hard)
        mask = mapping.by_model(~finished[:, None].expand(-1, mapping.shape[1])) & mapping.valid
        action = target.long() if is_hard else decision.action

        def samples(x: Tensor) -> Tensor:
            return mapping.by_model(x)[:, :, None]  # model sample step ...

        batch = FeedbackBatch(
            samples(decision.observation),
            samples(action),
            mask[..., None],
            action_mask=samples(decision.action_mask) if decision.action_mask.shape[-1] else None,
            target_weight=None if is_hard else samples(target),
        )
        if is_hard:
            return batch, Objective((LossTerm(nll_loss),))
        updates = state.persistent_state.train_state.updates
        ramp = (updates.to(target.dtype) / max(self.confidence_warmup, 1)).clamp(max=1.0)
        c: float | Tensor = self.confidence_weight
        if c > 0 and self.confidence_warmup:
            c = c * ramp
        settings = {
            "confidence_weight": c,
            "weak_exponent": self.weak_exponent,
            "strong_exponent": self.strong_exponent,
        }
        return batch, Objective((LossTerm(soft_target_loss, 1.0, settings),))


def _check_target(target: Tensor, phase: str, space: Space, is_hard: bool) -> None:
    """Check that a target fits an action space.

    Raises:
        UserError: it does not.
    """
    if isinstance(space, Box):
        raise UserError(
            "supervised needs Discrete or MultiDiscrete actions, not Box",
            code="unsupported",
            path=f"feedback.{PREFIX}{phase}",
        )
    trailing = list(target.shape[2:])
    if isinstance(space, MultiDiscrete):
        expected = f"integers [world, agent, {space.size}]"
        if is_hard and trailing == [space.size]:
            return
    else:
        assert isinstance(space, Discrete)
        expected = f"weights [world, agent, {space.num_options}] or integers [world, agent]"
        if trailing == ([] if is_hard else [space.num_options]):
            return
    kind = "integers" if is_hard else "numbers"
    raise UserError(
        f"supervised: feedback {PREFIX}{phase} is {kind} {list(target.shape)}; the phase needs "
        f"{expected}",
        code="wrong_shape",
        path=f"feedback.{PREFIX}{phase}",
    )
