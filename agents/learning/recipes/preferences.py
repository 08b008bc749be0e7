"""Learning from preferences between one's own answers: DPO, IPO, SimPO, CPO, KTO; whom to believe.

    DPO    -log sigmoid(b (s_w - s_l))              s: log-ratio to the reference  (2305.18290)
    IPO    (s_w - s_l - 1/(2b))^2                   the same score                 (2310.12036)
    SimPO  -log sigmoid(b (m_w - m_l) - g)          m: mean log-likelihood         (2405.14734)
    CPO    -log sigmoid(b (l_w - l_l)) + w NLL(w)   l: log-likelihood              (2401.08417)
    KTO    wanted and unwanted answers, each against a baseline                    (2402.01306)

With `robust: true` the first four become RE-PO's (LCPO, arXiv 2509.24159): labels are believed as
far as their annotators' estimated reliability goes, and that is estimated on the way.

KTO's baseline is the divergence from the reference. The paper estimates it from mismatched answers;
here all options' probabilities are at hand, and it is computed at the steps of the batch.
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
from mores.agents.learning.objective import PLAIN_VIEW, LossTerm, Objective
from mores.agents.learning.offline import OfflineLearner
from mores.agents.learning.offline_data import OfflineData
from mores.agents.learning.stacked_model import StackedModel
from mores.agents.learning.transforms.annotator_reliability import (
    update_reliability_from_batch,
    with_reliability,
)
from mores.agents.learning.update import UpdateBatch
from mores.core.errors import ParameterError
from mores.core.random_streams import RandomStreams


class PreferenceLearner(OfflineLearner):
    """Prefers what was preferred; recipes say how much it should."""

    beta: float = Field(default=0.1, gt=0, le=100, description="of scores (beta)")
    estimate_reliability: bool = Field(
        default=False, description="estimate how often each annotator is right (RE-PO, LCPO)"
    )
    num_annotators: int = Field(
        default=1, ge=1, le=100_000, description="robust: how many there are"
    )
    initial_reliability: float = Field(
        default=0.9, ge=0.5, le=0.999, description="robust: how often they are right, at first"
    )
    reliability_rate: float = Field(
        default=0.1, ge=0, le=1, description="robust: how quickly that is revised"
    )

    @property
    def conditional_fields(self) -> dict[str, tuple[str, bool]]:
        """What is said of annotators goes with `robust`."""
        names = ("num_annotators", "initial_reliability", "reliability_rate")
        return super().conditional_fields | dict.fromkeys(
            names, ("robust: true", self.estimate_reliability)
        )

    @property
    def fixed_fields(self) -> tuple[str, ...]:
        """Whom it knows lasts, too."""
        return (*super().fixed_fields, "estimate_reliability", "num_annotators")

    def extra_state(
        self, stacked_model: StackedModel, mapping: ModelMapping, streams: RandomStreams
    ) -> dict[str, Tensor]:
        """How reliable each policy takes each annotator to be."""
        if not self.estimate_reliability:
            return {}
        shape = (mapping.num_models, self.num_annotators)
        return {"reliability": torch.full(shape, self.initial_reliability, device=streams.device)}

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """All pairs."""
        batch = data.preference_pairs(type(self).__name__.lower())
        if self.uses_reference_model:
            batch = self.with_reference(batch, state, data.phase)
        if not self.estimate_reliability:
            return UpdateBatch({data.phase: batch}, self.objective, "pair")
        if self.num_annotators == 1:
            batch = batch.replace(annotator=None)  # all are one

        def believe(batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]) -> FeedbackBatch:
            return self._with_reliability(batch, outputs[PLAIN_VIEW], state)

        return UpdateBatch({data.phase: batch}, self.objective, "pair", believe)

    @torch.no_grad()
    def _with_reliability(
        self, batch: FeedbackBatch, out: ModelOutput, state: LearnerState
    ) -> FeedbackBatch:
        """Pairs with their annotators' reliability, which is revised by them."""
        reliability = state.persistent_state.extra["reliability"]
        believed = with_reliability(batch, reliability)
        losses = label_losses(out, batch, **self.loss_kwargs)
        revised = update_reliability_from_batch(reliability, batch, losses, self.reliability_rate)
        learning = (state.persistent_state.train_state.active & torch.isfinite(revised).all(1))[
            :, None
        ]
        reliability.copy_(torch.where(learning, revised, reliability))
        return believed

    def state_dict(self, state: LearnerState) -> Mapping[str, Tensor]:
        """The policies, and how reliable annotators are taken to be."""
        return {**super().state_dict(state), **state.persistent_state.extra}

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Of the preference term."""
        return {"beta": self.beta}

    @property
    def objective(self) -> Objective:
        """The preference loss."""
        return Objective(
            (
                LossTerm(
                    preference_loss, 1.0, {**self.loss_kwargs, "use_reliability": self.estimate_reliability}
                ),
            )
        )


class DPO(PreferenceLearner):
    """Direct preference optimisation: learns from preferences, near where it began."""

    label_smoothing: float = Field(
        default=0.0, ge=0, le=0.5, description="share of labels taken to be wrong (cDPO)"
    )

    @model_validator(mode="after")
    def _check_label_smoothing(self) -> DPO:
        if self.estimate_reliability and self.label_smoothing:
            message = "label_smoothing: robust finds the share of wrong labels itself"
            raise ParameterError("label_smoothing", message=message, code="conflict")
        return self

    @property
    def uses_reference_model(self) -> bool:
        """Scores are log-ratios to the policy that training began from."""
        return True

    @property
    def objective(self) -> Objective:
        """The preference loss; labels may be taken to be wrong now and then."""
        more = {"use_reliability": self.estimate_reliability, "label_smoothing": self.label_smoothing}
        return Objective((LossTerm(preference_loss, 1.0, {**self.loss_kwargs, **more}),))


class IPO(PreferenceLearner):
    """Identity preference optimisation: a margin to be met and not exceeded."""

    @property
    def uses_reference_model(self) -> bool:
        """Scores are log-ratios to the policy that training began from."""
        return True

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """A squared error."""
        return {"beta": self.beta, "loss_type": "ipo"}


class SimPO(PreferenceLearner):
    """Preference by mean log-likelihood, with a margin, without reference."""

    beta: float = Field(default=2.0, gt=0, le=100, description="of scores (beta)")
    margin: float = Field(default=1.0, ge=0, le=100, description="to win by (gamma)")

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Mean log-likelihoods."""
        return {"beta": self.beta, "score_type": "mean_logp", "margin": self.margin}


