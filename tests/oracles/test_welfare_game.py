"""The welfare game against closed forms, enumeration and its own draws; bad input; learning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from mores.core.random_streams import RandomStreams
from mores.core.welfare import Welfare
from mores.envs.strategic import welfare_values as values
from mores.envs.strategic.answer_length import cobb_douglas_length, linear_length, optimal_length
from mores.envs.strategic.welfare_evaluation import rank_correlation_with_order
from mores.envs.strategic.welfare_functions import CobbDouglas, Linear
from mores.envs.strategic.welfare_game import WelfareGame
from mores.envs.strategic.welfare_optimum import LengthChoice, act_values, posterior
from mores.envs.strategic.welfare_task import Costs, WelfareTask
from mores.registry import REGISTRIES, make_environment, make_policy, register
from mores.sim.simulation import simulate
from tests.refusals import refused

# The game of the closed forms: fixed length, no costs of words, the assistant serves the user.
FIXED = {
    "task": {"words_scale": None},
    "choose_length": False,
    "reading_cost": 0.0,
    "price": 0.0,
    "welfare": "user_only",
}
REQUEST = values.Request()


def run(game, policies=None, metrics=(), worlds=1, rounds=1, seed=0):
    result = simulate(game, policies, worlds, rounds, seed, metrics, metric_rounds=[rounds])
    return {name: result.metrics[name].values[..., -1] for name in metrics}


@pytest.mark.parametrize(
    ("acts", "threshold", "net"),
    [
        (("direct", "direct"), 0.5, 0.55625),
        (("direct", "clarify"), 0.17, 0.73306),
        (("clarify", "clarify"), 0.0, 0.75),
        (("answer_and_ask", "answer_and_ask"), 0.05, None),
    ],
)
def test_exact_values_are_the_closed_forms_and_those_of_play(acts, threshold, net):
    assistant = {"kind": "cue_assistant", "on_definite": acts[0], "on_vague": acts[1]}
    users = {"kind": "threshold_writer", "threshold": threshold}
    game = WelfareGame(**FIXED, num_users=64, drawn_outcomes=True)
    names = ["exact_user_net_utility", "exact_user_regret", "exact_vague_share", "exact_accuracy"]
    policies = {"user": users, "assistant": assistant}
    exact = {name: float(x[0]) for name, x in run(game, policies, names).items()}
    result = simulate(game, policies, 20, 50, 3, ["return_user", "accuracy", "vague_share"]).metrics
    vague = 1 - threshold / 0.8
    assert exact["exact_vague_share"] == pytest.approx(vague, abs=1 / 128)
    assert exact["exact_user_regret"] == pytest.approx(0, abs=1e-6)
    if net is not None:
        assert exact["exact_user_net_utility"] == pytest.approx(net, abs=1e-4)
    # 64 users, 50 requests, 20 worlds: standard error of the mean below .5 / sqrt(64000)
    returns = result["return_user"].values[:, -1] / 50
    standard_error = returns.std(ddof=1) / np.sqrt(len(returns))
    difference = returns.mean() - exact["exact_user_net_utility"]
    assert abs(difference) < 4 * standard_error + 1e-4
    for name in ("accuracy", "vague_share"):
        found = result[name].values[:, 1:].mean(1)
        difference = found.mean() - exact[f"exact_{name}"]
        assert abs(difference) < 4 * found.std(ddof=1) / np.sqrt(len(found)) + 1 / 128


def test_exact_metrics_are_means_of_played_ones():
    """Random users and acts, people with different costs: every exact metric that is played."""
    game = WelfareGame(
        num_users=20,
        choose_length=False,
        answer_words=1.2,
        cue_accuracy=0.8,
        delay_cost={"kind": "uniform", "low": 0.0, "high": 0.5},
        price={"kind": "uniform", "low": 0.1, "high": 0.4},
        reading_cost={"kind": "uniform", "low": 0.0, "high": 0.1},
    )
    policies = {"user": "random", "assistant": "random"}
    names = ["user_utility", "assistant_utility", "welfare", "worse_utility", "accuracy"]
    names += ["user_net_utility", "words", "vague_share"]
    exact = [f"exact_{name}" for name in names]
    result = simulate(game, policies, 400, 1, 1, [*names, *exact], metric_rounds=[1]).metrics
    for name in names:
        difference = (result[name] - result[f"exact_{name}"]).values[:, -1]
        standard_error = difference.std(ddof=1) / 20
        assert abs(difference.mean()) < 4 * standard_error, name


@pytest.mark.cut(2)
@pytest.mark.parametrize("choose_length", [False, True])
def test_exact_welfare_of_drawn_outcomes_is_the_mean_of_what_is_paid(choose_length):
    """E[W(U, L)] and not W(E[U], E[L]), from which it differs."""
    parameters = {"num_users": 20, "choose_length": choose_length, "price": 0.2, "delay_cost": 0.1}
    game = WelfareGame(**parameters, drawn_outcomes=True)
    acts = {"kind": "cue_assistant", "on_vague": "answer_and_ask", "words": 1.5}
    policies = {"user": "random", "assistant": acts}
    policies |= {"composer": acts} if choose_length else {}
    names = ["welfare", "worse_utility", "exact_welfare", "exact_worse_utility"]
    result = simulate(game, policies, 500, 1, 1, names, metric_rounds=[1]).metrics
    for name in names[:2]:
        difference = (result[name] - result[f"exact_{name}"]).values[:, -1]
        assert abs(difference.mean()) < 4 * difference.std(ddof=1) / 500**0.5, name
    expected = run(WelfareGame(**parameters), policies, ["exact_welfare"])["exact_welfare"]
    assert abs(float(expected[0]) - float(result["exact_welfare"][0, -1])) > 0.02
    best = run(game, None, ["exact_regret", "exact_optimal_decision_share"])
    assert best["exact_regret"] == pytest.approx(0, abs=2e-6)
    assert best["exact_optimal_decision_share"] == 1


def test_welfare_that_is_not_linear_can_pay_more_words_at_a_higher_price():
    """For linear welfare the optimal expected words do not rise; for mixed requests others can."""
    belief, task = torch.tensor(0.55, dtype=torch.float64), WelfareTask()

    def words(welfare: Welfare, price: float) -> float:
        costs = Costs(*(torch.tensor(x, dtype=torch.float64) for x in (0.8, 0.05, price)))
        found = act_values(task, welfare, belief, costs, LengthChoice(0.0, 6.0))
        act, vague = found.value.argmax(), torch.tensor([0.0, 1.0], dtype=torch.float64)
        definite, other = task.outcome(vague, act, found.words[act], costs).words
        return float((1 - belief) * definite + belief * other)

    assert words(CobbDouglas(), 0.01) == pytest.approx(2.94, abs=0.01)  # answers
    assert words(CobbDouglas(), 0.02) == pytest.approx(4.26, abs=0.01)  # answers and asks
    by_price = [words(Linear(), price) for price in np.linspace(0.01, 0.5, 30)]
    assert (np.diff(by_price) < 1e-3).all()


def test_expected_outcomes_are_means_of_drawn_ones():
    task, generator = WelfareTask(), torch.Generator().manual_seed(1)
    shape = (200_000, 6)
    vague = torch.tensor([0.0, 0.0, 0.0, 1.0, 1.0, 1.0]).expand(shape)
    act = torch.tensor([0, 1, 2, 0, 1, 2]).expand(shape)
    words = torch.tensor([0.5, 1.0, 2.0, 1.5, 0.7, 1.2]).expand(shape)
    costs = Costs(*(torch.full(shape, x) for x in (0.15, 0.05, 0.2)))
    draws = (torch.rand(shape, generator=generator), torch.rand(shape, generator=generator))
    expected = task.outcome(vague, act, words, costs)
    drawn = task.outcome(vague, act, words, costs, draws)
    for name, sample in drawn._asdict().items():
        standard_error = sample.std(0) / 200_000**0.5
        difference = (sample.double().mean(0) - getattr(expected, name)[0]).abs()
        assert (difference < 4.5 * standard_error + 1e-5).all(), name


@pytest.mark.parametrize("welfare", ["assistant_only", "user_only", "linear", "cobb_douglas"])
@pytest.mark.parametrize("fixed", [True, False])
def test_planner_reaches_the_optimum_of_a_grid(welfare, fixed):
    """The optimum by a dense grid of all acts and lengths at both cues, in float64."""
    game = WelfareGame(
        num_users=3, welfare=welfare, price=0.4, choose_length=not fixed, delay_cost=0.1
    )
    exact = run(game, None, ["exact_welfare", "exact_regret", "exact_optimal_decision_share"])
    assert exact["exact_regret"] == pytest.approx(0, abs=2e-6)
    assert exact["exact_optimal_decision_share"] == 1
    share, a, value = 0.75, 0.9, 0.0
    costs = Costs(*(torch.tensor(x, dtype=torch.float64) for x in (0.1, 0.05, 0.4)))
    lengths = torch.tensor([2.0] if fixed else np.linspace(0, 6, 6001), dtype=torch.float64)
    for vague_probability, definite_probability in (
        (share * (1 - a), (1 - share) * a),  # joint with a definite cue
        (share * a, (1 - share) * (1 - a)),
    ):
        best = -np.inf
        for act in range(3):
            by_type = [
                game.welfare.value(cells.user, cells.assistant)
                for vague in (0.0, 1.0)
                for cells in [
                    game.task.outcome(torch.tensor(vague), torch.tensor(act), lengths, costs)
                ]
            ]
            found = definite_probability * by_type[0] + vague_probability * by_type[1]
            best = max(best, float(found.max()))
        value += best
    assert exact["exact_welfare"] == pytest.approx(value, abs=2e-6)


def test_lengths_are_those_of_the_closed_forms():
    """A direct answer to a request that is surely correct: A(n) alone."""
    task = WelfareTask(accuracy_definite=1.0)
    costs = Costs(*(torch.tensor(x) for x in (0.15, 0.05, 0.4)))
    for kind, expected in [
        ("user_only", optimal_length(1.0, 0.05)),
        ("assistant_only", optimal_length(1.0, 0.4)),
        ("linear", linear_length(1.0, 0.05, 0.4)),
        ("cobb_douglas", cobb_douglas_length(1.0, 0.05, 0.4)),
    ]:
        welfare = REGISTRIES["welfare"].load(kind)()
        found = act_values(task, welfare, torch.tensor(0.0), costs, LengthChoice(0.0, 6.0))
        assert found.words[0].item() == pytest.approx(expected, abs=2e-3), kind


def test_equilibria():
    """Neither side gains by deviating: following the cue from its threshold on, not below."""

    def regrets(accuracy: float, acts: tuple[str, str], threshold: float) -> tuple[float, float]:
        game = WelfareGame(**FIXED, num_users=2, cue_accuracy=accuracy, can_ask=False)
        assistant = {"kind": "cue_assistant", "on_definite": acts[0], "on_vague": acts[1]}
        users = {"kind": "threshold_writer", "threshold": threshold}
        policies = {"user": users, "assistant": assistant}
        exact = run(game, policies, ["exact_regret", "exact_user_regret"])
        return float(exact["exact_regret"][0]), float(exact["exact_user_regret"][0])

    for accuracy in (0.6, 0.9, 1.0):
        assert regrets(accuracy, ("clarify", "clarify"), 0.0) == pytest.approx((0, 0), abs=1e-6)
    limit = values.cue_equilibrium_accuracy(REQUEST)
    for accuracy, is_equilibrium in ((limit + 0.02, True), (limit - 0.02, False)):
        threshold = values.cue_writing_threshold(REQUEST, accuracy)
        assistant, user = regrets(accuracy, ("direct", "clarify"), threshold)
        assert user == pytest.approx(0, abs=1e-6)
        assert (assistant < 1e-6) == is_equilibrium
    # always direct with definite writers: the assistant gains by clarifying
    assert regrets(0.9, ("direct", "direct"), 0.5)[0] > 0.05


def test_posterior():
    share, a = torch.tensor([0.3, 0.0, 1.0]), 0.8
    expected = [[0.3 * 0.2 / (0.3 * 0.2 + 0.7 * 0.8), 0.3 * 0.8 / (0.3 * 0.8 + 0.7 * 0.2)]]
    assert posterior(share, a)[:1].numpy() == pytest.approx(np.array(expected))
    assert posterior(share, a)[1:].tolist() == [[0, 0], [1, 1]]
    assert posterior(share[1:], 1.0).tolist() == [[0, 0], [1, 1]]


def test_rank_correlation():
    from scipy.stats import spearmanr

    numbers = np.random.default_rng(0).normal(size=(20, 6)).round(1)
    found = rank_correlation_with_order(torch.tensor(numbers))
    expected = [spearmanr(row, np.arange(6)).statistic for row in numbers]
    assert found.numpy() == pytest.approx(np.array(expected))
    assert rank_correlation_with_order(torch.ones(3)) == 0


def test_prices_are_observed_and_change_the_planner():
    game = WelfareGame(num_users=2)
    names = ["exact_words_by_price", "exact_price_rank_correlation"]
    result = simulate(game, None, 1, 1, 0, names, metric_rounds=[1]).metrics
    words = result["exact_words_by_price"].values[0, -1]
    assert (np.diff(words) < 0).all()
    assert result["exact_price_rank_correlation"].values[0, -1] == -1


def test_people_differ_in_costs():
    game = WelfareGame(
        num_users=50,
        delay_cost={"kind": "uniform", "low": 0.0, "high": 0.5},
        price={"kind": "uniform", "low": 0.1, "high": 0.4},
    )
    state = game.reset(RandomStreams.of(1, 3))
    prices = game.observe(state, "assistant", "respond")[..., 3]
    assert 0.1 <= prices.min() < 0.13 < 0.37 < prices.max() <= 0.4


class Rawls(Welfare):
    """A user's own welfare function."""

    penalty: float = 0.5

    def value(self, user, assistant):
        return torch.minimum(user, assistant) - self.penalty * (user - assistant).abs()


