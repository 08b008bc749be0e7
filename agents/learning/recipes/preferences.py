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

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.agents.learning.learner_state import Memory
from mores.agents.learning.losses import nll, pair
from mores.agents.learning.losses.preference import directed_losses
from mores.agents.learning.model_mapping import Seats
from mores.agents.learning.objective import PLAIN, Objective, Weighted
from mores.agents.learning.offline import Fitting
from mores.agents.learning.offline_data import Record
from mores.agents.learning.stacked_model import Stack
from mores.agents.learning.transforms.annotator_reliability import (
    learn_reliability,
    with_reliability,
)
from mores.agents.learning.update import Lesson
from mores.core.errors import ParameterError
from mores.core.random_streams import Draws


class Preferences(Fitting):
    """Prefers what was preferred; recipes say how much it should."""

    scale: float = Field(default=0.1, gt=0, le=100, description="of scores (beta)")
    robust: bool = Field(
        default=False, description="estimate how often each annotator is right (RE-PO, LCPO)"
    )
    annotators: int = Field(default=1, ge=1, le=100_000, description="robust: how many there are")
    first_reliability: float = Field(
        default=0.9, ge=0.5, le=0.999, description="robust: how often they are right, at first"
    )
    reliability_rate: float = Field(
        default=0.1, ge=0, le=1, description="robust: how quickly that is revised"
    )

    @property
    def only_with(self) -> dict[str, tuple[str, bool]]:
        """What is said of annotators goes with `robust`."""
        names = ("annotators", "first_reliability", "reliability_rate")
        return super().only_with | dict.fromkeys(names, ("robust: true", self.robust))

    @property
    def lasting(self) -> tuple[str, ...]:
        """Whom it knows lasts, too."""
        return (*super().lasting, "robust", "annotators")

    def extras(self, stack: Stack, seats: Seats, draws: Draws) -> dict[str, Tensor]:
        """How reliable each policy takes each annotator to be."""
        if not self.robust:
            return {}
        shape = (seats.policies, self.annotators)
        return {"reliability": torch.full(shape, self.first_reliability, device=draws.device)}

    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """All pairs."""
        batch = record.pairs(type(self).__name__.lower())
        if self.refers:
            batch = self.with_reference(batch, memory, record.phase)
        if not self.robust:
            return Lesson({record.phase: batch}, self.objective, "pair")
        if self.annotators == 1:
            batch = batch.replace(annotator=None)  # all are one

        def believe(batch: FeedbackBatch, outputs: Mapping[str, Output]) -> FeedbackBatch:
            return self._believed(batch, outputs[PLAIN], memory)

        return Lesson({record.phase: batch}, self.objective, "pair", believe)

    @torch.no_grad()
    def _believed(self, batch: FeedbackBatch, out: Output, memory: Memory) -> FeedbackBatch:
        """Pairs with their annotators' reliability, which is revised by them."""
        reliability = memory.learned.extra["reliability"]
        believed = with_reliability(batch, reliability)
        losses = directed_losses(out, batch, **self.settings)
        revised = learn_reliability(reliability, batch, losses, self.reliability_rate)
        learning = (memory.learned.pupil.active & torch.isfinite(revised).all(1))[:, None]
        reliability.copy_(torch.where(learning, revised, reliability))
        return believed

    def learned(self, memory: Memory) -> Mapping[str, Tensor]:
        """The policies, and how reliable annotators are taken to be."""
        return {**super().learned(memory), **memory.learned.extra}

    @property
    def settings(self) -> dict[str, Any]:
        """Of the preference term."""
        return {"scale": self.scale}

    @property
    def objective(self) -> Objective:
        """The preference loss."""
        return Objective((Weighted(pair, 1.0, {**self.settings, "robust": self.robust}),))


