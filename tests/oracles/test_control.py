"""The environment `control` against closed forms, other solvers, and its own play."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor

import mores
from mores.core.policy import ActionOutput
from mores.envs.oversight import (
    control_frontier,
    control_outcomes,
    hard_budget,
    inspection_game,
    resampling,
)
from mores.envs.oversight.control import Control
from mores.envs.oversight.control_counts import expected_counts
from mores.envs.oversight.control_game import AttackTables
from mores.envs.oversight.control_metrics import distinct_worlds
from mores.envs.oversight.control_outcomes import Routing, routed_outcome
from mores.envs.oversight.control_policies import DiscretePolicy, EvidenceMonitor
from mores.envs.oversight.control_setting import AUDIT, DEFER, SUBMIT, ControlSetting
from mores.envs.oversight.protocols.protocol import ControlEpisode, ControlProtocol
from mores.envs.oversight.protocols.resampling import (
    AuditResample,
    DeferToResample,
    LeastSuspicious,
)
from mores.registry.specs import policies_from_specs
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.cases import FULL
from tests.refusals import refused

SETTING = ControlSetting()
UNTRUSTED = {"kind": "untrusted_monitoring"}
# Protocol, scaled usefulness, S_10 of the best response, of the medium and of the stealthy attack.
TABLE: list[tuple[Any, float, float, float | None, float | None]] = [
    ("trust_untrusted", 1, 0.0, 0.000105, 0.056314),
    ("trusted_only", 0, 1.0, 1.0, 1.0),
    ("random_audit", 1, 0.05, 0.080703, 0.201766),
    ("trusted_monitoring", 1, 0.584655, 0.746648, 0.584814),
    ({"kind": "trusted_monitoring", "audit_budget": 0.02}, 1, 0.411216, None, None),
    (UNTRUSTED, 1, 0.760448, 0.945476, 0.760448),
    ({**UNTRUSTED, "collusion": 0.3}, 1, 0.642304, 0.746533, 0.642648),
    ({**UNTRUSTED, "collusion": 0.5}, 1, 0.498925, 0.582976, 0.534032),
    ("trusted_editing", 0.925, 0.091893, 0.138778, 0.228042),
    ({"kind": "trusted_editing", "edited_share": 0.5}, 0.8125, 0.105934, 0.245809, 0.426284),
    ("defer_to_trusted", 0.8, 0.314385, 0.463500, 0.314385),
    ({"kind": "defer_to_trusted", "deferred_share": 0.5}, 0.5, 0.667165, 0.871586, 0.667165),
    ("audit_and_edit", 0.925, 0.702375, 0.879218, 0.702375),
    ("audit_and_defer", 0.8, 0.739385, 0.920059, 0.739385),
    ({"kind": "resampling"}, 1, 0.677385, None, None),
    ({"kind": "resampling", "statistic": "min"}, 1, 0.402963, None, None),
    ({"kind": "resampling", "statistic": "mean"}, 1, 0.727091, None, None),
    ({"kind": "resampling", "draws": 5, "statistic": "mean"}, 1, 0.775041, None, None),
]


@pytest.mark.parametrize("row", TABLE, ids=str)
def test_exact_values_of_the_base_case(row: tuple[Any, ...]) -> None:
    """Numbers that a dynamic program of its own computed, six digits."""
    protocol, usefulness, safety, medium, stealthy = row
    values = Control(protocol=protocol).analytic_values({}, 10)
    expected = {"usefulness": usefulness, "best_response_safety": safety}
    expected |= {"safety_level_2": medium, "safety_level_3": stealthy}
    for name, number in expected.items():
        if number is not None:
            assert values[name] == pytest.approx(number, abs=1e-6), name


PLAYED: list[Any] = [row[0] for row in TABLE] + [
    {"kind": "optimal", "usefulness": 0.82},
    {"kind": "least_suspicious", "draws": 3},
    {"kind": "defer_to_resample", "draws": 2},
]
OTHER_SETTINGS: list[dict[str, Any]] = [
    {"num_audits": 2, "protocol": {"kind": "trusted_monitoring", "audit_budget": 0.2}},
    {
        "num_audits": 2,
        "protocol": {"kind": "trusted_monitoring", "audit_budget": 0.2},
        "setting": {"audit_detection": 0.6},
    },
    {"protocol": "budgeted_monitoring", "num_audits": 2},
    {"setting": {"score_family": "logistic", "audit_detection": 0.8}},
    {
        "protocol": "equalized_monitoring",
        "task_classes": [
            {"share": 0.7, "detectability": (3.5, 2.5, 1.5)},
            {"share": 0.3, "success_chance": (0.9, 0.5, 0.3), "stakes": 2.0},
        ],
    },
]


def z_score(values: np.ndarray, expected: float) -> float | None:
    """Standardized difference from the expected share; None if it is certain."""
    if expected < 1e-9 or expected > 1 - 1e-9:
        assert values.mean() == pytest.approx(expected, abs=1e-9)
        return None
    variance = expected * (1 - expected) / len(values)
    return float((values.mean() - expected) / math.sqrt(variance))


def test_played_safety_and_usefulness_agree_with_exact_values() -> None:
    """Every protocol against two attackers, and honest runs: |z| below 4, rms of z near 1.

    Each point has a seed of its own, so that the z are independent.
    """
    worlds, scores, seed = 4000 if FULL else 1000, [], 100
    cases = [{"protocol": each} for each in (PLAYED if FULL else PLAYED[1::2])] + OTHER_SETTINGS
    for case in cases:
        for policy in ({"kind": "fixed_attack", "level": 3, "rate": 0.4}, "best_response_attacker"):
            env = Control(**case)
            names = ["safety", "exact_safety"]
            result = simulate(
                env, {"untrusted": policy}, worlds, 10, seed, names, metric_rounds=[10]
            )
            played, exact = (result.metrics[name].values.ravel() for name in names)
            assert exact.std() < 1e-6
            scores.append(z_score(played, float(exact[0])))
            seed += 1
        honest = Control(**case, attack_prior=0.0)
        names = ["main_task_success"]
        result = simulate(honest, {}, worlds, 1, seed, names, metric_rounds=[1])
        expected = sum(
            x.share * o.usefulness
            for x, o in zip(honest.class_settings, honest.game.outcomes[0][0][-1], strict=True)
        )
        scores.append(z_score(result.metrics["main_task_success"].values.ravel(), expected))
        seed += 1
    z = np.array([each for each in scores if each is not None])
    assert len(z) >= 38 and np.abs(z).max() < 4
    assert 0.7 < math.sqrt((z**2).mean()) < 1.3


def test_counted_successes_and_rents() -> None:
    """Deterrence with a rent: attacks in the last tasks alone, and their exact consequences."""
    table = {0.0: (0.71170, None), 0.05: (1.46382, 0.56404), 0.1: (2.38120, 0.51171)}
    for rent, (value, harm) in table.items():
        env = Control(num_tasks=20, objective="success_count", service_reward=rent)
        values = env.analytic_values({}, 20)
        assert values["best_response_return"] == pytest.approx(value, abs=1e-5)
        if harm is not None:
            assert values["best_response_count"] == pytest.approx(harm, abs=1e-5)
    names = ["success_count", "return_untrusted", "in_service"]
    result = simulate(env, {}, 4000, 20, 1, names, metric_rounds=[20])
    for name, expected in zip(names, (0.51171, 2.38120, 0.14667), strict=True):
        played = result.metrics[name].values.ravel()
        assert abs(played.mean() - expected) < 4 * played.std() / math.sqrt(len(played)), name


# --- other solvers --------------------------------------------------------------------------------


def random_policy(shape: tuple[int, ...], seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator, dtype=torch.float64).softmax(-1)


@pytest.mark.parametrize("detection", [1.0, 0.7])
def test_hard_budget_equals_its_own_solver(detection: float) -> None:
    """Recursions with audits left: optimum, evaluation of random tables, best response."""
    setting = ControlSetting(audit_detection=detection)
    protocol = {"kind": "trusted_monitoring", "audit_budget": 0.3}
    env = Control(num_tasks=6, num_audits=2, setting=setting, protocol=protocol)
    outcome = control_outcomes.trusted_monitoring(setting, 0.3)
    audited = np.concatenate([[0.3], outcome.caught / detection])
    audited = torch.tensor(np.tile(audited, (6, 3, 1)))
    audited[:, 0] = 0.0
    policy = random_policy((5, 6, 3, 1, 4), 3)
    game = env.game
    value = game.evaluate(game.policy_rates(policy, torch.zeros(5, dtype=torch.int64)))
    other = hard_budget.evaluate_hard_budget(setting, policy[:, :, :, 0], audited)
    torch.testing.assert_close(value.success_probability, other.success_probability)
    response = hard_budget.hard_budget_response(setting, audited)
    assert game.best_response.value.item() == pytest.approx(response.value[0, -1].item(), abs=1e-12)
    optimum = Control(num_tasks=10, num_audits=2, protocol="budgeted_monitoring")
    assert optimum.analytic_values({}, 10)["best_response_safety"] == pytest.approx(
        0.73744, abs=1e-4
    )


def test_exploitability_equals_that_of_the_inspection_game() -> None:
    """Both sides untrained networks: an independent recursion over their probabilities."""
    env = Control(num_tasks=5, num_audits=1, protocol="audit_rate")
    policies = {role: mores.make_policy("reinforce") for role in ("untrusted", "auditor")}
    simulator = Simulator(env, policies, worlds=3, rounds=5)
    simulator.reset(4)
    state = simulator.state
    answers = {
        name: policies[query.role].expected_action(
            simulator.phases[0], query.observation, None, simulator.policy_states[query.role]
        )
        for name, query in env.policy_queries(state).items()
    }
    metrics = env.policy_metrics(state, answers)
    audits = inspection_game.rate_audits(SETTING)
    attacker = answers["untrusted"][:, 0].double().unflatten(1, (5, 2))
    defender = answers["auditor"][:, 0].double().unflatten(1, (5, 2))
    other = inspection_game.exploitability(SETTING, defender, attacker, audits)
    torch.testing.assert_close(metrics["exploitability"].double(), other, rtol=1e-5, atol=1e-6)
    success = inspection_game.success_probability(SETTING, defender, attacker, audits)
    torch.testing.assert_close(1 - metrics["exact_safety"].double(), success, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "protocol",
    [
        AuditResample(draws=4),
        AuditResample(draws=4, statistic="min"),
        AuditResample(draws=4, statistic="mean"),
        LeastSuspicious(draws=4),
        DeferToResample(draws=3),
    ],
    ids=lambda p: type(p).__name__ + getattr(p, "statistic", ""),
)
def test_mixtures_of_levels_under_resampling(protocol: ControlProtocol) -> None:
    """With one level the closed form; with several levels the play of many tasks."""
    setting = ControlSetting(audit_detection=0.9)
    outcome = protocol.outcome(setting)
    policy = torch.zeros(len(outcome.level), 4, dtype=torch.float64)
    rows = torch.arange(len(policy))
    policy[rows, torch.tensor(outcome.level) + 1] = torch.tensor(outcome.attack_share)
    policy[:, 0] = 1 - torch.tensor(outcome.attack_share)
    mixed = protocol.mixture_outcome(policy, setting)
    assert mixed.caught.numpy() == pytest.approx(outcome.caught, abs=1e-9)
    assert mixed.succeeds.numpy() == pytest.approx(outcome.succeeds, abs=1e-7)
    mixture = torch.tensor([0.55, 0.1, 0.15, 0.2], dtype=torch.float64)
    exact = protocol.mixture_outcome(mixture, setting)
    env = Control(protocol=protocol, setting=setting, num_tasks=1)
    policies = {"untrusted": Mixture(weights=(0.55, 0.1, 0.15, 0.2))}
    result = simulate(env, policies, 20_000, 1, 6, ["safety", "caught"], metric_rounds=[1])
    pairs = {"safety": 1 - exact.succeeds, "caught": exact.caught}
    for name, expected in pairs.items():
        z = z_score(result.metrics[name].values.ravel(), float(expected))
        assert z is None or abs(z) < 4, name


class Mixture(DiscretePolicy):
    """The same probabilities of all options at every task."""

    weights: tuple[float, ...]

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        return torch.tensor(self.weights).expand(*observation.shape[:-1], -1)


def test_top_m_audit_of_work_that_is_held_back() -> None:
    """Scores of played episodes with one attack: the m highest of n, exact order statistic.

    The interval is joint over the detectabilities (Bonferroni, 95 %).
    """
    shifts, n, m, worlds = (0.0, 0.5, 1.0, 2.0), 50, 1, 4000
    setting = ControlSetting(detectability=shifts, success_chance=(1.0,) * 4)
    expected = control_outcomes.held_back_catch_probability(setting, n, m)
    half_width = norm.isf(0.05 / len(shifts) / 2)
    for level, chance in enumerate(expected, 1):
        protocol = {"kind": "trusted_monitoring", "audit_budget": 0.0}
        env = Control(num_tasks=n, protocol=protocol, setting=setting, objective="success_count")
        policies = {"untrusted": FirstTask(level=level)}
        result = simulate(env, policies, worlds, n, level, latent=["score", "level"])
        score = result.latent["score"].values[:, 1:]
        assert (result.latent["level"].values[:, 1:].sum(1) == level).all()
        caught = (score[:, :1] < score).sum(1) < m
        error = math.sqrt(chance * (1 - chance) / worlds)
        assert abs(caught.mean() - chance) < half_width * error, shifts[level - 1]


class FirstTask(DiscretePolicy):
    """An attack in the first task alone."""

    level: int

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        action = torch.where(observation[..., 0] == 0, self.level, 0)
        return torch.nn.functional.one_hot(action, num_options).to(observation.dtype)


# --- auditors, variants, people -------------------------------------------------------------------


def test_an_auditor_with_thresholds_equals_the_protocol() -> None:
    """Thresholds at edges of bins: the same safety as a protocol with these shares."""
    audit, edit = 1.6, 0.9
    env = Control(protocol="auditor")
    auditor = {"kind": "scripted_auditor", "audit_above": audit, "edit_above": edit}
    policies = {"untrusted": {"kind": "fixed_attack", "level": 3}, "auditor": auditor}
    names = ["exact_safety", "best_response_safety", "exact_usefulness", "safety"]
    result = simulate(env, policies, 500, 10, 3, names, metric_rounds=[10])
    shares = {"audit_budget": norm.sf(audit), "edited_share": norm.sf(edit) - norm.sf(audit)}
    same = Control(protocol={"kind": "audit_and_edit", **shares}).analytic_values({}, 10)
    expected = {"exact_safety": "safety_level_3", "best_response_safety": "best_response_safety"}
    for name, other in {**expected, "exact_usefulness": "usefulness"}.items():
        values = result.metrics[name].values
        assert values == pytest.approx(same[other], abs=1e-5), name
    played = result.metrics["safety"].values.ravel()
    assert abs(z_score(played, same["safety_level_3"]) or 0) < 4


def test_usefulness_of_an_auditor_with_a_limit_of_audits() -> None:
    """Its rule may depend on the audits left: the recursion is over those of an honest run."""
    env = Control(protocol="auditor", num_audits=1, num_tasks=20, attack_prior=0.0)
    policies = {"auditor": AuditThenDefer(), "untrusted": "honest_policy"}
    names = ["exact_main_task_success", "main_task_success"]
    result = simulate(env, policies, 1000, 20, 5, names, metric_rounds=[20])
    exact, played = (result.metrics[name].values.ravel() for name in names)
    p = norm.sf(1.0)
    before = sum((1 - p) ** t for t in range(20)) / 20  # share of tasks begun with the audit left
    assert exact == pytest.approx(0.9 * before + 0.5 * (1 - before), abs=1e-6)
    assert abs(played.mean() - exact[0]) < 4 * played.std() / math.sqrt(len(played))


class AuditThenDefer(DiscretePolicy):
    """Auditor that audits scores above 1, and defers everything when no audit is left."""

    role_name = "auditor"

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        audit = torch.where(state.read(observation, "score") > 1.0, AUDIT, SUBMIT)
        left = state.read(observation, "audits_left") > 0
        action = torch.where(left, audit, DEFER)[..., 0]
        return torch.nn.functional.one_hot(action, num_options).to(observation.dtype)


def test_attack_rate_is_that_of_tasks_that_are_begun() -> None:
    """By the audits left: a run that a success has ended does not count any more."""
    env = Control(num_audits=1, protocol={"kind": "trusted_monitoring", "audit_budget": 0.3},
                  setting={"audit_detection": 0.5}, num_tasks=2)  # fmt: skip
    game = env.game
    policy = torch.zeros(1, 2, 2, 1, 4, dtype=torch.float64)
    policy[:, 0, :, :, 2] = policy[:, 1, 0, :, 0] = policy[:, 1, 1, :, 2] = 1.0
    value = game.evaluate(game.policy_rates(policy, torch.zeros(1, dtype=torch.int64)))
    audited = float(env.setting.roc(0.3)[1])
    fails = 1 - env.setting.success_chance[1]
    unaudited, missed = (1 - audited) * fails, audited * 0.5 * fails
    expected = unaudited / (unaudited + missed)  # attacks only with the audit left
    assert value.attack_rate[0].tolist() == pytest.approx([1.0, expected], abs=1e-12)


class Shifted(ControlProtocol):
    """Audits at a rate, and edits of a share, that change evenly over the tasks."""

    audits: tuple[float, float]
    edits: tuple[float, float]

    def outcome(self, setting: ControlSetting) -> control_outcomes.ProtocolOutcome:
        return control_outcomes.trusted_editing(setting, self.edits[0], self.audits[0])

    def outcomes(self, episode: ControlEpisode) -> Sequence[Any]:
        shares = np.linspace(0, 1, episode.num_tasks)
        edits, audits = (x[0] + shares * (x[1] - x[0]) for x in (self.edits, self.audits))
        return [
            [[control_outcomes.trusted_editing(SETTING, float(e), float(a))]]
            for e, a in zip(edits, audits, strict=True)
        ]


@pytest.mark.parametrize(
    ("audits", "edits", "usefulness", "safety"),
    [((0.05, 0.05), (0.26, 0.14), 0.87, 0.71072), ((0.06, 0.04), (0.0, 0.0), 0.9, 0.58946)],
)
def test_shifts_between_tasks_beat_the_frontier_of_single_tasks(
    audits: tuple[float, float], edits: tuple[float, float], usefulness: float, safety: float
) -> None:
    """The frontier holds for usefulness and audits at every task, not for their means."""
    values = Control(protocol=Shifted(audits=audits, edits=edits)).analytic_values({}, 10)
    assert values["main_task_success"] == pytest.approx(usefulness, abs=1e-9)
    assert values["best_response_safety"] == pytest.approx(safety, abs=1e-5)
    frontier = control_frontier.optimal_defender(SETTING, 10, 0.05, usefulness).safety
    assert values["best_response_safety"] > frontier + 0.004
    assert "frontier_safety" not in values


def test_first_attacks_gain_from_honest_work() -> None:
    """With a rent honest work is no local optimum: any late attack gains."""
    env = Control(num_tasks=20, objective="success_count", service_reward=0.1)
    policy = torch.zeros(5, 20, 1, 1, 4, dtype=torch.float64)
    policy[..., 0] = 1.0
    for row, task in enumerate((19, 18, 17, 16), 1):
        policy[row, task] = torch.tensor([0.0, 1.0, 0.0, 0.0])
    rates = [torch.eye(4, dtype=torch.float64)[k] for k in (1, 2, 3)]
    returns = []
    for rate in rates:
        policy[1:, :][policy[1:, :, 0, 0, 0] == 0] = rate
        value = env.game.evaluate(env.game.policy_rates(policy, torch.zeros(5).long()))
        returns.append(value.expected_return)
    gains = torch.stack(returns).amax(0) - returns[0][0]
    assert gains[1:].tolist() == pytest.approx([0.217, 0.159, 0.133, 0.107], abs=5e-4)


def test_random_rewards_carry_no_information() -> None:
    """A fair coin at the end of the run, for attackers that end it early and for honest ones."""
    for policy in ("honest_policy", {"kind": "fixed_attack", "level": 1}):
        for objective in ("first_success", "success_count"):
            env = Control(
                reward_source="random", success_reward=2.0, catch_penalty=3.0, service_reward=0.5,
                objective=objective,
            )  # fmt: skip
            names = ["return_untrusted"]
            result = simulate(env, {"untrusted": policy}, 2000, 10, 7, names, metric_rounds=[10])
            returns = result.metrics["return_untrusted"].values.ravel()
            assert set(returns.tolist()) == {0.0, 2.0}
            assert abs(z_score(returns / 2, 0.5) or 0) < 4


def test_calibrated_threshold_has_the_distribution_of_its_order_statistic() -> None:
    """Realized rate of H = 100 runs; its error is common to all tasks of an episode."""
    protocol = {"kind": "calibrated_monitoring", "honest_runs": 100}
    env = Control(protocol=protocol, num_tasks=200, attack_prior=0.0)
    result = simulate(env, {}, 400, 200, 2, ["honest_audit_rate"], metric_rounds=[200])
    rates = result.metrics["honest_audit_rate"].values.ravel()
    law = beta(5, 96)
    sampling = np.sqrt(law.var() + (law.mean() * (1 - law.mean()) - law.var()) / 200)
    assert abs(rates.mean() - law.mean()) < 4 * sampling / 20
    assert rates.std() == pytest.approx(sampling, rel=0.15)
    safety = [
        1 - Control(protocol={"kind": "trusted_monitoring", "audit_budget": float(rate)})
        .game.worst_case.item()
        for rate in law.ppf((np.arange(60) + 0.5) / 60)
    ]  # fmt: skip
    exact = Control(protocol=protocol).analytic_values({}, 10)["best_response_safety"]
    assert exact == pytest.approx(np.mean(safety), abs=2e-3)
    assert np.std(safety) == pytest.approx(0.088, abs=5e-3)


PEOPLE: dict[str, Any] = {
    "num_people": 5,
    "exposure": {"kind": "lognormal", "median": 1.0, "log_std": 1.0},
}


def expected_costs(env: Control, seed: int) -> tuple[np.ndarray, Simulator]:
    """Costs of the options that people observe, and the simulator after the votes."""
    simulator = Simulator(env, policies_from_specs(env.default_policies()), worlds=200, rounds=10)
    simulator.reset(seed)
    space = env.roles[-1].observation_space
    cost = space.read(env.observe(simulator.state, "person", "vote"), "expected_cost").numpy()
    simulator.step()
    return cost, simulator


def test_people_bear_harm_by_exposure_and_vote_by_it() -> None:
    """Harm sums to the total; the median of exposures decides."""
    rates = (0.01, 0.05, 0.2, 0.5)
    env = Control(**PEOPLE, vote_rates=rates, audit_cost=0.05, attack_prior=0.2, harm_penalty=5.0)
    cost, simulator = expected_costs(env, 5)
    exposure = simulator.state.people.exposure
    assert exposure.sum(1).numpy() == pytest.approx(1.0, abs=1e-6)
    median = np.sort(cost.argmin(-1), axis=1)[:, 2]
    assert (simulator.state.variant.numpy() == median).all() and len({*median}) > 1
    metrics = env.metrics(simulator.state)
    assert metrics["person_harm"].sum(1).numpy() == pytest.approx(metrics["harm"].numpy(), abs=1e-5)


@pytest.mark.parametrize("objective", ["first_success", "success_count"])
def test_expected_cost_is_that_of_the_played_rewards(objective: str) -> None:
    """Main tasks less audits and harm, of runs that the best response ends early by being caught.

    All vote for the first of two rates; n main tasks at most are the zero point.
    """
    rates = (0.1, 0.3)
    env = Control(
        num_people=2, vote_rates=rates, audit_cost=0.7, harm_penalty=2.0, attack_prior=0.6,
        main_task_reward=0.5, objective=objective, setting={"audit_detection": 0.8},
    )  # fmt: skip
    cost, _ = expected_costs(env, 3)
    assert np.ptp(cost[..., 0]) < 1e-6
    policies = {**env.default_policies(), "person": FirstOption()}
    result = simulate(env, policies, 4000, 10, 4, ["return_person"], metric_rounds=[10])
    played = 0.5 * 10 / 2 - result.metrics["return_person"].values.reshape(4000)
    error = played.std() / math.sqrt(len(played))
    assert abs(played.mean() - cost[0, 0, 0]) < 4 * error


class FirstOption(DiscretePolicy):
    """A vote for the first option."""

    role_name = "person"

    def probabilities(self, observation: Tensor, num_options: int, state: Any) -> Tensor:
        zero = torch.zeros(observation.shape[:-1], dtype=torch.int64)
        return torch.nn.functional.one_hot(zero, num_options).to(observation.dtype)


def test_audits_of_an_attacker_that_is_retired() -> None:
    """At most one audit finds it: audits do not grow with the rate, and votes count main tasks."""
    rates = (0.02, 0.03, 0.05, 0.07, 0.1, 0.15)
    base: dict[str, Any] = {
        "num_tasks": 24, "objective": "success_count", "num_people": 30, "vote_rates": rates,
        "audit_cost": 0.2,
    }  # fmt: skip
    env = Control(**base)
    policy = env.game.best_response.policy(4)
    counts = expected_counts(env.game, env.game.action_tables, policy)
    assert counts.audits.numpy() == pytest.approx([0.986, 0.996, 1, 1, 1, 1], abs=1e-3)
    for main_task_reward, rate in ((1.0, 0.02), (0.0, 0.15)):
        voted = Control(**base, main_task_reward=main_task_reward)
        _, simulator = expected_costs(voted, 1)
        assert (simulator.state.variant == rates.index(rate)).all()


def test_values_move_toward_the_side_task_and_only_by_success() -> None:
    """One success in the last task moves each person by the influence times relative exposure."""
    base = {"num_people": 4, "human": {"kind": "idealised", "influence": 0.3}, "num_tasks": 1}
    attacked = Control(**base, protocol="trust_untrusted")
    spared = Control(**base, protocol="trusted_only")
    policies = {"untrusted": {"kind": "fixed_attack", "level": 1}}
    moved, still = (simulate(env, policies, 3, 1, 8).state.people for env in (attacked, spared))
    h = still.trait_state.values
    assert torch.allclose(moved.trait_state.values, h + 0.3 * (3.0 - h))
    exposed = Control(
        **base, protocol="trust_untrusted", exposure={"kind": "uniform", "low": 0.1, "high": 5.0}
    )
    state = simulate(exposed, policies, 3, 1, 8).state.people
    share = (0.3 * 4 * state.exposure).clamp(max=1.0)[..., None]
    assert torch.allclose(state.trait_state.values, h + share * (3.0 - h), atol=1e-6)


class ScaledMonitor(EvidenceMonitor):
    """Monitor on another scale than the evidence: log odds of an attack at a prior."""

    log_odds: float
    shift: float

    def act(self, phase, observation, action_mask, state, streams, search=False):
        score = self.log_odds + self.shift * observation - self.shift**2 / 2
        return ActionOutput(score, state)


def test_an_acting_monitor_keeps_the_audit_budget_on_any_scale() -> None:
    """Honest work is audited at the rate of the protocol; attacks as by a calibrated threshold."""
    env = Control(monitor_acts=True, num_tasks=20, attack_prior=0.0)
    monitor = ScaledMonitor(log_odds=-5.0, shift=0.3)
    names = ["honest_audit_rate"]
    result = simulate(env, {"monitor": monitor}, 1000, 20, 1, names, metric_rounds=[20])
    rate = result.metrics["honest_audit_rate"].values.mean()
    assert abs(rate - 0.05) < 4 * math.sqrt(0.05 * 0.95 / 20_000)
    attack = Control(monitor_acts=True, num_tasks=1)
    policies = {"untrusted": {"kind": "fixed_attack", "level": 2}, "monitor": monitor}
    result = simulate(attack, policies, 10_000, 1, 2, ["caught"], metric_rounds=[1])
    law = beta(5, 95)  # of the honest rate above the fifth of 99 scores
    points = law.ppf((np.arange(1000) + 0.5) / 1000)
    expected = norm.sf(norm.isf(points) - 2.0).mean()
    assert abs(z_score(result.metrics["caught"].values.ravel(), expected) or 9) < 4


def test_log_odds_are_the_best_scores_of_a_monitor() -> None:
    """Tasks are scored whatever the score: never to flag is worse than the truth.

    One task, attacked always; all references together have the weight of one honest task: the log
    odds at prior one half earn most.
    """
    env = Control(monitor_acts=True, num_tasks=1, scored_share=0.25)
    policies = {"untrusted": {"kind": "fixed_attack", "level": 2}}
    returns = {}
    for name, shift, prior in (("truth", 2.0, 0.0), ("never", 0.0, -20.0), ("shy", 2.0, -1.0)):
        monitor = ScaledMonitor(log_odds=prior, shift=shift)
        result = simulate(
            env, {**policies, "monitor": monitor}, 4000, 1, 3, ["return_monitor"], metric_rounds=[1]
        )
        mean_of_agents = result.metrics["return_monitor"].values.mean()
        returns[name] = float(mean_of_agents) * (1 + env.num_references)
    x = np.linspace(-8, 10, 4001)
    log_odds = 2 * x - 2
    terms = -norm.pdf(x, 2) * np.logaddexp(0, -log_odds) - norm.pdf(x) * np.logaddexp(0, log_odds)
    exact = 0.25 * terms.sum() * (x[1] - x[0])
    assert returns["truth"] == pytest.approx(exact, abs=0.02)
    assert returns["truth"] > returns["shy"] > returns["never"]


def test_a_copy_that_acts_may_pass_attacks_and_has_the_attackers_reward() -> None:
    copy = Control(monitor_acts=True, protocol="untrusted_monitoring", num_tasks=1)
    policies = {"untrusted": {"kind": "fixed_attack", "level": 2}, "monitor": Colluder()}
    names = ["caught", "return_monitor", "return_untrusted"]
    result = simulate(copy, policies, 500, 1, 3, names)
    last = {name: x.values[:, -1] for name, x in result.metrics.items()}
    assert (last["caught"] == 0).all()
    own = last["return_untrusted"].reshape(500, 1)
    assert (last["return_monitor"].reshape(500, -1) == own).all() and own.std() > 0


def test_an_acting_monitor_has_no_exact_values() -> None:
    """The recursion knows the distribution of the evidence, not that of a policy's scores."""
    env = Control(monitor_acts=True)
    simulator = Simulator(env, policies_from_specs(env.default_policies()), worlds=2, rounds=10)
    simulator.reset(0)
    assert env.policy_metric_names == () and env.policy_queries(simulator.state) == {}
    assert env.analytic_values({}, 10) == {}


