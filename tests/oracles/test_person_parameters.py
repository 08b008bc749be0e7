"""Parameters that differ between people: their samples, and what they do, against numbers alone."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import numpy as np
import pytest
import scipy.stats
import torch
from torch import Tensor

import mores
from mores.agents.people.normal import NormalPopulation
from mores.agents.scripted.assistants import Mirror
from mores.core import pytree
from mores.core.parameter_tensor import ParameterTensor
from mores.core.people import People
from mores.core.person_parameters import (
    PerDraw,
    PersonParameter,
    add_parameters,
    person_parameters,
)
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.opinion.panel import Panel
from mores.registry import REGISTRIES, make
from mores.registry.varying import PersonNumber
from mores.sim.policy_parameters import PolicyParameters
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused


class NoisyMirror(Mirror):
    """A policy of a role without people, with a field that differs between people."""

    noise_std: Annotated[float, PersonNumber(ge=0)] = 0.0


@pytest.fixture(autouse=True)
def noisy_mirror(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(REGISTRIES["policy"], "test_noisy_mirror", NoisyMirror)


TWO_CAMPS = {
    "kind": "normal",
    "num_people": 12,
    "components": [
        {"name": "left", "mean_offset": [-1.0]},
        {"name": "right", "mean_offset": [1.0]},
    ],
}
COMMUNITY: dict[str, Any] = {
    "num_people": 8,
    "num_values": 2,
    "history": {"drift": 0.02, "noise_std": 0.01, "drift_share": 0.5, "attraction": 0.05},
    "trust": {"initial_trust": 0.8, "learning_rate": 0.1, "distance_scale": 0.9},
    "trait_state": {"half_life": 1.5, "permanent_share": 0.3, "volatility": 0.2},
    "cohorts": {"turnover": 0.1, "mutation_std": 0.1, "tutoring_share": 0.2, "mean_shift": 0.01},
    "peers": {"rule": {"kind": "friedkin_johnsen", "susceptibility": 0.7}},
    "ai_influence": 0.2,
    "confidence_bound": 2.5,
    "noise_std": 0.1,
}


def people(values: Tensor, groups: Tensor | None = None, **traits: Tensor) -> People:
    names = () if groups is None else ("left", "right")
    return People(values, traits, groups, names)


def sample(parameter: dict[str, Any], *, worlds: int = 1, persons: int = 1, **other: Any) -> Tensor:
    made = make("person_parameter", parameter.pop("kind"), parameter)
    crowd = people(torch.zeros(worlds, persons, 1), **other)
    return add_parameters(crowd, {"x": made}, RandomStreams.of(3, worlds)).traits["x"]


@pytest.mark.parametrize(
    ("parameter", "distribution"),
    [
        ({"kind": "uniform", "low": -1, "high": 3}, scipy.stats.uniform(-1, 4)),
        ({"kind": "normal", "mean": 2, "std": 0.5}, scipy.stats.norm(2, 0.5)),
        (
            {"kind": "normal", "mean": 0.5, "std": 0.5, "low": 0, "high": 1},
            scipy.stats.truncnorm(-1, 1, 0.5, 0.5),
        ),
        ({"kind": "lognormal", "median": 2, "log_std": 0.7}, scipy.stats.lognorm(0.7, scale=2)),
        ({"kind": "beta", "mean": 0.3, "std": 0.1}, scipy.stats.beta(6.0, 14.0)),
    ],
)
def test_samples_have_the_distribution(parameter: dict[str, Any], distribution: Any) -> None:
    values = sample(parameter, worlds=40, persons=100).flatten().numpy()
    assert scipy.stats.kstest(values, distribution.cdf).pvalue > 0.001


def test_people_keep_their_quantile_in_all_arms() -> None:
    """The order of people is that of the quantiles, whatever the distribution."""
    order = [
        sample(parameter, persons=50).argsort().tolist()
        for parameter in (
            {"kind": "uniform", "low": 0, "high": 1},
            {"kind": "lognormal", "median": 5, "log_std": 1},
            {"kind": "beta", "mean": 0.9, "std": 0.05},
            {"kind": "scaled", "factor": 2, "parameter": {"kind": "normal", "mean": 0, "std": 1}},
        )
    ]
    assert order[1:] == order[:-1]


def test_groups_and_columns() -> None:
    groups = torch.tensor([[0, 1, 1, 0]])
    by_name = {"kind": "by_group", "values": {"right": 0.2, "left": 0.9}}
    by_index = {"kind": "by_group", "values": [0.9, 0.2]}
    expected = [[0.9, 0.2, 0.2, 0.9]]
    for parameter in (by_name, by_index):
        found = sample(dict(parameter), persons=4, groups=groups)
        assert found.tolist() == expected and found.dtype is torch.float64
    age = torch.tensor([[20.0, 30.0, 40.0, 50.0]])
    column = {"kind": "column", "name": "age", "factor": 0.01, "offset": 0.1}
    assert sample(column, persons=4, age=age).numpy() == pytest.approx(0.1 + 0.01 * age.numpy())


@pytest.mark.parametrize(
    ("field", "parameter", "code", "path"),
    [
        ("ai_influence", {"kind": "bta"}, "unknown_name", "coevolution.ai_influence.kind"),
        ("ai_influence", "much", "wrong_type", "coevolution.ai_influence"),
        ("ai_influence", 1.5, "out_of_range", "coevolution.ai_influence"),
        ("ai_influence", {"mean": 1}, "missing", "coevolution.ai_influence"),
        (
            "ai_influence",
            {"kind": "uniform", "low": 0.5, "high": 1.5},
            "out_of_range",
            "coevolution.ai_influence",
        ),
        (
            "ai_influence",
            {"kind": "by_group", "values": [0.1, 2.0]},
            "out_of_range",
            "coevolution.ai_influence",
        ),
        (
            "confidence_bound",
            {"kind": "beta", "mean": 0.5, "std": 0.6},
            "out_of_range",
            "coevolution.confidence_bound.std",
        ),
        (
            "initial_std",
            {"kind": "uniform", "low": 0, "high": 1},
            "wrong_type",
            "coevolution.initial_std",
        ),
    ],
)
def test_wrong_parameters(field: str, parameter: Any, code: str, path: str) -> None:
    with refused(code, path=path):
        mores.make_environment("coevolution", **{field: parameter})


@pytest.mark.parametrize(
    ("parameter", "population", "code"),
    [
        ({"kind": "by_group", "values": [0.1, 0.2]}, None, "missing"),
        ({"kind": "by_group", "values": {"left": 0.1, "rigth": 0.2}}, TWO_CAMPS, "unknown_name"),
        ({"kind": "by_group", "values": [0.1, 0.2, 0.3]}, TWO_CAMPS, "wrong_shape"),
        ({"kind": "by_group", "values": {"left": 0.1}}, TWO_CAMPS, "wrong_shape"),
        ({"kind": "column", "name": "age"}, TWO_CAMPS, "unknown_name"),
    ],
)
def test_people_without_what_a_parameter_needs(parameter: Any, population: Any, code: str) -> None:
    made = None
    if population is not None:
        made = mores.make_population(**population)
    with refused(code, path="ai_influence"):
        simulate(Coevolution(ai_influence=parameter), population=made, rounds=1)


def test_a_column_outside_the_range_is_refused() -> None:
    population = mores.make_population("anes96", resample=True, num_people=30)
    with refused("out_of_range", path="ai_influence"):
        simulate(
            Coevolution(ai_influence={"kind": "column", "name": "age"}),
            population=population,
            rounds=1,
        )


def test_groups_without_names_need_a_value_each() -> None:
    """A person of a group without a value would have the number 0."""
    three = [{"mean_offset": [offset]} for offset in (-1.0, 0.0, 1.0)]
    population = mores.make_population("normal", num_people=30, components=three)
    two = {"kind": "by_group", "values": [0.5, 0.5]}
    with refused("wrong_shape", path="ai_influence"):
        simulate(Coevolution(ai_influence=two), population=population, rounds=1)


def test_an_end_that_is_no_value_of_the_field_is_refused() -> None:
    """A scale of 0, from a column, would make evidence and trust NaN."""
    population = mores.make_population("anes96", resample=True, num_people=30)
    scale = {"kind": "column", "name": "vote"}  # 0 or 1
    with refused("out_of_range", path="trust.distance_scale"):
        simulate(Coevolution(trust={"distance_scale": scale}), population=population, rounds=1)
    share = Coevolution(trust={"initial_trust": scale})  # 0 is a share
    simulate(share, population=population, rounds=1)


class BeyondItsBounds(PersonParameter):
    """A user's parameter whose values are not what it declares."""

    @property
    def bounds(self) -> tuple[float, float]:
        return 0.0, 1.0

    def sample(self, people: People, streams: RandomStreams) -> Tensor:
        return torch.full(people.values.shape[:2], 1.5)


