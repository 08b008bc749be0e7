"""Advice to everybody, each group, or each person: one round in numpy, limits, symmetry, errors."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch

import mores
from mores.agents.people.normal import MixtureComponent, NormalPopulation
from mores.agents.scripted.assistants import LinearTrend, Mirror, Persuader
from mores.core.people import People
from mores.core.random_streams import RandomStreams
from mores.envs.dynamics.cohorts import Cohorts
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.dynamics.trust import Trust
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.coevolution_state import CoevolutionState
from mores.envs.opinion.scripted_policies import Truthful
from mores.sim.simulation import simulate
from tests.refusals import refused

WORLDS, PEOPLE, ASSISTANTS, VALUES, GROUPS = 3, 7, 2, 2, 4
AUDIENCES = ("everybody", "group", "person")
COMPONENTS = tuple(MixtureComponent(weight=1.0, mean_offset=(m, 0.0)) for m in (-2.0, 0.0, 3.0))
CAMPS = NormalPopulation(num_people=9, num_values=2, std=0.5, components=COMPONENTS)


def community(audience: str, **changes: Any) -> Coevolution:
    parameters = {
        "num_people": PEOPLE,
        "num_values": VALUES,
        "num_assistants": ASSISTANTS,
        "num_groups": GROUPS,
        "audience": audience,
        "ai_influence": 0.3,
        "confidence_bound": 1.5,
        "trust": Trust(initial_trust=0.6, learning_rate=0.2, distance_scale=0.7),
        "trait_state": TraitStateDynamics(),
    }
    return Coevolution(**{**parameters, **changes})


def people_with_groups(seed: int = 1, num_groups: int = GROUPS) -> People:
    """People in all groups but the last."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(WORLDS, PEOPLE, VALUES, generator=generator)
    shape = (WORLDS, PEOPLE)
    groups = torch.randint(0, max(1, num_groups - 1), shape, generator=generator)
    return People(values, groups=groups)