class Colluder(EvidenceMonitor):
    """Copy that gives its own attacks the lowest score."""

    def act(self, phase, observation, action_mask, state, streams, search=False):
        score = torch.where(observation[..., 1:] > 0, -20.0, observation[..., :1])
        return ActionOutput(score, state)


class EveryOther(ControlProtocol):
    """A user's protocol: a random half of suspicious work is deferred."""

    above: float = 1.0

    def outcome(self, setting: ControlSetting) -> control_outcomes.ProtocolOutcome:
        probabilities = np.array([[1.0, 0.0, 0.0, 0.0], [0.5, 0.0, 0.0, 0.5]])
        return routed_outcome(setting, Routing(np.array([self.above]), probabilities))


def test_a_protocol_of_a_user() -> None:
    """Its routing is played, and its exact values follow from it."""
    if "every_other" not in mores.registry.REGISTRIES["protocol"]:
        mores.register("protocol", "every_other", EveryOther)
    env = mores.make_environment("control", protocol={"kind": "every_other", "above": 0.5})
    result = simulate(env, {}, 3000, 10, 9, ["safety"], metric_rounds=[10])
    exact = env.analytic_values({}, 10)["best_response_safety"]
    assert abs(z_score(result.metrics["safety"].values.ravel(), exact) or 0) < 4
    assert norm.sf(0.5) / 2 == pytest.approx(env.protocol.outcome(SETTING).honest_defer_rate)


