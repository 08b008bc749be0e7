"""Closed forms of the welfare game against scipy, grids and enumeration."""

from __future__ import annotations

import itertools

import nashpy
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import minimize_scalar

from mores.envs.strategic import answer_length, payoff_matrices
from mores.envs.strategic import welfare_values as values
from mores.envs.strategic.bimatrix_games import Bimatrix
from mores.envs.strategic.welfare_task import ACTS, Costs, LengthWindow, WelfareTask, type_and_act
from mores.envs.strategic.welfare_values import Request

REQUEST = Request()
USER_WINDOW = LengthWindow(low=0.2, high=5.0)
ASSISTANT_WINDOW = LengthWindow(low=5.0, high=10.0)


def utilities(request: Request) -> np.ndarray:
    """Utility of the user, `[request, act]`, by enumeration of what can happen."""
    p, low = request.accuracy_definite, request.accuracy_vague
    delay, cost = request.delay_cost, request.followup_cost
    rescued = low * 1.0 + (1 - low) * (p * (1 - delay) + (1 - p) * (0 - delay))
    return np.array([[p, p - delay, p - cost], [low, p - delay, rescued - cost]])


def test_payoffs_of_the_task_are_those_of_the_table():
    task = WelfareTask(words_scale=None)
    costs = Costs(*(torch.tensor(x, dtype=torch.float64) for x in (0.15, 0.0, 0.0)))
    vague, act = type_and_act(costs.price)
    user = task.outcome(vague, act, torch.tensor(2.0, dtype=torch.float64), costs).user
    assert user.numpy() == pytest.approx(utilities(REQUEST), abs=1e-12)


def test_thresholds_of_the_assistant():
    """Against the belief at which the best act changes on a grid."""
    assert values.clarify_threshold(REQUEST) == pytest.approx(0.3)
    assert values.ask_threshold(REQUEST) == pytest.approx(0.066667, abs=5e-7)
    assert values.ask_clarify_threshold(REQUEST) == pytest.approx(2.4)
    beliefs = np.linspace(0, 1, 100_001)
    table = utilities(REQUEST)
    by_act = (1 - beliefs)[:, None] * table[0] + beliefs[:, None] * table[1]
    clarifies = beliefs[(by_act[:, 1] > by_act[:, 0]).argmax()]
    asks = beliefs[(by_act[:, 2] > by_act[:, 0]).argmax()]
    assert clarifies == pytest.approx(values.clarify_threshold(REQUEST), abs=2e-5)
    assert asks == pytest.approx(values.ask_threshold(REQUEST), abs=2e-5)
    assert (by_act[:, 2] > by_act[:, 1]).all()  # a threshold above 1


@pytest.mark.parametrize(
    ("accuracy", "threshold"), [(1.0, 0.15), (0.9, 0.17), (0.7, 0.21), (0.5, 0.25)]
)
def test_thresholds_of_users(accuracy, threshold):
    assert values.cue_writing_threshold(REQUEST, accuracy) == pytest.approx(threshold)
    table, a = utilities(REQUEST), accuracy
    definite = a * table[0, 0] + (1 - a) * table[0, 1]
    vague = a * table[1, 1] + (1 - a) * table[1, 0]
    assert definite - vague == pytest.approx(threshold)


def test_help_makes_users_vague():
    assert values.direct_writing_threshold(REQUEST) == pytest.approx(0.5)
    assert values.ask_writing_threshold(REQUEST) == pytest.approx(0.05)
    task = WelfareTask(words_scale=None)
    shares = {
        acts: values.best_response_vague_share(task, acts, 2.0, (0.15, 0.0), 0.9, 0.8)
        for acts in itertools.product(ACTS, ACTS)
    }
    assert shares["direct", "direct"] == pytest.approx(0.375)
    assert shares["direct", "clarify"] == pytest.approx(0.7875)
    assert shares["answer_and_ask", "answer_and_ask"] == pytest.approx(0.9375)
    assert shares["clarify", "clarify"] == 1.0


