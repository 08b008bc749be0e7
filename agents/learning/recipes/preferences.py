"""Training on preferences between generated samples: DPO, IPO, SimPO, CPO, KTO.

    DPO    -log sigmoid(b (s_w - s_l))              s: log-ratio to the reference  (2305.18290)
    IPO    (s_w - s_l - 1/(2b))^2                   the same score                 (2310.12036)
    SimPO  -log sigmoid(b (m_w - m_l) - g)          m: mean log-likelihood         (2405.14734)
    CPO    -log sigmoid(b (l_w - l_l)) + w NLL(w)   l: log-likelihood              (2401.08417)
    KTO    desirable and undesirable samples, each against a baseline              (2402.01306)

With `estimate_reliability: true` the first four become those of RE-PO (LCPO, arXiv 2509.24159):
labels are weighted by the reliability of their annotators, which is estimated during training.

The baseline of KTO is the divergence from the reference model. The paper estimates it from
mismatched completions; here it is computed from the probabilities of all options, at the steps of
the batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from pydantic import Field, model_validator
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import nll_loss, preference_loss
from mores.agents.learning.losses.preference import label_losses
from mores.agents.learning.model_mapping import ModelMapping
from mores.agents.learning.model_stack import ModelStack
from mores.agents.learning.objective import PLAIN_VIEW, LossTerm, Objective
from mores.agents.learning.offline import OfflineLearner
from mores.agents.learning.offline_data import OfflineData
from mores.agents.learning.transforms.annotator_reliability import (
    update_reliability_from_batch,
    with_reliability,
)
from mores.agents.learning.update import UpdateBatch
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams


class PreferenceLearner(OfflineLearner):
    """Learner that trains on pairs of samples of which one was preferred."""

    beta: float = Field(default=0.1, gt=0, le=100, description="scale of scores (beta)")
    estimate_reliability: bool = Field(
        default=False, description="estimate the reliability of each annotator (RE-PO, LCPO)"
    )
    num_annotators: int = Field(
        default=1, ge=1, le=100_000, description="with estimate_reliability: number of annotators"
    )
    initial_reliability: float = Field(
        default=0.9, ge=0.5, le=0.999, description="initial probability that a label is right"
    )
    reliability_rate: float = Field(
        default=0.1, ge=0, le=1, description="step size of the estimate of reliability"
    )

    @property
    def conditional_fields(self) -> dict[str, tuple[str, bool]]:
        """Parameters that need a certain setting; those of annotators `estimate_reliability`."""
        names = ("num_annotators", "initial_reliability", "reliability_rate")
        condition = ("estimate_reliability: true", self.estimate_reliability)
        return super().conditional_fields | dict.fromkeys(names, condition)

    @property
    def fixed_fields(self) -> tuple[str, ...]:
        """Parameters whose change begins a new training."""
        return (*super().fixed_fields, "estimate_reliability", "num_annotators")

    def extra_state(
        self, stacked_model: ModelStack, mapping: ModelMapping, streams: RandomStreams
    ) -> dict[str, Tensor]:
        """Estimated reliability of each annotator, `[model, annotator]`."""
        if not self.estimate_reliability:
            return {}
        shape = (mapping.num_models, self.num_annotators)
        return {"reliability": torch.full(shape, self.initial_reliability, device=streams.device)}

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Update on all pairs."""
        batch = data.preference_pairs(type(self).__name__.lower())
        if self.uses_reference_model:
            batch = self.with_reference(batch, state, data.phase)
        if not self.estimate_reliability:
            return UpdateBatch({data.phase: batch}, self.objective, "pair")
        if self.num_annotators == 1:
            batch = batch.replace(annotator=None)  # one annotator stands for all

        def annotate(batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]) -> FeedbackBatch:
            return self._with_reliability(batch, outputs[PLAIN_VIEW], state)

        return UpdateBatch({data.phase: batch}, self.objective, "pair", annotate)

    @torch.no_grad()
    def _with_reliability(
        self, batch: FeedbackBatch, out: ModelOutput, state: LearnerState
    ) -> FeedbackBatch:
        """The batch with the reliability of annotators before the update of the estimate."""
        reliability = state.persistent_state.extra["reliability"]
        with_estimate = with_reliability(batch, reliability)
        losses = label_losses(out, batch, **self.loss_kwargs)
        updated = update_reliability_from_batch(reliability, batch, losses, self.reliability_rate)
        active = state.persistent_state.train_state.active & torch.isfinite(updated).all(1)
        reliability.copy_(torch.where(active[:, None], updated, reliability))
        return with_estimate

    def state_dict(self, state: LearnerState) -> Mapping[str, Tensor]:
        """Parameters of the models, and the estimated reliability of annotators."""
        return {**super().state_dict(state), **state.persistent_state.extra}

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the preference loss."""
        return {"beta": self.beta}

    @property
    def objective(self) -> Objective:
        """Preference loss."""
        return Objective((self._preference_term(),))

    def _preference_term(self, **loss_kwargs: Any) -> LossTerm:
        loss_kwargs = {"use_reliability": self.estimate_reliability, **loss_kwargs}
        return LossTerm(preference_loss, 1.0, {**self.loss_kwargs, **loss_kwargs})


class DPO(PreferenceLearner):
    """Direct preference optimization, relative to the initial model."""

    label_smoothing: float = Field(
        default=0.0, ge=0, le=0.5, description="assumed share of wrong labels (cDPO)"
    )

    @model_validator(mode="after")
    def _check_label_smoothing(self) -> DPO:
        if self.estimate_reliability and self.label_smoothing:
            message = "label_smoothing has no effect with estimate_reliability; leave one out"
            raise ParameterError("label_smoothing", message=message, code="conflict")
        return self

    @property
    def uses_reference_model(self) -> bool:
        """True: scores are log-ratios to the model that training began from."""
        return True

    @property
    def objective(self) -> Objective:
        """Preference loss with label smoothing."""
        return Objective((self._preference_term(label_smoothing=self.label_smoothing),))


class IPO(PreferenceLearner):
    """Identity preference optimization: a squared error to a target margin."""

    @property
    def uses_reference_model(self) -> bool:
        """True: scores are log-ratios to the model that training began from."""
        return True

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the preference loss: a squared error."""
        return {"beta": self.beta, "loss_type": "ipo"}


