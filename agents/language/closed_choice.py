"""One of several replies, sampled by the probability that a language model assigns to each.

With p(o) = Π_j p(token_j of o | preceding tokens), the end token included so that no reply is a
prefix of another, reply o is sampled with

    q(o) = p(o) / Σ_o' p(o'),

and token by token, as importance weights of samplers need it,

    log q(token_j | tokens before) = log Σ_{o with token_j next} p(o) - log Σ_{o with prefix} p(o).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def inverse_cdf_sample(logps: Float[Tensor, " option"], uniform: float) -> int:
    """Option at a uniform number, by the inverse distribution function.

    Args:
        logps: log-probabilities, up to a constant.
        uniform: in [0, 1).
    """
    cdf = (logps - logps.logsumexp(0)).exp().cumsum(0)[:-1]
    return int((uniform >= cdf).sum())


def token_log_probabilities(
    replies: Sequence[Sequence[int]], logps: Sequence[float], chosen: int
) -> list[float]:
    """Log-probability of each token of the chosen reply, under the restriction to these replies.

    Args:
        replies: as tokens; none is a prefix of another.
        logps: log-probability of each.
        chosen: index of the chosen reply. The results sum to its log-probability among them.
    """
    scores, reply = torch.tensor(logps, dtype=torch.float64), replies[chosen]
    prefix_logps = [scores.logsumexp(0)]
    for length in range(1, len(reply) + 1):
        same_prefix = torch.tensor([other[:length] == reply[:length] for other in replies])
        prefix_logps.append(scores[same_prefix].logsumexp(0))
    return [float(after - before) for before, after in itertools.pairwise(prefix_logps)]