def test_declared_bounds_are_checked() -> None:
    with refused("out_of_range", path="x"):
        add_parameters(
            people(torch.zeros(1, 2, 1)), {"x": BeyondItsBounds()}, RandomStreams.of(1, 1)
        )


def test_a_trait_with_the_name_of_a_parameter_is_refused() -> None:
    class Named(NormalPopulation):
        def sample_people(self, streams: RandomStreams) -> People:
            sampled = super().sample_people(streams)
            return dataclasses.replace(sampled, traits={"ai_influence": sampled.values[..., 0]})

    env = Coevolution(ai_influence={"kind": "uniform", "low": 0, "high": 1})
    with refused("duplicate", path="population"):
        simulate(env, population=Named(num_people=4), rounds=1)


def draws_of(number: float) -> tuple[float, ...]:
    return number, 0.5 * number, 0.9 * number


PATHS = [
    *("ai_influence", "confidence_bound", "noise_std", "history.drift", "history.noise_std"),
    *("history.drift_share", "history.attraction", "trust.initial_trust", "trust.learning_rate"),
    *("trust.distance_scale", "trait_state.half_life", "trait_state.permanent_share"),
    *("trait_state.volatility", "cohorts.turnover", "cohorts.mutation_std"),
    *("cohorts.tutoring_share", "cohorts.mean_shift", "peers.rule.susceptibility"),
]


