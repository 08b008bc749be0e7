"""Restoring what later training undid, as far as what it taught allows.

Weights that moved away from those that this recipe's predecessor began with go back, the ones first
that an alignment loss gains most from, until what was learned since would suffer more than allowed:
"Alleviating the Fear of Losing Alignment" (arXiv 2504.09757), see
`mores.agents.learning.weights.recovery`.

Ours: the alignment loss is the divergence from the policy before, at the sights of the record (the
paper compares mean hidden states on harmful requests), and the downstream loss is that of imitating
the record's demonstrations.
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


class AlignmentRecovery(OfflineLearner):
    """Gives weights back that the stage before took, as far as that stage's lesson allows."""

    epoch_fields: ClassVar[tuple[str, ...]] = ("steps",)

    max_loss_increase: float = Field(
        default=0.1,
        ge=0,
        description="by how much imitation may become worse in a pass, in nats an act",
    )
    step_fraction: float = Field(
        default=0.02, gt=0, le=1, description="share of weights restored in a step"
    )
    selection: Literal["gradient", "random"] = Field(
        default="gradient",
        description="which weights: those that matter most, or as many at random, to compare with",
    )
    steps: int = Field(default=50, ge=0, le=100_000, description="steps of a pass; 0: none")

    @property
    def frozen(self) -> bool:
        """It has no learning rate, but steps."""
        return self.steps == 0

    def warm_start(self, state: LearnerState, initial: LearnerState) -> LearnerState:
        """Keep what the predecessor began from: that is what is restored.

        Raises:
            UserError: there was no predecessor that had anything to begin from.
        """
        before = state.persistent_state.train_state.reference_parameters
        if not before:
            raise UserError(
                "restoring gives back what a stage before changed: let another recipe go on from "
                "a first one, and this one come after it",
                code="wrong_order",
                path="stages",
            )
        after = super().warm_start(state, initial)
        after.persistent_state.train_state.reference_parameters.update(before)
        return after

    def make_update_batch(
        self, data: OfflineData, state: LearnerState, streams: RandomStreams
    ) -> UpdateBatch:
        """There is none: weights are given back, not learned."""
        raise NotImplementedError

    def fit_offline(
        self, state: LearnerState, dataset: Any, streams: RandomStreams
    ) -> LearnerState:
        """Restore what may be restored."""
        pupil = state.persistent_state.train_state
        if not pupil.reference_parameters:
            raise UserError(
                "restoring gives back what a stage before changed, and there was none: give the "
                "stages before it other recipes (stages: players)",
                code="wrong_order",
                path="stages",
            )
        with torch.no_grad():
            record = read_offline_data(dataset, state)
            own = self._with_aligned_logits(record.generated, state, record.phase)
        shown = record.demonstrations("restoring")

        def alignment(parameters: Mapping[str, Tensor]) -> Tensor:
            out = self._evaluate(state, parameters, record.phase, own)
            return kl_loss(out, own, direction="forward")

        def downstream(parameters: Mapping[str, Tensor]) -> Tensor:
            return nll_loss(self._evaluate(state, parameters, record.phase, shown), shown)

        def measured(parameters: dict[str, Tensor]) -> Tensor:
            with torch.no_grad():
                return downstream(parameters)

        state.persistent_state.num_rounds.add_(1)
        with torch.no_grad():
            losses = alignment(pupil.parameters), downstream(pupil.parameters)
        pupil.deactivate(
            ~(losses[0].isfinite() & losses[1].isfinite()), state.persistent_state.num_rounds
        )
        plan = RecoveryConfig(
            self.max_loss_increase, self.step_fraction, min(5, self.steps), self.steps
        )
        found = recover(
            pupil.parameters,
            pupil.reference_parameters,
            lambda now: _gradient(alignment, now),
            lambda now: _gradient(downstream, now),
            measured,
            plan,
        )
        if self.steps:
            pupil.updates.add_(pupil.active)
        weights = found.weights
        if self.selection == "random":
            weights = self._random_restore(state, weights, streams)
        for name, tensor in weights.items():
            kept = pupil.active.view(-1, *[1] * (tensor.dim() - 1))
            pupil.parameters[name].copy_(torch.where(kept, tensor, pupil.parameters[name]))
        return state

    def _random_restore(
        self, state: LearnerState, restored: Mapping[str, Tensor], streams: RandomStreams
    ) -> dict[str, Tensor]:
        """As many weights of every policy as were restored given back, whichever they are."""
        pupil, seats = state.persistent_state.train_state, state.persistent_state.mapping
        first = streams.take(seats.first_world)
        moved, back = 0.0, 0.0
        for name, tensor in restored.items():
            differs = (pupil.parameters[name] != pupil.reference_parameters[name]).flatten(1)
            changed = (tensor != pupil.parameters[name]).flatten(1)
            moved, back = moved + differs.sum(1), back + changed.sum(1)
        share = back / torch.as_tensor(moved).clamp(min=1)
        found = {}
        for name, tensor in pupil.parameters.items():
            size = tensor[0].numel()
            chance = first.uniform(f"restored/{name}", seats.models_per_replicate, size).reshape(
                len(tensor), size
            )
            chosen = (chance < share[:, None]).view_as(tensor)
            found[name] = torch.where(chosen, pupil.reference_parameters[name], tensor)
        return found

    def _with_aligned_logits(
        self, batch: FeedbackBatch, state: LearnerState, phase: str
    ) -> FeedbackBatch:
        out = self._evaluate(
            state, state.persistent_state.train_state.reference_parameters, phase, batch
        )
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
    """Gradient of every policy's own loss; of heads that it does not ask, none."""
    live = {name: tensor.detach().requires_grad_() for name, tensor in weights.items()}
    with torch.enable_grad():
        found = torch.autograd.grad(loss(live).sum(), list(live.values()), allow_unused=True)
    return {name: g for name, g in zip(live, found, strict=True) if g is not None}
