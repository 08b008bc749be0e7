"""One of several replies, drawn by the probability that a language model gives to each.

With p(o) = Π_j p(token_j of o | what stands before), the end token included so that no reply begins
another, reply o is drawn with

    q(o) = p(o) / Σ_o' p(o'),

and token by token, as whoever corrects for how replies were drawn needs it,

    log q(token_j | tokens before) = log Σ_{o that go on so} p(o) - log Σ_{o that began so} p(o).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor


def inverse_cdf_sample(logps: Float[Tensor, " option"], uniform: float) -> int:
    """The option that a uniform number stands for, by the inverse distribution function.

    Args:
        logps: log-probabilities, up to a constant.
        uniform: in [0, 1).
    """
    below = (logps - logps.logsumexp(0)).exp().cumsum(0)[:-1]
    return int((uniform >= below).sum())


def token_log_probabilities(
    replies: Sequence[Sequence[int]], logps: Sequence[float], chosen: int
) -> list[float]:
    """Log-probability of each token of the chosen reply, where one of these replies must be given.

    Args:
        replies: as tokens; none begins another.
        logps: log-probability of each.
        chosen: which was given. The numbers add up to its log-probability among them.
    """
    scores, own = torch.tensor(logps, dtype=torch.float64), replies[chosen]
    began = [scores.logsumexp(0)]
    for length in range(1, len(own) + 1):
        going = torch.tensor([reply[:length] == own[:length] for reply in replies])
        began.append(scores[going].logsumexp(0))
    return [float(after - before) for before, after in itertools.pairwise(began)]
