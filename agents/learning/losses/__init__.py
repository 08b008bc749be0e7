"""The eleven loss functions: pure, `(out, batch, *, settings) -> loss`, one number per model.

Each returns the mean over the valid steps, samples, pairs or lists of each model, 0 for a model
without any, and never averages over models. A NaN stays within its model, in losses and in
gradients. PPO, GRPO, DPO and CUT are weighted lists of these (`mores.agents.learning.objective`).
"""

from __future__ import annotations

from mores.agents.learning.losses.contrastive import contrastive_loss
from mores.agents.learning.losses.divergence import kl_loss
from mores.agents.learning.losses.expected_score import expected_score_loss
from mores.agents.learning.losses.likelihood import nll_loss, unlikelihood_loss
from mores.agents.learning.losses.policy_gradient import (
    policy_gradient_diagnostics,
    policy_gradient_loss,
)
from mores.agents.learning.losses.preference import LabelLosses, label_losses, preference_loss
from mores.agents.learning.losses.ranking import ranking_loss
from mores.agents.learning.losses.regression import regression_loss, value_loss
from mores.agents.learning.losses.soft_target import soft_target_loss

__all__ = [
    "LabelLosses",
    "contrastive_loss",
    "expected_score_loss",
    "kl_loss",
    "label_losses",
    "nll_loss",
    "policy_gradient_diagnostics",
    "policy_gradient_loss",
    "preference_loss",
    "ranking_loss",
    "regression_loss",
    "soft_target_loss",
    "unlikelihood_loss",
    "value_loss",
]
