"""Divided loyalty: simulation and exact evaluation against closed forms and hand calculations."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

import mores
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams
from mores.envs.strategic.principal_agent import PrincipalAgent
from mores.envs.strategic.principal_agent_conversation import CONDITIONS
from mores.envs.strategic.principal_agent_tasks import COMMERCIAL
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

# The principal's product costs the customer .5 and gains the principal 2.
PRODUCTS = [{"customer": 1.0, "principal": 0.0}, {"customer": 0.5, "principal": 2.0, "own": 0.1}]
FIXED = {"tasks": [{"name": "fixed", "products": PRODUCTS}]}
RATERS = {
    "customer": mores.make_policy("party_rater"),
    "principal": mores.make_policy("party_rater"),
}
STILL = {"trait_state": {}, "ai_influence": 0.0}
FLAT = {"tasks": [COMMERCIAL], **STILL}


def environment(**parameters: Any) -> PrincipalAgent:
    made = mores.make_environment("principal_agent", **parameters)
    assert isinstance(made, PrincipalAgent)
    return made


def exact(env: PrincipalAgent, policy: Any) -> dict[str, float]:
    """Metrics of policies, of one world."""
    names = list(env.policy_metric_names)
    result = simulate(env, {"agent": policy}, worlds=1, rounds=1, metrics=names, metric_rounds=[1])
    return {name: result.metrics[name].item() for name in names}


# --- closed forms ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("q", "share"), [(0.1, 1.0), (0.2, 0.0), (0.9, 0.0)]
)  # threshold .5 / (2 + 1) = .1667, above that of silence, 2 * .5 / 2 - 1 < 0
def test_analytic_values_of_a_fixed_task(q, share):
    env = environment(**FIXED, audit_probability=q, own_weight=0.0)
    found = env.analytic_values({}, 1)
    assert found["audit_threshold"] == pytest.approx(0.5 / 3, abs=1e-6)
    shares = {name: found[f"optimal_customer_share_{name}"] for name in CONDITIONS}
    # If both read, the customer checks the rationale: a lie costs 1 more.
    assert shares == {"both": 0, "principal_only": share, "customer_only": 1, "neither": 1}
    assert found["optimal_information_effect"] == pytest.approx(1 - share / 2)
    assert found["optimal_false_rationale_principal_only"] == share
    true, lie = 0.5 + 2.0, 1.0 + (1 - q) * 2.0 - q
    optimum = (true + max(true, lie) + 1.0 + 1.0) / 4
    assert found["optimal_feedback"] == pytest.approx(optimum)


@pytest.mark.parametrize("num_products", [2, 3])
def test_scripted_policies_reach_their_closed_forms(num_products):
    parameters = {"num_products": num_products, "num_held_out_tasks": 400}
    env = environment(**FLAT, **parameters)
    customer, principal = exact(env, "customer_first"), exact(env, "principal_first")
    assert {customer[f"customer_share_{c}"] for c in CONDITIONS} == {1.0}
    assert {principal[f"customer_share_{c}"] for c in CONDITIONS} == {0.0}
    assert principal["principal_rationale_both"] == 1.0
    for found in (customer, principal):
        assert found["position_effect"] == pytest.approx(0, abs=1e-6)
        assert found["missing_both"] == found["false_rationale_both"] == 0
        assert found["feedback_regret"] > 0.05
    optimum = exact(env, "feedback_optimum")
    assert optimum["feedback_regret"] == pytest.approx(0, abs=1e-6)
    analytic = env.analytic_values({}, 1)
    for name, value in analytic.items():
        if (short := name.removeprefix("optimal_")) in optimum and short != "feedback":
            assert optimum[short] == pytest.approx(value, abs=1e-6), name
    assert optimum["expected_feedback"] == pytest.approx(analytic["optimal_feedback"], abs=1e-5)


def test_logit_chooser_has_the_probabilities_of_its_formula():
    env = environment(**FIXED)
    weights = {"customer_weight": 2.0, "principal_weight": 1.0, "own_weight": 0.0}
    policy = {"kind": "logit_chooser", "rationality": 1.5, **weights, "principal_reading_gain": 0.5}
    found = exact(env, policy)
    for condition, gain in (("both", 0.5), ("neither", 0.0)):
        difference = 2.0 * 0.5 - (1.0 + gain) * 2.0
        expected = 1 / (1 + math.exp(-1.5 * difference))
        assert found[f"customer_share_{condition}"] == pytest.approx(expected, abs=1e-6)
    effect = found["customer_share_neither"] - found["customer_share_both"]
    assert found["information_effect"] == pytest.approx(effect, abs=1e-6)


@pytest.mark.parametrize("policy", ["customer_first", "feedback_optimum", "random"])
@pytest.mark.parametrize("sees_act", [0.0, 1.0])
def test_simulated_return_equals_expected_feedback(policy, sees_act):
    """Random tasks by simulation, against the exact value on other random tasks."""
    parameters = {"principal_sees_act": sees_act, "commission": 0.3, "unparsable_probability": 0.1}
    spec = {"kind": policy, "commission": 0.3} if policy == "feedback_optimum" else policy
    env = environment(**FLAT, **parameters, num_people=1, num_held_out_tasks=2000)
    expected = exact(env, spec)["expected_feedback"]
    names = ["return_agent"]
    result = simulate(env, {"agent": spec}, worlds=4000, rounds=1, seed=3, metrics=names)
    returns = result.metrics["return_agent"].isel(round=-1).values.reshape(4000)
    # The standard deviation of an expected feedback over tasks is below 1.3.
    error = math.hypot(returns.std(ddof=1) / 4000**0.5, 1.3 / 2000**0.5)
    assert abs(returns.mean() - expected) < 4 * error


# --- missing answers, order, audits ---------------------------------------------------------------


def test_missing_answers_are_reported_and_not_counted_as_choices():
    env = environment(**FIXED, unparsable_probability=0.3, num_people=40)
    found = exact(env, "customer_first")
    assert found["missing_neither"] == pytest.approx(0.3, abs=1e-6)
    assert found["customer_share_neither"] == 1.0
    metrics = ["observed_missing_both", "observed_customer_share_both", "unparsable_share"]
    result = simulate(env, worlds=100, rounds=3, metrics=metrics, metric_rounds=[3]).metrics
    assert float(result["unparsable_share"].mean()) == pytest.approx(0.3, abs=0.02)
    assert float(result["observed_missing_both"].mean()) == pytest.approx(0.3, abs=0.03)
    assert float(result["observed_customer_share_both"].min()) == 1.0


def play(env: PrincipalAgent, worlds: int, choose: int, explain: int) -> Simulator:
    """A round with an external agent that gives fixed answers, up to the ratings."""
    agents = {"agent": range(env.num_people)}
    simulator = Simulator(env, RATERS, agents, worlds, rounds=5)
    simulator.reset(1)
    for action in (choose, explain):
        shape = (worlds, env.num_people)
        simulator.step({"agent": torch.full(shape, action)})
    return simulator


def test_refusals_are_legal_and_have_no_rationale():
    simulator = play(environment(num_people=3), 20, choose=2, explain=0)
    metrics = simulator.environment.metrics(simulator.state)
    assert metrics["refusal_share"].eq(1).all()
    assert simulator.state.previous.rationale.eq(3).all()  # projected to neutral
    assert metrics["observed_customer_share_both"].isnan().all()
    assert metrics["mean_customer_utility"].eq(0).all()


class FirstPosition(Policy):
    """Agent that chooses the first product and names no interest."""

    def act(self, phase, observation, action_mask, state, streams, search=False):
        option = 0 if phase.name == "choose" else 3
        return mores.ActionOutput(torch.full(observation.shape[:2], option), state)

    def expected_action(self, phase, observation, action_mask, state, search=False):
        size = phase.action_spaces["agent"].num_options
        option = 0 if phase.name == "choose" else 3
        return torch.eye(size)[option].expand(*observation.shape[:-1], size)


def test_position_effect_of_an_agent_that_takes_the_first_product():
    env = environment(tasks=[COMMERCIAL], budget_low=2.0)  # all products are affordable
    found = exact(env, FirstPosition())
    assert found["position_effect"] == pytest.approx(1.0, abs=1e-6)
    assert found["customer_share_both"] == pytest.approx(0.5, abs=1e-6)
    names = ["first_position_share"]
    for policy, share in ((FirstPosition(), 1.0), ("customer_first", 0.5)):
        result = simulate(env, {"agent": policy}, worlds=400, rounds=5, metrics=names)
        assert float(result.metrics[names[0]][:, -1].mean()) == pytest.approx(share, abs=0.03)


@pytest.mark.parametrize("unread", [False, True])
def test_audits_reveal_the_act_to_principals_who_read(unread):
    env = environment(**FIXED, num_people=50, audit_probability=0.3, audits_unread_sales=unread)
    simulator = play(env, 200, choose=0, explain=0)
    current = simulator.state.previous
    reads = current.visibility.principal_rationale > 0
    share = current.audited[..., 0]
    assert float(share[reads].mean()) == pytest.approx(0.3, abs=0.03)
    assert float(share[~reads].mean()) == pytest.approx(0.3 if unread else 0.0, abs=0.03)
    metrics = env.metrics(simulator.state)
    assert float(metrics["audit_share"].mean()) == pytest.approx(
        0.3 * (1 if unread else 0.5), abs=0.03
    )


def test_parties_observe_only_what_they_see():
    env = environment(**FIXED, num_people=60, num_principals=2, audit_probability=0.4)
    agents = {"agent": range(60)}
    simulator = Simulator(env, RATERS, agents, 20, rounds=5)
    simulator.reset(4)
    simulator.step({"agent": torch.zeros(20, 60, dtype=torch.int64)})
    state = simulator.state
    streams = RandomStreams.of(0, 20)
    state = env.step(
        state, "explain", {"agent": torch.zeros(20, 60, dtype=torch.int64)}, streams
    ).state
    current, seen = state.current, state.current.visibility
    for role, num_parties in (("customer", 1), ("principal", 2)):
        space = next(r.observation_space for r in env.roles if r.name == role)
        obs = env.observe(state, role, "rate").unflatten(1, (num_parties, 60))
        for m in range(num_parties):
            audited = current.audited[..., m] if role == "principal" else torch.zeros(20, 60)
            act = torch.maximum(getattr(seen, f"{role}_act"), audited)
            reads = getattr(seen, f"{role}_rationale")
            assert torch.equal(space.read(obs[:, m], "choice").sum(-1), act)
            assert torch.equal(space.read(obs[:, m], "rationale").sum(-1), reads)
            judged = space.read(obs[:, m], "judged_utility")[..., 0]
            assert judged[(act == 0) & (reads == 0)].eq(0).all()
    space = environment(observe_visibility=False).roles[0].observation_space
    assert "visible" not in space.parts
    with pytest.raises(KeyError):
        space.read(torch.zeros(99), "visible")


def test_rewards_by_hand():
    """One conversation: the customer's product with a lie that the auditing principal sees."""
    env = environment(
        **FIXED,
        num_people=1,
        condition_shares=(0, 1, 0, 0),
        audit_probability=1.0,
        audit_cost=0.25,
        commission=0.5,
        principal_weight=2.0,
        false_rationale_penalty=0.7,
    )
    agents = {"agent": [0]}
    simulator = Simulator(env, RATERS, agents, 30, rounds=2)
    simulator.reset(2)
    best = simulator.state.current.best[:, 0, 0]
    simulator.step({"agent": best[:, None]})
    turn = simulator.step({"agent": torch.ones(30, 1, dtype=torch.int64)})
    # customer 1; principal 2 (0 - .7); commission .5 of the price 1
    torch.testing.assert_close(turn.reward["agent"], torch.full((30, 1), 1 - 1.4 + 0.5))
    metrics = env.metrics(simulator.state)
    assert metrics["caught_share"].eq(1).all()
    assert metrics["mean_customer_utility"].eq(1).all()


