"""Learning from an aligned teacher: DCKD and ADPA (arXiv 2502.17927).

A teacher, larger than its pupil, is made first: it imitates demonstrations, and then prefers what
was preferred (DPO). Then

    DCKD  NLL(y_w) + w [KL(teacher | pupil) on y_w + KL(teacher | pupil) on y_l]
    ADPA  NLL(y_w) - w E_{a ~ pupil}[log teacher(a | s) - log untaught(a | s)]

with y_w demonstrations and y_l the pupil's own first answers, in whose states ADPA's expectation is
taken. The untaught teacher is the one before DPO. So is it in the paper; the authors' published
commands name another checkpoint there. ADPA has nothing that holds it where the teacher knows
its way: `anchor` adds the divergence from the teacher.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.adam import Adam
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.demonstration_rollout import concat_samples
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import expected_score_loss, kl_loss, nll_loss, preference_loss
from mores.agents.learning.model_mapping import ModelMapping
from mores.agents.learning.networks import MLP
from mores.agents.learning.objective import PLAIN_VIEW, LossTerm, Objective
from mores.agents.learning.offline import OfflineLearner
from mores.agents.learning.offline_data import OfflineData, read_offline_data
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.train_state import (
    OptimizerConfig,
    Parameters,
    TrainState,
    copy_parameters,
)
from mores.agents.learning.update import UpdateBatch, evaluate_views, run_epochs
from mores.core.random_streams import RandomStreams

TEACHER_PREFIX, REFERENCE_TEACHER_PREFIX = "teacher.", "untaught."


class DistillationLearner(OfflineLearner):
    """Makes a teacher of what was recorded, and learns from it."""

    epoch_fields: ClassVar[tuple[str, ...]] = ("teacher_epochs",)

    teacher_hidden_sizes: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[128, 128], min_length=1, max_length=16, description="units of the teacher's layers"
    )
    teacher_epochs: int = Field(
        default=30, ge=1, le=10_000, description="over the record, of imitation and of preference"
    )
    teacher_learning_rate: float = Field(
        default=0.003, gt=0, le=1, description="the teacher's learning rate"
    )
    teacher_beta: float = Field(
        default=0.1, gt=0, le=100, description="of the teacher's log-ratios (beta of DPO)"
    )
    teacher_coef: float = Field(default=1.0, ge=0, description="of what the teacher says")

    @property
    def recipe_name(self) -> str:
        """What messages call it."""
        return type(self).__name__.lower()

    def fit_offline(
        self, state: LearnerState, dataset: Any, streams: RandomStreams
    ) -> LearnerState:
        """Make the teacher, once; then go over the record."""
        extra = state.persistent_state.extra
        if not bool(extra["teacher_trained"].any()):
            with torch.no_grad():
                record = read_offline_data(dataset, state)
            self._train_teacher(record, state, streams.child("teacher"))
            extra["teacher_trained"].fill_(True)
        return super().fit_offline(state, dataset, streams)

    @property
    def fixed_fields(self) -> tuple[str, ...]:
        """The teacher lasts, too."""
        return (*super().fixed_fields, "teacher_hidden_sizes")

    def extra_state(
        self, stacked_model: StackedModel, mapping: ModelMapping, streams: RandomStreams
    ) -> dict[str, Tensor]:
        """The teacher, and what it was before it was taught to prefer."""
        teacher = self.teacher_model(stacked_model)
        first = teacher.init_parameters(
            streams.take(mapping.first_world).child("teacher"), mapping.models_per_replicate
        )
        taught = torch.zeros(mapping.num_models, dtype=torch.bool, device=streams.device)
        return {
            **{TEACHER_PREFIX + name: tensor for name, tensor in first.items()},
            **{
                REFERENCE_TEACHER_PREFIX + name: tensor
                for name, tensor in copy_parameters(first).items()
            },
            "teacher_trained": taught,
        }

    def teacher_model(self, stacked_model: StackedModel) -> StackedModel:
        """The teacher's make: the pupil's tasks, another network."""
        body = MLP(hidden_sizes=self.teacher_hidden_sizes)
        return StackedModel(body, stacked_model.observation_size, stacked_model.action_spaces)

    def _train_teacher(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> None:
        """Imitate, then prefer; both are kept."""
        extra = state.persistent_state.extra
        parameters, untaught = (
            _without_prefix(extra, TEACHER_PREFIX),
            _without_prefix(extra, REFERENCE_TEACHER_PREFIX),
        )
        shown, pairs = (
            data.demonstrations(self.recipe_name),
            data.preference_pairs(self.recipe_name),
        )
        imitate = Objective((LossTerm(nll_loss, 1.0),))
        self._run_teacher_epochs(
            state, parameters, UpdateBatch({data.phase: shown}, imitate), streams, "imitate"
        )
        for name, tensor in parameters.items():
            untaught[name].copy_(tensor)
        with torch.no_grad():
            out = self._teacher_logp(state, untaught, data.phase, pairs)
        prefer = Objective((LossTerm(preference_loss, 1.0, {"beta": self.teacher_beta}),))
        pairs = pairs.replace(reference_logp=out)
        lesson = UpdateBatch({data.phase: pairs}, prefer, "pair")
        self._run_teacher_epochs(state, parameters, lesson, streams, "prefer")

    def _run_teacher_epochs(
        self,
        state: LearnerState,
        parameters: Parameters,
        update_batch: UpdateBatch,
        streams: RandomStreams,
        name: str,
    ) -> None:
        """Go over a lesson with the teacher, whose parameters are changed in place."""
        learned = state.persistent_state
        batch = next(iter(update_batch.batches.values()))
        size = (
            batch.num_samples
            if update_batch.unit == "sample"
            else batch.require("pairs", "dpo").shape[1]
        )
        pupil = TrainState.create(parameters, uses_reference_model=False)
        run_epochs(
            pupil,
            self.teacher_model(state.spec.stacked_model),
            state.spec.role.observation_space,
            update_batch,
            streams.take(learned.mapping.first_world).child(name),
            learned.mapping.models_per_replicate,
            OptimizerConfig(
                Adam(self.teacher_learning_rate, max_grad_norm=self.max_grad_norm or None)
            ),
            int(learned.num_rounds),
            self.teacher_epochs,
            max(1, -(-size // self.batch_size)),
        )
        for name, tensor in pupil.parameters.items():
            parameters[name].copy_(tensor)
        learned.train_state.deactivate(~pupil.active, learned.num_rounds)

    def _teacher_logp(
        self, state: LearnerState, parameters: Parameters, phase: str, batch: FeedbackBatch
    ) -> Tensor:
        """Log-probabilities of what was done, by a teacher."""
        stack = self.teacher_model(state.spec.stacked_model)
        return evaluate_views(stack, state.spec.role.observation_space, parameters, phase, batch)[
            PLAIN_VIEW
        ].logp

    def teacher_logits(
        self, state: LearnerState, prefix: str, phase: str, batch: FeedbackBatch
    ) -> Tensor:
        """Log-probabilities of all options, by a teacher."""
        stack, parameters = (
            self.teacher_model(state.spec.stacked_model),
            _without_prefix(state.persistent_state.extra, prefix),
        )
        out = evaluate_views(stack, state.spec.role.observation_space, parameters, phase, batch)[
            PLAIN_VIEW
        ]
        return out.require("logits", self.recipe_name)

    def demonstrations_and_generated(self, data: OfflineData) -> FeedbackBatch:
        """Demonstrations, and the pupil's own first answers."""
        own = data.generated.replace(is_demonstration=torch.zeros_like(data.generated.mask[..., 0]))
        return concat_samples(data.demonstrations(self.recipe_name), own)