def test_a_registered_welfare_function_is_usable_by_name():
    register("welfare", "test_rawls", Rawls)
    try:
        game = make_environment("welfare_game", welfare={"kind": "test_rawls", "penalty": 0.1})
        exact = run(game, None, ["exact_regret"])
        assert exact["exact_regret"] == pytest.approx(0, abs=2e-6)
        assert game.welfare == Rawls(penalty=0.1)
    finally:
        del REGISTRIES["welfare"]["test_rawls"]


def test_welfare_functions():
    user, assistant = torch.tensor([4.0, -1.0, 0.5]), torch.tensor([1.0, -1.0, 0.5])
    assert CobbDouglas().value(user, assistant).tolist() == pytest.approx([2, 1e-4, 0.5])
    by_user = CobbDouglas(user_weight=1.0, user_disagreement=1.0).value(user, assistant)
    assert by_user.tolist() == pytest.approx([3, 1e-4, 1e-4])
    assert Linear(user_weight=0.25).value(user, assistant).tolist() == [1.75, -1, 0.5]


def test_random_rewards_carry_no_information():
    """Equal rewards whatever the policies do."""
    game = WelfareGame(num_users=8, reward_source="random")
    names = ["return_user", "return_assistant", "return_composer"]
    first = run(game, None, names, rounds=3)
    acts = {"kind": "cue_assistant", "on_definite": "clarify", "words": 5.0}
    users = {"kind": "threshold_writer", "threshold": 0.7}
    policies = {"assistant": acts, "composer": acts, "user": users}
    second = run(game, policies, names, rounds=3)
    assert all((first[name] == second[name]).all() for name in names)