class DPO(Preferences):
    """Direct preference optimisation: learns from preferences, near where it began."""

    label_smoothing: float = Field(
        default=0.0, ge=0, le=0.5, description="share of labels taken to be wrong (cDPO)"
    )

    @model_validator(mode="after")
    def _one_doubt(self) -> DPO:
        if self.robust and self.label_smoothing:
            message = "label_smoothing: robust finds the share of wrong labels itself"
            raise ParameterError("label_smoothing", message=message, code="conflict")
        return self

    @property
    def refers(self) -> bool:
        """Scores are log-ratios to the policy that training began from."""
        return True

    @property
    def objective(self) -> Objective:
        """The preference loss; labels may be taken to be wrong now and then."""
        more = {"robust": self.robust, "smoothing": self.label_smoothing}
        return Objective((Weighted(pair, 1.0, {**self.settings, **more}),))


class IPO(Preferences):
    """Identity preference optimisation: a margin to be met and not exceeded."""

    @property
    def refers(self) -> bool:
        """Scores are log-ratios to the policy that training began from."""
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """A squared error."""
        return {"scale": self.scale, "link": "square"}


class SimPO(Preferences):
    """Preference by mean log-likelihood, with a margin, without reference."""

    scale: float = Field(default=2.0, gt=0, le=100, description="of scores (beta)")
    margin: float = Field(default=1.0, ge=0, le=100, description="to win by (gamma)")

    @property
    def settings(self) -> dict[str, Any]:
        """Mean log-likelihoods."""
        return {"scale": self.scale, "score": "mean_logp", "margin": self.margin}


class CPO(Preferences):
    """Contrastive preference optimisation: preference by likelihood, and the winners imitated."""

    imitation: float = Field(default=1.0, ge=0, description="weight of imitating the winners")

    @property
    def settings(self) -> dict[str, Any]:
        """Log-likelihoods."""
        return {"scale": self.scale, "score": "sum_logp"}

    @property
    def objective(self) -> Objective:
        """The preference loss, and the winners' likelihood."""
        prefer = Weighted(pair, 1.0, {**self.settings, "robust": self.robust})
        return Objective((prefer, Weighted(nll, self.imitation, {"which": "preferred"})))


class KTO(Fitting):
    """Kahneman-Tversky optimisation: each answer was wanted or unwanted, none is compared."""

    scale: float = Field(default=0.1, gt=0, le=100, description="of log-ratios (beta)")
    desirable_weight: float = Field(default=1.0, ge=0, description="of wanted answers")
    undesirable_weight: float = Field(default=1.0, ge=0, description="of unwanted answers")

    @property
    def refers(self) -> bool:
        """Scores are log-ratios to the policy that training began from."""
        return True

    def lesson(self, record: Record, memory: Memory, draws: Draws) -> Lesson:
        """All answers of which it is known whether they were wanted."""
        batch = self.with_reference(record.wanted("kto"), memory, record.phase)
        return Lesson({record.phase: batch}, self.objective, focus=with_kl_baseline)

    @property
    def objective(self) -> Objective:
        """Wanted answers above the baseline, unwanted ones below."""
        settings = {
            "link": "kto",
            "scale": self.scale,
            "desirable_weight": self.desirable_weight,
            "undesirable_weight": self.undesirable_weight,
        }
        return Objective((Weighted(pair, 1.0, settings),))


@torch.no_grad()
def with_kl_baseline(batch: FeedbackBatch, outputs: Mapping[str, Output]) -> FeedbackBatch:
    """A batch with each policy's divergence from the reference, a whole answer's."""
    ours = outputs[PLAIN].need("logits", "kto")
    theirs = batch.need("reference_logits", "kto")
    each = (ours.exp() * (ours - theirs)).sum(-1)  # policy sample step
    answers = torch.where(batch.mask, each, 0.0).sum(-1)
    real = batch.mask.any(-1)
    mean = torch.where(real, answers, 0.0).sum(1) / real.sum(1).clamp(min=1)
    return batch.replace(kl_baseline=mean.clamp(min=0))