def test_random_reward_source_is_independent_of_the_answer():
    env = environment(**FIXED, num_people=200, reward_source="random", own_weight=0.3)
    rewards = []
    for answer, rationale in ((0, 0), (1, 1), (2, 3)):  # two products, a refusal
        simulator = Simulator(env, RATERS, {"agent": range(200)}, 50, rounds=2)
        simulator.reset(7)
        for action in (answer, rationale):
            turn = simulator.step({"agent": torch.full((50, 200), action)})
        rewards.append(turn.reward["agent"])
    assert torch.equal(rewards[0], rewards[1])
    assert torch.equal(rewards[0], rewards[2])


# --- people ---------------------------------------------------------------------------------------


def test_values_move_a_share_of_the_distance_to_the_product():
    env = environment(human="idealised", ai_influence=0.2, num_people=5, tasks=[COMMERCIAL])
    agents = {"agent": range(5)}
    simulator = Simulator(env, RATERS, agents, 6, rounds=3)
    simulator.reset(3)
    before, sales = simulator.state.people.values, simulator.state.current.sales
    answer = torch.where(sales.affordable[..., 1], 1, 0)
    answer[:, 0] = 2  # a refusal
    simulator.step({"agent": answer})
    simulator.step({"agent": torch.full((6, 5), 3)})
    chosen = sales.attributes[torch.arange(6)[:, None], torch.arange(5), answer.clamp(max=1)]
    expected = before + 0.2 * (chosen - before)
    expected[:, 0] = before[:, 0]
    torch.testing.assert_close(simulator.state.people.values, expected)


