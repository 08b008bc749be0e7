"""Exact optima of the welfare game: the best act and length of an answer at a cue.

The assistant maximizes the expected welfare of a conversation, `sum_t P(t | cue) W(U_t, L_t)`, over
acts and lengths; if outcomes are drawn, E[W(U, L)] takes the place of W. Lengths are searched on a
grid, then twice on a finer grid around the best point, so that several local optima are found if
they are apart by more than a step of the first grid.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.welfare import Welfare
from mores.envs.strategic.welfare_task import NUM_ACTS, Costs, WelfareTask, type_and_act

COARSE_LENGTHS, FINE_LENGTHS = 61, 21  # points of the grids; the last step is 1/6000 of the range


class ActValues(NamedTuple):
    """Largest expected welfare of each act, and the length of the answer at which it is reached."""

    value: Float[Tensor, "*shape act"]
    words: Float[Tensor, "*shape act"]


class LengthChoice(NamedTuple):
    """Lengths that the assistant can choose, hundred words; both equal: no choice."""

    shortest: float
    longest: float


def posterior(
    vague_share: Float[Tensor, "*shape"], cue_accuracy: float
) -> Float[Tensor, "*shape cue"]:
    """Probability of a vague request given a definite and a vague cue.

    Args:
        vague_share: prior probability of a vague request.
        cue_accuracy: probability that the cue is right. A cue of probability 0 has no posterior;
            there the prior is returned.
    """
    prior = vague_share[..., None]
    wrong_first = vague_share.new_tensor([1.0 - cue_accuracy, cue_accuracy])  # P(cue | vague)
    vague = prior * wrong_first
    either = vague + (1.0 - prior) * (1.0 - wrong_first)
    return torch.where(either > 0, vague / either.clamp(min=1e-30), prior)


def expected_welfare(
    task: WelfareTask,
    welfare: Welfare,
    probability_vague: Float[Tensor, "*shape"],
    words: Float[Tensor, "*#shape length act"],
    costs: Costs,
    drawn_outcomes: bool = False,
) -> Float[Tensor, "*shape length act"]:
    """Expected welfare of each act at each length, given the probability of a vague request."""
    vague, act = type_and_act(probability_vague)
    value = task.expected_value(
        welfare.value, vague, act, words[..., None, :], costs.expand_right(3), drawn_outcomes
    )  # *shape length type act
    weight = probability_vague[..., None, None]
    return (1.0 - weight) * value[..., 0, :] + weight * value[..., 1, :]


def act_values(
    task: WelfareTask,
    welfare: Welfare,
    probability_vague: Float[Tensor, "*shape"],
    costs: Costs,
    lengths: LengthChoice,
    drawn_outcomes: bool = False,
) -> ActValues:
    """Value and optimal length of each act.

    Args:
        probability_vague: given all that the assistant observes.
        costs: of the people, in shapes that broadcast with it.
        drawn_outcomes: whether welfare is that of answers that are right or wrong.
    """
    shape = torch.broadcast_shapes(probability_vague.shape, *(x.shape for x in costs))
    probability_vague = probability_vague.expand(shape)

    def best_of(words: Tensor) -> ActValues:
        value = expected_welfare(task, welfare, probability_vague, words, costs, drawn_outcomes)
        best = value.max(-2, keepdim=True)
        return ActValues(best.values, words.expand(value.shape).gather(-2, best.indices))

    low, high = lengths
    num_lengths = 1 if low == high else COARSE_LENGTHS
    step = torch.linspace(0.0, 1.0, num_lengths, device=probability_vague.device)
    best = best_of((low + (high - low) * step)[:, None].expand(-1, NUM_ACTS))
    fine = torch.linspace(-1.0, 1.0, FINE_LENGTHS, device=probability_vague.device)[:, None]
    width = (high - low) / (COARSE_LENGTHS - 1)
    for _ in range(0 if low == high else 2):
        best = best_of((best.words + width * fine).clamp(low, high))
        width = 2 * width / (FINE_LENGTHS - 1)
    return ActValues(best.value[..., 0, :], best.words[..., 0, :])


def best_act(
    values: Float[Tensor, "*shape act"], can_ask: bool
) -> tuple[Float[Tensor, "*shape"], Tensor]:
    """Value and index of the best act; without `can_ask` answers have no follow-up question."""
    options = values if can_ask else values[..., : NUM_ACTS - 1]
    best = options.max(-1)
    return best.values, best.indices
