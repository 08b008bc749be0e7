"""Distillation from an aligned teacher: DCKD and ADPA (arXiv 2502.17927).

A teacher, larger than the student, is trained first: on demonstrations, then on preferences (DPO).
Then the student minimizes

    DCKD  NLL(y_w) + w [KL(teacher | student) on y_w + KL(teacher | student) on y_l]
    ADPA  NLL(y_w) - w E_{a ~ student}[log teacher(a | s) - log reference(a | s)]

with y_w demonstrations and y_l the samples that the student generated first, in whose states the
expectation of ADPA is taken. The reference is the teacher before DPO, as in the paper; the authors'
published commands name another checkpoint. ADPA alone does not hold the student in states that the
teacher knows: `kl_coef` adds the divergence from the teacher.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.adam import Adam
from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.demonstration_rollout import concat_samples
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import expected_score_loss, kl_loss, nll_loss, preference_loss
from mores.agents.learning.model_mapping import ModelMapping
from mores.agents.learning.model_stack import ModelStack
from mores.agents.learning.networks import MLP
from mores.agents.learning.objective import PLAIN_VIEW, LossTerm, Objective
from mores.agents.learning.offline import OfflineLearner, num_units
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

TEACHER_PREFIX, REFERENCE_TEACHER_PREFIX = "teacher.", "reference_teacher."


class DistillationLearner(OfflineLearner):
    """Learner that trains a teacher on the dataset and distills it."""

    epoch_fields: ClassVar[tuple[str, ...]] = ("teacher_epochs",)

    teacher_hidden_sizes: list[Annotated[int, Field(ge=1, le=8192)]] = Field(
        default=[128, 128], min_length=1, max_length=16, description="layer sizes of the teacher"
    )
    teacher_epochs: int = Field(
        default=30,
        ge=1,
        le=10_000,
        description="passes of the teacher over the dataset, of imitation and of DPO",
    )
    teacher_learning_rate: float = Field(
        default=0.003, gt=0, le=1, description="learning rate of the teacher"
    )
    teacher_beta: float = Field(
        default=0.1, gt=0, le=100, description="scale of the teacher's log-ratios (beta of DPO)"
    )
    teacher_coef: float = Field(default=1.0, ge=0, description="weight of the teacher (w)")

    @property
    def recipe_name(self) -> str:
        """Name of the recipe in messages."""
        return type(self).__name__.lower()

    def fit_offline(
        self, state: LearnerState, dataset: Any, streams: RandomStreams
    ) -> LearnerState:
        """State after one pass over a dataset; the first call trains the teacher before."""
        extra = state.persistent_state.extra
        if not bool(extra["teacher_trained"].any()):
            with torch.no_grad():
                data = read_offline_data(dataset, state)
            self._train_teacher(data, state, streams.child("teacher"))
            extra["teacher_trained"].fill_(True)
        return super().fit_offline(state, dataset, streams)

    @property
    def fixed_fields(self) -> tuple[str, ...]:
        """Parameters whose change begins a new training."""
        return (*super().fixed_fields, "teacher_hidden_sizes")

    def extra_state(
        self, stacked_model: ModelStack, mapping: ModelMapping, streams: RandomStreams
    ) -> dict[str, Tensor]:
        """Parameters of the teacher, and of the teacher before DPO."""
        parameters = self.teacher_model(stacked_model).init_parameters(
            streams.take(mapping.first_world).child("teacher"), mapping.models_per_replicate
        )
        reference = copy_parameters(parameters)
        trained = torch.zeros(mapping.num_models, dtype=torch.bool, device=streams.device)
        return {
            **{TEACHER_PREFIX + name: tensor for name, tensor in parameters.items()},
            **{REFERENCE_TEACHER_PREFIX + name: tensor for name, tensor in reference.items()},
            "teacher_trained": trained,
        }

    def teacher_model(self, stacked_model: ModelStack) -> StackedModel:
        """Architecture of the teacher: spaces of the student, another encoder."""
        encoder = MLP(hidden_sizes=self.teacher_hidden_sizes)
        return StackedModel(encoder, stacked_model.observation_size, stacked_model.action_spaces)

    def _train_teacher(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> None:
        """Train the teacher on demonstrations, then on preferences; stores both models."""
        extra = state.persistent_state.extra
        parameters = _without_prefix(extra, TEACHER_PREFIX)
        reference = _without_prefix(extra, REFERENCE_TEACHER_PREFIX)
        demonstrations = data.demonstrations(self.recipe_name)
        pairs = data.preference_pairs(self.recipe_name)
        imitation = Objective((LossTerm(nll_loss, 1.0),))
        update_batch = UpdateBatch({data.phase: demonstrations}, imitation)
        self._run_teacher_epochs(state, parameters, update_batch, streams, "imitate")
        for name, tensor in parameters.items():
            reference[name].copy_(tensor)
        with torch.no_grad():
            reference_logp = self._teacher_logp(state, reference, data.phase, pairs)
        dpo = Objective((LossTerm(preference_loss, 1.0, {"beta": self.teacher_beta}),))
        pairs = pairs.replace(reference_logp=reference_logp)
        update_batch = UpdateBatch({data.phase: pairs}, dpo, "pair")
        self._run_teacher_epochs(state, parameters, update_batch, streams, "prefer")

    def _run_teacher_epochs(
        self,
        state: LearnerState,
        parameters: Parameters,
        update_batch: UpdateBatch,
        streams: RandomStreams,
        stream: str,
    ) -> None:
        """Train the teacher on an update batch; its parameters are changed in place."""
        persistent, mapping = state.persistent_state, state.persistent_state.mapping
        train_state = TrainState.create(parameters, uses_reference_model=False)
        adam = Adam(self.teacher_learning_rate, max_grad_norm=self.max_grad_norm or None)
        run_epochs(
            train_state,
            self.teacher_model(state.spec.stacked_model),
            state.spec.role.observation_space,
            update_batch,
            streams.take(mapping.first_world).child(stream),
            mapping.models_per_replicate,
            OptimizerConfig(adam),
            int(persistent.num_rounds),
            self.teacher_epochs,
            max(1, -(-num_units(update_batch) // self.batch_size)),
        )
        for name, tensor in train_state.parameters.items():
            parameters[name].copy_(tensor)
        persistent.train_state.deactivate(~train_state.active, persistent.num_rounds)

    def _teacher_logp(
        self, state: LearnerState, parameters: Parameters, phase: str, batch: FeedbackBatch
    ) -> Tensor:
        """Log-probabilities of the actions under a teacher."""
        return self._evaluate_teacher(state, parameters, phase, batch).logp

    def _evaluate_teacher(
        self, state: LearnerState, parameters: Parameters, phase: str, batch: FeedbackBatch
    ) -> ModelOutput:
        """Outputs of a teacher for a batch."""
        model, layout = self.teacher_model(state.spec.stacked_model), state.spec.role
        outputs = evaluate_views(model, layout.observation_space, parameters, phase, batch)
        return outputs[PLAIN_VIEW]

    def teacher_logits(
        self, state: LearnerState, prefix: str, phase: str, batch: FeedbackBatch
    ) -> Tensor:
        """Log-probabilities of all options under a teacher."""
        parameters = _without_prefix(state.persistent_state.extra, prefix)
        out = self._evaluate_teacher(state, parameters, phase, batch)
        return out.require("logits", self.recipe_name)

    def demonstrations_and_generated(self, data: OfflineData) -> FeedbackBatch:
        """Demonstrations, and the samples that the student generated."""
        is_demonstration = torch.zeros_like(data.generated.mask[..., 0])
        generated = data.generated.replace(is_demonstration=is_demonstration)
        return concat_samples(data.demonstrations(self.recipe_name), generated)


class DCKD(DistillationLearner):
    """Imitates demonstrations, and the teacher on them and on generated samples."""

    chosen_weight: float = Field(default=1.0, ge=0, description="weight on demonstrations")
    rejected_weight: float = Field(default=1.0, ge=0, description="weight on generated samples")

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Update with the teacher's log-probabilities of all options."""
        batch = self.demonstrations_and_generated(data)
        batch = batch.replace(
            teacher_logits=self.teacher_logits(state, TEACHER_PREFIX, data.phase, batch)
        )
        return UpdateBatch({data.phase: batch}, self.objective)

    @property
    def objective(self) -> Objective:
        """Negative log-likelihood, and divergence from the teacher."""
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
    """Imitates demonstrations, and follows the advantage of the teacher over its reference."""

    kl_coef: float = Field(default=0.0, ge=0, description="weight of divergence from the teacher")

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Update with the change of the teacher's log-probabilities by DPO, for all options."""
        batch = self.demonstrations_and_generated(data)
        teacher = self.teacher_logits(state, TEACHER_PREFIX, data.phase, batch)
        reference = self.teacher_logits(state, REFERENCE_TEACHER_PREFIX, data.phase, batch)
        batch = batch.replace(teacher_logits=teacher, option_score=teacher - reference)
        return UpdateBatch({data.phase: batch}, self.objective)

    @property
    def objective(self) -> Objective:
        """Negative log-likelihood, and the expected advantage."""
        terms = [
            LossTerm(nll_loss, 1.0, {"subset": "demonstration"}),
            LossTerm(expected_score_loss, self.teacher_coef, {"subset": "generated"}),
        ]
        if self.kl_coef > 0:
            loss_kwargs = {"direction": "forward", "other_policy": "teacher", "subset": "generated"}
            terms.append(LossTerm(kl_loss, self.kl_coef, loss_kwargs))
        return Objective(tuple(terms))


def _without_prefix(extra: dict[str, Tensor], prefix: str) -> Parameters:
    """Parameters whose names begin with a prefix, without it; the tensors are shared."""
    return {name[len(prefix) :]: t for name, t in extra.items() if name.startswith(prefix)}
