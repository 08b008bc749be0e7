"""Objectives: weighted lists of loss terms.

A term is a pure function `(out, batch, **settings) -> loss`, one number a policy: see
`mores.agents.learning.losses`. The loss of an objective is their weighted sum, one number a policy
too. Sum it over policies before `backward`, never average: a mean would divide every gradient by
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

from mores.agents.learning.batch import FeedbackBatch, Output
from mores.core.errors import UserError, did_you_mean

PLAIN = "plain"  # the view of a batch in which policies see what they will see in use
VIEWS = (PLAIN, "judged", "hidden")  # that stacked policies can be asked about

Term = Callable[..., Float[Tensor, " policy"]]


@dataclasses.dataclass(frozen=True)
class Weighted:
    """A term in an objective.

    Attributes:
        term: the function.
        weight: how much it counts, one number or one a policy.
        settings: its keyword arguments.
        on: which view of the batch policies are asked about: `plain`, or one that a recipe makes,
            such as `judged`, in which they see the judgement too.

    Raises:
        UserError: the term is no function, or the weight one number that is not finite.
    """

    term: Term
    weight: float | Float[Tensor, " policy"] = 1.0
    settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    on: str = PLAIN

    def __post_init__(self) -> None:
        if not callable(self.term):
            raise UserError(
                f"a term is a function, not {self.term!r:.60}", code="wrong_type", path="term"
            )
        if not isinstance(self.weight, Tensor) and not math.isfinite(self.weight):
            raise UserError(
                f"the weight of {self.name} must be finite, not {self.weight}",
                code="not_finite",
                path="weight",
            )

    @property
    def name(self) -> str:
        """`nll`, or `nll on judged`."""
        return self.term.__name__ + ("" if self.on == PLAIN else f" on {self.on}")


class Losses(NamedTuple):
    """What an objective comes to: in all, and by term without its weight."""

    total: Float[Tensor, " policy"]
    parts: dict[str, Float[Tensor, " policy"]]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A weighted list of terms.

    Raises:
        UserError: something else is in it.
    """

    terms: tuple[Weighted, ...]

    def __post_init__(self) -> None:
        wrong = not isinstance(self.terms, tuple) or not self.terms
        if wrong or not all(isinstance(term, Weighted) for term in self.terms):
            raise UserError(
                f"an objective has a tuple of Weighted terms, not {self.terms!r:.60}",
                code="wrong_type",
                path="terms",
            )

    @property
    def views(self) -> tuple[str, ...]:
        """The views of a batch that it asks about, each once."""
        return tuple(dict.fromkeys(term.on for term in self.terms))

    def __call__(self, outputs: Mapping[str, Output], batch: FeedbackBatch) -> Losses:
        """The loss of every policy.

        Args:
            outputs: what the policies say, by view.
            batch: what they are asked about.

        Raises:
            UserError: a view or a field is missing.
        """
        parts: dict[str, Tensor] = {}
        total = torch.zeros(batch.policies, device=batch.mask.device)
        for weighted in self.terms:
            if weighted.on not in outputs:
                raise UserError(
                    f"no view {weighted.on!r}{did_you_mean(weighted.on, outputs)}",
                    code="unknown_name",
                    path="on",
                )
            loss = weighted.term(outputs[weighted.on], batch, **weighted.settings)
            total = total + weighted.weight * loss
            parts[weighted.name] = parts.get(weighted.name, 0.0) + loss.detach()
        return Losses(total, parts)