def net_utility(definite: float, vague: float, largest: float) -> float:
    """Expectation over the cost of writing, by integration."""
    gain, _ = quad(lambda cost: max(definite - vague - cost, 0.0), 0, largest, points=[0.1, 0.2])
    return vague + gain / largest


def test_welfare_of_users_in_equilibrium():
    assert values.clarify_net_utility(REQUEST) == pytest.approx(0.75)
    assert values.cue_net_utility(REQUEST, 0.95) == pytest.approx(0.74850, abs=5e-6)
    assert values.cue_net_utility(REQUEST, 0.9) == pytest.approx(0.73306, abs=5e-6)
    assert values.direct_net_utility(REQUEST) == pytest.approx(0.55625)
    assert values.user_net_utility(0.9, 0.7, 0.8) == pytest.approx(net_utility(0.9, 0.7, 0.8))
    assert values.direct_net_utility(REQUEST) == pytest.approx(net_utility(0.9, 0.4, 0.8))
    assert values.user_net_utility(0.5, 0.6, 0.8) == 0.6


def test_smallest_accuracy_at_which_the_cue_is_followed():
    accuracy = values.cue_equilibrium_accuracy(REQUEST)
    assert accuracy == pytest.approx(0.895751, abs=5e-7)
    grid = np.linspace(0.5, 1, 50_001)
    limit = values.clarify_threshold(REQUEST)
    follows = np.array([values.vague_at_definite_cue(REQUEST, a) <= limit for a in grid])
    assert grid[follows.argmax()] == pytest.approx(accuracy, abs=1e-5)
    assert follows[follows.argmax() :].all()


def test_prices_at_which_an_act_switches():
    cases = [
        (0.6, "answer_and_ask", "clarify", 0.08824),
        (0.6, "clarify", "direct", 0.5),
        (0.3, "answer_and_ask", "direct", 0.10938),
    ]
    task = WelfareTask(words_scale=None)
    vague, act = type_and_act(torch.zeros((), dtype=torch.float64))
    for belief, costly, cheap, expected in cases:
        price = values.switch_price(REQUEST, belief, costly, cheap)
        assert price == pytest.approx(expected, abs=6e-6)
        costs = Costs(*(torch.tensor(x, dtype=torch.float64) for x in (0.15, 0.0, price)))
        cells = task.outcome(vague, act, torch.tensor(2.0, dtype=torch.float64), costs)
        net = cells.user - price * cells.words  # request act
        at_belief = (1 - belief) * net[0] + belief * net[1]
        both = at_belief[[ACTS.index(costly), ACTS.index(cheap)]]
        assert both[0].item() == pytest.approx(both[1].item(), abs=1e-12)


def numeric_length(objective) -> float:
    grid = np.linspace(0, 600, 6001)
    start = grid[np.argmax([objective(n) for n in grid])]
    bounds = (max(start - 1, 0), start + 1)
    found = minimize_scalar(
        lambda n: -objective(n), bounds=bounds, method="bounded", options={"xatol": 1e-10}
    )
    return float(found.x)


def test_lengths_of_saturating_answers():
    assert answer_length.optimal_length(100.0, 0.002) == pytest.approx(160.9438, abs=5e-5)
    assert answer_length.optimal_length(100.0, 0.005) == pytest.approx(69.3147, abs=5e-5)
    assert answer_length.optimal_length(100.0, 0.02) == 0
    reading, price = 0.0005, 0.004

    def both(n: float) -> tuple[float, float]:
        return answer_length.length_utilities(n, 100.0, reading, price)

    lengths = {
        "user": answer_length.optimal_length(100.0, reading),
        "linear": answer_length.linear_length(100.0, reading, price),
        "cobb_douglas": answer_length.cobb_douglas_length(100.0, reading, price),
        "assistant": answer_length.optimal_length(100.0, price),
    }
    printed = {"user": 299.57, "linear": 149.17, "cobb_douglas": 117.37, "assistant": 91.63}
    assert lengths == pytest.approx(printed, abs=6e-3)
    objectives = {
        "user": lambda n: both(n)[0],
        "linear": lambda n: sum(both(n)),
        "cobb_douglas": lambda n: np.sqrt(max(both(n)[0], 0) * max(both(n)[1], 0)),
        "assistant": lambda n: both(n)[1],
    }
    for name, objective in objectives.items():
        assert lengths[name] == pytest.approx(numeric_length(objective), abs=1e-3), name
    assert min(both(lengths["cobb_douglas"])) == pytest.approx(0.2213, abs=5e-5)
    assert min(both(lengths["linear"])) == pytest.approx(0.1783, abs=5e-5)


