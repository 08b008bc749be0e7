"""Validation of batches made by hand, and of update batches of custom recipes."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from mores import make_policy, register, train
from mores.agents.learning.batch import FeedbackBatch
from mores.agents.learning.episodic import EpisodicLearner
from mores.agents.learning.losses import nll_loss
from mores.agents.learning.objective import LossTerm, Objective
from mores.agents.learning.update import UpdateBatch
from mores.core.errors import UserError
from tests.learners.loss_batches import example
from tests.refusals import check_message, refused

M, S, T = 2, 4, 3


def batch(**fields: Any) -> FeedbackBatch:
    """A batch with some fields replaced, without the type checks of tests."""
    batch = FeedbackBatch(
        torch.zeros(M, S, T, 5), torch.zeros(M, S, T).long(), torch.ones(M, S, T).bool()
    )
    for name, field in fields.items():
        object.__setattr__(batch, name, field)
    return batch


def test_a_valid_batch_is_returned() -> None:
    _, batch = example()
    assert batch.validate() is batch


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"action": torch.zeros(M, S)}, "wrong_shape", "action"),
        ({"mask": torch.ones(M, S, T)}, "wrong_type", "mask"),
        ({"advantage": torch.zeros(M, S)}, "wrong_shape", "advantage"),
        (
            {
                "action_mask": torch.ones(M, S, T, 3).bool(),
                "reference_logits": torch.zeros(M, S, T, 4),
            },
            "wrong_shape",
            "reference_logits",
        ),
        ({"kl_baseline": 1.0}, "wrong_type", "kl_baseline"),
        ({"step_weight": torch.full((M, S, T), torch.nan)}, "not_finite", "step_weight"),
        ({"pairs": torch.tensor([[[0, 4]], [[0, 1]]])}, "out_of_range", "pairs"),
    ],
)
def test_invalid_fields_are_refused(fields: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path=path):
        batch(**fields).validate()


def test_weights_of_padding_are_not_checked() -> None:
    mask = torch.ones(M, S, T).bool()
    mask[:, :, -1] = False
    weight = torch.where(mask, 1.0, torch.nan)
    batch(mask=mask, step_weight=weight).validate()


def test_indices_out_of_range_are_refused() -> None:
    with pytest.raises(UserError) as error:
        batch().take(torch.tensor([[4], [0]]))
    assert (error.value.code, error.value.path) == ("out_of_range", "index")
    check_message(str(error.value).partition(": ")[0])  # the rest is torch's message


@pytest.mark.parametrize("weight", [torch.nan, torch.inf])
def test_weights_of_terms_must_be_finite(weight: float) -> None:
    with refused("not_finite", path="weight"):
        LossTerm(nll_loss, weight)


class InvalidRecipe(EpisodicLearner):
    """A recipe with an error in its update batch."""

    view: str = "plain"
    num_missing: int = 0

    def make_update_batch(self, batches: Any, state: Any) -> UpdateBatch:
        grouped = self.with_groups(batches, state)
        for batch in grouped.values():
            desirable = torch.ones_like(batch.mask[:, self.num_missing :, 0])
            object.__setattr__(batch, "desirable", desirable)
        return UpdateBatch(grouped, Objective((LossTerm(nll_loss, view=self.view),)))


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"view": "critiqed"}, "unknown_name", "view"),
        ({"num_missing": 1}, "wrong_shape", "desirable"),
    ],
)
def test_update_batches_are_validated(parameters: dict[str, Any], code: str, path: str) -> None:
    register("policy", "invalid_recipe", InvalidRecipe)
    policy = make_policy("invalid_recipe", **parameters)
    with refused(code, path=path):
        train("token_feedback", {"assistant": policy}, episodes=1, rounds=6)
