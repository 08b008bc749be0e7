"""Learning from judgements: CUT, "Reasons to Reject" (Xu et al. 2024, arXiv 2312.14591).

The same answer is looked at twice, as it is given in use and with the judgement before one's eyes.
Acts that the judgement makes likelier are what it speaks of; they become less likely in use, all
others of the answer likelier, and the answer as a whole likelier where the judgement is seen:

    L1 = -1/N [sum over t not in U of log p(y_t | x)
               + sum over t in U of a p(y_t | x, j)^g log(1 - p(y_t | x))]
    L2 = -1/N log p(y | x, j)              without j where the answer was not criticised

See `mores.agents.learning.transforms.inappropriate_actions`. In a phase with `flags` the policy says which of
its acts it takes to be in U; its sight must hold the answer and the judgement.

Ours: an answer was judged bad if anything in it was criticised. The paper keeps a quarter of the
answers that were not; here all of them count, `uncriticized_weight` as much as that.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.agents.learning.demonstration_rollout import rollout_observations
from mores.agents.learning.learner_state import LearnerState
from mores.agents.learning.losses import nll_loss, unlikelihood_loss
from mores.agents.learning.objective import PLAIN_VIEW, LossTerm, Objective
from mores.agents.learning.offline import OfflineLearner
from mores.agents.learning.offline_data import OfflineData
from mores.agents.learning.transforms.inappropriate_actions import (
    inappropriate_steps,
    with_inappropriate_steps,
)
from mores.agents.learning.update import UpdateBatch, evaluate_views
from mores.core.environment import ActionOutput, Box, Phase
from mores.core.random_streams import RandomStreams

CRITIQUED_VIEW = "critiqued"


class CUT(OfflineLearner):
    """Unlearns what a judgement criticises: learns from judgements that say what is wrong."""

    ratio_threshold: float = Field(
        default=1.1, gt=0, le=100, description="how much likelier a judged act must be (lambda)"
    )
    unlikelihood_coef: float = Field(
        default=1.0, ge=0, le=100, description="of criticised acts (alpha)"
    )
    unlikelihood_exponent: float = Field(
        default=1.0, ge=0, le=10, description="how much sureness counts there (gamma)"
    )
    uncriticized_weight: float = Field(
        default=0.25, ge=0, le=1, description="weight of answers that nobody criticised"
    )

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """All answers, with what was said of them."""
        batch = data.critiqued_samples("cut")
        fine = ~criticized(batch.require("critique", "cut"))
        weight = torch.where(fine, self.uncriticized_weight, 1.0)[..., None]
        batch = batch.replace(desirable=fine, step_weight=weight.expand_as(batch.mask).clone())
        return UpdateBatch({data.phase: batch}, self.objective, annotate=self._with_inappropriate)

    def _with_inappropriate(
        self, batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]
    ) -> FeedbackBatch:
        """A batch in which it is marked what the judgements speak of."""
        plain, judged = outputs[PLAIN_VIEW].logp.detach(), outputs[CRITIQUED_VIEW].logp.detach()
        return with_inappropriate_steps(
            batch,
            plain,
            judged,
            self.ratio_threshold,
            self.unlikelihood_coef,
            self.unlikelihood_exponent,
        )

    @property
    def objective(self) -> Objective:
        """L1 in use, L2 with the judgement before one's eyes."""
        return Objective(
            (
                LossTerm(nll_loss, 1.0, {"step_subset": "appropriate"}),
                LossTerm(unlikelihood_loss, 1.0),
                LossTerm(
                    episode_nll_loss, 1.0, {"uncriticized_weight": self.uncriticized_weight}, view=CRITIQUED_VIEW
                ),
            )
        )

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """Draw from the policies; where flags are asked for, raise those of acts in U."""
        return self._review_flags(phase, observation, state) or super().act(
            phase, observation, action_mask, state, streams
        )

    def act_with_search(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
    ) -> ActionOutput:
        """The same, of the likeliest acts."""
        flagged = self._review_flags(phase, observation, state)
        return flagged or super().act_with_search(phase, observation, action_mask, state, streams)

    @torch.no_grad()
    def _review_flags(
        self, phase: Phase, observation: Tensor, state: LearnerState
    ) -> ActionOutput | None:
        """Which of one's acts one takes to have been criticised, if that is what is asked."""
        make, seats = state.spec, state.persistent_state.mapping
        space, sees = phase.action_spaces[make.role.name], make.role.observation_space
        if not isinstance(space, Box) or set(space.parts) != {"flags"}:
            return None
        if not {"completion", "critique"} <= set(sees.parts):
            return None
        answering = next(
            name for name in make.stacked_model.action_distributions if name != phase.name
        )
        rows = seats.by_model(observation)
        judgement, marks = sees.read(rows, "critique"), sees.read(rows, "completion")
        marks = marks.unflatten(-1, (space.size, -1))  # policy row step option
        parts = {name: sees.read(rows, name) for name in sees.parts}
        unsaid = {"completion": torch.zeros_like(parts["completion"])}
        unread = {"critique": torch.zeros_like(judgement)}
        first = sees.join(**(parts | unsaid | unread))
        acts = marks.argmax(-1)
        batch = FeedbackBatch(
            rollout_observations(acts, first, make.role),
            acts,
            marks.sum(-1) > 0,
            critique=judgement,
        )
        views = (PLAIN_VIEW, CRITIQUED_VIEW)
        outputs = evaluate_views(
            make.stacked_model,
            sees,
            state.persistent_state.train_state.parameters,
            answering,
            batch,
            views,
        )
        flags = inappropriate_steps(
            outputs[PLAIN_VIEW].logp,
            outputs[CRITIQUED_VIEW].logp,
            batch.mask,
            criticized(judgement),
            self.ratio_threshold,
        )
        return ActionOutput(seats.by_world(flags.float()), dataclasses.replace(state))


def criticized(critique: Float[Tensor, "policy sample word"]) -> Tensor:
    """Which samples were criticised at all."""
    return (critique != 0).any(-1)


def episode_nll_loss(
    out: ModelOutput, batch: FeedbackBatch, *, uncriticized_weight: float = 1.0, **loss_kwargs: Any
) -> Float[Tensor, " policy"]:
    """CUT's L2: all acts of an answer alike, whatever was found in it."""
    fine = batch.require("desirable", "cut")
    weight = torch.where(fine, uncriticized_weight, 1.0)[..., None].expand_as(batch.mask)
    return nll_loss(out, batch.replace(step_weight=weight), **loss_kwargs)
