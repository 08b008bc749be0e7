"""Decoding: which act a trained policy takes, when something beyond its probabilities counts.

`best_of_n`: of several candidates the one with the highest score.

`lookahead` (DeAL, Huang et al. 2024, arXiv 2402.06147): for each of the k most probable options a,
play on greedily for `ahead` steps, and choose

    argmax_a  log P(a | seen) + w h(what is seen in the end)

with h whatever the requesting person values, so that one policy serves people of different values
without learning. All candidates of all seats are folded into one batch, so a policy is asked
1 + `ahead` times whatever k is.

It looks ahead only where acts lead to other sights: a writer's words, moves in a game. For policies
whose episode is one act there is nothing to play on, and it degenerates to re-ranking candidates by
what h says of them (`ahead=0`).

What differs from the paper: it searches token sequences with a beam, and starts from a prompt that
states the principles; here one act is chosen at a time, from what is seen. log P of what was done
before is the same for all candidates and left out.
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
    """Number of the candidate with the highest score.

    The first of equals; a score that is NaN loses to every other.

    Raises:
        UserError: there are no candidates.
    """
    if scores.shape[-1] == 0:
        raise UserError("best_of needs at least one candidate", code="wrong_shape", path="scores")
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
    """Choose acts by where the policy would go on to from them.

    Args:
        observation: what is seen before the act.
        log_prob_function: log-probabilities `[row, option]` from what is seen `[row, size]`. Rows are the
            seats in their order, each with its candidates side by side; a policy of stacked
            parameters finds its policies by `view(policies, -1, size)`.
        observation_model: what is seen next, `[row, size]`, from what is seen and the act `[row]`, such as
            `mores.core.environment.Role.observation_model`. Where an episode is over it must stand still.
        heuristic: h, from what is seen in the end, `[..., candidate, size]`.
        depth: steps played greedily after the candidate, at least 0.
        num_candidates: how many of the most probable options are tried, at least 1; all of them where
            there are fewer.
        weight: w, how much h counts beside log-probability; 0 and one candidate is greedy.
        action_mask: open options of the act at hand. In the steps after it the policy itself must give
            closed options a log-probability of minus infinity.

    Raises:
        UserError: `depth` or `num_candidates` is too small.
    """
    if depth < 0 or num_candidates < 1:
        raise UserError(
            "look_ahead needs ahead of at least 0 and candidates of at least 1, "
            f"not ahead {depth} and candidates {num_candidates}",
            code="out_of_range",
            path="ahead" if depth < 0 else "candidates",
        )
    batch, size = observation.shape[:-1], observation.shape[-1]
    logp = log_prob_function(observation.reshape(-1, size))
    logp = logp.reshape(*batch, -1)  # [..., option]
    closed = logp.isnan() if action_mask is None else logp.isnan() | ~action_mask
    logp = torch.where(closed, -torch.inf, logp)
    # A stable sort, so that of equals the first is the first candidate: topk promises no order.
    logp, action = logp.sort(dim=-1, descending=True, stable=True)
    logp, action = logp[..., :num_candidates], action[..., :num_candidates]  # [..., candidate]

    tried = action.shape[-1]
    there = observation.reshape(-1, size).repeat_interleave(tried, 0)  # [row, size]
    there = observation_model(there, action.reshape(-1))
    for _ in range(depth):
        there = observation_model(there, log_prob_function(there).argmax(-1))
    worth = heuristic(there.reshape(*batch, tried, size))

    weight = torch.as_tensor(weight, dtype=worth.dtype, device=worth.device)
    weight = weight.expand(batch)[..., None]
    score = logp + torch.where(weight == 0, 0.0, weight * worth)  # 0 times infinity counts nothing
    return action.gather(-1, best_of_n(score)[..., None])[..., 0]
