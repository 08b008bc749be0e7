"""Decoding: choice of an action by a criterion beyond the probabilities of the policy.

`best_of_n`: the candidate with the highest score.

`lookahead` (DeAL, Huang et al. 2024, arXiv 2402.06147): for each of the k likeliest options a,
continue greedily for `depth` steps, and choose

    argmax_a  log P(a | observation) + w h(final observation)

where h is any heuristic, such as the values of the person who asks, so that one policy serves
people of different values without training. The candidates of all agents form one batch, so the
policy is evaluated 1 + `depth` times for every k.

Lookahead needs actions that change the observation: tokens of a text, moves of a board game. If an
episode is one action, it reduces to a re-ranking of the candidates by h (`depth=0`).

Differences from the paper: it searches token sequences with a beam, from a prompt that states the
principles; here one action is chosen at a time, from the observation. log P of earlier actions is
equal for all candidates and left out.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.environment import ObservationModel
from mores.core.errors import UserError

LogProbFunction = Callable[[Float[Tensor, "row size"]], Float[Tensor, "row option"]]
Heuristic = Callable[[Float[Tensor, "*batch candidate size"]], Float[Tensor, "*batch candidate"]]


def best_of_n(scores: Float[Tensor, "*batch candidate"]) -> Int[Tensor, "*batch"]:
    """Index of the candidate with the highest score.

    The first of equal candidates; a NaN score loses to every other.

    Raises:
        UserError: there are no candidates.
    """
    if scores.shape[-1] == 0:
        raise UserError("best_of_n needs at least one candidate", code="wrong_shape", path="scores")
    return torch.where(scores.isnan(), -torch.inf, scores).argmax(-1)


def lookahead(
    observation: Float[Tensor, "*batch size"],
    log_prob_function: LogProbFunction,
    observation_model: ObservationModel,
    heuristic: Heuristic,
    *,
    depth: int,
    num_candidates: int,
    weight: float | Float[Tensor, "*batch"] = 1.0,
    action_mask: Bool[Tensor, "*batch option"] | None = None,
) -> Int[Tensor, "*batch"]:
    """Actions chosen by the observations that the policy reaches after them.

    Args:
        observation: observation before the action.
        log_prob_function: log-probabilities `[row, option]` of observations `[row, size]`. Rows are
            the agents in order, each with its candidates side by side; stacked models recover
            their dimension by `view(models, -1, size)`.
        observation_model: next observation `[row, size]` of observations and actions `[row]`, such
            as `mores.core.environment.Role.observation_model`; constant after an episode's end.
        heuristic: h of the final observations, `[..., candidate, size]`.
        depth: greedy steps after the candidate, at least 0.
        num_candidates: number of likeliest options to evaluate, at least 1; all options where
            there are fewer.
        weight: w, weight of h against the log-probability; 0 with one candidate is greedy.
        action_mask: legal options of the action. In later steps `log_prob_function` must give
            illegal options a log-probability of minus infinity.

    Raises:
        UserError: `depth` or `num_candidates` is too small.
    """
    if depth < 0 or num_candidates < 1:
        raise UserError(
            "lookahead needs depth of at least 0 and num_candidates of at least 1, "
            f"not depth {depth} and num_candidates {num_candidates}",
            code="out_of_range",
            path="depth" if depth < 0 else "num_candidates",
        )
    batch, size = observation.shape[:-1], observation.shape[-1]
    logp = log_prob_function(observation.reshape(-1, size))
    logp = logp.reshape(*batch, -1)  # [..., option]
    illegal = logp.isnan() if action_mask is None else logp.isnan() | ~action_mask
    logp = torch.where(illegal, -torch.inf, logp)
    # A stable sort puts the first of equal options first; topk does not define an order.
    logp, action = logp.sort(dim=-1, descending=True, stable=True)
    logp, action = logp[..., :num_candidates], action[..., :num_candidates]  # [..., candidate]

    count = action.shape[-1]
    predicted = observation.reshape(-1, size).repeat_interleave(count, 0)  # [row, size]
    predicted = observation_model(predicted, action.reshape(-1))
    for _ in range(depth):
        predicted = observation_model(predicted, log_prob_function(predicted).argmax(-1))
    value = heuristic(predicted.reshape(*batch, count, size))

    weight = torch.as_tensor(weight, dtype=value.dtype, device=value.device)
    weight = weight.expand(batch)[..., None]
    score = logp + torch.where(weight == 0, 0.0, weight * value)  # 0 times infinity counts as 0
    return action.gather(-1, best_of_n(score)[..., None])[..., 0]
