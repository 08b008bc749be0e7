"""The ten loss terms: pure functions `(out, batch, *, settings) -> loss`, one number a policy.

Each is a mean over that policy's own real steps, samples, pairs or lists, 0 where it has none, and
never over policies; a NaN stays with the policy whose it is, in losses and in gradients. What is
known as PPO, GRPO, DPO or CUT is a weighted list of these (`mores.agents.learning.objective`).
"""

from __future__ import annotations

from mores.agents.learning.losses.contrastive import contrastive_loss
from mores.agents.learning.losses.divergence import kl_loss
from mores.agents.learning.losses.expected_score import expected_score_loss
from mores.agents.learning.losses.likelihood import nll_loss, unlikelihood_loss
from mores.agents.learning.losses.policy_gradient import policy_gradient_loss
from mores.agents.learning.losses.preference import LabelLosses, label_losses, preference_loss
from mores.agents.learning.losses.ranking import ranking_loss
from mores.agents.learning.losses.regression import regression_loss, value_loss

__all__ = [
    "LabelLosses",
    "contrastive_loss",
    "label_losses",
    "expected_score_loss",
    "kl_loss",
    "nll_loss",
    "preference_loss",
    "policy_gradient_loss",
    "ranking_loss",
    "regression_loss",
    "unlikelihood_loss",
    "value_loss",
]
