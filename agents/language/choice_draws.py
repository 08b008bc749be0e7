"""Draws of choices with the random numbers that all arms of an experiment share.

Options of a scale are drawn by the inverse distribution function of one uniform number, others by
Gumbel noise: arms whose probabilities differ little then differ in few choices, and on a scale by
one step. A choice that rounding may change is counted as a near tie: a drawn one whose scores, or
whose uniform number and the limit of an option, are closer than the stated difference allows.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.random_streams import RandomStreams

CHOICE = "choice"  # name of the stream


class DrawnChoice(NamedTuple):
    """Choices, and whether the second best was as good within the tolerance."""

    action: Int[Tensor, "world agent"]
    is_near_tie: Bool[Tensor, "world agent"]


def choice_logps(
    logps: Float[Tensor, "*agent option"], temperature: float
) -> Float[Tensor, "*agent option"]:
    """Log-probabilities at a temperature; at 0 the likeliest option has all of the mass."""
    if temperature == 0:
        best = torch.zeros_like(logps).scatter(-1, logps.argmax(-1, keepdim=True), 1.0)
        return best.log()
    return (logps / temperature).log_softmax(-1)


def draw_choice(
    logps: Float[Tensor, "world agent option"],
    is_ordered: Bool[Tensor, "world agent"],
    temperature: float,
    near_tie: Float[Tensor, "world agent"],
    streams: RandomStreams,
) -> DrawnChoice:
    """One option of each agent.

    Args:
        logps: log-probability of each option at temperature 1; -inf for illegal ones.
        is_ordered: whether the options of an agent are points of a scale.
        temperature: divisor of log-probabilities; 0: the likeliest option.
        near_tie: difference of log-probabilities that rounding may cause, of each agent.
        streams: random numbers of this phase.
    """
    if temperature == 0:
        return _best(logps, near_tie)
    logps = choice_logps(logps, temperature)
    near_tie = near_tie / temperature
    num_agents, num_options = logps.shape[1:]
    if bool(is_ordered.all()):
        return _inverse_cdf(logps, near_tie, streams.uniform(CHOICE, num_agents))
    unordered = _best(logps + streams.gumbel(CHOICE, num_agents, num_options), near_tie)
    if not bool(is_ordered.any()):
        return unordered
    ordered = _inverse_cdf(logps, near_tie, streams.uniform(CHOICE, num_agents))
    return DrawnChoice(
        torch.where(is_ordered, ordered.action, unordered.action),
        torch.where(is_ordered, ordered.is_near_tie, unordered.is_near_tie),
    )


def _best(
    scores: Float[Tensor, "world agent option"], near_tie: Float[Tensor, "world agent"]
) -> DrawnChoice:
    action = scores.argmax(-1)
    if scores.shape[-1] == 1:
        return DrawnChoice(action, torch.zeros_like(action, dtype=torch.bool))
    best = scores.topk(2, -1).values
    return DrawnChoice(action, best[..., 0] - best[..., 1] < near_tie)


def _inverse_cdf(
    logps: Float[Tensor, "world agent option"],
    near_tie: Float[Tensor, "world agent"],
    uniform: Float[Tensor, "world agent 1"],
) -> DrawnChoice:
    below = logps.exp().cumsum(-1)[..., :-1]
    # the last legal option takes what rounding leaves
    last_legal = (logps.flip(-1) > -torch.inf).to(torch.int8).argmax(-1)
    action = torch.minimum((uniform >= below).sum(-1), logps.shape[-1] - 1 - last_legal)
    # a difference of d in the logits moves a distribution function F by at most d F (1 - F)
    spread = near_tie[..., None] * below * (1 - below)
    return DrawnChoice(action, ((uniform - below).abs() < spread).any(-1))