def test_length_windows():
    """Numbers in words are those in hundreds times 100, prices per word those divided by 100."""
    for window, middle, peak, zero in [
        (USER_WINDOW, 2.60, 0.590630, 0.438987),
        (ASSISTANT_WINDOW, 7.50, 0.604195, 0.075350),
    ]:
        half = (window.low + window.high) / 2
        assert half == pytest.approx(middle)
        assert answer_length.window_value(window, half) / 0.2 == pytest.approx(peak, abs=5e-7)
        at_zero = answer_length.window_value(window, 0.0) / 0.2
        assert at_zero == pytest.approx(zero, abs=5e-7)
        lengths = torch.linspace(0, 12, 50, dtype=torch.float64)
        expected = [answer_length.window_value(window, float(n)) for n in lengths]
        assert window.value(lengths).numpy() == pytest.approx(np.array(expected), abs=1e-12)
        slope = [answer_length.window_slope(window, float(n)) for n in lengths]
        step = 1e-5
        above, below = (
            np.array([answer_length.window_value(window, float(n) + d) for n in lengths])
            for d in (step, -step)
        )
        assert slope == pytest.approx((above - below) / (2 * step), abs=1e-8)


def test_one_window_falls_smoothly_and_the_other_jumps():
    smooth = answer_length.window_prices(USER_WINDOW)
    assert smooth.zero_from / 100 == pytest.approx(1.972e-4, abs=5e-8)
    assert smooth.jump_length == 0
    jump = answer_length.window_prices(ASSISTANT_WINDOW)
    assert jump.zero_from / 100 == pytest.approx(6.913e-5, abs=5e-9)
    assert jump.jump / 100 == pytest.approx(1.5794e-4, abs=5e-9)
    assert jump.long_until / 100 == pytest.approx(2.0793e-4, abs=5e-9)
    assert round(100 * jump.jump_length) == 577
    before = answer_length.optimal_window_length(ASSISTANT_WINDOW, jump.jump - 1e-7)
    after = answer_length.optimal_window_length(ASSISTANT_WINDOW, jump.jump + 1e-7)
    assert before == pytest.approx(jump.jump_length, abs=1e-3)
    assert after == 0
    assert answer_length.optimal_window_length(USER_WINDOW, 0.99 * smooth.zero_from) < 0.15
    assert answer_length.optimal_window_length(USER_WINDOW, 1.001 * smooth.zero_from) == 0


@settings(max_examples=20)
@given(st.floats(0.3, 5), st.floats(0.01, 0.15), st.lists(st.floats(0.05, 1.0), min_size=2))
def test_no_optimal_length_rises_with_the_price(scale, reading, prices):
    prices = sorted(prices)
    for length in (answer_length.linear_length, answer_length.cobb_douglas_length):
        by_price = [length(scale, reading, price) for price in prices]
        assert all(b <= a + 1e-9 for a, b in itertools.pairwise(by_price))


# ---- payoff matrices


def test_hypervolume():
    points = np.array([(3.0, 1.0), (2.0, 2.0), (1.0, 3.0)])
    assert payoff_matrices.hypervolume(points) == 6
    assert payoff_matrices.reference_sum(points) == 3  # what the published function returns
    dominated = np.array([(1.0, 1.0), (-1.0, 5.0)])
    assert payoff_matrices.hypervolume(np.concatenate([points, dominated])) == 6