class SimPO(PreferenceLearner):
    """Simple preference optimization: mean log-likelihoods with a margin, without reference."""

    beta: float = Field(default=2.0, gt=0, le=100, description="scale of scores (beta)")
    margin: float = Field(default=1.0, ge=0, le=100, description="target margin (gamma)")

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the preference loss: mean log-likelihoods."""
        return {"beta": self.beta, "score_type": "mean_logp", "margin": self.margin}


class CPO(PreferenceLearner):
    """Contrastive preference optimization: log-likelihoods, plus imitation of chosen samples."""

    imitation_coef: float = Field(default=1.0, ge=0, description="weight of the imitation")

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Keyword arguments of the preference loss: log-likelihoods."""
        return {"beta": self.beta, "score_type": "sum_logp"}

    @property
    def objective(self) -> Objective:
        """Preference loss, and negative log-likelihood of chosen samples."""
        imitation = LossTerm(nll_loss, self.imitation_coef, {"subset": "chosen"})
        return Objective((self._preference_term(), imitation))


class KTO(OfflineLearner):
    """Kahneman-Tversky optimization: labels of single samples, without comparisons."""

    beta: float = Field(default=0.1, gt=0, le=100, description="scale of log-ratios (beta)")
    desirable_weight: float = Field(default=1.0, ge=0, description="weight of desirable samples")
    undesirable_weight: float = Field(default=1.0, ge=0, description="weight of the other samples")

    @property
    def uses_reference_model(self) -> bool:
        """True: scores are log-ratios to the model that training began from."""
        return True

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Update on all samples with labels `desirable`."""
        batch = self.with_reference(data.desirability_samples("kto"), state, data.phase)
        return UpdateBatch({data.phase: batch}, self.objective, annotate=with_kl_baseline)

    @property
    def objective(self) -> Objective:
        """KTO loss: desirable samples above the baseline, the others below."""
        return kto_objective(self.beta, self.desirable_weight, self.undesirable_weight)


def kto_objective(beta: float, desirable_weight: float, undesirable_weight: float) -> Objective:
    """KTO loss of samples labelled `desirable`, offline and online; needs `with_kl_baseline`."""
    loss_kwargs = {
        "loss_type": "kto",
        "beta": beta,
        "desirable_weight": desirable_weight,
        "undesirable_weight": undesirable_weight,
    }
    return Objective((LossTerm(preference_loss, 1.0, loss_kwargs),))


@torch.no_grad()
def with_kl_baseline(batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]) -> FeedbackBatch:
    """The batch with each model's divergence from the reference model, the mean over samples."""
    logits = outputs[PLAIN_VIEW].require("logits", "kto")
    reference_logits = batch.require("reference_logits", "kto")
    step_kl = (logits.exp() * (logits - reference_logits)).sum(-1)  # model sample step
    sample_kl = torch.where(batch.mask, step_kl, 0.0).sum(-1)
    valid = batch.mask.any(-1)
    mean = torch.where(valid, sample_kl, 0.0).sum(1) / valid.sum(1).clamp(min=1)
    return batch.replace(kl_baseline=mean.clamp(min=0))