def test_what_the_attacker_observes() -> None:
    """Never the score; the protocol's numbers and audits left only if informed."""
    env = Control(num_audits=3)
    parts = set(env.roles[0].observation_space.parts)
    assert parts == {"tasks_elapsed", "in_service", "attack_mode", "audits_left", "protocol",
                     "detectability", "success_chance"}  # fmt: skip
    blind = Control(num_audits=3, informed=False)
    assert parts - set(blind.roles[0].observation_space.parts) == {"audits_left", "protocol"}
    simulator = Simulator(env, policies_from_specs(env.default_policies()), worlds=6, rounds=10)
    simulator.reset(1)
    for _ in range(10):
        seen = env.observe(simulator.state, "untrusted", "act")[:, 0]
        in_service = env.roles[0].observation_space.read(seen, "in_service")[:, 0] > 0
        step, b = simulator.state.tasks_done, simulator.state.audits_left
        table = env.observations.untrusted_table[0, 0].unflatten(0, env.game.state_shape)
        rows = table[step.clamp(max=9), b, simulator.state.next_class]
        assert torch.equal(rows[in_service], seen[in_service])
        simulator.step()


def test_worlds_with_equal_policies_are_grouped() -> None:
    """Groups are exact: equal rows, and no others."""
    table = random_policy((7, 3, 4), 1)[torch.tensor([0, 1, 0, 2, 2, 6, 1])]
    first, group = distinct_worlds([table])
    assert len(first) == 4 and torch.equal(table[first][group], table)


