"""Objectives: weighted lists of loss terms.

A term is a pure function `(out, batch, **settings) -> loss`, one number a policy: see
`mores.agents.learning.losses`. The loss of an objective is their weighted sum, one number a policy
too. Sum it over policies before `flipped`, never average: a mean would divide every gradient by
the number of policies, and clipping and plain descent would feel it.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.agents.learning.batch import FeedbackBatch, ModelOutput
from mores.core.errors import UserError, did_you_mean

PLAIN_VIEW = "plain"  # the view of a batch in which policies see what they will see in use
VIEWS = (PLAIN_VIEW, "critiqued", "hidden")  # that stacked policies can be asked about

LossFunction = Callable[..., Float[Tensor, " policy"]]


@dataclasses.dataclass(frozen=True)
class LossTerm:
    """A term in an objective.

    Attributes:
        loss_function: the function.
        weight: how much it counts, one number or one a policy.
        loss_kwargs: its keyword arguments.
        view: which view of the batch policies are asked about: `plain`, or one that a recipe makes,
            such as `judged`, in which they see the judgement too.

    Raises:
        UserError: the term is no function, or the weight one number that is not finite.
    """

    loss_function: LossFunction
    weight: float | Float[Tensor, " policy"] = 1.0
    loss_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view: str = PLAIN_VIEW

    def __post_init__(self) -> None:
        if not callable(self.loss_function):
            raise UserError(
                f"a term is a function, not {self.loss_function!r:.60}",
                code="wrong_type",
                path="loss_function",
            )
        if not isinstance(self.weight, Tensor) and not math.isfinite(self.weight):
            raise UserError(
                f"the weight of {self.name} must be finite, not {self.weight}",
                code="not_finite",
                path="weight",
            )

    @property
    def name(self) -> str:
        """`nll_loss`, or `nll on judged`."""
        return self.loss_function.__name__ + ("" if self.view == PLAIN_VIEW else f" on {self.view}")


class ObjectiveLoss(NamedTuple):
    """What an objective comes to: in all, and by term without its weight."""

    total: Float[Tensor, " policy"]
    by_term: dict[str, Float[Tensor, " policy"]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A weighted list of terms.

    Raises:
        UserError: something else is in it.
    """

    terms: tuple[LossTerm, ...]

    def __post_init__(self) -> None:
        wrong = not isinstance(self.terms, tuple) or not self.terms
        if wrong or not all(isinstance(term, LossTerm) for term in self.terms):
            raise UserError(
                f"an objective has a tuple of Weighted terms, not {self.terms!r:.60}",
                code="wrong_type",
                path="terms",
            )

    @property
    def views(self) -> tuple[str, ...]:
        """The views of a batch that it asks about, each once."""
        return tuple(dict.fromkeys(term.view for term in self.terms))

    def __call__(self, outputs: Mapping[str, ModelOutput], batch: FeedbackBatch) -> ObjectiveLoss:
        """The loss of every policy.

        Args:
            outputs: what the policies say, by view.
            batch: what they are asked about.

        Raises:
            UserError: a view or a field is missing.
        """
        parts: dict[str, Tensor] = {}
        total = torch.zeros(batch.num_models, device=batch.mask.device)
        for weighted in self.terms:
            if weighted.view not in outputs:
                raise UserError(
                    f"no view {weighted.view!r}{did_you_mean(weighted.view, outputs)}",
                    code="unknown_name",
                    path="view",
                )
            loss = weighted.loss_function(outputs[weighted.view], batch, **weighted.loss_kwargs)
            total = total + weighted.weight * loss
            parts[weighted.name] = parts.get(weighted.name, 0.0) + loss.detach()
        return ObjectiveLoss(total, parts)
