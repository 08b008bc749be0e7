"""Recipes in consecutive stages; saving and loading of learners."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from pydantic import Field

from mores.agents.learning.losses import kl_loss, nll_loss
from mores.agents.learning.offline import evaluate_plain_view
from mores.agents.learning.offline_data import read_offline_data
from mores.agents.learning.recipes.sft import SFT
from mores.core import pytree
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.experiments.results.pytree_serialization import deserialize, serialize
from mores.registry import make_policy
from mores.sim.simulator import Simulator
from tests.learners.small_environments import (
    Faulty,
    FixedLengths,
    copy_model_parameters,
    run_episodes,
    simulate_episodes,
    stop_reasons,
    unchecked,
)
from tests.learners.test_offline import NET, SMALL, fit, record_episodes
from tests.refusals import refused

# --- consecutive stages -------------------------------------------------------------------------


def next_stage(simulator, policy, environment=None, **options):
    """A simulator of the next stage: another policy continues from the states of the one before."""
    (role,) = simulator.policies
    following = Simulator(
        environment or simulator.environment,
        {role: policy},
        worlds=simulator.worlds,
        rounds=simulator.rounds,
        stage=simulator.stage + 1,
        roles_to_train=[],
        **options,
    )
    following.reset(simulator.seed, simulator.policy_states)
    return following


def train_state_of(simulator, role="assistant"):
    return simulator.policy_states[role].persistent_state.train_state


def test_dpo_continues_from_sft():
    """Parameters continue; the reference of DPO is the model it began from, and constant."""
    environment = TokenFeedback(num_completions=4, **SMALL)
    policy, worlds = make_policy("sft", network=NET), Worlds.grid(2, 2)
    simulator, dataset = record_episodes(environment, policy, worlds, 3)
    fit(simulator, dataset, 2)
    imitated = copy_model_parameters(simulator)
    following = next_stage(simulator, make_policy("dpo", network=NET, learning_rate=0.01))
    train_state = train_state_of(following)
    for name, tensor in imitated.items():
        assert torch.equal(train_state.parameters[name], tensor)
        assert torch.equal(train_state.reference_parameters[name], tensor)
    assert not train_state.optimizer_state.step.any()
    assert int(following.policy_states["assistant"].persistent_state.num_rounds) == 2
    fit(following, dataset, 2)
    for name, tensor in imitated.items():
        assert torch.equal(train_state.reference_parameters[name], tensor)
        unchanged = torch.equal(copy_model_parameters(simulator)[name], tensor)
        assert unchanged, "the state of the first stage is unchanged"
    trained = copy_model_parameters(following)
    assert any(not torch.equal(tensor, imitated[name]) for name, tensor in trained.items())


def test_a_state_dict_is_loaded_into_a_learner_with_the_same_models():
    policy = make_policy("ppo", network=NET, num_steps=4)
    worlds = Worlds.grid(2, 1)
    environment = Faulty(faulty_replicate=1)
    state = simulate_episodes(environment, {"actor": policy}, worlds, 2, 4).policy_states["actor"]
    other = Simulator(Faulty(), {"actor": policy}, worlds=worlds, rounds=4)
    other.reset(7)
    loaded = policy.load_state_dict(other.policy_states["actor"], policy.state_dict(state))
    assert stop_reasons(policy, loaded) == stop_reasons(policy, state) != []
    for name, tensor in policy.state_dict(state).items():
        assert torch.equal(policy.state_dict(loaded)[name], tensor), name
    for wrong in (Worlds.grid(3, 1), Worlds.of([0, 5])):
        other = Simulator(Faulty(), {"actor": policy}, worlds=wrong, rounds=4)
        other.reset(7)
        with refused("incompatible", "policies.actor"):
            policy.load_state_dict(other.policy_states["actor"], policy.state_dict(state))


def test_a_stopped_model_stays_stopped_in_later_stages():
    policy = make_policy("ppo", network=NET, num_steps=4)
    environment = Faulty(faulty_replicate=1)
    simulator = simulate_episodes(environment, {"actor": policy}, Worlds.grid(2, 1), 1, 4)
    other = make_policy("reinforce", network=NET)
    following = next_stage(simulator, other)
    reasons = stop_reasons(policy, simulator.policy_states["actor"])
    assert stop_reasons(other, following.policy_states["actor"]) == reasons != []
    third = Simulator(Faulty(), {"actor": other}, worlds=simulator.worlds, rounds=4, stage=2)
    third.reset(0, following.policy_states)
    run_episodes(third, 1)
    trained = copy_model_parameters(third)
    for name, tensor in copy_model_parameters(simulator).items():
        if name in trained:
            changed = trained[name] != tensor
            assert not changed[1].any() and (changed[0].any() or "bias" in name), name


class NonFinite(TokenFeedback):
    """All rewards and real-valued feedback of replicate 1 are NaN or infinite."""

    value: float = Field(0.0, allow_inf_nan=True)

    def step(self, state, phase, actions, streams):
        def corrupted(x):
            faulty = (streams.replicate == 1).view(-1, *[1] * (x.dim() - 1))
            return torch.where(faulty, self.value, x) if x.is_floating_point() else x

        step = super().step(state, phase, actions, streams)
        feedback = {r: {n: corrupted(x) for n, x in f.items()} for r, f in step.feedback.items()}
        reward = {role: corrupted(x) for role, x in step.reward.items()}
        return dataclasses.replace(step, reward=reward, feedback=feedback)


STOP_REASON = "assistant, replicate 1: not a number in round {} of its training"
ONLINE = [
    ("ppo", {"num_steps": 3}),
    *((kind, {}) for kind in ("reinforce", "grpo", "rloo", "grao", "expert_iteration")),
    ("online_dpo", {}),
    ("online_dpo", {"reward_aggregation": "sum"}),
    ("expert_iteration", {"reward_aggregation": "minimum"}),
]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("kind", "fields"), ONLINE)
@unchecked()
def test_non_finite_rewards_stop_a_model(kind, fields, value):
    policy = make_policy(kind, network=NET, **fields)
    environment = NonFinite(num_completions=4, value=value, **SMALL)
    simulator = simulate_episodes(environment, {"assistant": policy}, Worlds.grid(2, 2), 1, 3)
    state = simulator.policy_states["assistant"]
    assert stop_reasons(policy, state) == [STOP_REASON.format(3)]
    first, second = policy.state_dict(state)["num_updates"].tolist()
    assert first > 0 and second == 0


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut", "dckd",
                                  "adpa", "alignment_recovery"])  # fmt: skip
@unchecked()
def test_non_finite_observations_stop_a_model(kind, value):
    fields = {"teacher_epochs": 1} if kind in ("dckd", "adpa") else {}
    policy = make_policy(kind, network=NET, **fields)
    environment = TokenFeedback(num_completions=4, **SMALL)
    simulator, dataset = record_episodes(environment, policy, Worlds.grid(2, 2), 2)
    dataset.observation["answer"][2:] = value
    train_state = train_state_of(simulator)
    if kind == "alignment_recovery":
        reference = {name: x + 0.1 for name, x in train_state.parameters.items()}
        train_state.reference_parameters.update(reference)
    fit(simulator, dataset, 1)
    round = 0 if fields else 1  # the training of the teacher comes before the first round
    assert stop_reasons(policy, simulator.policy_states["assistant"]) == [STOP_REASON.format(round)]
    assert train_state.updates.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("network", "sharing"),
    [
        ({"kind": "mlp", "hidden_sizes": [16]}, "role"),
        ({"kind": "mlp", "hidden_sizes": [32, 32]}, "role"),
        ({"kind": "mlp", "hidden_sizes": []}, "role"),
        ({"kind": "gru", "hidden_size": 32}, "role"),
        (NET, "agent"),
        ({**NET, "activation": "relu"}, "role"),
    ],
)
def test_another_architecture_cannot_continue(network, sharing):
    environment = TokenFeedback(
        num_completions=2, vocab_size=3, completion_length=1, num_prompt_features=4
    )
    policy = make_policy("sft", network=NET)
    simulator, _ = record_episodes(environment, policy, Worlds.grid(2, 1), 1)
    with refused("incompatible", path="policies.assistant"):
        next_stage(simulator, make_policy("dpo", network=network, parameter_sharing=sharing))


class SecondSFT(SFT):
    """Another recipe with the same training, which continues from the first one."""


@pytest.mark.full
@unchecked()
def test_alignment_recovery_restores_within_its_limit():
    """The downstream loss rises by at most .3 nats; without a limit nearly all is restored."""
    environments = [TokenFeedback(num_completions=4, task_seed=k, **SMALL) for k in range(2)]
    net = {"kind": "mlp", "hidden_sizes": [16]}
    simulator, worlds = None, Worlds.grid(3, 8)
    for environment, recipe in zip(environments, (SFT, SecondSFT), strict=True):
        policy = recipe(network=net, learning_rate=0.02)
        states = None if simulator is None else simulator.policy_states
        simulator, dataset = record_episodes(environment, policy, worlds, 8, states=states)
        fit(simulator, dataset, 30)
        if states is None:
            first = copy_model_parameters(simulator)
    tuned, state = copy_model_parameters(simulator), simulator.policy_states["assistant"]
    data = read_offline_data(dataset, state)
    demonstrations, generated = data.demonstrations("sft"), data.generated

    @torch.no_grad()
    def downstream_loss(parameters):
        out = evaluate_plain_view(state, parameters, "answer", demonstrations)
        return nll_loss(out, demonstrations)

    @torch.no_grad()
    def alignment_loss(parameters):
        reference = evaluate_plain_view(state, first, "answer", generated)
        out = evaluate_plain_view(state, parameters, "answer", generated)
        batch = generated.replace(reference_logits=reference.logits)
        return kl_loss(out, batch, direction="forward")

    def recover(max_loss_increase, **fields):
        fields = {"network": net, "max_loss_increase": max_loss_increase, **fields}
        following = next_stage(simulator, make_policy("alignment_recovery", **fields))
        fit(following, dataset, 1)
        return copy_model_parameters(following)

    some = recover(0.3, step_fraction=0.002, steps=60)
    increase = downstream_loss(some) - downstream_loss(tuned)
    assert (increase <= 0.3 + 1e-5).all() and (increase > 0.02).all(), increase
    assert (alignment_loss(some) < 0.95 * alignment_loss(tuned)).all()
    limited = recover(0.0, step_fraction=0.05)
    assert (downstream_loss(limited) <= downstream_loss(tuned) + 1e-5).all()
    # Only weights whose restoration lowers the alignment loss are restored: in the end nearly all.
    unlimited = recover(1e6, step_fraction=0.1)
    assert (alignment_loss(unlimited) < 0.02 * alignment_loss(tuned)).all()


def test_alignment_recovery_needs_an_earlier_model():
    environment, worlds = TokenFeedback(num_completions=2, **SMALL), Worlds.grid(1, 1)
    policy = make_policy("alignment_recovery", network=NET)
    simulator, dataset = record_episodes(environment, policy, worlds, 1)
    with refused("wrong_order", path="stages"):
        fit(simulator, dataset, 1)
    simulator, _ = record_episodes(environment, make_policy("sft", network=NET), worlds, 1)
    with refused("wrong_order", path="stages"):
        next_stage(simulator, policy)


# --- saving and loading -------------------------------------------------------------------------

TRANSFORMER = {"kind": "transformer", "hidden_size": 8, "context_length": 6}
SAVED = {
    "ppo": ("ppo", {"num_steps": 7}),
    "gru": ("ppo", {"num_steps": 7, "network": {"kind": "gru", "hidden_size": 6}}),
    "transformer": ("ppo", {"num_steps": 7, "network": TRANSFORMER}),
    "grpo": ("grpo", {"kl_coef": 0.1, "reward_aggregation": "sum"}),
}


@pytest.mark.cut(5)
@pytest.mark.parametrize(("recipe", "at"), [*((recipe, 10) for recipe in SAVED), ("grpo", 21)])
def test_a_restored_learner_continues_bit_for_bit(recipe, at):
    """Saved within an episode and a rollout, loaded into a new simulator: equal results."""
    kind, fields = SAVED[recipe]
    lengths = (4, 6) if recipe != "grpo" else (22, 5)  # rollouts that grow beyond 16 rounds
    environment = FixedLengths(lengths=lengths, num_agents=2)

    def make_simulator():
        policies = {"actor": make_policy(kind, **{"network": NET, **fields})}
        worlds = Worlds.grid(2, 2)
        return Simulator(
            environment, policies, worlds=worlds, rounds=30, autoreset_mode="same_step"
        )

    original, restored = make_simulator(), make_simulator()
    original.reset(3)
    for step in range(30):
        if step == at:
            saved = original.state_dict()
        original.step()
    assert all(isinstance(t, torch.Tensor) for t in saved.values())
    restored.load_state_dict(saved)
    for _ in range(30 - at):
        restored.step()
    expected, actual = original.state_dict(), restored.state_dict()
    assert expected.keys() == actual.keys()
    for name, tensor in expected.items():
        assert torch.equal(tensor.nan_to_num(7.0), actual[name].nan_to_num(7.0)), name


def test_the_reference_of_a_continued_learner_is_saved():
    """Also in a recipe that has no reference model itself."""
    environment = TokenFeedback(num_completions=2, **SMALL)
    policy = make_policy("sft", network=NET)
    simulator, _ = record_episodes(environment, policy, Worlds.grid(2, 1), 1)
    following = next_stage(simulator, make_policy("simpo", network=NET))
    options = {"worlds": simulator.worlds, "rounds": 3, "stage": 1, "roles_to_train": []}
    restored = Simulator(environment, following.policies, **options)
    restored.load_state_dict(following.state_dict())
    reference = train_state_of(restored).reference_parameters
    parameters = copy_model_parameters(simulator)
    assert reference.keys() == parameters.keys()
    assert all(torch.equal(reference[name], tensor) for name, tensor in parameters.items())


def test_states_of_another_architecture_are_refused():
    environment = FixedLengths(lengths=(3,), num_agents=2)

    def make_simulator(**fields):
        policies = {"actor": make_policy("ppo", **fields)}
        simulator = Simulator(environment, policies, worlds=2, rounds=9)
        simulator.reset(0)
        return simulator

    saved = make_simulator(network=NET).state_dict()
    for fields in (
        {"network": {"kind": "mlp", "hidden_sizes": [8]}},
        {"parameter_sharing": "agent", "network": NET},
        {"network": {"kind": "gru", "hidden_size": 32}},
    ):
        with refused("incompatible"):
            make_simulator(**fields).load_state_dict(saved)


def test_states_can_be_serialized():
    """The format of a run's checkpoint restores a state bit for bit."""
    policies = {"actor": make_policy("ppo", network=NET, num_steps=5)}
    environment, worlds = FixedLengths(lengths=(3, 4)), Worlds.grid(2, 2)
    state, template = (
        simulate_episodes(environment, policies, worlds, episodes, 9).policy_states["actor"]
        for episodes in (2, 0)
    )
    restored = deserialize(template, serialize(state, template))
    for name, tensor in pytree.flatten(state).items():
        assert torch.equal(pytree.flatten(restored)[name], tensor), name


@pytest.mark.parametrize(
    ("kind", "fields", "path"),
    [
        ("ppo", {"agent_groups": [0, 1]}, "ppo.agent_groups"),
        ("ppo", {"search_num_candidates": 8}, "ppo.search_num_candidates"),
        ("ppo", {"search": "best_of_n", "search_depth": 1}, "ppo.search_depth"),
        ("dpo", {"num_annotators": 2}, "dpo.num_annotators"),
    ],
)
def test_parameters_without_effect_are_refused(kind, fields, path):
    with refused("conflict", path=path):
        make_policy(kind, **fields)