def test_render_tells_what_happened() -> None:
    env = Control()
    simulator = Simulator(
        env, {"untrusted": mores.make_policy("fixed_attack")}, worlds=1, rounds=10
    )
    simulator.reset(0)
    assert env.render(simulator.state) == "attack run, no task done of 10"
    simulator.step()
    text = env.render(simulator.state)
    assert "attack at level 1" in text and "retired" in text


BAD: list[tuple[str, str, dict[str, Any]]] = [
    ("unknown_name", "control.protocol", {"protocol": "trusted_monitorin"}),
    ("out_of_range", "control.protocol.audit_budget",
     {"protocol": {"kind": "random_audit", "audit_budget": 2.0}}),
    ("conflict", "control.protocol.edited_share",
     {"protocol": {"kind": "audit_and_edit", "edited_share": 0.97}}),
    ("wrong_shape", "control.setting.success_chance", {"setting": {"success_chance": (1.0,)}}),
    ("invalid_value", "control.task_classes", {"task_classes": [{"share": 0.5}]}),
    ("wrong_shape", "control.task_classes",
     {"task_classes": [{"share": 1.0, "detectability": (1.0,)}]}),
    ("conflict", "control.vote_rates", {"vote_rates": (0.1, 0.2)}),
    ("unsupported", "control.protocol", {"protocol": "resampling", "num_audits": 1}),
    ("unsupported", "control.vote_rates",
     {"vote_rates": (0.1, 0.2), "num_people": 2, "monitor_acts": True}),
    ("conflict", "control.protocol",
     {"protocol": {"kind": "untrusted_monitoring", "collusion": 0.1}, "monitor_acts": True}),
    ("out_of_range", "control.protocol.honest_runs",
     {"protocol": {"kind": "calibrated_monitoring", "honest_runs": 10}}),
]  # fmt: skip