def test_estimates_are_rewarded_for_accuracy_or_asymmetry():
    accurate = WelfareGame(num_users=4, estimate_accuracy_weight=1.0)
    names = ["estimate_error", "exact_estimate_error", "asymmetry_score", "return_composer"]
    names.append("welfare")
    planner = run(accurate, None, names)
    assert planner["estimate_error"] == planner["exact_estimate_error"] == 0
    assert planner["return_composer"] == pytest.approx(planner["welfare"])
    scripted = {"composer": {"kind": "cue_assistant"}}
    zeros = run(accurate, scripted, names)
    error, welfare = zeros["estimate_error"], zeros["welfare"]
    assert zeros["return_composer"] == pytest.approx(welfare - error**2, abs=1e-6)
    asymmetric = run(WelfareGame(num_users=4, asymmetry_weight=1.0), scripted, names)
    assert asymmetric["asymmetry_score"] == 0  # equal utilities: no Pay


def test_render():
    game = WelfareGame(num_users=9)
    streams = RandomStreams.of(1, 2)
    state = game.reset(streams)
    assert game.render(state) == "9 users; no request yet"
    for phase, actions in [
        ("write", {"user": torch.zeros(2, 9, dtype=torch.int64)}),
        ("respond", {"assistant": torch.ones(2, 9, dtype=torch.int64)}),
        ("compose", {"composer": torch.ones(2, 9, 1)}),
    ]:
        state = game.step(state, phase, actions, streams.child(phase)).state
    text = game.render(state, 1)
    assert "request 1: 9 users" in text and "... and 1 more users" in text


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"welfare": "cobb_duglas"}, "unknown_name", "welfare_game.welfare"),
        ({"welfare": {"kind": "linear", "user_weight": 2.0}}, "out_of_range", None),
        ({"cue_accuracy": 0.4}, "out_of_range", "welfare_game.cue_accuracy"),
        ({"grid_prices": [0.2, 0.1]}, "invalid_value", "welfare_game.grid_prices"),
        ({"price": {"kind": "uniform", "low": -1.0, "high": 1.0}}, "out_of_range", None),
        ({"task": {"user_window": {"low": 2.0, "high": 1.0}}}, "conflict", None),
        ({"task": {"acuracy_vague": 0.5}}, "unknown_name", None),
    ],
)
def test_wrong_parameters_are_refused(parameters, code, path):
    with refused(code, path):
        make_environment("welfare_game", **parameters)


