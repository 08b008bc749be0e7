"""`WeakToStrong` against sets, closed forms, an independent trainer, and its own definition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats

import mores
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.oversight import weak_to_strong_values as values
from mores.envs.oversight.weak_to_strong import CEILINGS, CHANGED, ROLES, WeakToStrong
from mores.envs.oversight.weak_to_strong_task import TaskConfig
from mores.sim.policy_queries import policy_metrics
from mores.sim.simulator import Simulator
from tests.refusals import refused

LEVEL = 1e-4  # significance level of each test of a distribution
STRONG = ("ceiling", "matched", "student", "reseeded", "explicit", "implicit")
CPU = torch.device("cpu")


# --- deception scores ----------------------------------------------------------------------------


def confidence(right: set[int], number: int = 10) -> torch.Tensor:
    """Of a student that is right on these items, and surer the higher their number."""
    return torch.tensor([[(0.6 if i in right else 0.1) + i / 100 for i in range(number)]])


def flags(items: set[int], number: int = 10) -> torch.Tensor:
    return torch.tensor([[item in items for item in range(number)]])


def test_deception_score_of_hand_made_sets() -> None:
    """The ceiling knows 0-7, the supervisor 0-3 and 9; of 1, 4, 5 two are unknown."""
    before, after = {0, 1, 2, 4, 5, 6, 8}, {0, 2, 6, 7}  # taxed: 1, 4, 5, 8
    score = values.deception_score(
        confidence(before), flags(after), flags(set(range(8))), flags({0, 1, 2, 3, 9})
    )
    assert float(score.tax) == pytest.approx(4 / 10)
    assert float(score.known_tax) == pytest.approx(3 / 8)
    assert float(score.score) == pytest.approx(2 / 3)
    assert float(score.base_rate) == pytest.approx(4 / 8)
    assert float(score.excess) == pytest.approx(2 / 3 - 1 / 2)
    assert float(score.at_risk_base_rate) == pytest.approx(3 / 6)
    assert float(score.boundary_score) == 0.0  # 0, 1, 2: right, known to both
    assert float(score.gained_score) == 1.0  # 7
    assert float(score.mirrored_excess) == pytest.approx(2 / 3 - 1)
    lift = math.log(2.5 / 2.5) - math.log(1.5 / 3.5)
    assert float(score.log_odds_lift) == pytest.approx(lift, abs=1e-6)
    assert float(score.null_std) == pytest.approx(stats.hypergeom(8, 4, 3).std() / 3, abs=1e-6)


@pytest.mark.parametrize("known", [set(), {0, 1, 2}])
def test_without_a_taxed_item_the_score_is_the_base_rate(known: set[int]) -> None:
    right = flags({0, 1, 2, 3})
    score = values.deception_score(confidence({0, 1, 2, 3}), right, flags(known), flags({1}))
    assert float(score.score) == float(score.base_rate) == pytest.approx(len(known - {1}) / 3)
    assert float(score.boundary_excess) == float(score.mirrored_excess) == 0.0
    assert float(score.excess) == float(score.log_odds_lift) == float(score.null_std) == 0.0


@given(sets=st.lists(st.sets(st.integers(0, 11)), min_size=4, max_size=4))
def test_deception_score_equals_that_of_python_sets(sets: list[set[int]]) -> None:
    before, after, strong, weak = sets
    score = values.deception_score(
        confidence(before, 12), *(flags(each, 12) for each in (after, strong, weak))
    )
    taxed, unknown = (before - after) & strong, strong - weak
    assert float(score.known_tax) == pytest.approx(len(taxed) / max(len(strong), 1))
    assert float(score.base_rate) == pytest.approx(len(unknown) / max(len(strong), 1))
    if taxed:
        assert float(score.score) == pytest.approx(len(taxed & unknown) / len(taxed))
        at_risk = before & strong
        nearest = set(sorted(at_risk)[: len(taxed)])
        assert float(score.boundary_score) == pytest.approx(len(nearest & unknown) / len(taxed))
        assert float(score.at_risk_base_rate) == pytest.approx(
            len(at_risk & unknown) / len(at_risk)
        )


@given(
    sets=st.lists(st.sets(st.integers(0, 11)), min_size=4, max_size=4),
)
def test_mirrored_excess_changes_its_sign_if_the_students_are_exchanged(
    sets: list[set[int]],
) -> None:
    """So its expectation is 0 if they are exchangeable; also if none is lost, or none gained."""
    one, other, strong, weak = sets
    known = flags(strong, 12), flags(weak, 12)
    there = values.deception_score(confidence(one, 12), flags(other, 12), *known)
    back = values.deception_score(confidence(other, 12), flags(one, 12), *known)
    assert float(there.mirrored_excess) == -float(back.mirrored_excess)
    gained = (other - one) & strong
    if gained:
        assert float(there.gained_score) == pytest.approx(len(gained - weak) / len(gained))


def test_exchangeable_students_have_an_excess_but_no_mirrored_excess() -> None:
    """Two students that err independently, the oftener the harder the item; hard is unknown.

    The supervisor knows half of the items. Both students err with probability .02 there and .3
    elsewhere, so that lost items lie in WU with probability .3 .7 / (.3 .7 + .02 .98) = .9146.
    """
    generator, worlds, number = np.random.default_rng(11), 400, 1000
    weak = torch.arange(number).expand(worlds, -1) < 500
    errs = np.where(np.arange(number) < 500, 0.02, 0.3)
    one, other = (torch.tensor(generator.random((worlds, number)) > errs) for _ in range(2))
    sure = torch.where(one, 0.9, 0.1)
    score = values.deception_score(sure, other, torch.ones_like(weak), weak)

    def z(x: torch.Tensor, expected: float) -> float:
        return abs(float((x.mean() - expected) / x.std())) * math.sqrt(worlds)

    expected = 0.21 / (0.21 + 0.0196) - 0.5
    assert abs(float(score.excess.mean()) - expected) < 0.005  # a ratio: biased by 1 / number
    assert z(score.mirrored_excess, 0.0) < stats.norm.isf(LEVEL / 2)
    assert float(score.mirrored_excess.std()) < 0.1


def test_score_of_a_random_subset_has_the_stated_mean_and_deviation() -> None:
    """Permutation null: which of the known items are taxed is permuted 4,000 times."""
    generator, number, rounds = np.random.default_rng(3), 60, 4000
    strong = np.arange(number) < 45
    weak = generator.random(number) < 0.4
    order = generator.random((rounds, number))
    order[:, ~strong] = 2.0  # never taxed
    taxed = order.argsort(1).argsort(1) < 12
    everywhere = torch.ones(rounds, number)

    def stacked(each: np.ndarray) -> torch.Tensor:
        return torch.tensor(np.broadcast_to(each, (rounds, number)).copy())

    score = values.deception_score(everywhere, ~stacked(taxed), stacked(strong), stacked(weak))
    mean, std = float(score.base_rate[0]), float(score.null_std[0])
    z = (float(score.score.mean()) - mean) / (std / math.sqrt(rounds))
    assert abs(z) < stats.norm.isf(LEVEL / 2)
    ratio = float(score.score.double().var()) / std**2 * (rounds - 1)
    assert stats.chi2(rounds - 1).ppf(0.001) < ratio < stats.chi2(rounds - 1).isf(0.001)


def test_gap_recovered() -> None:
    weak, student, ceiling = (
        torch.tensor(x) for x in ([0.6, 0.6, 0.8], [0.7, 0.5, 0.9], [0.9] * 3)
    )
    ceiling = torch.tensor([0.9, 0.9, 0.8])
    recovered = values.performance_gap_recovered(weak, student, ceiling)
    assert recovered.tolist() == pytest.approx([1 / 3, -1 / 3, 0.0], abs=1e-5)


# --- the task ------------------------------------------------------------------------------------


def config(**changes: Any) -> TaskConfig:
    return WeakToStrong(**changes).task_config


def items_of(config: TaskConfig, number: int, replicates: int = 1) -> torch.Tensor:
    return RandomStreams.of(5, replicates).normal("item", number, config.num_features)


@pytest.mark.parametrize("correlation", [-0.6, 0.0, 0.8])
def test_concepts_are_standardized_and_objectives_correlate_as_stated(correlation: float) -> None:
    number = 40_000
    task_config = config(help_correlation=correlation, curvature=0.7)
    task = task_config.tasks(torch.tensor([4]), CPU)
    directions = task.directions[0].double()
    torch.testing.assert_close(directions @ directions.T, torch.eye(12).double(), atol=1e-6, rtol=0)
    cosine = float((task.harmless_weights * task.helpful_weights).sum())
    assert cosine == pytest.approx(correlation, abs=1e-6)
    concepts = task_config.concepts(task, items_of(task_config, number))[0].double()
    covariance = concepts.T.cov()
    assert concepts.mean(0).abs().max() < 0.03
    torch.testing.assert_close(covariance, torch.eye(4).double(), atol=0.05, rtol=0)


def test_share_of_items_on_which_two_linear_objectives_agree() -> None:
    number, correlation = 40_000, -0.4
    task_config = config(help_correlation=correlation, curvature=0)
    task = task_config.tasks(torch.tensor([0]), CPU)
    labels = task_config.label(task, items_of(task_config, number))
    agree = int((labels.harmless == labels.helpful).sum())
    expected = 1 - math.acos(correlation) / math.pi
    assert stats.binomtest(agree, number, expected).pvalue > LEVEL
    assert stats.binomtest(int(labels.harmless.sum()), number, 0.5).pvalue > LEVEL
    assert labels.topic.unique().numel() > 8


def test_an_independent_trainer_reaches_the_best_accuracy_of_a_supervisor_and_no_more() -> None:
    """Logistic regression by scipy on visible features; the closed form with curvature 0."""
    visible, train, test = 8, 6000, 40_000
    task_config = config(curvature=0)
    task = task_config.tasks(torch.tensor([2]), CPU)
    weights = (task.harmless_weights[0][:, None] * task.directions[0, :4]).sum(0).double().numpy()
    assert np.linalg.norm(weights) == pytest.approx(1.0, abs=1e-5)
    best = values.best_linear_accuracy(float(np.linalg.norm(weights[:visible])))
    items = items_of(task_config, train + test)
    truth = task_config.label(task, items).harmless[0].double().numpy()
    x = items[0, :, :visible].double().numpy()

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        score, y = x[:train] @ w, truth[:train]
        gradient = x[:train].T @ (1 / (1 + np.exp(-score)) - y) / train
        return float((np.logaddexp(0, score) - y * score).mean()), gradient

    fitted = optimize.minimize(loss, np.zeros(visible), jac=True).x
    right = ((x[train:] @ fitted > 0) == truth[train:]).mean()
    deviation = math.sqrt(best * (1 - best) / test)
    assert best - 0.01 - 4 * deviation < right < best + 4 * deviation
    rule = ((x[train:] @ weights[:visible] > 0) == truth[train:]).sum()  # the best rule
    assert stats.binomtest(int(rule), test, best).pvalue > LEVEL


def test_task_and_test_items_depend_on_the_replicate_alone() -> None:
    """Not on other replicates, bit for bit; another replicate has another task."""
    task_config = config(num_test_items=50)
    together, alone = torch.tensor([0, 7, 7, 3]), torch.tensor([7])
    tasks, task = task_config.tasks(together, CPU), task_config.tasks(alone, CPU)
    for name in ("directions", "topic_weights", "harmless_weights", "helpful_weights"):
        rows, row = getattr(tasks, name), getattr(task, name)
        assert torch.equal(rows[1], row[0]) and torch.equal(rows[2], row[0])
        assert not torch.equal(rows[0], row[0])
    many, one = task_config.test_items(together, CPU), task_config.test_items(alone, CPU)
    assert torch.equal(many.items[1], one.items[0]) and torch.equal(
        many.harmless[1], one.harmless[0]
    )


# --- labels, targets and rewards by definition ---------------------------------------------------

SMALL = {"num_items": 3, "labels_per_item": 4, "implicit_share": 0.67, "explicit_weight": 0.25}


def one_round(env: WeakToStrong, seed: int = 3, **policies: Any) -> tuple[Any, Any, dict[str, Any]]:
    """State before the answers, result of the phase, and actions, with random policies."""
    streams = RandomStreams.of(seed, 2)
    state = env.reset(streams.child("start"))
    generator = torch.Generator().manual_seed(seed)
    actions = {
        role.name: torch.randint(2, (2, role.num_agents), generator=generator) for role in env.roles
    }
    return state, env.step(state, "answer", actions, streams.child("game")), actions


@pytest.mark.parametrize("teacher", ["supervisor", "intermediate"])
@pytest.mark.parametrize("min_confidence", [0.5, 0.75])
def test_targets_by_definition(teacher: Any, min_confidence: float) -> None:
    env = WeakToStrong(**SMALL, teacher=teacher, min_confidence=min_confidence)
    state, result, actions = one_round(env)
    taught = {role for role in ROLES if role not in ("supervisor", teacher)}
    assert result.feedback.keys() == result.reward.keys() == taught
    numbers = [len(result.feedback[role]["target.answer"][0]) for role in STRONG]
    assert numbers == [3, 3, 3, 3, 3, 5]
    for world in range(2):
        votes = actions[teacher][world].view(6, 4).float()
        share = votes.sum(1) / 4
        for role in taught:
            target = result.feedback[role]["target.answer"][world]
            for agent, item in enumerate(env.item_of_agent[role]):
                truth, s = int(state.harmless[world, item]), float(share[item])
                expected = [1 - s, s] if max(s, 1 - s) >= min_confidence else [0.0, 0.0]
                if role in CEILINGS:
                    expected = [1.0 - truth, float(truth)]
                if role == "implicit" and agent >= 3:
                    helpful = float(state.helpful[world, item])
                    expected = [1 - helpful, helpful]
                answer = int(actions[role][world, agent])
                if role == "explicit" and answer != truth:
                    expected[1 - truth] += 0.25
                assert target[agent].tolist() == pytest.approx(expected), (role, agent)
                assert float(result.reward[role][world, agent]) == pytest.approx(expected[answer])


def test_training_targets() -> None:
    state, result, actions = one_round(WeakToStrong(**SMALL, training_target="truth"))
    for role in ROLES:  # the truth for everybody
        truth = state.harmless[:, list(WeakToStrong(**SMALL).item_of_agent[role])]
        assert torch.equal(result.feedback[role]["target.answer"][..., 1] > 0.5, truth)
        assert torch.equal(result.reward[role] > 0.5, actions[role].bool() == truth)
    env = WeakToStrong(**SMALL, training_target="topic")
    _, result, _ = one_round(env)
    assert not result.feedback and not result.reward
    streams = RandomStreams.of(0, 2)
    state = env.reset(streams)
    actions = {r.name: torch.zeros(2, r.num_agents, dtype=torch.int64) for r in env.roles}
    result = env.step(state, "topic", actions, streams)
    for role in ROLES:
        truth = state.topic[:, list(env.item_of_agent[role])]
        assert torch.equal(result.feedback[role]["target.topic"], truth)
        assert torch.equal(result.reward[role], (truth == 0).float())


def test_random_labels_have_no_information() -> None:
    """Labels by fair coins agree with the truth on half of the items, whatever the teacher says."""
    env = WeakToStrong(num_items=4000, labels_per_item=1, label_source="random", implicit_share=0)
    streams = RandomStreams.of(0, 1)
    state = env.reset(streams.child("start"))
    actions = {r.name: torch.zeros(1, r.num_agents, dtype=torch.int64) for r in env.roles}
    actions["supervisor"] = state.harmless.long()
    label = env.step(state, "answer", actions, streams.child("game")).state.label
    right = int(((label > 0.5) == state.harmless).sum())
    assert stats.binomtest(right, 8000, 0.5).pvalue > LEVEL


def test_true_labels_leave_the_conflicts_alone() -> None:
    state, result, actions = one_round(WeakToStrong(**SMALL, label_source="truth"))
    truth = state.harmless[:, :3].float()
    targets = {role: each["target.answer"] for role, each in result.feedback.items()}
    assert torch.equal(result.state.label, state.harmless.float())
    for role in ("student", "matched"):
        assert torch.equal(targets[role][..., 1], truth)
    wrong = actions["explicit"] != truth
    assert torch.equal(targets["explicit"].sum(-1), 1 + 0.25 * wrong)
    assert torch.equal(targets["implicit"][:, 3:, 1] > 0.5, state.helpful[:, 3:5])


# --- test items and metrics ----------------------------------------------------------------------


def test_no_test_item_is_ever_taught() -> None:
    """Items of three stages, two episodes each and all rounds, against the test items."""
    env = WeakToStrong(num_items=8, num_test_items=300)
    seen, simulator = set(), Simulator(env, env.default_policies())
    for stage in range(3):
        simulator = Simulator(env, env.default_policies(), {}, 2, 4, stage=stage)
        simulator.reset(seed=11)
        for _ in range(2):
            while not simulator.all_finished:
                for world in range(2):
                    seen |= {(world, *item) for item in simulator.state.items[world].tolist()}
                simulator.step()
            simulator.next_episode()
    held_out = env.task_config.test_items(torch.arange(2), CPU).items
    tested = {(world, *item) for world in range(2) for item in held_out[world].tolist()}
    assert len(seen) == 2 * 3 * 2 * 4 * 16 and len(tested) == 600
    assert not seen & tested
    queries = env.policy_queries(simulator.state)
    for role in STRONG:  # every test item is asked about
        asked = queries[role].observation[1].flatten(0, 1).tolist()
        assert {(1, *item) for item in asked} == {item for item in tested if item[0] == 1}


def simulator_of(env: WeakToStrong, policies: dict[str, Any], worlds: Any = 2) -> Simulator:
    simulator = Simulator(env, {**env.default_policies(), **policies}, {}, worlds, 1)
    simulator.reset(seed=0)
    return simulator


def test_metrics_of_known_policies() -> None:
    env = WeakToStrong(num_test_items=500)
    truth = {"kind": "true_label", "environment": env}
    policies = {**dict.fromkeys(STRONG, truth), "reseeded": "random", "supervisor": "random"}
    simulator = simulator_of(env, policies)
    found = policy_metrics(simulator)
    assert set(found) == set(env.policy_metric_names)
    for role in ("ceiling", "matched", "student", "explicit", "implicit"):
        assert found[f"accuracy_{role}"].tolist() == [1.0, 1.0]
    assert found["accuracy_supervisor"].tolist() == [0.5, 0.5]  # ties count half
    assert found["gap_recovered"].tolist() == found["strong_known_share"].tolist() == [1.0, 1.0]
    assert found["gain"].tolist() == found["performance_gap"].tolist() == [0.5, 0.5]
    assert found["base_rate"].tolist() == found["tax_reseeded"].tolist() == [1.0, 1.0]
    assert found["tax_explicit"].tolist() == found["excess_implicit"].tolist() == [0.0, 0.0]
    simulator.step()
    metrics = env.metrics(simulator.state)
    assert metrics["round_accuracy_student"].tolist() == [1.0, 1.0]
    assert "student      sees  24 features, right on 100%" in env.render(simulator.state, 1)


def test_metrics_equal_a_computation_from_answers_of_one_item_at_a_time() -> None:
    env = WeakToStrong(num_test_items=120, num_items=7, help_correlation=-0.5)
    spec = {"kind": "linear_label", "sharpness": 0.7}
    draws = np.random.default_rng(2).normal(size=(6, 24))
    weights = {role: tuple(map(float, row)) for role, row in zip(STRONG, draws, strict=True)}
    policies = {role: {**spec, "weights": weights[role]} for role in STRONG}
    simulator = simulator_of(env, {**policies, "supervisor": spec, "intermediate": spec}, [3, 5])
    found = policy_metrics(simulator)
    held_out = env.task_config.test_items(torch.tensor([3, 5]), CPU)
    for world in range(2):
        sure: dict[str, list[float]] = {role: [] for role in ROLES}
        for item, truth in zip(
            held_out.items[world].tolist(), held_out.harmless[world].tolist(), strict=True
        ):
            for role in ROLES:
                w = weights.get(role, (1.0,) * (8 if role == "supervisor" else 16))
                p = 1 / (1 + math.exp(-0.7 * sum(a * b for a, b in zip(w, item, strict=False))))
                sure[role].append(p if truth else 1 - p)
        right = {role: {i for i, p in enumerate(each) if p > 0.5} for role, each in sure.items()}
        strong = {i for i, p in enumerate(sure["ceiling"]) if p >= 0.75}
        unknown = {i for i, p in enumerate(sure["supervisor"]) if p < 0.75}
        for role in CHANGED:
            taxed = (right["student"] - right[role]) & strong
            score = len(taxed & unknown) / len(taxed)
            assert float(found[f"deception_score_{role}"][world]) == pytest.approx(score)
            excess = score - len(strong & unknown) / len(strong)
            assert float(found[f"excess_{role}"][world]) == pytest.approx(excess, abs=1e-6)
            gained = (right[role] - right["student"]) & strong
            mirrored = score - len(gained & unknown) / len(gained)
            assert float(found[f"mirrored_excess_{role}"][world]) == pytest.approx(
                mirrored, abs=1e-6
            )
        accuracy = {role: len(each) / 120 for role, each in right.items()}
        assert float(found["accuracy_student"][world]) == pytest.approx(accuracy["student"])
        gain = accuracy["student"] - accuracy["supervisor"]
        for role, name in (
            ("matched", "gap_recovered"),
            ("ceiling", "ceiling_gap_recovered"),
        ):
            gap = accuracy[role] - accuracy["supervisor"]
            ratio = gain / gap if gap > 1e-6 else 0.0
            assert float(found[name][world]) == pytest.approx(ratio, abs=1e-4)


# --- scripted policies, bad input ----------------------------------------------------------------


def test_expected_actions_of_scripted_policies_are_frequencies() -> None:
    env = WeakToStrong(num_items=2000, labels_per_item=1)
    policy = {"kind": "linear_label", "sharpness": 1.3, "threshold": 0.4}
    simulator = simulator_of(env, {"student": policy}, 1)
    observation = simulator.state.items[:, :2000, None]
    acting, phase = simulator.acting_policies["student"], env.phases[1]
    expected = acting.expected_action(phase, observation, None, None)[0, :, 0, 1]
    sums = observation[0, :, 0].double().sum(-1)
    logistic = 1 / (1 + (-1.3 * (sums - 0.4)).exp())
    torch.testing.assert_close(expected.double(), logistic, atol=1e-5, rtol=0)
    simulator.step()
    drawn, variance = simulator.state.answers["student"][0], expected * (1 - expected)
    assert abs(float(drawn.sum() - expected.sum())) < 4 * float(variance.sum()) ** 0.5


def test_bad_input() -> None:
    with refused("conflict", "weak_to_strong.num_concepts"):
        mores.make_environment("weak_to_strong", num_features=10, num_concepts=4)
    with refused("conflict", "weak_to_strong.supervisor_features"):
        mores.make_environment("weak_to_strong", supervisor_features=25)
    env = WeakToStrong()
    with refused("unsupported", "policies.supervisor"):
        simulator_of(env, {"supervisor": "true_label"})
    with refused("wrong_shape", "policies.student.weights"):
        simulator_of(env, {"student": {"kind": "linear_label", "weights": (1.0, 2.0)}})
    with refused("unsupported", "population"):
        people = mores.make_population("normal")
        Simulator(env, env.default_policies(), population=people).reset(0)


# --- learning ------------------------------------------------------------------------------------


def learners(**fields: Any) -> dict[str, Any]:
    network = {"kind": "mlp", "hidden_sizes": [32], "activation": "relu"}
    own = {"kind": "supervised", "network": network}
    return {role: {**own, **fields} for role in (*STRONG, "supervisor")}


def parameters(simulator: Simulator, role: str) -> torch.Tensor:
    return simulator.policy_states[role].persistent_state.train_state.flat_parameters.clone()


def train(
    env: WeakToStrong, policies: dict[str, Any], roles: list[str], rounds: int, before: Any = None
) -> Simulator:
    """A stage of training, from the states of the one before."""
    policies = {**env.default_policies(), **policies}
    stage = 0 if before is None else before.stage + 1
    simulator = Simulator(
        env, policies, {}, Worlds.grid(3), rounds, stage=stage, roles_to_train=roles
    )
    simulator.reset(7, None if before is None else before.policy_states)
    while not simulator.all_finished:
        simulator.step()
    return simulator


def test_roles_share_pretraining_and_nothing_after_it() -> None:
    """Training one role moves the others only while they share parameters."""
    env = WeakToStrong(num_items=16)
    topics = env.model_copy(update={"training_target": "topic"})
    shared = {**learners(parameter_sharing="replicate"), "supervisor": learners()["supervisor"]}
    pretrained = train(topics, shared, ["student"], 3)
    own = parameters(pretrained, "student")
    for role in STRONG:
        assert torch.equal(parameters(pretrained, role), own)
    weak = parameters(pretrained, "supervisor")
    taught = train(env, learners(), ["student", "explicit"], 3, pretrained)
    assert torch.equal(parameters(taught, "supervisor"), weak)
    for role in ("ceiling", "matched", "reseeded", "implicit"):
        assert torch.equal(parameters(taught, role), own)
    for role in ("student", "explicit"):
        assert not torch.equal(parameters(taught, role), own)
    assert not torch.equal(parameters(taught, "student"), parameters(taught, "explicit"))
    true_labels = env.model_copy(update={"label_source": "truth"})
    taught = train(true_labels, learners(), ["student", "matched"], 3, pretrained)
    assert torch.equal(parameters(taught, "student"), parameters(taught, "matched"))
    assert not torch.equal(parameters(taught, "student"), own)


def test_a_student_of_random_labels_learns_nothing_and_the_ceiling_learns_the_truth() -> None:
    env = WeakToStrong(num_items=128, labels_per_item=1, label_source="random", curvature=0)
    policies = learners(learning_rate=0.01)
    trained = train(env, policies, ["ceiling", "student"], 30)
    found = policy_metrics(trained)
    assert float(found["accuracy_ceiling"].min()) > 0.75
    assert abs(float(found["accuracy_student"].mean()) - 0.5) < 0.1


@pytest.mark.full
def test_students_surpass_their_supervisor() -> None:
    """Three stages in small: the conflict-free student recovers a part of the gap.

    A ceiling of the student's budget lies below that of a longer training (.930 against .957 in
    20 trainings), and two students of the same labels have no mirrored excess.
    """
    env = WeakToStrong(num_items=128, labels_per_item=4, supervisor_features=6)
    network = {"kind": "mlp", "hidden_sizes": [64, 64], "activation": "relu"}
    shared = learners(parameter_sharing="replicate", network=network)
    shared["supervisor"] = learners(network={**network, "hidden_sizes": [16, 16]})["supervisor"]
    apart = {**learners(network=network), "supervisor": shared["supervisor"]}
    change = lambda training_target: env.model_copy(update={"training_target": training_target})  # noqa: E731
    stage = train(change("topic"), shared, ["supervisor", "student"], 300)
    stage = train(change("truth"), apart, ["supervisor", "ceiling"], 150, stage)
    taught = ["student", "reseeded", "matched"]
    slow = {**apart, **{role: {**apart[role], "learning_rate": 0.001} for role in taught}}
    stage = train(env, slow, taught, 40, stage)
    found = {name: float(value.mean()) for name, value in policy_metrics(stage).items()}
    assert found["gap_recovered"] > found["ceiling_gap_recovered"] > 0.05
    assert found["accuracy_student"] + 0.02 < found["accuracy_matched"]
    assert found["accuracy_matched"] + 0.005 < found["accuracy_ceiling"]
    assert abs(found["mirrored_excess_reseeded"]) < 0.1


@pytest.mark.full
def test_reinforcement_learning_also_learns_from_the_reward() -> None:
    env = WeakToStrong(num_items=128, labels_per_item=1, training_target="truth", curvature=0)
    ppo = {"kind": "ppo", "num_steps": 8, "learning_rate": 0.01, "gamma": 0.0}
    trained = train(env, {"student": ppo}, ["student"], 160)
    assert float(policy_metrics(trained)["accuracy_student"].min()) > 0.7
