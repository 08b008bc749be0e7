"""The environment `control` against closed forms, other solvers, and its own play."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import beta, norm
from torch import Tensor

import mores
from mores.core.policy import ActionOutput
from mores.envs.oversight import control_outcomes, hard_budget, inspection_game, resampling
from mores.envs.oversight.control import Control
from mores.envs.oversight.control_game import AttackTables
from mores.envs.oversight.control_metrics import distinct_worlds
from mores.envs.oversight.control_outcomes import Routing, routed_outcome
from mores.envs.oversight.control_policies import DiscretePolicy, EvidenceMonitor
from mores.envs.oversight.control_setting import ControlSetting
from mores.envs.oversight.protocols.protocol import ControlProtocol
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


def test_people_bear_harm_by_exposure_and_vote_by_it() -> None:
    """Harm sums to the total; the median of exposures decides; without attacks nobody moves."""
    people = {"num_people": 5, "exposure": {"kind": "lognormal", "median": 1.0, "log_std": 1.0}}
    rates = (0.01, 0.05, 0.2, 0.5)
    env = Control(**people, vote_rates=rates, audit_cost=0.02)
    simulator = Simulator(env, policies_from_specs(env.default_policies()), worlds=200, rounds=10)
    simulator.reset(5)
    exposure = simulator.state.people.exposure
    assert exposure.sum(1).numpy() == pytest.approx(1.0, abs=1e-6)
    simulator.step()
    harm = [
        Control(protocol={"kind": "trusted_monitoring", "audit_budget": rate})
        .game.best_response_value.harm.item()
        for rate in rates
    ]  # fmt: skip
    cost = exposure.numpy()[..., None] * np.array(harm) + 0.02 * 10 * np.array(rates) / 5
    median = np.sort(cost.argmin(-1), axis=1)[:, 2]
    assert (simulator.state.variant.numpy() == median).all() and len({*median}) > 1
    metrics = env.metrics(simulator.state)
    assert metrics["person_harm"].sum(1).numpy() == pytest.approx(metrics["harm"].numpy(), abs=1e-5)


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


def test_monitor_is_rewarded_on_audited_tasks_and_a_copy_may_pass_attacks() -> None:
    """Log score of the truth; an untrusted monitor sees attacks and has the attacker's reward."""
    env = Control(monitor_acts=True, num_tasks=1)
    record = ["return_monitor", "audits", "caught"]
    policies = {"untrusted": {"kind": "fixed_attack", "level": 2}}
    result = simulate(env, policies, 2000, 1, 3, record, latent=["score"], metric_rounds=[1])
    score = result.latent["score"].values[:, 1].astype(float)
    expected = np.where(score > norm.isf(0.05), -np.log1p(np.exp(-score)), 0.0)
    assert result.metrics["return_monitor"].values.ravel() == pytest.approx(expected, abs=1e-5)
    copy = Control(monitor_acts=True, protocol="untrusted_monitoring", num_tasks=1)
    attack = {**policies, "monitor": Colluder()}
    result = simulate(copy, attack, 500, 1, 3, ["caught", "return_monitor", "return_untrusted"])
    last = {name: x.values[:, -1] for name, x in result.metrics.items()}
    assert (last["caught"] == 0).all()
    assert (last["return_monitor"] == last["return_untrusted"]).all()


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
    with refused("conflict", "num_audits"):
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