def with_value(path: str, value: Any) -> dict[str, Any]:
    """Parameters of the community with another value at a path."""
    first, *below = path.split(".")
    if not below:
        return {**COMMUNITY, first: value}
    part = dict(COMMUNITY[first])
    if len(below) == 2:
        part[below[0]] = {**part[below[0]], below[1]: value}
    else:
        part[below[0]] = value
    return {**COMMUNITY, first: part}


@pytest.mark.cut(3)
@pytest.mark.parametrize("path", PATHS)
def test_a_world_of_a_draw_has_the_bits_of_its_number_alone(path: str) -> None:
    numbers: Any = COMMUNITY
    for name in path.split("."):
        numbers = numbers[name]
    numbers = draws_of(numbers)
    worlds = Worlds(torch.tensor([4, 4, 4]), torch.zeros(3, dtype=torch.int64), torch.arange(3))
    together = simulate(
        Coevolution(**with_value(path, PerDraw(values=numbers))),
        {"assistant": "mirror"},
        worlds,
        rounds=6,
        seed=2,
    ).state
    for index, number in enumerate(numbers):
        alone = simulate(
            Coevolution(**with_value(path, number)), {"assistant": "mirror"}, [4], 6, seed=2
        ).state
        here = pytree.flatten(dataclasses.replace(together, people=_plain(together.people)))
        for name, expected in pytree.flatten(
            dataclasses.replace(alone, people=_plain(alone.people))
        ).items():
            assert torch.equal(here[name][index : index + 1], expected), name


def _plain(crowd: People) -> People:
    return dataclasses.replace(crowd, traits={})


def test_influence_by_group_against_numpy() -> None:
    """One round of a persuader without mean reversion: x' = x + alpha_g (goal - x)."""
    population = mores.make_population(**TWO_CAMPS)
    env = Coevolution(
        human="idealised",
        ai_influence={"kind": "by_group", "values": {"left": 0.5, "right": 0.1}},
        trust={"initial_trust": {"kind": "by_group", "values": [1.0, 0.5]}},
    )
    goal = {"kind": "persuader", "goal": [3.0], "goal_weight": 1.0, "learning_rate": 1.0}
    start, end = (
        simulate(env, {"assistant": goal}, 5, rounds=rounds, seed=1, population=population).state
        for rounds in (1, 2)
    )
    before, after = start.people.values[..., 0].numpy(), end.people.values[..., 0].numpy()
    advice = end.advice[:, 0].numpy()
    share = np.where(start.people.groups.numpy() == 0, 0.5, 0.05)
    assert after == pytest.approx(before + share * (advice - before), abs=1e-6)


