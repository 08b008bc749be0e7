"""Rewards of token completions: utilities, inappropriate tokens, optimum and diversity.

Prompt x, token v. Principal k has utility `u_kv . x / sqrt(features)` for the token; it is
inappropriate if `h_v . x` is among the highest of all tokens. A completion of L tokens with the set
S of distinct tokens, b of the L inappropriate, has the reward

    R_k = (sum over v in S of utility_kv  -  penalty * b) / L

for principal k: repetition adds no utility, and its penalty again. All functions are pure.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, total

NO_TOKEN = -1  # at positions without a token yet


def token_utilities(
    weights: Float[Tensor, "world *some token feature"], prompt: Float[Tensor, "world feature"]
) -> Float[Tensor, "world *some token"]:
    """Utilities of tokens for a prompt: `u . x / sqrt(features)`."""
    singletons = (1,) * (weights.dim() - 2)
    x = prompt.view(len(prompt), *singletons, -1)
    return total(weights * x, -1) / math.sqrt(prompt.shape[-1])


def top_k_mask(score: Float[Tensor, "world token"], k: int) -> Bool[Tensor, "world token"]:
    """Mask of the `k` tokens with the highest scores; ties by lower index."""
    order = torch.argsort(score, dim=-1, descending=True, stable=True)
    rank = torch.argsort(order, dim=-1)
    return rank < k


def one_hot_tokens(
    tokens: Int[Tensor, "world agent step"], vocab_size: int
) -> Float[Tensor, "world agent step token"]:
    """One-hot encoding of tokens by step; zeros where there is no token yet."""
    indices = torch.arange(vocab_size, device=tokens.device)
    return (tokens[..., None] == indices).to(torch.float32)


def append_token(
    completion: Float[Tensor, "*some step token"], token: Int[Tensor, "*some"]
) -> Float[Tensor, "*some step token"]:
    """One-hot completion with one more token; complete ones are unchanged."""
    steps, vocab_size = completion.shape[-2:]
    length = total(total(completion, -1), -1)
    step_mask = torch.arange(steps, device=completion.device) == length[..., None]
    token_mask = torch.arange(vocab_size, device=completion.device) == token[..., None]
    return completion + (step_mask[..., None] & token_mask[..., None, :]).to(completion.dtype)


def completion_reward(
    completion: Float[Tensor, "world agent step token"],
    token_utility: Float[Tensor, "world principal token"],
    inappropriate: Bool[Tensor, "world token"],
    penalty: float,
) -> Float[Tensor, "world agent principal"]:
    """Reward of completions for each principal; missing tokens contribute 0."""
    distinct = completion.amax(2)  # world agent token
    utility = total(distinct[:, :, None] * token_utility[:, None], -1)
    count = total(total(completion, 2) * inappropriate[:, None].to(completion.dtype), -1)
    return (utility - penalty * count[..., None]) / completion.shape[2]


def optimal_reward(
    token_utility: Float[Tensor, "world token"],
    inappropriate: Bool[Tensor, "world token"],
    penalty: float,
    completion_length: int,
) -> Float[Tensor, " world"]:
    """Largest reward of a completion of `completion_length` tokens.

    The reward depends on the set S of distinct tokens and on the repetitions. If S contains an
    appropriate token, all repetitions can be of it and cost nothing: L R is the sum over S of
    `w_v = utility_v - penalty [v inappropriate]`. Replacing an appropriate token of S by the best
    appropriate one never lowers it, so an optimal S contains that one and, of all others, the
    `L - 1` of highest w, if positive. If S contains only inappropriate tokens, every step costs
    the penalty: an optimal S contains the one of highest utility and, of the others, the `L - 1`
    of highest utility, if positive. The optimum is the larger of both cases.
    """
    cost = penalty * inappropriate.to(token_utility.dtype)
    clean = _best_with_required(
        token_utility - cost, ~inappropriate, torch.ones_like(inappropriate), completion_length
    )
    unclean = _best_with_required(token_utility, inappropriate, inappropriate, completion_length)
    unclean = unclean - penalty * completion_length
    clean = torch.where((~inappropriate).any(-1), clean, -torch.inf)
    unclean = torch.where(inappropriate.any(-1), unclean, -torch.inf)
    return torch.maximum(clean, unclean) / completion_length


def _best_with_required(
    value: Float[Tensor, "world token"],
    required: Bool[Tensor, "world token"],
    allowed: Bool[Tensor, "world token"],
    completion_length: int,
) -> Float[Tensor, " world"]:
    """Value of the best required token and the best other tokens above 0, L at most."""
    vocab_size = value.shape[-1]
    best = torch.where(required, value, -torch.inf).argmax(-1, keepdim=True)
    others = allowed & (torch.arange(vocab_size, device=value.device) != best)
    gains = torch.where(others, value, 0.0).clamp(min=0.0)
    gains = gains.sort(-1, descending=True).values[:, : completion_length - 1]
    return value.gather(-1, best)[:, 0] + total(gains, -1)


def distinct_1(completion: Float[Tensor, "world agent step token"]) -> Float[Tensor, " world"]:
    """Distinct tokens over tokens of a completion, mean over completions; 1 if empty."""
    counts = total(completion, 2)
    distinct, length = total(counts.clamp(max=1.0), -1), total(counts, -1)
    return mean(torch.where(length > 0, distinct / length.clamp(min=1.0), 1.0), 1)


def pairwise_diversity(
    completion: Float[Tensor, "world agent step token"],
) -> Float[Tensor, " world"]:
    """Probability that two completions differ at a step, mean over steps; 1 if empty."""
    counts = total(completion, 1)  # world step token: completions with the token at the step
    agents = completion.shape[1]
    equal = total(total(counts * (counts - 1.0), -1), -1) / (agents * (agents - 1))
    steps = total(completion[:, 0].amax(-1), -1)
    return 1.0 - equal / steps.clamp(min=1.0)


def detection_metrics(
    flags: Bool[Tensor, "world agent step"], inappropriate: Float[Tensor, "world agent step"]
) -> dict[str, Float[Tensor, " world"]]:
    """Precision and recall of flags for inappropriate tokens, over all completions of a world.

    Precision without flags and recall without inappropriate tokens are 1, so that both are always
    defined. Interpret them together.
    """
    flagged = flags.to(inappropriate.dtype)
    num_flagged, num_inappropriate, hits = (
        total(x.flatten(1), 1) for x in (flagged, inappropriate, flagged * inappropriate)
    )
    precision, recall = hits / num_flagged.clamp(min=1.0), hits / num_inappropriate.clamp(min=1.0)
    return {
        "flagged_share": num_flagged / flagged[0].numel(),
        "detection_precision": torch.where(num_flagged > 0, precision, 1.0),
        "detection_recall": torch.where(num_inappropriate > 0, recall, 1.0),
    }
