"""The ten loss terms: pure functions `(out, batch, *, settings) -> loss`, one number a policy.

Each is a mean over that policy's own real steps, samples, pairs or lists, 0 where it has none, and
never over policies; a NaN stays with the policy whose it is, in losses and in gradients. What is
known as PPO, GRPO, DPO or CUT is a weighted list of these (`mores.agents.learning.objective`).
"""

from __future__ import annotations

from mores.agents.learning.losses.contrastive import contrast
from mores.agents.learning.losses.divergence import kl
from mores.agents.learning.losses.expected_score import expected_score
from mores.agents.learning.losses.likelihood import nll, unlikelihood
from mores.agents.learning.losses.policy_gradient import pg
from mores.agents.learning.losses.preference import DirectedLosses, directed_losses, pair
from mores.agents.learning.losses.ranking import rank
from mores.agents.learning.losses.regression import regress, value

__all__ = [
    "DirectedLosses",
    "contrast",
    "directed_losses",
    "expected_score",
    "kl",
    "nll",
    "pair",
    "pg",
    "rank",
    "regress",
    "unlikelihood",
    "value",
]