def test_retention_of_each_person() -> None:
    """A displacement decays with the person's own half-life and permanent share."""
    half_life = {"kind": "uniform", "low": 0.5, "high": 4.0}
    env = Panel(
        num_people=30,
        trait_state={
            "half_life": half_life,
            "permanent_share": {"kind": "by_group", "values": [0.1, 0.6]},
        },
    )
    state = env.reset(RandomStreams.of(1, 4))
    h = state.traits["trait_state.half_life"][..., None]
    p = torch.where(state.treated[..., None] > 0, 0.6, 0.1).double()
    moved = env.dynamics.displace(state.trait_state, torch.ones(4, 30, 1))
    before = state.trait_state
    for rounds in range(1, 4):
        moved, before = (
            env.dynamics.advance_round(each, RandomStreams.of(1, 4, round=rounds))
            for each in (moved, before)
        )
        expected = p + (1 - p) * 2.0 ** (-rounds / h)
        difference = (moved.values - before.values).numpy()
        assert difference == pytest.approx(expected.numpy(), abs=1e-5)


def test_a_persons_rates_do_not_depend_on_the_batch() -> None:
    """Bit for bit, in float64."""
    half_life = {"kind": "lognormal", "median": 1.0, "log_std": 1.0}
    env = Panel(num_people=301, trait_state={"half_life": half_life, "volatility": 0.3})
    together = env.reset(RandomStreams.of(1, 5)).trait_state.rates
    for world in range(5):
        alone = env.reset(RandomStreams.of(1, [world])).trait_state.rates
        for name in ("decay", "renewal_std"):
            found, expected = getattr(together, name)[world : world + 1], getattr(alone, name)
            assert torch.equal(found, expected)


def test_newcomers_inherit_parameters() -> None:
    trust = {"initial_trust": {"kind": "uniform", "low": 0, "high": 1}}
    env = Coevolution(num_people=10, trust=trust, cohorts={"turnover": 0.5})
    state = simulate(env, {"assistant": "silent"}, 3, 20, seed=1).state
    parameter = state.people.traits["trust.initial_trust"]
    assert torch.equal(state.trust[..., 0], parameter.to(torch.float32))
    assert all(len(row.unique()) < 10 for row in parameter)  # descendants of few


def test_noise_of_answers_by_group() -> None:
    """Standard deviation over many worlds of answer minus value, by group."""
    noise = {"kind": "by_group", "values": {"left": 0.1, "right": 2.0}}
    env = Coevolution(human="idealised", num_assistants=0, value_limit=100.0)
    simulator = Simulator(
        env.with_population(mores.make_population(**TWO_CAMPS)),
        {"person": {"kind": "survey_respondent", "noise_std": noise}},
        worlds=400,
        population=mores.make_population(**TWO_CAMPS),
        autoreset_mode="disabled",
    )
    simulator.reset(1)
    simulator.step()
    state = simulator.state
    error = (state.answers - state.people.values)[..., 0]
    for group, std in enumerate((0.1, 2.0)):
        found = error[state.people.groups == group]
        assert found.std().item() == pytest.approx(std, rel=4 / len(found) ** 0.5)
    restored = Simulator(
        simulator.environment,
        {"person": {"kind": "survey_respondent", "noise_std": noise}},
        worlds=400,
        population=simulator.population,
        autoreset_mode="disabled",
    )
    restored.load_state_dict(simulator.state_dict())
    simulator.step()
    restored.step()
    assert torch.equal(simulator.state.answers, restored.state.answers)


def test_rationality_of_each_annotator() -> None:
    """Share of better answers of annotators that guess and of those that choose by utility."""
    choice = {
        "kind": "boltzmann_choice",
        "rationality": {"kind": "uniform", "low": 0.0, "high": 50.0},
    }
    env = mores.make_environment("pairwise_preferences", num_people=40)
    simulator = Simulator(env, {"person": {"kind": "annotator", "choice": choice}}, worlds=100)
    simulator.reset(1)
    rationality = simulator.policy_parameters["person"]["choice.rationality"]
    assert rationality.shape == (100, 40) and rationality.std() > 10
    assert person_parameters({"": simulator.policies["person"]}).keys() == {"choice.rationality"}
    simulator.step()


def test_policies_that_cannot_differ_are_refused() -> None:
    noise = {"kind": "uniform", "low": 0, "high": 1}
    with refused("unsupported", path="per_agent.policies.0"):
        member = {"kind": "survey_respondent", "noise_std": noise}
        mores.make_policy("per_agent", policies=[member])
    env = mores.make_environment("coevolution", num_people=4)
    mirror = mores.make_policy("test_noisy_mirror", noise_std=noise)
    with refused("unsupported", path="policies.assistant"):  # one assistant, four people
        simulate(env, {"assistant": mirror})
    personal = Coevolution(num_people=4, audience="person")
    with refused("unsupported", path="policies.assistant"):  # as many, but not the people
        simulate(personal, {"assistant": mirror})


