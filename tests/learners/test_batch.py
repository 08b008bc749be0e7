"""Batches made by hand, and lessons of recipes of one's own: what does not fit together is told."""

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
from tests.learners.term_batches import example
from tests.refusals import check_message, refused

P, S, T = 2, 4, 3


def batch(**fields: Any) -> FeedbackBatch:
    """A batch with some fields as somebody may give them: tests look at types when it is made."""
    made = FeedbackBatch(
        torch.zeros(P, S, T, 5), torch.zeros(P, S, T).long(), torch.ones(P, S, T).bool()
    )
    for name, field in fields.items():
        object.__setattr__(made, name, field)
    return made


def test_a_batch_that_fits_is_itself() -> None:
    _, whole = example()
    assert whole.validate() is whole


@pytest.mark.parametrize(
    ("fields", "code", "path"),
    [
        ({"acted": torch.zeros(P, S)}, "wrong_shape", "acted"),
        ({"mask": torch.ones(P, S, T)}, "wrong_type", "mask"),
        ({"advantage": torch.zeros(P, S)}, "wrong_shape", "advantage"),
        (
            {
                "legal": torch.ones(P, S, T, 3).bool(),
                "reference_logits": torch.zeros(P, S, T, 4),
            },
            "wrong_shape",
            "reference_logits",
        ),
        ({"kl_baseline": 1.0}, "wrong_type", "kl_baseline"),
        ({"step_weight": torch.full((P, S, T), torch.nan)}, "not_finite", "step_weight"),
        ({"pairs": torch.tensor([[[0, 4]], [[0, 1]]])}, "out_of_range", "pairs"),
    ],
)
def test_what_does_not_fit_is_told(fields: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path=path):
        batch(**fields).validate()


def test_padding_may_weigh_anything() -> None:
    mask = torch.ones(P, S, T).bool()
    mask[:, :, -1] = False
    weight = torch.where(mask, 1.0, torch.nan)
    batch(mask=mask, step_weight=weight).validate()


def test_samples_that_there_are_not() -> None:
    with pytest.raises(UserError) as found:
        batch().take(torch.tensor([[4], [0]]))
    assert (found.value.code, found.value.path) == ("out_of_range", "index")
    check_message(str(found.value).partition(": ")[0])  # the rest are torch's own words


@pytest.mark.parametrize("wrong", [torch.nan, torch.inf])
def test_a_weight_is_finite(wrong: float) -> None:
    with refused("not_finite", path="weight"):
        LossTerm(nll_loss, wrong)


class Wayward(EpisodicLearner):
    """A recipe with a mistake in its lesson."""

    asked_on: str = "plain"
    cut: int = 0

    def make_update_batch(self, batches: Any, state: Any) -> UpdateBatch:
        grouped = self.with_groups(batches, state)
        for one in grouped.values():
            object.__setattr__(one, "desirable", torch.ones_like(one.mask[:, self.cut :, 0]))
        return UpdateBatch(grouped, Objective((LossTerm(nll_loss, view=self.asked_on),)))


@pytest.mark.parametrize(
    ("settings", "code", "path"),
    [
        ({"asked_on": "judgd"}, "unknown_name", "on"),
        ({"cut": 1}, "wrong_shape", "desirable"),
    ],
)
def test_lessons_are_looked_at_before_the_first_step(
    settings: dict[str, Any], code: str, path: str
) -> None:
    register("policy", "wayward", Wayward)
    player = make_policy("wayward", **settings)
    with refused(code, path=path):
        train("requests", {"assistant": player}, episodes=1, rounds=6)