@settings(max_examples=20)
@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=8))
def test_hypervolume_counts_unit_squares(points):
    squares = {(i, j) for a, b in points for i in range(a) for j in range(b)}
    array = np.array(points, float)
    assert payoff_matrices.hypervolume(array) == len(squares)
    dominated = [any(a >= c and b >= d and (a, b) != (c, d) for a, b in points) for c, d in points]
    assert (~payoff_matrices.pareto_set(array)).tolist() == dominated
    frontier = array[payoff_matrices.pareto_set(array)]
    assert payoff_matrices.epsilon_coverage(array, frontier, 0.0) == 1
    assert payoff_matrices.epsilon_coverage(frontier - 0.5, frontier, 0.4) == 0
    assert payoff_matrices.epsilon_coverage(frontier - 0.5, frontier, 0.5) == 1


def test_two_losses_are_no_gain():
    """{direct: (3, 3), clarify: (-2, -5)}: the product of signed utilities prefers the losses."""
    points = np.array([(3.0, 3.0), (-2.0, -5.0)])
    assert payoff_matrices.signed_product_argmax(points) == 1
    assert payoff_matrices.nash_product_argmax(points) == 0
    assert payoff_matrices.nash_product_argmax(points, (4.0, 4.0)) is None
    ties = np.array([(2.0, 2.0), (1.0, 4.0), (4.0, 1.0)])
    assert payoff_matrices.nash_product_argmax(ties) == 2  # sum 5, then the user


def test_asymmetry_is_no_accuracy():
    """A true matrix with equal utilities scores 0, any wrong one with unequal utilities 1."""
    true = torch.tensor([0.9, 0.9, 0.75, 0.75, 0.87, 0.87, 0.4, 0.4, 0.75, 0.75, 0.82, 0.82])
    wrong = torch.tensor([-2.0, 2.0]).repeat(6)
    scores = payoff_matrices.asymmetry_score(torch.stack([true, wrong]))
    assert scores.tolist() == [0.0, 1.0]
    near = true.clone()
    near[0] = 0.85  # unequal, by less than 10 %
    assert payoff_matrices.asymmetry_score(near).item() == pytest.approx(1 / 12)


def test_anarchy_of_known_games():
    dilemma = Bimatrix(((3.0, 0.0, 0.0), (5.0, 1.0, 1.5)), ((3.0, 5.0, 2.0), (0.0, 1.0, 0.5)))
    found = payoff_matrices.anarchy(dilemma)
    assert found is not None
    assert (found.optimum, found.worst, found.best, found.price) == (6.0, 2.0, 2.0, 3.0)
    assert payoff_matrices.pure_equilibria(dilemma) == [(1, 1)]


@settings(max_examples=20)
@given(st.integers(0, 2**32 - 1))
def test_anarchy_against_nashpy(seed):
    rng = np.random.default_rng(seed)
    rows, columns = rng.uniform(0.1, 1, (2, 3)), rng.uniform(0.1, 1, (2, 3))
    bimatrix = Bimatrix(tuple(map(tuple, rows.tolist())), tuple(map(tuple, columns.tolist())))
    found = payoff_matrices.anarchy(bimatrix)
    assert found is not None
    equilibria = list(nashpy.Game(rows, columns).vertex_enumeration())
    sums = [float(x @ (rows + columns) @ y) for x, y in equilibria]
    assert found.worst == pytest.approx(min(sums), abs=1e-9)
    assert found.best == pytest.approx(max(sums), abs=1e-9)
    assert found.optimum == pytest.approx((rows + columns).max())
    pure = {(x.argmax(), y.argmax()) for x, y in equilibria if min(max(x), max(y)) > 0.999}
    assert set(payoff_matrices.pure_equilibria(bimatrix)) == pure


def test_price_shift_moves_the_operator_fully():
    points = np.array([(1.0, 1.0), (2.0, 0.5)])
    shifted = payoff_matrices.price_shift(points, -0.5, (0.0, 0.5))
    assert shifted.tolist() == [[1.0, 0.5], [1.75, 0.0]]
