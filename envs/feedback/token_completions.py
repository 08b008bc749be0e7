"""Answers made of words: which words are inappropriate, and what an answer is worth.

A request x and a word v. Principal k likes the word by `u_kv . x / sqrt(features)`; it is
inappropriate if `h_v . x` is among the highest of all words. An answer of L words that says the
set S of different words, and b times an inappropriate one, is worth to principal k

    R_k = (sum over v in S of liking_kv  -  penalty * b) / L

so that a word said again adds nothing, and offends again. All functions are pure.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, total

NO_TOKEN = -1  # stands where no word was said yet


def token_utilities(
    weights: Float[Tensor, "world *some word feature"], prompt: Float[Tensor, "world feature"]
) -> Float[Tensor, "world *some word"]:
    """How much words suit a request: `u . x / sqrt(features)`."""
    between = (1,) * (weights.dim() - 2)
    x = prompt.view(len(prompt), *between, -1)
    return total(weights * x, -1) / math.sqrt(prompt.shape[-1])


def top_k_mask(score: Float[Tensor, "world word"], k: int) -> Bool[Tensor, "world word"]:
    """The `k` words of the highest score; of equal ones the first."""
    order = torch.argsort(score, dim=-1, descending=True, stable=True)
    rank = torch.argsort(order, dim=-1)
    return rank < k


def one_hot_tokens(
    tokens: Int[Tensor, "world agent step"], vocab_size: int
) -> Float[Tensor, "world agent step word"]:
    """1 at the word said, at each step; 0 everywhere where none was said yet."""
    numbers = torch.arange(vocab_size, device=tokens.device)
    return (tokens[..., None] == numbers).to(torch.float32)


def append_token(
    completion: Float[Tensor, "*some step word"], token: Int[Tensor, "*some"]
) -> Float[Tensor, "*some step word"]:
    """The marks of an answer with one more word; a complete answer stays as it is."""
    steps, words = completion.shape[-2:]
    spoken = total(total(completion, -1), -1)
    here = torch.arange(steps, device=completion.device) == spoken[..., None]
    this = torch.arange(words, device=completion.device) == token[..., None]
    return completion + (here[..., None] & this[..., None, :]).to(completion.dtype)


def completion_reward(
    completion: Float[Tensor, "world agent step word"],
    token_utility: Float[Tensor, "world principal word"],
    inappropriate: Bool[Tensor, "world word"],
    penalty: float,
) -> Float[Tensor, "world agent principal"]:
    """What answers are worth to each principal; words not said yet count as silence, worth 0."""
    different = completion.amax(2)  # world agent word
    liked = total(different[:, :, None] * token_utility[:, None], -1)
    offences = total(total(completion, 2) * inappropriate[:, None].to(completion.dtype), -1)
    return (liked - penalty * offences[..., None]) / completion.shape[2]


def optimal_reward(
    token_utility: Float[Tensor, "world word"],
    inappropriate: Bool[Tensor, "world word"],
    penalty: float,
    completion_length: int,
) -> Float[Tensor, " world"]:
    """The most that an answer of `completion_length` words can be worth.

    Worth depends on the set S of words said and on what is repeated. If S has an appropriate word,
    all repeats can be of that word, and cost nothing: L R is the sum over S of
    `w_v = liking_v - penalty [v inappropriate]`. To exchange an appropriate word of S for the
    best appropriate one does no harm, so S is best if it has that one and, of all others, the
    `length - 1` of highest w as far as they are above 0. If S has inappropriate words only, every
    step costs the penalty, whatever is said: S is best if it has the best liked of them and, of
    the others, the `length - 1` best liked as far as they are above 0. The better of the two cases
    is the optimum.
    """
    nothing = -torch.inf
    cost = penalty * inappropriate.to(token_utility.dtype)
    clean = _best_with_required(
        token_utility - cost, ~inappropriate, torch.ones_like(inappropriate), completion_length
    )
    foul = _best_with_required(token_utility, inappropriate, inappropriate, completion_length)
    clean = torch.where((~inappropriate).any(-1), clean, nothing)
    foul = torch.where(inappropriate.any(-1), foul - penalty * completion_length, nothing)
    return torch.maximum(clean, foul) / completion_length


def _best_with_required(
    value: Float[Tensor, "world word"],
    required: Bool[Tensor, "world word"],
    allowed: Bool[Tensor, "world word"],
    completion_length: int,
) -> Float[Tensor, " world"]:
    """The best of the words `required`, and the best others that are above 0, `completion_length` in all."""
    words = value.shape[-1]
    best = torch.where(required, value, -torch.inf).argmax(-1, keepdim=True)
    others = allowed & (torch.arange(words, device=value.device) != best)
    gains = torch.where(others, value, 0.0).clamp(min=0.0)
    gains = gains.sort(-1, descending=True).values[:, : completion_length - 1]
    return value.gather(-1, best)[:, 0] + total(gains, -1)


def distinct_1(completion: Float[Tensor, "world agent step word"]) -> Float[Tensor, " world"]:
    """Different words by words said within an answer, mean over the answers; 1 before any."""
    said = total(completion, 2)
    different, all_of_them = total(said.clamp(max=1.0), -1), total(said, -1)
    return mean(torch.where(all_of_them > 0, different / all_of_them.clamp(min=1.0), 1.0), 1)


def pairwise_diversity(
    completion: Float[Tensor, "world agent step word"],
) -> Float[Tensor, " world"]:
    """Probability that two of the answers differ at a step said by all; 1 before any."""
    by_word = total(completion, 1)  # world step word: answers that have it there
    seats = completion.shape[1]
    alike = total(total(by_word * (by_word - 1.0), -1), -1) / (seats * (seats - 1))
    steps = total(completion[:, 0].amax(-1), -1)
    return 1.0 - alike / steps.clamp(min=1.0)


def detection_metrics(
    flags: Bool[Tensor, "world agent step"], inappropriate: Float[Tensor, "world agent step"]
) -> dict[str, Float[Tensor, " world"]]:
    """How well flags meet words that are wrong, over all answers of a world.

    Nothing flagged is nothing flagged in error, and nothing wrong is nothing missed: both count
    as 1, so that there is always a number. Read precision and recall together.
    """
    raised = flags.to(inappropriate.dtype)
    flagged, there, hits = (
        total(x.flatten(1), 1) for x in (raised, inappropriate, raised * inappropriate)
    )
    return {
        "flagged": flagged / raised[0].numel(),
        "detection_precision": torch.where(flagged > 0, hits / flagged.clamp(min=1.0), 1.0),
        "detection_recall": torch.where(there > 0, hits / there.clamp(min=1.0), 1.0),
    }
