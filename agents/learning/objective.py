"""Objectives: weighted lists of loss terms.

A term is a pure function `(out, batch, **loss_kwargs) -> loss`, one number per model: see
`mores.agents.learning.losses`. The loss of an objective is their weighted sum, also one number per
model. Sum it over models before `backward`, never average: a mean divides every gradient by the
number of models, which changes clipping and plain gradient descent.
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

PLAIN_VIEW = "plain"  # the view with the recorded observations
VIEWS = (PLAIN_VIEW, "critiqued", "evidence_masked")  # views that stacked models can evaluate

LossFunction = Callable[..., Float[Tensor, " model"]]
Diagnostics = Callable[..., Mapping[str, Float[Tensor, " model"]]]


@dataclasses.dataclass(frozen=True)
class LossTerm:
    """A term of an objective.

    Attributes:
        loss_function: the function.
        weight: weight of the term, one number or one per model.
        loss_kwargs: keyword arguments of the function.
        view: view of the batch that is evaluated: `plain`, or another one of `VIEWS`, such as
            `critiqued`, in which the critique is part of the observation.
        diagnostics: quantities for training curves beside the loss, by name: a function of the same
            arguments, such as `policy_gradient_diagnostics`. No gradient flows through it.

    Raises:
        UserError: `loss_function` is not callable, or `weight` is a number that is not finite.
    """

    loss_function: LossFunction
    weight: float | Float[Tensor, " model"] = 1.0
    loss_kwargs: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    view: str = PLAIN_VIEW
    diagnostics: Diagnostics | None = None

    def __post_init__(self) -> None:
        if not callable(self.loss_function):
            raise UserError(
                f"loss_function must be a function, not {self.loss_function!r:.60}",
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
        """Name of the term, as `nll_loss` or `nll_loss on critiqued`."""
        return self.loss_function.__name__ + ("" if self.view == PLAIN_VIEW else f" on {self.view}")


class ObjectiveLoss(NamedTuple):
    """Value of an objective: weighted total, and each term without its weight."""

    total: Float[Tensor, " model"]
    by_term: dict[str, Float[Tensor, " model"]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A weighted list of terms.

    Raises:
        UserError: `terms` is not a tuple of `LossTerm`, or empty.
    """

    terms: tuple[LossTerm, ...]

    def __post_init__(self) -> None:
        wrong = not isinstance(self.terms, tuple) or not self.terms
        if wrong or not all(isinstance(term, LossTerm) for term in self.terms):
            raise UserError(
                f"terms must be a tuple of at least one LossTerm, not {self.terms!r:.60}",
                code="wrong_type",
                path="terms",
            )

    @property
    def views(self) -> tuple[str, ...]:
        """Views of a batch that the terms need, each once."""
        return tuple(dict.fromkeys(term.view for term in self.terms))

    def __call__(self, outputs: Mapping[str, ModelOutput], batch: FeedbackBatch) -> ObjectiveLoss:
        """Loss of every model.

        Args:
            outputs: outputs of the models, by view.
            batch: batch that they were evaluated on.

        Raises:
            UserError: a view or a field is missing.
        """
        by_term: dict[str, Tensor] = {}
        total: Tensor | None = None
        for term in self.terms:
            if term.view not in outputs:
                raise UserError(
                    f"no view {term.view!r}{did_you_mean(term.view, outputs)}",
                    code="unknown_name",
                    path="view",
                )
            loss = term.loss_function(outputs[term.view], batch, **term.loss_kwargs)
            known = by_term.get(term.name)
            by_term[term.name] = loss.detach() if known is None else known + loss.detach()
            if isinstance(term.weight, Tensor) or term.weight != 1.0:
                loss = term.weight * loss
            total = loss if total is None else total + loss
        assert total is not None  # an objective has terms
        return ObjectiveLoss(total, by_term)

    @torch.no_grad()
    def diagnostics(
        self, outputs: Mapping[str, ModelOutput], batch: FeedbackBatch
    ) -> dict[str, Float[Tensor, " model"]]:
        """What the terms report beside their losses, by name, for the arguments of a call."""
        reported: dict[str, Tensor] = {}
        for term in self.terms:
            if term.diagnostics is not None:
                reported |= term.diagnostics(outputs[term.view], batch, **term.loss_kwargs)
        return reported
