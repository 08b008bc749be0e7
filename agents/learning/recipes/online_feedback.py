"""Online imitation of demonstrations, and KTO on the best and worst of the learner's own samples.

Online SFT imitates what the environment demonstrates for each decision while the learner acts, as
DAgger (Ross, Gordon and Bagnell 2011, arXiv 1011.0686) without keeping earlier data: phases other
than the first are trained too, and every episode has new observations.

Online KTO (Ethayarajh et al. 2024, arXiv 2402.01306, applied as in Williams et al. 2024, arXiv
2411.02306): of each group of samples those with the highest scores are desirable, those with the
lowest undesirable, and the others are left out. Differs from both: log-ratios are relative to the
model that training began from, in all updates; the baseline of KTO is computed, as in
`mores.agents.learning.recipes.preferences`.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, model_validator

from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.episodic import EpisodicLearner
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import nll_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.on_policy import buffer_feedback
from mores.agents.learning.recipes.preferences import kto_objective, with_kl_baseline
from mores.agents.learning.transforms.groups import SampleGroups
from mores.agents.learning.update import UpdateBatch
from mores.core.errors import ParameterError, UserError


class OnlineSFT(EpisodicLearner):
    """Supervised fine-tuning while acting: imitates the demonstration for each decision.

    The environment demonstrates one action a round: feedback `demonstration_PHASE`,
    `[world, agent, round]`, or `demonstration` for the first phase. Other phases are not trained.
    """

    label_smoothing: float = Field(
        default=0.0, ge=0, le=1, description="share of the target uniform over legal options"
    )

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on all demonstrated decisions.

        Raises:
            UserError: there are no demonstrations, or not one for each round of the episode.
        """
        feedback, first, imitated = buffer_feedback(state), next(iter(batches)), {}
        for phase, batch in batches.items():
            name = f"demonstration_{phase}"
            if phase == first and name not in feedback:
                name = "demonstration"
            if name not in feedback:
                continue
            if feedback[name].shape != batch.action.shape:
                raise UserError(
                    f"online_sft needs one demonstration a round; {name} has "
                    f"{feedback[name].shape[-1]} in episodes of {batch.num_steps}",
                    code="wrong_shape",
                    path=name,
                )
            imitated[phase] = batch.replace(action=feedback[name].to(batch.action.dtype))
        if not imitated:
            raise UserError(
                "online_sft needs an environment that gives demonstrations "
                "(feedback `demonstration`)",
                code="missing",
                path="demonstration",
            )
        return UpdateBatch(imitated, self.objective)

    @property
    def objective(self) -> Objective:
        """Negative log-likelihood of the demonstrations."""
        return Objective((LossTerm(nll_loss, 1.0, {"label_smoothing": self.label_smoothing}),))


class OnlineKTO(EpisodicLearner):
    """Online KTO: the best samples of each group are desirable, the worst are undesirable."""

    compares_within_group: ClassVar[bool] = True

    update_epochs: int = Field(
        default=2, ge=1, le=1000, description="passes over the rollout in an update"
    )
    beta: float = Field(default=0.1, gt=0, le=100, description="scale of log-ratios (beta)")
    top_fraction: float = Field(
        default=0.25, gt=0, le=1, description="share of a group that is desirable"
    )
    bottom_fraction: float = Field(
        default=0.25, gt=0, le=1, description="share of a group that is undesirable"
    )
    desirable_weight: float = Field(default=1.0, ge=0, description="weight of desirable samples")
    undesirable_weight: float = Field(default=1.0, ge=0, description="weight of undesirable ones")

    @model_validator(mode="after")
    def _check_fractions(self) -> OnlineKTO:
        if self.top_fraction + self.bottom_fraction > 1:
            raise ParameterError(
                "bottom_fraction",
                message="top_fraction and bottom_fraction must not exceed 1 together",
                code="conflict",
            )
        return self

    @property
    def uses_reference_model(self) -> bool:
        """True: scores are log-ratios to the model that training began from."""
        return True

    def make_update_batch(
        self, batches: dict[str, FeedbackBatch], state: LearnerState
    ) -> UpdateBatch:
        """Update on the best and the worst samples; on none of a group whose scores are equal."""
        marked = {}
        for phase, batch in self.with_groups(batches, state).items():
            groups = SampleGroups.from_batch(batch, "online_kto")
            score = self.episode_scores(batch, state)
            high = groups.quantile(score, 1.0 - self.top_fraction)
            low = groups.quantile(score, self.bottom_fraction)
            desirable = groups.valid & (score >= high) & (score > low)
            undesirable = groups.valid & (score <= low) & (score < high)
            mask = batch.mask & (desirable | undesirable)[..., None]
            batch = batch.replace(desirable=desirable, mask=mask)
            marked[phase] = self.with_reference(batch, state, phase)
        return UpdateBatch(marked, self.objective, annotate=with_kl_baseline)

    @property
    def objective(self) -> Objective:
        """KTO loss: desirable samples above the baseline, undesirable ones below."""
        return kto_objective(self.beta, self.desirable_weight, self.undesirable_weight)
