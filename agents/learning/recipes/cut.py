"""Training on critiques: CUT, "Reasons to Reject" (Xu et al. 2024, arXiv 2312.14591).

The same completion is evaluated twice, without and with the critique j in the observation. The
actions U that the critique makes likelier are those it criticizes. They become less likely without
the critique, all others of the completion likelier, and the completion likelier with the critique:

    L1 = -1/N [sum over t not in U of log p(y_t | x)
               + sum over t in U of a p(y_t | x, j)^g log(1 - p(y_t | x))]
    L2 = -1/N log p(y | x, j)              without j where the completion was not criticized

See `mores.agents.learning.transforms.inappropriate_actions`. In a phase with action `flags` the
model marks its estimate of U; the observation must hold `completion` and `critique`.

Different here: a completion counts as bad if any part of it was criticized. The paper drops three
quarters of the other completions; here all count, with weight `uncriticized_weight`.
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
from mores.core.environment import Phase
from mores.core.errors import UserError
from mores.core.policy import ActionOutput
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Space

CRITIQUED_VIEW = "critiqued"


class CUT(OfflineLearner):
    """Contrastive unlikelihood training: lowers the probability of criticized actions."""

    ratio_threshold: float = Field(
        default=1.1, gt=0, le=100, description="probability ratio of criticized actions (lambda)"
    )
    unlikelihood_coef: float = Field(
        default=1.0, ge=0, le=100, description="weight of criticized actions (alpha)"
    )
    unlikelihood_exponent: float = Field(
        default=1.0, ge=0, le=10, description="exponent of their probability as weight (gamma)"
    )
    uncriticized_weight: float = Field(
        default=0.25, ge=0, le=1, description="weight of completions without criticism"
    )

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """Update on all completions with critiques."""
        batch = data.critiqued_samples("cut")
        desirable = ~criticized(batch.require("critique", "cut"))
        weight = torch.where(desirable, self.uncriticized_weight, 1.0)[..., None]
        batch = batch.replace(desirable=desirable, step_weight=weight.expand_as(batch.mask).clone())
        return UpdateBatch({data.phase: batch}, self.objective, annotate=self._with_inappropriate)

    def _with_inappropriate(
        self, batch: FeedbackBatch, outputs: Mapping[str, ModelOutput]
    ) -> FeedbackBatch:
        """The batch with the criticized steps in `inappropriate`."""
        return with_inappropriate_steps(
            batch,
            outputs[PLAIN_VIEW].logp.detach(),
            outputs[CRITIQUED_VIEW].logp.detach(),
            self.ratio_threshold,
            self.unlikelihood_coef,
            self.unlikelihood_exponent,
        )

    @property
    def objective(self) -> Objective:
        """L1 without and L2 with the critique in the observation."""
        uncriticized = {"uncriticized_weight": self.uncriticized_weight}
        return Objective(
            (
                LossTerm(nll_loss, 1.0, {"step_subset": "appropriate"}),
                LossTerm(unlikelihood_loss, 1.0),
                LossTerm(episode_nll_loss, 1.0, uncriticized, view=CRITIQUED_VIEW),
            )
        )

    def act(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent size"],
        action_mask: Tensor | None,
        state: LearnerState,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        """Actions of the models; in a phase with `flags`: the criticized actions."""
        return self._review_flags(phase, observation, state) or super().act(
            phase, observation, action_mask, state, streams, search
        )

    def expected_action(
        self,
        phase: Phase,
        observation: Float[Tensor, "world agent query size"],
        action_mask: Tensor | None,
        state: LearnerState,
        search: bool = False,
    ) -> Float[Tensor, "world agent query option"]:
        """See `Learner`. Refused in a phase with `flags`, which no head of the network gives.

        Raises:
            UserError: such a phase, or as `Learner`.
        """
        role = state.spec.role
        if _has_flags(phase.action_spaces[role.name], role.observation_space):
            raise UserError(
                f"cut cannot be evaluated on given observations in {phase.name!r}: its flags "
                "compare two evaluations of a completion",
                code="unsupported",
                path=f"policies.{role.name}",
            )
        return super().expected_action(phase, observation, action_mask, state, search)

    @torch.no_grad()
    def _review_flags(
        self, phase: Phase, observation: Tensor, state: LearnerState
    ) -> ActionOutput | None:
        """Flags of the model's own actions that were criticized; `None` if the phase has none."""
        spec, mapping = state.spec, state.persistent_state.mapping
        space, layout = phase.action_spaces[spec.role.name], spec.role.observation_space
        if not isinstance(space, Box) or not _has_flags(space, layout):
            return None
        phases = spec.stacked_model.action_distributions
        completion_phase = next(name for name in phases if name != phase.name)
        rows = mapping.by_model(observation)
        parts = {name: layout.read(rows, name) for name in layout.parts}
        one_hot = parts["completion"].unflatten(-1, (space.size, -1))  # model row step option
        empty = {name: torch.zeros_like(parts[name]) for name in ("completion", "critique")}
        actions = one_hot.argmax(-1)
        batch = FeedbackBatch(
            rollout_observations(actions, layout.join(**(parts | empty)), spec.role),
            actions,
            one_hot.sum(-1) > 0,
            critique=parts["critique"],
        )
        parameters = state.persistent_state.train_state.parameters
        outputs = evaluate_views(
            spec.stacked_model,
            layout,
            parameters,
            completion_phase,
            batch,
            (PLAIN_VIEW, CRITIQUED_VIEW),
        )
        flags = inappropriate_steps(
            outputs[PLAIN_VIEW].logp,
            outputs[CRITIQUED_VIEW].logp,
            batch.mask,
            criticized(parts["critique"]),
            self.ratio_threshold,
        )
        return ActionOutput(mapping.by_world(flags.float()), dataclasses.replace(state))


def _has_flags(space: Space, layout: Box) -> bool:
    """Whether a phase asks for flags, and the observation holds what they are computed from."""
    if not isinstance(space, Box) or set(space.parts) != {"flags"}:
        return False
    return {"completion", "critique"} <= set(layout.parts)


def criticized(critique: Float[Tensor, "model sample token"]) -> Tensor:
    """Samples whose critique criticizes any part."""
    return (critique != 0).any(-1)


def episode_nll_loss(
    out: ModelOutput, batch: FeedbackBatch, *, uncriticized_weight: float = 1.0, **loss_kwargs: Any
) -> Float[Tensor, " model"]:
    """L2 of CUT: negative log-likelihood of completions, with equal weight of all their actions."""
    desirable = batch.require("desirable", "cut")
    weight = torch.where(desirable, uncriticized_weight, 1.0)[..., None].expand_as(batch.mask)
    return nll_loss(out, batch.replace(step_weight=weight), **loss_kwargs)