def random_actions(num_agents: int, seed: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    position = torch.randn(WORLDS, num_agents, VALUES, generator=generator)
    intensity = torch.rand(WORLDS, num_agents, 1, generator=generator)
    return torch.cat([position, intensity], -1)


def one_round(
    env: Coevolution, people: People, actions: torch.Tensor | None = None
) -> tuple[CoevolutionState, CoevolutionState, dict[str, torch.Tensor]]:
    """State after the answers, state after the advice, rewards."""
    streams = RandomStreams.of(5, WORLDS)
    state = env.reset(streams, people)
    answers = 0.9 * state.people.values + 0.1
    answered = env.step(state, "answer", {"person": answers}, streams).state
    if actions is None:
        actions = random_actions(env.roles[1].num_agents)
    result = env.step(answered, "advise", {"assistant": actions}, streams)
    return answered, result.state, dict(result.reward)


def audience_of(audience: str, groups: np.ndarray) -> np.ndarray:
    """Audience of each person, in numpy."""
    if audience == "group":
        return groups
    return np.zeros_like(groups) if audience == "everybody" else np.arange(PEOPLE) + 0 * groups


@pytest.mark.parametrize("audience", AUDIENCES)
def test_one_round_in_numpy(audience: str) -> None:
    env, people = community(audience), people_with_groups()
    answered, after, reward = one_round(env, people)
    num_audiences = {"everybody": 1, "group": GROUPS, "person": PEOPLE}[audience]
    assert env.roles[1].num_agents == ASSISTANTS * num_audiences
    assert people.groups is not None
    members = audience_of(audience, people.groups.numpy())  # world person
    values, answers = people.values.double().numpy(), answered.answers.double().numpy()
    actions = random_actions(env.roles[1].num_agents).double().numpy()
    actions = actions.reshape(WORLDS, ASSISTANTS, num_audiences, VALUES + 1)
    space = env.roles[1].observation_space
    obs = env.observe(answered, "assistant", "advise")
    own = space.read(obs, "mean_answer").reshape(WORLDS, ASSISTANTS, num_audiences, VALUES)
    advice_seen = env.observe(after, "person", "answer")[..., VALUES : 2 * VALUES]
    received = np.zeros((WORLDS, PEOPLE, ASSISTANTS, VALUES))
    for w in range(WORLDS):
        approval = np.zeros((PEOPLE, ASSISTANTS))
        for i in range(PEOPLE):
            displacement = np.zeros(VALUES)
            advice, intensity = np.split(actions[w, :, members[w, i]], [VALUES], -1)
            received[w, i] = advice
            for m in range(ASSISTANTS):
                difference = advice[m] - values[w, i]
                distance = np.sqrt((difference**2).sum())
                approval[i, m] = intensity[m, 0] * np.exp(-0.5 * (difference**2).mean())
                if distance <= 1.5:
                    displacement += intensity[m, 0] * 0.6 * difference / ASSISTANTS
            expected = values[w, i] + 0.3 * displacement
            assert after.people.values[w, i].numpy() == pytest.approx(expected, abs=1e-6)
            evidence = np.exp(-((advice - expected) ** 2).mean(1) / (2 * 0.7**2))
            trust = 0.6 + 0.2 * intensity[:, 0] * (evidence - 0.6)
            assert after.trust[w, i].numpy() == pytest.approx(trust, abs=1e-6)
            seen = (intensity * advice).sum(0) / intensity.sum()
            assert advice_seen[w, i].numpy() == pytest.approx(seen, abs=1e-5)
        assert reward["person"][w].numpy() == pytest.approx(approval.mean(1), abs=1e-6)
        paid = reward["assistant"][w].reshape(ASSISTANTS, num_audiences)
        for u in range(num_audiences):
            of = members[w] == u
            everybody = answers[w].mean(0)
            mean_answer = answers[w, of].mean(0) if of.any() else everybody
            expected_pay = approval[of].mean(0) if of.any() else np.zeros(ASSISTANTS)
            assert paid[:, u].numpy() == pytest.approx(expected_pay, abs=1e-6)
            for m in range(ASSISTANTS):
                assert own[w, m, u].numpy() == pytest.approx(mean_answer, abs=1e-6)
    if audience == "everybody":
        assert "community_mean" not in space.parts
    else:
        mean = answers.mean(1)[:, None] + 0 * obs[..., :VALUES].numpy()
        assert space.read(obs, "community_mean").numpy() == pytest.approx(mean, abs=1e-6)
    lag = (values.mean(1) - received.mean((1, 2))).mean(1)
    assert env.metrics(after)["tracking_lag"].numpy() == pytest.approx(lag, abs=1e-6)


FULL_DYNAMICS = {
    "confidence_bound": 2.0,
    "noise_std": 0.1,
    "cohorts": Cohorts(turnover=0.2, mutation_std=0.1, tutoring_share=0.4),
    "peers": {"rule": "degroot", "graph": {"kind": "homophily", "degree": 2}},
    "history": {"drift": 0.02, "drift_share": 1.0},
}


@pytest.mark.parametrize(
    ("audience", "num_people"), [("group", PEOPLE), ("person", 1)], ids=["group", "person"]
)
def test_one_audience_equals_everybody_bit_for_bit(audience: str, num_people: int) -> None:
    """A single group, and a single person, over rounds with all dynamics."""

    class OneGroup(Coevolution):
        def reset(self, streams: RandomStreams, people: People | None = None) -> CoevolutionState:
            values = streams.normal("values", self.num_people, self.num_values)
            groups = torch.zeros(values.shape[:2], dtype=torch.int64)
            return super().reset(streams, People(values, groups=groups))

    changes = dict(FULL_DYNAMICS) if num_people > 1 else {**FULL_DYNAMICS, "peers": {}}
    states = []
    for each in ("everybody", audience):
        parameters = community(each, num_people=num_people, num_groups=1, **changes)
        env = OneGroup(**{n: getattr(parameters, n) for n in type(parameters).model_fields})
        states.append(simulate(env, {"assistant": LinearTrend()}, 4, 12, 3).state)
    assert torch.equal(states[0].people.values, states[1].people.values)
    assert torch.equal(states[0].trust, states[1].trust)
    assert not torch.equal(states[0].people.values, states[0].anchor)


@pytest.mark.parametrize("audience", ["group", "person"])
def test_order_of_people_does_not_matter(audience: str) -> None:
    """People in another order, with their groups and personal advice: the same in that order."""
    env, people = community(audience), people_with_groups()
    order = torch.randperm(PEOPLE, generator=torch.Generator().manual_seed(4))
    assert people.groups is not None
    permuted = People(people.values[:, order], groups=people.groups[:, order])
    actions = random_actions(env.roles[1].num_agents)
    others = actions
    if audience == "person":
        by_assistant = actions.unflatten(1, (ASSISTANTS, PEOPLE))
        others = by_assistant[:, :, order].flatten(1, 2)
    _, one, reward = one_round(env, people, actions)
    _, other, other_reward = one_round(env, permuted, others)
    assert torch.equal(one.people.values[:, order], other.people.values)
    assert torch.equal(one.trust[:, order], other.trust)
    assert torch.equal(reward["person"][:, order], other_reward["person"])


@pytest.mark.parametrize("audience", ["group", "person"])
def test_advice_reaches_its_audience_alone(audience: str) -> None:
    env, people = community(audience), people_with_groups()
    actions = random_actions(env.roles[1].num_agents)
    changed = actions.clone()
    changed[:, 1] = torch.tensor([0.0, 0.0, 1.0])  # first assistant, second audience
    states = [one_round(env, people, each)[1] for each in (actions, changed)]
    assert people.groups is not None
    member = torch.from_numpy(audience_of(audience, people.groups.numpy())) == 1
    differs = (states[0].trust != states[1].trust).any(-1)
    assert torch.equal(differs, member)
    seen = [env.observe(state, "person", "answer")[..., VALUES : 2 * VALUES] for state in states]
    assert torch.equal((seen[0] != seen[1]).any(-1), member)


@pytest.mark.parametrize("audience", ["group", "person"])
def test_newcomers_are_tutored_by_advice_to_their_audience(audience: str) -> None:
    """All people are replaced, and newcomers adopt all of the advice to their audience."""
    cohorts = Cohorts(turnover=1.0, tutoring_share=1.0)
    changes = {"ai_influence": 0.0, "confidence_bound": None, "trust": Trust(), "cohorts": cohorts}
    env = community(audience, num_assistants=1, **changes)
    people = people_with_groups()
    actions = random_actions(env.roles[1].num_agents)
    actions[..., -1] = 1.0
    after = one_round(env, people, actions)[1].people
    assert people.groups is not None
    assert after.groups is not None
    assert not torch.equal(after.groups, people.groups)
    members = torch.from_numpy(audience_of(audience, after.groups.numpy()))
    expected = actions[..., :VALUES].gather(1, members[..., None].expand(-1, -1, VALUES))
    torch.testing.assert_close(after.values, expected, atol=1e-6, rtol=0)


@pytest.mark.parametrize("audience", AUDIENCES)
def test_velocity_and_lag_have_the_same_closed_form(audience: str) -> None:
    """In camps, of unequal sizes; deviations from the audience's mean shrink by 1 - alpha."""
    env = Coevolution(
        num_people=9,
        num_groups=3,
        num_assistants=2,
        audience=audience,  # type: ignore[arg-type]
        ai_influence=0.2,
        history={"drift": 0.01, "drift_share": 1.0},  # type: ignore[arg-type]
        trait_state=TraitStateDynamics(),
        value_limit=1000.0,
    )
    assistant = LinearTrend(learning_rate=0.1, forecast_horizon=3)
    policies = {"person": Truthful(), "assistant": assistant}
    names = ["velocity", "tracking_lag"]
    result = simulate(env, policies, 3, 200, 0, names, population=CAMPS, metric_rounds=[200])
    analytic = env.analytic_values(policies, 200)
    assert set(analytic) == set(names)
    for name in names:
        assert result.metrics[name].values == pytest.approx(analytic[name], rel=0.01)
    specs = ["rms_distance", "within_group_rms"]
    mirror = {"person": Truthful(), "assistant": Mirror(learning_rate=0.1)}
    distances = simulate(env, mirror, 3, 5, 0, specs, population=CAMPS).metrics
    community_rms, group_rms = (
        distances[n].values[:, -1] / distances[n].values[:, 0] for n in specs
    )
    shrunk = pytest.approx(0.8**5, rel=1e-4)
    assert group_rms == (pytest.approx(1.0, rel=1e-4) if audience == "person" else shrunk)
    if audience == "everybody":
        assert community_rms == shrunk
    else:  # a mirror of each camp, or of each person, keeps differences between them
        assert (community_rms > 0.8).all()


def test_own_people_have_personal_assistants() -> None:
    """A persuader of each person draws all of them; PettingZoo names an agent for each."""
    env = Coevolution(
        num_people=1000, audience="person", ai_influence=0.5, trait_state=TraitStateDynamics()
    )
    persuader = Persuader(goal=[1.0, -1.0], goal_weight=1.0)
    values = simulate(env, {"assistant": persuader}, 2, 30, 0).state.people.values
    assert (values - torch.tensor([1.0, -1.0])).abs().max() < 1e-4
    parallel = mores.PettingZooParallelEnv(env)
    assert {"assistant_0", "assistant_999"} < set(parallel.possible_agents)
    obs, _ = parallel.reset(seed=1)
    assert obs["assistant_999"].shape == (3 * env.num_values,)


def test_a_learner_is_trained_to_mirror_each_person() -> None:
    """PPO with one model for all people: approval that no common advice has.

    The largest expected approval of common advice to people of standard deviation 1 is 2^(-1/2).
    """
    env = Coevolution(
        num_people=16,
        num_values=1,
        audience="person",
        ai_influence=0.0,
        trait_state=TraitStateDynamics(),
        value_limit=2.0,
    )
    learner = {
        "kind": "ppo",
        "num_steps": 10,
        "gamma": 0.0,
        "learning_rate": 0.01,
        "network": {"kind": "mlp", "hidden_sizes": [16]},
    }
    trained = mores.train(
        env,
        {"person": "truthful", "assistant": learner},
        episodes=15,
        rounds=10,
        worlds=8,
        seed=1,
        metrics=["return_assistant"],
    )
    returns = trained.curves["return_assistant"].mean("world").values  # episode
    assert returns[0] < 5.0
    assert returns[-1] > 9.0  # of 10


@pytest.mark.parametrize("audience", AUDIENCES)
def test_equal_bounds_by_group_equal_one_bound(audience: str) -> None:
    """Bit for bit, with newcomers that are tutored within their parent's bound."""
    by_group = {"kind": "by_group", "values": [1.0, 1.0, 1.0]}
    cohorts = Cohorts(turnover=0.2, tutoring_share=0.5)
    values = []
    for bound in (1.0, by_group):
        changes = {"num_people": 9, "num_groups": 3, "cohorts": cohorts}
        env = community(audience, confidence_bound=bound, **changes)
        mirror = {"assistant": Mirror()}
        values.append(simulate(env, mirror, 3, 8, 0, population=CAMPS).state.people.values)
    assert torch.equal(*values)


# --- bad input ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"audience": "group"}, "missing", "coevolution.num_groups"),
        ({"audience": "groups"}, "invalid_value", "coevolution.audience"),
        ({"audience": "group", "num_groups": 0}, "out_of_range", "coevolution.num_groups"),
        ({"audience": "person", "challenge": "coevolve"}, "conflict", "coevolution.audience"),
    ],
)
def test_invalid_parameters(parameters: dict[str, Any], code: str, path: str) -> None:
    with refused(code, path=path):
        mores.make_environment("coevolution", **parameters)


@pytest.mark.parametrize(("groups", "code"), [(None, "missing"), (4, "out_of_range")])
def test_people_need_groups_within_the_number(groups: int | None, code: str) -> None:
    people = people_with_groups()
    assert people.groups is not None
    changed = None if groups is None else people.groups.clone().fill_(groups)
    people = dataclasses.replace(people, groups=changed)
    with refused(code, path="population"):
        community("group").reset(RandomStreams.of(1, WORLDS), people)
