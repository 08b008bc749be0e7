"""The ten loss terms: pure functions `(out, batch, *, settings) -> loss`, one number a policy.

Each is a mean over that policy's own real steps, samples, pairs or lists, 0 where it has none, and
never over policies; a NaN stays with the policy whose it is, in losses and in gradients. What is
known as PPO, GRPO, DPO or CUT is a weighted list of these (`mores.agents.learners.objective`).
"""

from __future__ import annotations

from mores.agents.learners.terms.contrast import contrast
from mores.agents.learners.terms.divergence import kl
from mores.agents.learners.terms.likelihood import nll, unlikelihood
from mores.agents.learners.terms.pairs import DirectedLosses, directed_losses, pair
from mores.agents.learners.terms.policy_gradient import pg
from mores.agents.learners.terms.ranks import rank
from mores.agents.learners.terms.scores import expected_score
from mores.agents.learners.terms.values import regress, value

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