def test_wrong_uses_are_refused():
    with refused("unsupported", "population"):
        simulate(WelfareGame(), rounds=1, population=make_population())
    with refused("unsupported", "policies.user"):
        simulate(WelfareGame(), {"user": make_policy("cue_assistant")}, rounds=1)


def make_population():
    from mores.registry import make_population as make

    return make("normal")


@pytest.mark.cut(2)
@pytest.mark.parametrize("choose_length", [True, False])
def test_ppo_learns_to_ask_at_vague_cues(choose_length):
    """From reward alone: most of the optimum, and questions where they help."""
    game = WelfareGame(num_users=32, choose_length=choose_length, price=0.05, can_ask=False)
    ppo = {"kind": "ppo", "num_steps": 8, "gamma": 0.0, "learning_rate": 0.02, "ent_coef": 0.001}
    ppo["network"] = {"kind": "mlp", "hidden_sizes": [16]}
    users = {"kind": "threshold_writer", "threshold": 0.4}
    names = ["exact_regret", "exact_question_gap"]
    policies = {"assistant": ppo, "user": users, **({"composer": ppo} if choose_length else {})}
    result = simulate(game, policies, 2, 48, 0, names, metric_rounds=[0, 48]).metrics
    regret, gap = (result[name].values for name in names)
    assert (regret[:, -1] < 0.5 * regret[:, 0]).all()
    assert (gap[:, -1] > 0.3).all() and (abs(gap[:, 0]) < 0.2).all()