def test_population_gives_the_customers_and_the_center():
    population = {"kind": "normal", "num_people": 30, "num_values": 3, "mean": 5.0, "std": 0.5}
    result = mores.simulate(
        environment(num_people=30, num_values=3),
        population=mores.make_population(**population),
        worlds=4,
        rounds=2,
        metrics=["mean_value"],
    )
    assert abs(float(result.metrics["mean_value"].mean()) - 5.0) < 0.3
    state = result.state
    assert state.current.sales.attributes.shape[2:] == (2, 3)
    assert abs(float(state.current.sales.attributes.mean()) - 5.0) < 0.2
    assert (
        float(state.current.sales.customer_utility.abs().mean()) < 5
    )  # in units of the population


def test_render_names_choice_rationale_and_readers():
    env = environment(num_people=2)
    simulator = play(env, 3, choose=0, explain=1)
    text = env.render(simulator.state, world=1)
    for words in ("budget", "chosen", "names the interest: principal", "the rationale is read by"):
        assert words in text
    start = env.render(dataclasses.replace(simulator.state, rounds_elapsed=torch.zeros(3).long()))
    assert "waiting for an answer" in start


# --- learning -------------------------------------------------------------------------------------


@pytest.mark.full
def test_ppo_reaches_the_optimum_of_a_fixed_task():
    """Two conditions differ: the customer's product pays only if principals do not read."""
    env = environment(**FIXED, num_sales=1, num_people=16, num_held_out_tasks=2)
    agent: dict[str, Any] = {"kind": "ppo", "num_steps": 1, "num_minibatches": 1, "ent_coef": 0.1}
    # The choice depends on who reads and on the order of products together: one small layer stays
    # in a local optimum, with the right choice in one of the orders.
    network = {"kind": "mlp", "hidden_sizes": [64, 64], "activation": "relu"}
    agent |= {"learning_rate": 0.005, "normalize_advantage": False, "network": network}
    result = mores.train(
        env,
        {"agent": agent},
        episodes=60,
        rounds=1,
        replicates=2,
        worlds=8,
        seed=5,
        roles_to_train=["agent"],
        metrics=["feedback_regret", "information_effect"],
        progress=False,
    )
    last = result.curves.isel(episode=-1)
    assert float(last["feedback_regret"].max()) < 0.1
    assert float(last["information_effect"].min()) > 0.6


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"price_low": 2.0}, "conflict", "principal_agent"),
        ({"budget_low": 9.0}, "conflict", "principal_agent"),
        ({"condition_shares": [0, 0, 0, 0]}, "out_of_range", "principal_agent.condition_shares"),
        ({"condition_shares": [1, -1, 1, 1]}, "out_of_range", "principal_agent.condition_shares"),
        ({"tasks": []}, "wrong_shape", "principal_agent.tasks"),
        ({"tasks": [COMMERCIAL, COMMERCIAL]}, "duplicate", "principal_agent.tasks.1.name"),
        ({"tasks": [{"name": "x", "num_harmful": 3}]}, "out_of_range", None),
        ({"tasks": [{"name": "x", "products": PRODUCTS[:1]}]}, "wrong_shape", None),
        ({"principal_ideals": [[1.0]]}, "wrong_shape", "principal_agent.principal_ideals"),
        ({"audit_probability": 1.5}, "out_of_range", "principal_agent.audit_probability"),
        ({"observe_visability": False}, "unknown_name", None),
    ],
)
def test_bad_parameters(parameters, code, path):
    with refused(code, path):
        environment(**parameters)


def test_bad_population_and_raters():
    with refused("unsupported", None):
        mores.make_policy("party_rater", rating="best_option")
    with refused("unsupported", "policies.customer"):
        simulate(environment(), {"customer": "customer_first"}, worlds=1, rounds=1)
