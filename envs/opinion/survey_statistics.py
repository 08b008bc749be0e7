"""Statistics of a survey: shares of variance, distances of distributions, distances of people.

Decomposition of a balanced design with one value in each cell of the factors A, B, ... : for a set
S of factors, the effect of S is

    e_S = prod_{i in S} (1 - M_i)  prod_{i not in S} M_i  y,    M_i: mean over factor i,

and SS_S the sum of its squares over all cells. The sums of squares of all sets add up to the total
(analysis of variance, fixed effects; Fisher 1925). Shares are SS_S over the total; they describe
these cells, and estimate no population of factors.

W1 between two distributions on scores s_1 <= s_2 <= ... is sum_k |F_k - G_k| (s_{k+1} - s_k), over
its largest value, s_K - s_1 (representativeness of Santurkar et al. 2023, arXiv 2303.17548). For
unordered options it is the total variation distance.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from mores.core.deterministic_sum import mean, total


def sums_of_squares(
    y: Float[Tensor, "world *factor"], factors: Sequence[str]
) -> dict[tuple[str, ...], Float[Tensor, " world"]]:
    """Sum of squares of every set of factors, `[world]`, by the factors' names in order."""
    found = {}
    for size in range(1, len(factors) + 1):
        for chosen in itertools.combinations(range(len(factors)), size):
            effect = y
            for index in range(len(factors)):
                average = mean(effect, index + 1).unsqueeze(index + 1)
                effect = effect - average if index in chosen else average
            squares = (effect * effect).flatten(1)
            replication = y[0].numel() / squares.shape[1]
            name = tuple(factors[index] for index in chosen)
            found[name] = total(squares, 1) * replication
    return found


def wasserstein(
    p: Float[Tensor, "*shape option"],
    q: Float[Tensor, "*shape option"],
    scores: Float[Tensor, "question option"],
    ordered: Bool[Tensor, " question"],
) -> Float[Tensor, "*shape"]:
    """W1 over its largest value; for unordered options the total variation. From 0 to 1."""
    below = (p - q).cumsum(-1)[..., :-1].abs()
    steps = scores.diff(dim=-1)
    extent = (scores[..., -1] - scores[..., 0]).clamp(min=1e-12)
    moved = total(below * steps, -1) / extent
    return torch.where(ordered, moved, total((p - q).abs(), -1) / 2)


def jensen_shannon(
    p: Float[Tensor, "*shape option"], q: Float[Tensor, "*shape option"]
) -> Float[Tensor, "*shape"]:
    """Jensen-Shannon divergence in bits, from 0 to 1."""
    middle = (p + q) / 2
    parts = [torch.where(x > 0, x * (x / middle).log2(), 0.0) for x in (p, q)]
    return total(parts[0] + parts[1], -1) / 2


def mean_pairwise_distance(x: Float[Tensor, "world person question"]) -> Float[Tensor, " world"]:
    """Mean Euclidean distance over pairs of people; NaN for one person.

    With a missing answer (NaN) of either person, the squared distance over the questions that both
    answered is scaled up to all; pairs without any are left out.
    """
    first, second = np.triu_indices(x.shape[1], 1)
    squares = (x[:, first] - x[:, second]).square()
    both = ~squares.isnan()
    count = both.sum(-1)
    distance = (total(squares.nan_to_num(), -1) * x.shape[2] / count.clamp(min=1)).sqrt()
    return total(torch.where(count > 0, distance, 0.0), 1) / (count > 0).sum(1)


def distances_between_groups(
    scores: Float[np.ndarray, "respondent question"],
    group: Int[np.ndarray, " respondent"],
    num_groups: int,
) -> Float[np.ndarray, "group group"]:
    """Mean distance between a respondent of a group and another of a group; see above for NaN."""
    answered = ~np.isnan(scores)
    filled = np.nan_to_num(scores)
    sums, counts = np.zeros((num_groups, num_groups)), np.zeros((num_groups, num_groups))
    for person in range(len(scores)):
        both = answered & answered[person]
        number = both.sum(1)
        squares = ((filled - filled[person]) ** 2 * both).sum(1)
        distance = np.sqrt(squares * scores.shape[1] / np.maximum(number, 1))
        used = number > 0
        used[person] = False
        np.add.at(sums[group[person]], group[used], distance[used])
        np.add.at(counts[group[person]], group[used], 1)
    with np.errstate(invalid="ignore"):
        return sums / counts


def group_mean(
    y: Float[Tensor, "world person *shape"], members: Bool[Tensor, "world person"]
) -> Float[Tensor, "world *shape"]:
    """Mean over the members of a group; NaN where it has none."""
    shaped = members.reshape(*members.shape, *[1] * (y.dim() - 2))
    count = members.sum(1).reshape(-1, *[1] * (y.dim() - 2))
    return total(torch.where(shaped, y, 0.0), 1) / count


def correlation(
    x: Float[Tensor, "world sample"], y: Float[Tensor, "world sample"]
) -> Float[Tensor, " world"]:
    """Correlation of centered samples; NaN if either does not vary beyond rounding."""
    covariance, first, second = total(x * y, 1), total(x * x, 1), total(y * y, 1)
    varies = (first > 1e-12) & (second > 1e-12)
    return torch.where(varies, covariance / (first * second).sqrt(), torch.nan)


def share_metrics(
    squares: Mapping[tuple[str, ...], Float[Tensor, " world"]],
    residual: Float[Tensor, " world"] | None = None,
) -> dict[str, Float[Tensor, " world"]]:
    """Shares of variance by name: `persona_share`, `persona_order_share`, ...

    Sets of three factors or more are one share, `higher_share`; `NAME_total_share` has all sets
    with the factor. NaN if nothing varies.
    """
    everything = sum(squares.values(), torch.zeros(()))
    everything = everything if residual is None else everything + residual
    names = list(dict.fromkeys(name for key in squares for name in key))

    def share(chosen: list[tuple[str, ...]]) -> Tensor:
        part = sum((squares[key] for key in chosen), torch.zeros(()))
        return torch.where(everything > 1e-12, part / everything, torch.nan)

    shares = {"_".join(key) + "_share": share([key]) for key in squares if len(key) <= 2}
    shares["higher_share"] = share([key for key in squares if len(key) > 2])
    for name in names:
        shares[f"{name}_total_share"] = share([key for key in squares if name in key])
    if residual is not None:
        shares["rerun_share"] = torch.where(everything > 1e-12, residual / everything, torch.nan)
    return shares


def std_between(x: Float[Tensor, "world person question"]) -> Float[Tensor, " world"]:
    """Root of the mean over questions of the variance between persons; NaN for one person."""
    centered = x - mean(x, 1).unsqueeze(1)
    return mean(total(centered.square(), 1) / (x.shape[1] - 1), 1).sqrt()


def option_shares(
    scores: Float[Tensor, "world person question"],
    options: Float[Tensor, "question option"],
    used: Bool[Tensor, "world person question"],
) -> Float[Tensor, "world question option"]:
    """Share of each option among the answers of some people, which are given by their scores."""
    distance = (scores[..., None] - options.to(scores.dtype)).abs()
    chosen = torch.nn.functional.one_hot(distance.argmin(-1), options.shape[-1])  # the first one
    counted = torch.where(used[..., None], chosen.to(scores.dtype), 0.0)
    return total(counted, 1) / used.sum(1)[..., None]
