"""Contract games: the policies of the solution reach the closed forms; learners; bad input."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
import torch

import mores
from mores.core.environment import Environment
from mores.core.random_streams import RandomStreams
from mores.envs.strategic.contract_games.game import ContractGame
from mores.envs.strategic.contract_games.linear import Linear
from mores.envs.strategic.contracts import Contracts
from mores.envs.strategic.moral_hazard import MoralHazard
from mores.registry import make_environment
from mores.sim.simulation import simulate
from tests.refusals import refused

WORLDS = 4000
GAMES: dict[str, dict[str, Any]] = {
    "linear": {},
    "limited_liability": {},
    "screening": {},
    "inspection": {},
    "cheap_talk": {"num_messages": 4},
    "off_switch": {"belief_mean": 0.5, "belief_std": 0.0, "error_rate": 0.1},
}
# Metrics as drawn, with the value that their mean has; and metrics of policies, without noise.
MEANS = {
    "linear": {"profit[0]": "equilibrium_profit", "accepted_share": "equilibrium_participation"},
    "inspection": {
        "inspection_share": "equilibrium_inspection",
        "violation_share": "equilibrium_violation",
    },
}
EXACT = {
    "linear": {"policy_slopes[1]": "equilibrium_slope_sum[1]", "ic_violation": 0.0},
    "limited_liability": {"policy_profit": "solution_principal_payoff"},
    "screening": {
        "policy_profit": "solution_principal_payoff",
        "policy_rent": "solution_agent_payoff",
    },
    "inspection": {"violation_probability": "equilibrium_violation"},
    "cheap_talk": {"policy_receiver_loss": "equilibrium_receiver_loss"},
    "off_switch": {"defer_probability": 1.0},
}


def last_metric(result: Any, name: str) -> np.ndarray:
    """Values of a metric, or of one of its numbers, at the end, by world."""
    whole, _, index = name.partition("[")
    values = np.asarray(result.metrics[whole])[:, -1]
    return values[:, int(index[:-1])] if index else values


@pytest.mark.parametrize("kind", GAMES)
def test_solution_reaches_the_closed_form(kind: str) -> None:
    """Means of sampled metrics within 4 standard errors: an error of the code of 5 % is seen."""
    env = Contracts(game={"kind": kind, **GAMES[kind]})  # type: ignore[arg-type]
    values = env.analytic_values({}, 1)
    payoffs = ("principal_payoff", "agent_payoff")
    means = {each: f"solution_{each}" for each in payoffs if f"solution_{each}" in values}
    assert means
    means |= MEANS.get(kind, {})
    exact = {"exploitability": 0.0, **EXACT[kind]}
    names = {name.partition("[")[0] for name in (*means, *exact)}
    result = simulate(env, worlds=WORLDS, rounds=1, seed=11, metrics=sorted(names))
    for name, expected in means.items():
        found = last_metric(result, name)
        error = float(found.std()) / math.sqrt(WORLDS)
        assert found.mean() == pytest.approx(values[expected], abs=4 * error + 1e-6), name
    for name, expected in exact.items():
        number = values[expected] if isinstance(expected, str) else expected
        assert last_metric(result, name) == pytest.approx(number, abs=2e-4), name


def test_deference_gains_what_the_formula_says() -> None:
    env = Contracts(game={"kind": "off_switch", "belief_std": 0.0})  # type: ignore[arg-type]
    assert env.analytic_values({}, 1)["deference_gain"] == pytest.approx(0.398942, abs=1e-6)


def test_exponential_utility_has_the_certainty_equivalent_of_the_closed_form() -> None:
    """From sampled rewards of agents who accept: -log E[exp(-r y)] / r = U."""
    game = {"kind": "linear", "outside_option": (-9.0, -8.0), "max_salary": 20.0}
    env = Contracts(game={**game, "income_floor": -100.0})  # type: ignore[arg-type]
    simulator = mores.Simulator(env, env.default_policies(), {}, 40_000, 1)
    simulator.reset(3)
    simulator.step()
    state = simulator.state
    assert (state.accepted == 1).all()
    income = state.income[:, 0].double().numpy()
    values = env.analytic_values({}, 1)
    utilities = np.exp(-(income - income.mean()))
    found = income.mean() - math.log(utilities.mean())
    error = float(utilities.std() / utilities.mean()) / math.sqrt(len(income))
    assert found == pytest.approx(values["equilibrium_utility"], abs=4 * error)
    assert error < 0.01


def test_types_are_those_of_the_replicate() -> None:
    ranges = {"risk_aversion": (0.5, 2.0), "effort_cost": (0.5, 2.0)}
    env = Contracts(game={"kind": "linear", "num_agents": 3, **ranges})  # type: ignore[arg-type]
    worlds = mores.Worlds.grid(2, 3)
    first, later = (env.reset(RandomStreams.of(5, worlds, episode=episode)) for episode in (0, 7))
    assert torch.equal(first.risk_aversion, later.risk_aversion)
    assert torch.equal(first.risk_aversion[0], first.risk_aversion[2])
    assert not torch.equal(first.risk_aversion[0], first.risk_aversion[3])
    assert len(first.risk_aversion[0].unique()) == 3
    free = Contracts(game={"kind": "linear", "types_fixed": False, **ranges})  # type: ignore[arg-type]
    first, later = (free.reset(RandomStreams.of(5, worlds, episode=episode)) for episode in (0, 7))
    assert len(torch.cat([first.risk_aversion, later.risk_aversion]).unique()) == 12


def test_agents_do_not_observe_noise_or_others() -> None:
    env = Contracts(game={"kind": "linear", "num_agents": 2})  # type: ignore[arg-type]
    space = env.roles[0].observation_space
    assert set(space.parts) == {"risk_aversion", "effort_cost", "noise_variance", "benefits"}


@pytest.mark.parametrize("rounds", [6])
def test_limited_commitment_is_moral_hazard(rounds: int) -> None:
    """The preset has the same numbers, bit for bit, also of its two policies."""
    results = [
        simulate(env, worlds=5, rounds=rounds, seed=2, metrics=["offered_share", "output", "wage"])
        for env in (
            MoralHazard(num_agents=4),
            Contracts(game={"kind": "limited_commitment", "num_agents": 4}),  # type: ignore[arg-type]
        )
    ]
    for name in ("offered_share", "output", "wage"):
        assert np.array_equal(*(np.asarray(r.metrics[name]) for r in results), equal_nan=True)


def test_reward_without_signal_does_not_depend_on_contracts() -> None:
    for kind in GAMES:
        game = {"kind": kind, "reward_source": "random"}
        env = Contracts(game=game)  # type: ignore[arg-type]
        rewards = []
        for policy in ("random", "contract_solution"):
            spec: Any = {"kind": policy}
            if policy == "contract_solution":
                spec["game"] = game
            policies = {role.name: spec for role in env.roles}
            simulator = mores.Simulator(env, policies, {}, 3, 2)
            simulator.reset(1)
            rewards.append(simulator.step().reward)
        first, second = rewards
        assert all(torch.equal(first[role], second[role]) for role in first), kind


# --- agents who do not respond optimally -------------------------------------------------------


def answers_of(env: Linear, state: Any, effort: torch.Tensor | None, accept: float) -> Any:
    """Offers of the closed form; agents with a fixed effort, or the best one if it is None."""
    answers = {}
    for name, query in env.policy_queries(state).items():
        answers[name] = env.solution(query.role, query.phase, query.observation)
        if query.role == "agent":
            if effort is not None:
                answers[name][..., 1:] = effort
            if accept:
                answers[name][..., 0] = accept
    return answers


def test_values_of_agents_who_learned_one_effort() -> None:
    """Best at the equilibrium contract alone; profits and losses by numpy at the last offers."""
    env = Linear(outside_option=(-0.5, 1.0), benefits=((1.0, 1.0),), intrinsic_effort=(0.1, 0.2))
    state = env.reset(RandomStreams.of(3, mores.Worlds.grid(1, 1)))
    slopes, salary = np.array([0.9, 0.1]), 0.2
    played = (torch.tensor(slopes).float(), torch.tensor([[[salary]]]).float())
    state = dataclasses.replace(state, slopes=played[0][None, None, None], salary=played[1])
    values = env.analytic_values({}, 1)
    effort = np.array([values[f"equilibrium_effort[{k}]"] for k in range(2)])
    answers = answers_of(env, state, torch.tensor(effort).float(), 1.0)
    found = {name: value[0] for name, value in env.policy_metrics(state, answers).items()}
    assert found["ic_violation"].item() == pytest.approx(0.0, abs=1e-6)
    assert found["other_ic_violation"].item() > 0.01

    cost = np.array(env.cost)
    best = np.array([0.1, 0.2]) + np.linalg.solve(cost, slopes)
    utility = salary + slopes @ best - 0.25 * slopes @ slopes
    utility -= (best - [0.1, 0.2]) @ cost @ (best - [0.1, 0.2]) / 2
    lost = (effort - best) @ cost @ (effort - best) / 2
    options = np.linspace(-0.5, 1.0, 100_001)
    loss = (np.maximum(utility, options) - (utility - lost)).mean()
    profit = (1.0 - slopes) @ effort - salary
    assert found["played_ic_violation"].item() == pytest.approx(lost, abs=1e-5)
    assert found["played_loss"].item() == pytest.approx(loss, abs=1e-3)
    assert found["played_profit"].item() == pytest.approx(profit, abs=1e-5)


def test_values_of_agents_who_respond_optimally() -> None:
    env = Linear(num_agents=2, risk_aversion=(0.5, 2.0))
    state = env.reset(RandomStreams.of(3, mores.Worlds.grid(3, 1)))
    observation = env.observe(state, "principal", "offer")[:, :, None]
    slopes, salary = env.split_offer(env.solution("principal", "offer", observation)[:, :, 0])
    state = dataclasses.replace(state, slopes=slopes, salary=salary)
    found = env.policy_metrics(state, answers_of(env, state, None, 0.0))
    for name in ("ic_violation", "other_ic_violation", "played_ic_violation", "played_loss"):
        assert found[name].abs().max().item() < 1e-5, name
    # 64 outside options: acceptance within 1 / 128
    assert found["played_profit_ratio"].numpy() == pytest.approx(1.0, abs=0.05)


def test_closed_forms_respect_the_bounds_of_actions() -> None:
    """Outside them: no value for linear contracts, no bonus with limited liability."""
    assert Linear().equilibrium_values()
    for bounds in ({"max_salary": 0.01}, {"max_slope": 0.1}, {"max_effort": 0.2}):
        assert not Linear(**bounds).equilibrium_values()  # type: ignore[arg-type]
    env = Contracts(game={"kind": "limited_liability", "max_wage": 0.5})  # type: ignore[arg-type]
    result = simulate(env, worlds=2, rounds=1, metrics=["policy_wages", "exploitability"])
    assert np.asarray(result.metrics["policy_wages"]).max() == 0.0
    assert last_metric(result, "exploitability") == pytest.approx(0.0, abs=1e-6)
    assert env.analytic_values({}, 1)["solution_principal_payoff"] == pytest.approx(1.0)


# --- learners -----------------------------------------------------------------------------------

SMALL = {"kind": "mlp", "hidden_sizes": [8]}
LEARNER: dict[str, Any] = {"learning_rate": 0.003, "gamma": 0, "ent_coef": 0, "network": SMALL}


def test_a_learner_at_every_role_beside_a_scripted_agent() -> None:
    """Principals by PPO, one agent by REINFORCE and one by the closed form, trained together."""
    game = {"kind": "linear", "num_agents": 2}
    policies: dict[str, Any] = {
        "principal": {"kind": "ppo", "num_steps": 2, "parameter_sharing": "agent", **LEARNER},
        "agent": {
            "kind": "per_agent",
            "policies": [
                {"kind": "reinforce", "init_std": 0.1, **LEARNER},
                {"kind": "contract_solution", "game": game},
            ],
        },
    }
    result = mores.train(
        make_environment("contracts", game=game),
        policies,
        episodes=2,
        rounds=4,
        replicates=2,
        worlds=8,
        seed=1,
    )
    assert (result.state_dict("principal")["num_updates"] > 0).all()
    agents = result.state_dict("agent")
    assert {name.partition("/")[0] for name in agents} == {"policy 0"}  # the other one is scripted
    assert (agents["policy 0/num_updates"] > 0).all()
    assert len(agents["policy 0/replicate"]) == 2  # a model for each replicate
    evaluated = result.evaluate(metrics=["ic_violation", "slope_error"])
    assert float(evaluated.ic_violation.min()) > 0


@pytest.mark.full
def test_principal_learns_the_slope() -> None:
    """One task: after 500 updates from sampled profits; noise as reward teaches nothing."""
    game = {
        "kind": "linear",
        "benefits": [[1.0]],
        "cost": [[1.0]],
        "outside_option": [-0.5, 0.5],
    }
    principal = {"kind": "ppo", "num_steps": 1, "num_minibatches": 1, "update_epochs": 1}
    learner = {**principal, "init_std": 0.2, **LEARNER}
    found = {}
    for source in ("outcome", "random"):
        env = make_environment("contracts", game={**game, "reward_source": source})
        trained = mores.train(
            env,
            {"principal": learner},
            episodes=10,
            rounds=50,
            replicates=4,
            worlds=256,
            seed=1,
        )
        evaluated = trained.evaluate(
            rounds=1, search=True, metrics=["slope_error", "surplus_ratio"]
        )
        found[source] = float(evaluated.slope_error[..., -1].mean())
    assert found["outcome"] < 0.15
    assert found["random"] > 0.3


@pytest.mark.full
def test_agent_learns_its_effort_from_exponential_utility() -> None:
    """One task, r = 2: sampled utility of realized income teaches the effort; noise does not."""
    game = {"kind": "linear", "benefits": [[1.0]], "cost": [[1.0]], "risk_aversion": [2.0, 2.0]}
    game |= {"noise_variance": [0.2, 0.2], "outside_option": [-2.0, 2.0], "max_effort": 1.5}
    learner = {"kind": "ppo", "num_steps": 1, "num_minibatches": 1, "update_epochs": 1}
    found = {}
    for source in ("outcome", "random"):
        trained = mores.train(
            make_environment("contracts", game={**game, "reward_source": source}),
            {"agent": {**learner, "init_std": 0.1, **LEARNER}},
            episodes=10,
            rounds=50,
            replicates=4,
            worlds=256,
            seed=1,
        )
        evaluated = trained.evaluate(rounds=1, search=True, metrics=["ic_violation"])
        found[source] = float(evaluated.ic_violation[..., -1].mean())
    assert found["outcome"] < 0.01
    assert found["random"] > 0.02


# --- bad input ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("game", "code", "path"),
    [
        ("liner", "unknown_name", "contracts.game"),
        ({"kind": "linear", "benefits": [[1.0]]}, "wrong_shape", "contracts.game.benefits"),
        ({"kind": "linear", "cost": [[1, 2], [2, 1]]}, "invalid_value", "contracts.game.cost"),
        ({"kind": "linear", "measured": [False, False]}, "conflict", "contracts.game.measured"),
        ({"kind": "linear", "effort_cost": [0, 1]}, "out_of_range", "contracts.game.effort_cost"),
        ({"kind": "linear", "risk_aversion": [2, 1]}, "out_of_range", None),
        ({"kind": "linear", "principals": 2}, "unknown_name", "contracts.game.principals"),
        ({"kind": "screening", "low_cost": 2.0}, "conflict", "contracts.game"),
        ({"kind": "inspection", "inspection_cost": 6.0}, "conflict", "contracts.game"),
        ({"kind": "limited_liability", "shirk_success": 0.9}, "conflict", "contracts.game"),
        ({"kind": "screening", "low_cost": 0.5}, "out_of_range", "contracts.game.max_quantity"),
        ({"kind": "screening", "max_payment": 1.0}, "out_of_range", "contracts.game.max_payment"),
    ],
)
def test_bad_parameters(game: Any, code: str, path: str | None) -> None:
    with refused(code, path=path):
        make_environment("contracts", game=game)


def test_population_is_refused() -> None:
    with refused("unsupported", path="population"):
        simulate(Contracts(), worlds=1, rounds=1, population=mores.make_population("normal"))


def test_solution_of_another_game_is_refused() -> None:
    policies = {"agent": {"kind": "contract_solution", "game": "screening"}}
    with refused("conflict", path="policies.agent.game"):
        simulate(Contracts(), policies, worlds=1, rounds=1)


def test_game_without_closed_form_is_refused() -> None:
    game = {"kind": "limited_commitment"}
    env, policy = Contracts(game=game), {"kind": "contract_solution", "game": game}  # type: ignore[arg-type]
    with refused("unsupported", path="policies.agent"):
        simulate(env, {"agent": policy}, worlds=1, rounds=1)


def test_a_users_game_is_played() -> None:
    """A game from a user's file needs no line of the package."""

    class Fixed(MoralHazard):
        """Moral hazard in which nobody shirks."""

        def metrics(self, state: Any) -> Mapping[str, torch.Tensor]:
            return {"one": torch.ones_like(state.offered_share)}

    mores.register("contract_game", "fixed_game", Fixed)
    env: Environment[Any] = make_environment("contracts", game="fixed_game")
    assert isinstance(env, Contracts) and isinstance(env.game, ContractGame)
    result = simulate(env, worlds=2, rounds=2, metrics=["one"])
    assert np.asarray(result.metrics["one"])[:, 1:].min() == 1.0


@pytest.mark.parametrize("kind", [*GAMES, "limited_commitment"])
def test_a_state_is_described(kind: str) -> None:
    env = Contracts(game=kind)  # type: ignore[arg-type]
    result = simulate(env, worlds=1, rounds=1, seed=1)
    text = env.render(result.state)
    assert kind == "limited_commitment" or (text and "nan" not in text)