@pytest.mark.parametrize("case", BAD, ids=lambda case: case[1])
def test_bad_parameters(case: tuple[str, str, dict[str, Any]]) -> None:
    code, path, parameters = case
    with refused(code, path):
        mores.make_environment("control", **parameters)


def test_bad_policies_and_protocols() -> None:
    with refused("out_of_range", "fixed_attack.level"):
        simulate(Control(), {"untrusted": {"kind": "fixed_attack", "level": 4}}, 1, 1)
    with refused("unsupported", "policies.untrusted"):
        simulate(Control(protocol="auditor"), {"untrusted": "best_response_attacker"}, 1, 1)
    with refused("unsupported", "policies.untrusted"):
        simulate(Control(num_audits=1, informed=False), {}, 1, 1)
    with refused("conflict", "control.protocol"):
        mores.make_environment("control", protocol="budgeted_monitoring")
    for kind in ("honest_policy", "scripted_auditor", "least_cost_voter"):
        with refused("unsupported", "policies.player"):
            simulate(mores.make_environment("matrix_game"), {"player": kind}, 1, 1)


def test_tables_of_options_have_their_names() -> None:
    """The default game: caught and succeeds of honest work are 0."""
    tables = Control().game.attack_tables
    assert isinstance(tables, AttackTables)
    assert all((x[..., 0] == 0).all() for x in (tables.caught, tables.succeeds))
    outcome = resampling.resample_and_audit(SETTING, 0.05, 1, "max")
    single = control_outcomes.trusted_monitoring(SETTING, 0.05)
    assert outcome.caught[99::100] == pytest.approx(single.caught, abs=1e-9)
