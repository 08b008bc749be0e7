"""Exact values of policies in the welfare game: no sampling noise of requests, cues and acts.

The assistant is asked for its act at both cues and for its length after each act, users for their
choice at `NUM_COSTS` costs of writing (the midpoints of equal intervals). With a share v of vague
requests and cue accuracy a, expectations are sums over requests t, cues c and acts x,

    E f = sum_t P(t) sum_c P(c | t) sum_x pi(x | c) f(t, x, n(c, x)).

With `drawn_outcomes`, f of the welfare is itself an expectation over right and wrong answers.
The length is the mean action: what remains of a learned policy without its exploration. Costs of
people are those of the current episode; metrics of the grid are those of fixed prices and costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from mores.core.deterministic_sum import mean, total
from mores.core.environment import PolicyQuery
from mores.envs.strategic.payoff_matrices import asymmetry_score
from mores.envs.strategic.welfare_functions import CobbDouglas
from mores.envs.strategic.welfare_optimum import COARSE_LENGTHS, act_values, best_act, posterior
from mores.envs.strategic.welfare_parameters import NUM_CELLS, WelfareParameters, WelfareState
from mores.envs.strategic.welfare_task import (
    ACTS,
    ANSWER_AND_ASK,
    DIRECT,
    NUM_ACTS,
    Costs,
    type_and_act,
)

NUM_COSTS = 64
ELEMENTS_PER_USER = 8 * COARSE_LENGTHS * 2 * 2 * NUM_ACTS
REQUESTS = ("definite", "vague")
SHARES = tuple(f"exact_{act}_share_{request}" for request in REQUESTS for act in ACTS)
NAMES = (
    "exact_user_utility",
    "exact_assistant_utility",
    "exact_welfare",
    "exact_cobb_douglas",
    "exact_worse_utility",
    "exact_user_net_utility",
    "exact_accuracy",
    "exact_words",
    "exact_vague_share",
    *SHARES,
    "exact_question_gap",
    "exact_regret",
    "exact_user_regret",
    "exact_optimal_decision_share",
    "exact_words_by_price",
    "exact_price_rank_correlation",
)
ESTIMATES = ("exact_estimate_error", "exact_asymmetry_score")


def metric_names(estimates_payoffs: bool) -> tuple[str, ...]:
    """Names of the exact metrics."""
    return (*NAMES, *ESTIMATES) if estimates_payoffs else NAMES


def metric_bounds() -> dict[str, tuple[float, float]]:
    """Ranges of the metrics that have one."""
    shares = ("exact_accuracy", "exact_vague_share", *SHARES, "exact_optimal_decision_share")
    signed = ("exact_question_gap", "exact_price_rank_correlation")
    return dict.fromkeys(shares, (0.0, 1.0)) | dict.fromkeys(signed, (-1.0, 1.0))


class Assistants(NamedTuple):
    """Probabilities of acts, and lengths after each, hundred words."""

    probability: Float[Tensor, "*shape act"]
    words: Float[Tensor, "*shape act"]


def queries(game: WelfareParameters, state: WelfareState) -> dict[str, PolicyQuery]:
    """Observations on which both policies are evaluated."""
    costs = game.costs(state)
    writing = _writing_costs(game, state.cue)
    own = torch.stack([costs.delay, costs.reading], -1)[:, :, None].expand(-1, -1, NUM_COSTS, -1)
    user = torch.cat([writing.expand(*own.shape[:-1], 1), own], -1)
    people = torch.stack(list(costs), -1)[:, :, None]  # world agent 1 cost
    cues = torch.tensor([0.0, 1.0], device=state.cue.device)[:, None]
    both = _join(cues, people.expand(-1, -1, 2, -1))
    grid = _grid(game, state.cue)
    points = _join(grid[:, :1], grid[:, 1:])[None, None]
    return {
        "write": PolicyQuery("user", "write", user),
        **_assistant_queries(game, "people", both, state.cue.shape),
        **_assistant_queries(game, "grid", points, state.cue.shape),
    }


def metrics(
    game: WelfareParameters, state: WelfareState, answers: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Exact metrics of each world, means over users.

    exact_user_utility, exact_assistant_utility, exact_welfare, exact_worse_utility,
    exact_user_net_utility, exact_accuracy, exact_words, exact_vague_share: expectations of the
    metrics without `exact`.  exact_cobb_douglas: of sqrt(U L), for any welfare function.
    exact_ACT_share_REQUEST: probability of an act given the form of the request.
    exact_question_gap: probability of a question of either kind given a vague request, minus that
    given a definite one.  exact_regret: expected welfare of the optimal assistant against these
    users, minus that of this one.  exact_user_regret: what users gain by the best response to this
    assistant.  Both are 0 in an equilibrium.
    On the grid of prices and costs of a turn, for the mean share of vague requests:
    exact_optimal_decision_share: share of points and cues at which the likeliest act is the
    optimal one.  exact_words_by_price: expected words at each price, mean over costs.
    exact_price_rank_correlation: Spearman's rank correlation of price and these words.
    exact_estimate_error, exact_asymmetry_score: of the mean payoff estimates, over cues and acts.
    """
    costs = game.costs(state)
    users = _user_values(game, state, answers["write"][..., 1])
    assistants = _assistants(game, answers, "people", (2,))
    accuracy = game.cue_accuracy
    likelihood = state.cue.new_tensor([[accuracy, 1 - accuracy], [1 - accuracy, accuracy]])
    by_type = torch.stack([1.0 - users.vague_share, users.vague_share], -1)  # world agent type
    joint = by_type[..., None] * likelihood  # world agent type cue
    act_share = total(likelihood[..., None] * assistants.probability[:, :, None], 3)
    vague, act = type_and_act(state.cue)  # [type, 1], [act]
    words = assistants.words[:, :, None]  # world agent 1 cue act
    cells = game.task.outcome(vague[..., None], act, words, costs.expand_right(3))
    weight = joint[..., None] * assistants.probability[:, :, None]  # world agent type cue act

    def expected(x: Tensor) -> Tensor:
        return mean(total((weight * x).flatten(2), 2), 1)

    def expected_value(value: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Of a function of both utilities."""
        arguments = (vague[..., None], act, words, costs.expand_right(3))
        return expected(game.task.expected_value(value, *arguments, game.drawn_outcomes))

    probability_vague = posterior(users.vague_share, accuracy)
    cue_costs = costs.expand_right(1)
    values = act_values(
        game.task, game.welfare, probability_vague, cue_costs, game.lengths, game.drawn_outcomes
    )
    optimum, _ = best_act(values.value, game.can_ask)
    optimal_welfare = mean(total(total(joint, 2) * optimum, 2), 1)
    welfare = expected_value(game.welfare.value)
    in_type = assistants.probability[:, :, None] * likelihood[..., None]  # given the type
    utility = total((in_type * cells.user).flatten(3), 3)  # world agent type
    net = _net_utility(game, users, utility)
    questions = 1.0 - act_share[..., DIRECT]
    result = {
        "exact_user_utility": expected(cells.user),
        "exact_assistant_utility": expected(cells.assistant),
        "exact_welfare": welfare,
        "exact_cobb_douglas": expected_value(CobbDouglas().value),
        "exact_worse_utility": expected_value(torch.minimum),
        "exact_user_net_utility": mean(net.achieved, 1),
        "exact_accuracy": expected(cells.accuracy),
        "exact_words": expected(cells.words),
        "exact_vague_share": mean(users.vague_share, 1),
        **dict(zip(SHARES, mean(act_share, 1).flatten(1).unbind(1), strict=True)),
        "exact_question_gap": mean(questions[..., 1] - questions[..., 0], 1),
        "exact_regret": optimal_welfare - welfare,
        "exact_user_regret": mean(net.best - net.achieved, 1),
    }
    result |= _grid_metrics(game, mean(users.vague_share, 1), answers)
    if game.estimates_payoffs:
        estimates = answers["people compose"][..., -NUM_CELLS:].clamp(-2.0, 2.0)
        truth = game.task.payoff_matrix(game.answer_words, costs.expand_right(1))
        error = estimates - truth
        result["exact_estimate_error"] = mean(mean((error * error).flatten(2), 2), 1).sqrt()
        result["exact_asymmetry_score"] = mean(mean(asymmetry_score(estimates), 2), 1)
    return result


class _Users(NamedTuple):
    vague_share: Float[Tensor, "world agent"]
    definite: Float[Tensor, "world agent cost"]  # probability of writing definitely
    costs: Float[Tensor, " cost"]


class _NetUtility(NamedTuple):
    achieved: Float[Tensor, "world agent"]
    best: Float[Tensor, "world agent"]


def _user_values(game: WelfareParameters, state: WelfareState, definite: Tensor) -> _Users:
    costs = _writing_costs(game, state.cue)[:, 0]
    return _Users(1.0 - mean(definite, 2), definite, costs)


def _net_utility(game: WelfareParameters, users: _Users, utility: Tensor) -> _NetUtility:
    """Utility minus the cost of writing: of these users, and of the best response."""
    gain = (utility[..., 0] - utility[..., 1])[..., None] - users.costs  # of writing definitely
    achieved = utility[..., 1] + mean(users.definite * gain, 2)
    return _NetUtility(achieved, utility[..., 1] + mean(gain.clamp(min=0.0), 2))


def _grid_metrics(
    game: WelfareParameters, vague_share: Tensor, answers: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Metrics on the grid; agents share a model, or the first one stands for all."""
    prices, delays = len(game.grid_prices), len(game.grid_delay_costs)
    first = {n: x[:, :1] for n, x in answers.items() if n.startswith("grid")}
    shape = (prices, delays, 2)
    assistants = _assistants(game, first, "grid", shape)
    probability, words = (x[:, 0] for x in assistants)  # world price delay cue act
    grid = _grid(game, vague_share).unflatten(0, shape)
    costs = Costs(*grid[..., 1:].unbind(-1))
    by_cue = posterior(vague_share, game.cue_accuracy)[:, None, None]  # world 1 1 cue
    values = act_values(
        game.task, game.welfare, by_cue, costs, game.lengths, game.drawn_outcomes
    ).value
    _, best = best_act(values, game.can_ask)
    is_best = (probability.argmax(-1) == best).to(probability.dtype)
    vague, act = type_and_act(vague_share)
    cells = game.task.outcome(vague, act, words[..., None, :], costs.expand_right(2))
    by_type = torch.stack([1.0 - by_cue, by_cue], -1)[..., None]  # world 1 1 cue type 1
    weight = by_type * probability[..., None, :]
    at_cue = total((weight * cells.words).flatten(4), 4)  # world price delay cue
    accuracy = game.cue_accuracy
    looks_vague = vague_share * accuracy + (1.0 - vague_share) * (1.0 - accuracy)
    cue_share = torch.stack([1.0 - looks_vague, looks_vague], -1)[:, None, None]
    by_price = mean(total(cue_share * at_cue, 3), 2)  # world price
    return {
        "exact_optimal_decision_share": mean(is_best.flatten(1), 1),
        "exact_words_by_price": by_price,
        "exact_price_rank_correlation": rank_correlation_with_order(by_price),
    }


def rank_correlation_with_order(x: Float[Tensor, "*shape number"]) -> Float[Tensor, "*shape"]:
    """Spearman's rank correlation of a sequence with 0, 1, 2, ...; 0 if all are equal."""
    difference = x[..., :, None] - x[..., None, :]
    rank = total(torch.sign(difference), -1)  # twice the rank, less the mean
    size = x.shape[-1]
    order = 2.0 * torch.arange(size, dtype=x.dtype, device=x.device) - (size - 1)
    spread = (total(rank * rank, -1) * (order * order).sum()).sqrt()
    return torch.where(spread > 0, total(rank * order, -1) / spread.clamp(min=1e-30), 0.0)


def _assistants(
    game: WelfareParameters, answers: Mapping[str, Tensor], name: str, shape: tuple[int, ...]
) -> Assistants:
    """What the assistant does at points of a shape, `[world, agent, *shape, act]`."""
    probability = answers[name].unflatten(2, shape)
    if not game.choose_length:
        return Assistants(probability, torch.full_like(probability, game.answer_words))
    words = answers[f"{name} compose"][..., 0].clamp(0.0, game.max_words)
    return Assistants(probability, words.unflatten(2, (*shape, NUM_ACTS)))


def _assistant_queries(
    game: WelfareParameters, name: str, points: Tensor, shape: tuple[int, ...]
) -> dict[str, PolicyQuery]:
    """Queries for acts and lengths at points `[world, agent, point, size]` before any act.

    Points with one world and agent are those of all, in `shape`, and stay expanded views.
    """
    mask = None
    if not game.can_ask:
        acts = torch.arange(NUM_ACTS, device=points.device) != ANSWER_AND_ASK
        mask = acts.expand(*shape, points.shape[2], -1)
    found = {name: PolicyQuery("assistant", "respond", points.expand(*shape, -1, -1), mask)}
    if game.composes:
        one_hot = torch.eye(NUM_ACTS, device=points.device)
        leading = (*points.shape[:-1], NUM_ACTS)
        before = points[..., None, :].expand(*leading, -1)
        after = torch.cat([before, one_hot.expand(*leading, -1)], -1).flatten(2, 3)
        after = after.expand(*shape, -1, -1)
        found[f"{name} compose"] = PolicyQuery("composer", "compose", after)
    return found


def _join(cue: Tensor, costs: Tensor) -> Tensor:
    """Observations of an assistant before it acts."""
    return torch.cat([cue.expand(*costs.shape[:-1], -1), costs], -1)


def _writing_costs(game: WelfareParameters, like: Tensor) -> Float[Tensor, "cost 1"]:
    """Midpoints of equal intervals of the costs of writing definitely."""
    steps = torch.arange(NUM_COSTS, dtype=like.dtype, device=like.device)
    return ((steps + 0.5) * (game.max_writing_cost / NUM_COSTS))[:, None]


def _grid(game: WelfareParameters, like: Tensor) -> Float[Tensor, "point 4"]:
    """Cue, cost of a turn, cost of reading and price of all points: price, then turn, then cue."""
    prices = like.new_tensor(game.grid_prices)
    delays = like.new_tensor(game.grid_delay_costs)
    cues = like.new_tensor([0.0, 1.0])
    price, delay, cue = torch.meshgrid(prices, delays, cues, indexing="ij")
    reading = torch.full_like(cue, game.grid_reading_cost)
    return torch.stack([cue, delay, reading, price], -1).flatten(0, 2)
