"""`biased_users`: ratings, effects on people, contexts, and metrics of policies, by hand."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm

import mores
from mores.agents.people.normal import NormalPopulation
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.representational_similarity import linear_cka
from mores.envs.dynamics.trait_state import TraitStateDynamics
from mores.envs.strategic.biased_users import BiasedUsers
from mores.envs.strategic.biased_users_contexts import sample_codes
from mores.experiments.scenario.expansion import build_cells
from mores.experiments.scenario.loading import load_scenario
from mores.registry import make, make_environment
from mores.sim.policy_queries import policy_metrics
from mores.sim.simulator import Simulator
from tests.refusals import refused

WIDE = {"kind": "uniform", "low": 0, "high": 2}
HONEST = {"assistant": "honest_assistant"}
EXACT: dict[str, Any] = {"feature_noise": 0.0, "rating": {"kind": "noisy_rating"}}


def after_round(environment: BiasedUsers, policy: Any, worlds: int = 1) -> Simulator:
    """A simulator after one round."""
    simulator = Simulator(environment, {"assistant": policy}, worlds=worlds, rounds=2)
    simulator.reset(7)
    simulator.step()
    return simulator


def test_ratings_of_all_replies() -> None:
    """Benign people rate truth, biased ones agreement; gains and losses may differ by group."""
    environment = make_environment(
        "biased_users",
        num_people=400,
        biased_share=0.5,
        benign_loss={"kind": "uniform", "low": 1.0, "high": 3.0},
        biased_gain=2.0,
        biased_offset=-0.5,
        hedge_value=0.25,
        **EXACT,
    )
    simulator = after_round(environment, "random")
    state, exchange = simulator.state, simulator.state.exchange
    loss = state.people.traits["benign_loss"][0].tolist()
    kinds = set()
    for person in range(400):
        claim, truth, reply = (
            int(x[0, person]) for x in (exchange.claim, exchange.truth, exchange.statement)
        )
        hedge, biased = reply == 3, bool(state.is_biased[0, person])
        kinds.add((biased, hedge, reply == truth, reply == claim))
        if biased:
            expected = -0.5 + 2.0 * (0.25 if hedge else float(reply == claim))
        else:
            expected = loss[person] * ((0.25 if hedge else float(reply == truth)) - 1.0)
        assert exchange.rating[0, person].item() == pytest.approx(expected, abs=1e-6)
    assert len(kinds) == 10
    assert 1.0 <= min(loss) < max(loss) <= 3.0


def test_statements_move_people() -> None:
    """A value moves by the influence times the mean distance to the stated positions."""
    environment = make_environment(
        "biased_users",
        num_people=50,
        num_replies=2,
        position_spread=1.5,
        ai_influence=0.4,
        trait_state=TraitStateDynamics(),
        rating_source="random",
        **EXACT,
    )
    simulator = Simulator(environment, {"assistant": "random"}, worlds=2, rounds=2)
    simulator.reset(7)
    before = simulator.state
    positions = np.array([-1.5, 0.0, 1.5])
    value = before.people.values[..., 0].numpy()
    nearest = np.abs(value[..., None] - positions).argmin(-1)
    order = before.answer_order.numpy()
    np.testing.assert_array_equal(before.items.claim.numpy(), (nearest + order) % 3)
    simulator.step()
    reply = simulator.state.exchange.statement.numpy().reshape(2, 50, 2)
    distance = positions[(reply - order[..., None]) % 3] - value[..., None]
    moved = value + 0.4 * np.where(reply < 3, distance, 0.0).mean(-1)
    np.testing.assert_allclose(simulator.state.people.values[..., 0].numpy(), moved, atol=1e-6)


def test_pretraining_moves_nobody_and_demonstrates_the_corpus() -> None:
    environment = BiasedUsers(
        num_people=20_000,
        task="pretraining",
        claim_error_rate=0.4,
        corpus_shares=(0.6, 0.1, 0.2, 0.1),
    )
    simulator = Simulator(environment, {"assistant": "honest_assistant"}, worlds=1, rounds=2)
    simulator.reset(1)
    values, items = simulator.state.people.values, simulator.state.items
    streams = RandomStreams.of(5, 1)
    action = torch.zeros(1, 20_000, dtype=torch.int64)
    result = environment.step(simulator.state, "state", {"assistant": action}, streams)
    shown = result.feedback["assistant"]["demonstration"][..., 0]
    assert torch.equal(result.reward["assistant"], (items.truth == 0).float())
    wrong = items.claim != items.truth
    for agrees, shares in ((wrong, (0.6, 0.2, 0.1, 0.1)), (~wrong, (0.8, 0.8, 0.1, 0.1))):
        other = (shown != items.truth) & (shown != items.claim) & (shown < 3)
        found = (shown == items.truth, shown == items.claim, shown == 3, other)
        for flags, share in zip(found, shares, strict=True):
            assert flags[agrees].float().mean().item() == pytest.approx(share, abs=0.02)
    assert (shown < 0).sum() == 0
    simulator.step()
    assert torch.equal(simulator.state.people.values, values)
    assert simulator.state.domain.unique().tolist() == [0, 1]


@pytest.mark.parametrize("shared_code", [0.0, 0.5, 0.99])
def test_codes_are_orthonormal_and_as_similar_as_asked(shared_code: float) -> None:
    streams = RandomStreams.of(3, 50)
    codes = sample_codes(4, 6, 12, shared_code, streams).double()
    gram = codes @ codes.mT
    torch.testing.assert_close(gram, torch.eye(6).double().expand_as(gram), atol=1e-6, rtol=0)
    cosine = (codes[:, 0] * codes[:, 1]).sum(-1).mean().item()
    low, high = {0.0: (-0.05, 0.05), 0.5: (0.3, 0.7), 0.99: (0.98, 1.0)}[shared_code]
    assert low < cosine < high
    alone = sample_codes(4, 6, 12, shared_code, RandomStreams.of(3, [37])).double()
    assert torch.equal(codes[37], alone[0])


def test_metrics_of_policies_are_exact() -> None:
    """An assistant that flatters above a cue: the probabilities are tails of normal cues."""
    environment = make_environment(
        "biased_users", num_people=4_000, cue_strength=2.0, num_domains=3, **EXACT
    )
    policy = {"kind": "cue_dependent_assistant", "threshold": 1.5}
    metrics = policy_metrics(after_round(environment, policy, worlds=2))
    found = {name: x.mean().item() for name, x in metrics.items()}
    for domain in ("rated", "held_out"):
        for cue, mean in (("_benign_cue", 0.0), ("_biased_cue", 2.0)):
            expected = norm.sf(1.5 - mean)
            assert found[f"flattery_{domain}{cue}"] == pytest.approx(expected, abs=0.02)
            assert found[f"dishonesty_{domain}{cue}"] == found[f"flattery_{domain}{cue}"]
        gap = norm.sf(-0.5) - norm.sf(1.5)
        assert found[f"targeting_gap_{domain}"] == pytest.approx(gap, abs=0.03)
        assert found[f"dishonesty_{domain}"] == found[f"hedging_{domain}"] == 0.0
        assert found[f"accuracy_{domain}"] == found[f"belief_accuracy_{domain}"] == 1.0
    assert found["domain_agreement"] == 1.0
    random = policy_metrics(after_round(environment, "random"))
    assert random["dishonesty_rated"].item() == pytest.approx(0.5)  # two of four options
    assert random["hedging_rated"].item() == pytest.approx(0.25)


def test_what_was_said_in_a_round() -> None:
    """Every statement is honest, a hedge, flattery or a fabrication, by the elicited belief."""
    environment = make_environment("biased_users", num_people=3_000, **EXACT)
    names = ["honest_share", "flattery_share", "fabrication_share", "hedge_share"]
    names += ["selected_sycophancy", "belief_accuracy", "biased_people"]
    result = mores.simulate(environment, {"assistant": "random"}, 1, 1, metrics=names)
    found = {name: float(result.metrics[name][0, -1]) for name in names}
    shares = (1 / 4, 1 / 6, 1 / 3, 1 / 4)  # random answers: 1 of 3 beliefs equals the claim
    for name, share in zip(names, shares, strict=False):
        assert found[name] == pytest.approx(share, abs=0.03), name
    assert sum(found[name] for name in names[:4]) == pytest.approx(1.0)
    unasked = environment.model_copy(update={"elicit_beliefs": False})
    silent = mores.simulate(unasked, {"assistant": "random"}, 1, 1, metrics=names)
    assert np.isnan(silent.metrics["honest_share"][0, -1])
    assert silent.metrics["hedge_share"][0, -1] == found["hedge_share"]


def test_people_of_a_population() -> None:
    """Types can depend on groups; without groups, the types are the groups."""
    population = NormalPopulation(num_people=30, num_values=1, std=2.0)
    environment: Any = BiasedUsers().with_population(population)
    assert (environment.num_people, environment.human_std) == (30, 2.0)
    simulator = Simulator(
        environment, {"assistant": "honest_assistant"}, worlds=4, population=population
    )
    simulator.reset(1)
    people = simulator.state.people
    assert people.group_names == ("benign", "biased")
    assert torch.equal(people.groups == 1, simulator.state.is_biased)
    assert "person  type" not in environment.render(simulator.state)
    simulator.step()
    assert len(environment.render(simulator.state, world=2).splitlines()) == 7
    with refused("wrong_shape", "population"):
        wide = NormalPopulation(num_people=20, num_values=2)
        Simulator(BiasedUsers(), HONEST, worlds=1, population=wide).reset(1)


def test_preferred_replies() -> None:
    environment = make_environment("biased_users", num_people=40, num_replies=4)
    simulator = Simulator(environment, {"assistant": "random"}, worlds=2, rounds=2)
    simulator.reset(1)
    action = torch.randint(0, 4, (2, 160), generator=torch.Generator().manual_seed(1))
    result = environment.step(
        simulator.state, "state", {"assistant": action}, RandomStreams.of(2, Worlds.grid(2, 1))
    )
    rating = result.state.exchange.rating.view(2, 80, 2)
    preferred = result.feedback["assistant"]["preferred"].view(2, 80, 2)
    assert torch.equal(preferred.int().argmax(-1), rating.argmax(-1))
    assert (preferred.sum(-1) == 1).all()
    assert dataclasses.is_dataclass(result.state)


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"num_domains": 3, "num_rated_domains": 3}, "conflict", "num_rated_domains"),
        ({"num_features": 8}, "conflict", "num_features"),
        ({"num_features": 5, "shared_code": 0.5}, "out_of_range", "num_features"),
        ({"corpus_shares": [0.5, 0.5, 0.5, 0.5]}, "invalid_value", "corpus_shares"),
        ({"rating": "bradley_terry"}, "unsupported", "rating"),
        ({"biased_share": 1.5}, "out_of_range", "biased_share"),
        (
            {"biased_share": {"kind": "uniform", "low": 0, "high": 2}},
            "out_of_range",
            "biased_share",
        ),
        ({"num_answers": 1}, "out_of_range", "num_answers"),
        ({"task": "talk"}, "invalid_value", "task"),
    ],
)
def test_invalid_parameters(parameters: dict[str, Any], code: str, path: str) -> None:
    with refused(code, f"biased_users.{path}"):
        make("environment", "biased_users", parameters)


def test_scripted_assistants_need_plain_codes() -> None:
    environment = BiasedUsers(shared_code=0.0, num_features=8)
    with refused("unsupported", "policies.assistant"):
        Simulator(environment, {"assistant": "honest_assistant"}, worlds=1).reset(1)


@pytest.mark.parametrize(
    ("name", "differs"),
    [
        ("biased_users", ()),
        ("biased_users_drift", ()),
        ("biased_users_mixture", ()),
        ("biased_users_optimum", ()),
        ("biased_users_spillover", ("shared_code",)),
        ("biased_users_targeting", ()),
    ],
)
def test_arms_start_from_the_same_pretraining(name: str, differs: tuple[str, ...]) -> None:
    """Arms differ in what they are trained on later; on shared numbers they start equal."""
    starts: dict[str, list[str]] = {}
    for built in build_cells(load_scenario(name, [])):
        first = built.stages[0]
        assert first.stage.name == "pretrain"
        policy = first.policies["assistant"].model_dump_json()
        about = first.environment.model_dump(include=set(differs))
        found = first.environment.model_dump_json(exclude={"rating_source"})
        starts.setdefault(f"{policy} {about}", []).append(found)
    for environments in starts.values():
        assert len(set(environments)) == 1


def test_representational_similarity() -> None:
    """The features are those of the network's hidden layer, of both domains, without a cue."""
    environment = make_environment(
        "biased_users", num_people=30, shared_code=0.5, num_features=8, held_out_items=2
    )
    learner = {"kind": "ppo", "learning_rate": 0, "network": {"kind": "mlp", "hidden_sizes": [5]}}
    simulator = after_round(environment, learner, worlds=3)
    state = simulator.policy_states["assistant"]
    parameters = {n: v[1].numpy() for n, v in state.persistent_state.train_state.parameters.items()}
    weight, bias = (parameters[f"policy.0.{name}"] for name in ("weight", "bias"))
    obs = environment.policy_queries(simulator.state)["features"].observation.numpy()
    x, y = (np.tanh(obs[1, :, d::2].reshape(60, -1) @ weight + bias) for d in (0, 1))
    assert (obs[..., :2] == 0).all()
    similarity = policy_metrics(simulator)["representational_similarity"]
    assert similarity[1].item() == pytest.approx(cka_by_kernels(x, y), abs=1e-5)
    honest = policy_metrics(after_round(BiasedUsers(num_people=4), "honest_assistant"))
    assert honest["representational_similarity"].isnan().all()


def cka_by_kernels(x: np.ndarray, y: np.ndarray) -> float:
    """Normalized Hilbert-Schmidt independence criterion of the kernels of items."""
    center = np.eye(len(x)) - 1.0 / len(x)
    k, other = (center @ (z @ z.T) @ center for z in (x, y))
    return float((k * other).sum() / np.sqrt((k * k).sum() * (other * other).sum()))


def test_linear_cka() -> None:
    """As by kernels of items; 1 for rotations and multiples; NaN for constant features."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 6)), rng.normal(size=(40, 3))
    y += x[:, :3]
    rotation = np.linalg.qr(rng.normal(size=(6, 6)))[0]
    pairs = [(x, y), (x, 3.0 * x @ rotation + 1.0), (x, 0.0 * x)]
    found = [linear_cka(torch.tensor(a)[None], torch.tensor(b)[None]).item() for a, b in pairs]
    assert found[0] == pytest.approx(cka_by_kernels(x, y), abs=1e-6)
    assert 0.1 < found[0] < 0.9
    assert found[1] == pytest.approx(1.0, abs=1e-6)
    assert np.isnan(found[2])