class CPO(PreferenceLearner):
    """Contrastive preference optimisation: preference by likelihood, and the winners imitated."""

    imitation_coef: float = Field(default=1.0, ge=0, description="weight of imitating the winners")

    @property
    def loss_kwargs(self) -> dict[str, Any]:
        """Log-likelihoods."""
        return {"beta": self.beta, "score_type": "sum_logp"}

    @property
    def objective(self) -> Objective:
        """The preference loss, and the winners' likelihood."""
        prefer = LossTerm(
            preference_loss, 1.0, {**self.loss_kwargs, "use_reliability": self.estimate_reliability}
        )
        return Objective((prefer, LossTerm(nll_loss, self.imitation_coef, {"subset": "chosen"})))


class KTO(OfflineLearner):
    """Kahneman-Tversky optimisation: each answer was wanted or unwanted, none is compared."""

    beta: float = Field(default=0.1, gt=0, le=100, description="of log-ratios (beta)")
    desirable_weight: float = Field(default=1.0, ge=0, description="of wanted answers")
    undesirable_weight: float = Field(default=1.0, ge=0, description="of unwanted answers")

    @property
    def uses_reference_model(self) -> bool:
        """Scores are log-ratios to the policy that training began from."""
        return True

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """All answers of which it is known whether they were wanted."""
        batch = self.with_reference(data.desirability_samples("kto"), state, data.phase)
        return UpdateBatch({data.phase: batch}, self.objective, annotate=with_kl_baseline)

    @property
    def objective(self) -> Objective:
        """Wanted answers above the baseline, unwanted ones below."""
        settings = {
            "loss_type": "kto",
            "beta": self.beta,
            "desirable_weight": self.desirable_weight,
            "undesirable_weight": self.undesirable_weight,
        }
        return Objective((LossTerm(preference_loss, 1.0, settings),))


@torch.no_grad()
def with_kl_baseline(batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]) -> FeedbackBatch:
    """A batch with each policy's divergence from the reference, a whole answer's."""
    ours = outputs[PLAIN_VIEW].require("logits", "kto")
    theirs = batch.require("reference_logits", "kto")
    each = (ours.exp() * (ours - theirs)).sum(-1)  # policy sample step
    answers = torch.where(batch.mask, each, 0.0).sum(-1)
    real = batch.mask.any(-1)
    mean = torch.where(real, answers, 0.0).sum(1) / real.sum(1).clamp(min=1)
    return batch.replace(kl_baseline=mean.clamp(min=0))
