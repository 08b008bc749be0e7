"""Alignment recovery: restores weights of an earlier model within a limit on the downstream loss.

Weights that the stage before changed return to their initial values, in the order in which this
lowers an alignment loss, until the downstream loss has increased by the limit: "Alleviating the
Fear of Losing Alignment" (arXiv 2504.09757), see `mores.agents.learning.weights.recovery`.

Different here: the alignment loss is the divergence from the earlier model at the observations of
the dataset (the paper compares mean hidden states on harmful prompts), and the downstream loss is
the negative log-likelihood of the demonstrations in the dataset.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

import torch
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import kl_loss, nll_loss
from mores.agents.learning.objective import PLAIN_VIEW
from mores.agents.learning.offline import OfflineLearner
from mores.agents.learning.offline_data import OfflineData, read_offline_data
from mores.agents.learning.update import UpdateBatch, evaluate_views
from mores.agents.learning.weights.recovery import RecoveryConfig, recover
from mores.core.errors import UserError
from mores.core.random_streams import RandomStreams
from mores.core.stream_addresses import parameter_address


class AlignmentRecovery(OfflineLearner):
    """Restores weights that the previous stage changed, within a limit on the downstream loss."""

    epoch_fields: ClassVar[tuple[str, ...]] = ("steps",)

    max_loss_increase: float = Field(
        default=0.1,
        ge=0,
        description="largest increase of the imitation loss in a pass, in nats per action",
    )
    step_fraction: float = Field(
        default=0.02, gt=0, le=1, description="share of weights that a step restores"
    )
    selection: Literal["gradient", "random"] = Field(
        default="gradient",
        description="order of weights: by gradient, or as a control the same number at random",
    )
    steps: int = Field(default=50, ge=0, le=100_000, description="steps of a pass; 0: no training")

    @property
    def frozen(self) -> bool:
        """Whether there are no steps; the learning rate has no effect."""
        return self.steps == 0

    def warm_start(self, state: LearnerState, initial: LearnerState) -> LearnerState:
        """Initial state whose reference is the model that the stage before began from.

        Raises:
            UserError: the stage before did not continue from an earlier model.
        """
        reference = state.persistent_state.train_state.reference_parameters
        if not reference:
            raise UserError(
                "alignment_recovery restores weights that the stage before changed; the stage "
                "before must continue, with another recipe, from a first one",
                code="wrong_order",
                path="stages",
            )
        continued = super().warm_start(state, initial)
        continued.persistent_state.train_state.reference_parameters.update(reference)
        return continued

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Not used: `fit_offline` restores weights without optimizer steps."""
        raise NotImplementedError

    def fit_offline(
        self, state: LearnerState, dataset: Any, streams: RandomStreams
    ) -> LearnerState:
        """State with restored weights."""
        train_state = state.persistent_state.train_state
        if not train_state.reference_parameters:
            raise UserError(
                "alignment_recovery restores weights that the stage before changed; the stages "
                "before need other recipes (stages: policies)",
                code="wrong_order",
                path="stages",
            )
        with torch.no_grad():
            data = read_offline_data(dataset, state)
            generated = self._with_aligned_logits(data.generated, state, data.phase)
        demonstrations = data.demonstrations("alignment_recovery")

        def alignment_loss(parameters: Mapping[str, Tensor]) -> Tensor:
            out = self._evaluate(state, parameters, data.phase, generated)
            return kl_loss(out, generated, direction="forward")

        def downstream_loss(parameters: Mapping[str, Tensor]) -> Tensor:
            out = self._evaluate(state, parameters, data.phase, demonstrations)
            return nll_loss(out, demonstrations)

        def evaluate_downstream(parameters: dict[str, Tensor]) -> Tensor:
            with torch.no_grad():
                return downstream_loss(parameters)

        state.persistent_state.num_rounds.add_(1)
        parameters = train_state.parameters
        with torch.no_grad():
            finite = alignment_loss(parameters).isfinite() & downstream_loss(parameters).isfinite()
        train_state.deactivate(~finite, state.persistent_state.num_rounds)
        config = RecoveryConfig(
            self.max_loss_increase, self.step_fraction, min(5, self.steps), self.steps
        )
        weights = recover(
            parameters,
            train_state.reference_parameters,
            lambda weights: _gradient(alignment_loss, weights),
            lambda weights: _gradient(downstream_loss, weights),
            evaluate_downstream,
            config,
        ).weights
        if self.steps:
            train_state.updates.add_(train_state.active)
        if self.selection == "random":
            weights = self._random_restore(state, weights, streams)
        for name, tensor in weights.items():
            active = train_state.active.view(-1, *[1] * (tensor.dim() - 1))
            parameters[name].copy_(torch.where(active, tensor, parameters[name]))
        return state

    def _random_restore(
        self, state: LearnerState, restored: Mapping[str, Tensor], streams: RandomStreams
    ) -> dict[str, Tensor]:
        """Weights restored at random, in each model the same share as in `restored`."""
        train_state, mapping = state.persistent_state.train_state, state.persistent_state.mapping
        parameters, reference = train_state.parameters, train_state.reference_parameters
        first_streams = streams.take(mapping.first_world)
        num_changed, num_restored = 0.0, 0.0
        for name, tensor in restored.items():
            num_changed = num_changed + (parameters[name] != reference[name]).flatten(1).sum(1)
            num_restored = num_restored + (tensor != parameters[name]).flatten(1).sum(1)
        share = num_restored / torch.as_tensor(num_changed).clamp(min=1)
        weights = {}
        for name, tensor in parameters.items():
            size = tensor[0].numel()
            uniform = first_streams.uniform(
                f"restored/{parameter_address(name)}", mapping.models_per_replicate, size
            ).reshape(len(tensor), size)
            chosen = (uniform < share[:, None]).view_as(tensor)
            weights[name] = torch.where(chosen, reference[name], tensor)
        return weights

    def _with_aligned_logits(
        self, batch: FeedbackBatch, state: LearnerState, phase: str
    ) -> FeedbackBatch:
        reference = state.persistent_state.train_state.reference_parameters
        out = self._evaluate(state, reference, phase, batch)
        return batch.replace(reference_logp=out.logp, reference_logits=out.logits)

    def _evaluate(
        self,
        state: LearnerState,
        parameters: Mapping[str, Tensor],
        phase: str,
        batch: FeedbackBatch,
    ) -> Any:
        return evaluate_views(
            state.spec.stacked_model, state.spec.role.observation_space, parameters, phase, batch
        )[PLAIN_VIEW]


def _gradient(loss: Any, weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Gradient of every model's own loss; without parameters that the loss does not use."""
    leaves = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
    with torch.enable_grad():
        gradients = torch.autograd.grad(
            loss(leaves).sum(), list(leaves.values()), allow_unused=True
        )
    return {name: g for name, g in zip(leaves, gradients, strict=True) if g is not None}