def test_roles_of_an_environment_without_values() -> None:
    """Roles of different size, whose agents have no values: each has samples of its own."""
    env = mores.make_environment("moral_hazard", num_agents=5)
    noise = {"kind": "uniform", "low": 0.0, "high": 1.0}
    parameters = PolicyParameters(
        {role.name: NoisyMirror(noise_std=noise) for role in env.roles},
        {role.name: role for role in env.roles},
    )
    streams = RandomStreams.of(1, 3)
    samples = parameters.sample(env, env.reset(streams), streams)
    shapes = {role: tuple(given["noise_std"].shape) for role, given in samples.items()}
    assert shapes == {role.name: (3, role.num_agents) for role in env.roles}


def test_a_parameter_tensor_computes_as_a_number() -> None:
    numbers = [0.1, 1 / 3, 0.7]
    tensor = ParameterTensor.of(torch.tensor(numbers, dtype=torch.float64)[:, None])
    x = torch.linspace(-2, 3, 7)
    for function in (
        lambda p: (1.0 - p) * x,
        lambda p: x + p**2 / (1.0 + p),
        lambda p: x * 2.0 ** (-1.0 / p),
        lambda p: torch.maximum(x, x * p),
        lambda p: (x < p).to(torch.float32),
        lambda p: x.clone().mul(p).add(p),
        lambda p: torch.where(x > 0, x * p, x - p),
        lambda p: x * torch.where(x > 0, p, 0.0),
        lambda p: torch.arange(7) * p,
        lambda p: (x > 0) * p + x,
    ):
        together = function(tensor)
        assert type(together) is Tensor and together.dtype is torch.float32
        for row, number in enumerate(numbers):
            assert torch.equal(together[row], function(number))


def test_a_power_of_a_parameter_does_not_depend_on_the_batch() -> None:
    """The last bit of `torch.pow` does: the share that remains of a half-life, for any number."""
    numbers = torch.linspace(0.3, 9.0, 53, dtype=torch.float64)
    parameter = ParameterTensor.of(numbers)
    for power in (lambda h: 2.0 ** (-1.0 / h), lambda h: h**1.5, lambda h: 2**h):
        assert power(parameter).tolist() == [power(number) for number in numbers.tolist()]
    assert ((0.0 * parameter) ** -1.5).isinf().all() and ((-parameter) ** 0.5).isnan().all()


def test_augmented_assignment_does_not_modify_a_parameter() -> None:
    """`share = self.rate; share += 0.1` would change the traits of the people."""
    trait = torch.tensor([[0.1, 0.2]], dtype=torch.float64)
    share = ParameterTensor.of(trait[..., None])
    share += 0.5
    share *= 2.0
    share -= 0.1
    share /= 2.0
    share **= 2
    assert trait.tolist() == [[0.1, 0.2]]
    assert type(share) is ParameterTensor
    assert share.flatten().tolist() == pytest.approx([0.55**2, 0.65**2])
    values = torch.ones(1, 2, 1)
    moved = values
    moved += ParameterTensor.of(trait[..., None])
    assert moved is values and type(moved) is Tensor and moved.dtype is torch.float32


def test_trust_of_each_person_in_lock_in() -> None:
    """The matrix recursion of belief pooling in float64, with a trust of each person."""
    trust = {"kind": "uniform", "low": 0.0, "high": 0.6}
    env = mores.make_environment("lock_in", num_people=5, trust_in_ai=trust, trust_in_people=0.3)
    states = [simulate(env, {}, 3, rounds=rounds, seed=4).state for rounds in range(1, 8)]
    per_person = states[0].traits["trust_in_ai"].numpy()
    for world in range(3):
        matrix = np.zeros((6, 6))
        matrix[:5, 5], matrix[5, :5] = per_person[world], 0.3
        q, nu = np.zeros(6), np.zeros(6)
        for after in states:
            precision = float(after.evidence_precision[world])
            evidence = after.mean_evidence[world].double().numpy()
            received = matrix @ q, matrix @ (nu * q)
            q_next = precision + received[0]
            nu = (precision * evidence + received[1]) / q_next
            q = q_next
            assert after.beliefs.mean[world].numpy() == pytest.approx(nu, abs=1e-4)