class DCKD(DistillationLearner):
    """Imitates demonstrations, and the teacher on them and on its own first answers."""

    chosen_weight: float = Field(default=1.0, ge=0, description="of the teacher on demonstrations")
    rejected_weight: float = Field(default=1.0, ge=0, description="of the teacher on own answers")

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """With what the teacher says of every option."""
        batch = self.demonstrations_and_generated(data)
        batch = batch.replace(
            teacher_logits=self.teacher_logits(state, TEACHER_PREFIX, data.phase, batch)
        )
        return UpdateBatch({data.phase: batch}, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood, and divergence from the teacher."""
        teacher = {"direction": "forward", "other_policy": "teacher"}
        weights = (self.teacher_coef * self.chosen_weight, self.teacher_coef * self.rejected_weight)
        return Objective(
            (
                LossTerm(nll_loss, 1.0, {"subset": "demonstration"}),
                LossTerm(kl_loss, weights[0], {**teacher, "subset": "demonstration"}),
                LossTerm(kl_loss, weights[1], {**teacher, "subset": "generated"}),
            )
        )


class ADPA(DistillationLearner):
    """Imitates demonstrations, and does what the teacher came to prefer."""

    kl_coef: float = Field(default=0.0, ge=0, description="of the divergence from the teacher")

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """With what preference taught the teacher about every option."""
        batch = self.demonstrations_and_generated(data)
        taught = self.teacher_logits(state, TEACHER_PREFIX, data.phase, batch)
        untaught = self.teacher_logits(state, REFERENCE_TEACHER_PREFIX, data.phase, batch)
        batch = batch.replace(teacher_logits=taught, option_score=taught - untaught)
        return UpdateBatch({data.phase: batch}, self.objective)

    @property
    def objective(self) -> Objective:
        """Likelihood, and the expected advantage."""
        terms = [
            LossTerm(nll_loss, 1.0, {"subset": "demonstration"}),
            LossTerm(expected_score_loss, self.teacher_coef, {"subset": "generated"}),
        ]
        if self.kl_coef > 0:
            settings = {"direction": "forward", "other_policy": "teacher", "subset": "generated"}
            terms.append(LossTerm(kl_loss, self.kl_coef, settings))
        return Objective(tuple(terms))


def _without_prefix(extra: dict[str, Tensor], prefix: str) -> Parameters:
    """The parameters whose names begin so, without it; changed in place they change here."""
    return {name[len(prefix) :]: t for name, t in extra.items() if name.startswith(prefix)}
