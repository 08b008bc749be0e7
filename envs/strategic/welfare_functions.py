"""Welfare functions of a conversation: U is the user's utility, L that of the assistant's operator.

    assistant_only   L
    user_only        U
    linear           w U + (1 - w) L
    cobb_douglas     max(U - u0, floor)^w max(L - l0, floor)^(1 - w)
    minimum          min(U, L)

GTAlign (arXiv 2510.08872) trains on `sqrt(U L)` and compares with the first three. Where it chooses
an action at inference it multiplies signed utilities, so that two losses look like a gain
(`mores.envs.strategic.payoff_matrices.signed_product_argmax`). Here a utility counts above its
disagreement point only, as in the Nash bargaining solution (Nash 1950), and is at least `floor`.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor

from mores.core.welfare import Welfare


class AssistantOnly(Welfare):
    """Utility of the assistant's operator."""

    def value(
        self, user: Float[Tensor, "*shape"], assistant: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """L."""
        return assistant


class UserOnly(Welfare):
    """Utility of the user."""

    def value(
        self, user: Float[Tensor, "*shape"], assistant: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """U."""
        return user


class Linear(Welfare):
    """Weighted mean of both utilities."""

    user_weight: float = Field(default=0.5, ge=0, le=1, description="weight of the user")

    def value(
        self, user: Float[Tensor, "*shape"], assistant: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """w U + (1 - w) L."""
        return self.user_weight * user + (1.0 - self.user_weight) * assistant


class CobbDouglas(Welfare):
    """Weighted geometric mean of both gains over the disagreement point."""

    user_weight: float = Field(default=0.5, ge=0, le=1, description="weight of the user")
    floor: float = Field(default=1e-4, gt=0, description="smallest gain that counts")
    user_disagreement: float = Field(
        default=0.0, description="utility of a user without a conversation"
    )
    assistant_disagreement: float = Field(
        default=0.0, description="utility of the operator without a conversation"
    )

    def value(
        self, user: Float[Tensor, "*shape"], assistant: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """See the module docstring."""
        log_user = torch.log((user - self.user_disagreement).clamp(min=self.floor))
        log_assistant = torch.log((assistant - self.assistant_disagreement).clamp(min=self.floor))
        return torch.exp(self.user_weight * log_user + (1.0 - self.user_weight) * log_assistant)


class Minimum(Welfare):
    """Utility of the worse off of the two (Rawls 1971)."""

    def value(
        self, user: Float[Tensor, "*shape"], assistant: Float[Tensor, "*shape"]
    ) -> Float[Tensor, "*shape"]:
        """min(U, L)."""
        return torch.minimum(user, assistant)
