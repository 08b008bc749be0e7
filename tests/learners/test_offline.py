"""Offline training: batches made from recorded episodes, and the effect of each recipe."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mores.agents.channels.choices import BradleyTerryChoice
from mores.agents.learning.offline import evaluate_plain_view
from mores.agents.learning.offline_data import read_offline_data
from mores.core.environment import Role
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.registry import make_policy
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.learners.small_environments import (
    DelayedRecall,
    Faulty,
    FixedLengths,
    FixedLengthsNoFeedback,
    copy_model_parameters,
    run_episodes,
    simulate_episodes,
    unchecked,
)
from tests.refusals import refused

SMALL = {"vocab_size": 6, "completion_length": 3, "num_prompt_features": 3}
NET = {"kind": "mlp", "hidden_sizes": [32]}


def record_episodes(
    environment,
    policy,
    worlds,
    episodes,
    seed=0,
    states=None,
    rounds=None,
    autoreset_mode="disabled",
):
    """A simulator after episodes without training, and the dataset of its one role."""
    role = environment.roles[0].name
    recorder = EpisodeRecorder([role])
    rounds = rounds or getattr(environment, "completion_length", 100)
    simulator = Simulator(
        environment,
        {role: policy},
        worlds=worlds,
        rounds=rounds,
        roles_to_train=[],
        recorder=recorder,
        stage=0 if states is None else 1,
        autoreset_mode=autoreset_mode,
    )
    simulator.reset(seed, states)
    run_episodes(simulator, episodes)
    return simulator, recorder.dataset(role)


def fit(simulator, dataset, passes, first=0):
    """State after passes over a dataset, each with its own streams; changed in place."""
    (role, policy) = next(iter(simulator.policies.items()))
    streams = RandomStreams.of(simulator.seed, simulator.worlds, stage=5)
    for number in range(first, first + passes):
        state = policy.fit_offline(
            simulator.policy_states[role], dataset, streams.at(number).child("fit")
        )
        simulator.policy_states[role] = state
    return simulator.policy_states[role]


# --- batches of recorded episodes ---------------------------------------------------------------


def test_samples_are_episodes_of_agents():
    """Three episodes in worlds of unequal length: observations, actions, rewards and padding."""
    lengths = (2, 5, 3)
    environment = FixedLengthsNoFeedback(lengths=lengths, num_agents=2)
    policy = make_policy("kto", network=NET)
    simulator, dataset = record_episodes(environment, policy, Worlds.grid(2, 3), 3)
    batch = read_offline_data(dataset, simulator.policy_states["actor"]).generated
    assert batch.mask.shape == (2, 3 * 2 * 3, 5)
    assert batch.pairs is None and batch.desirable is None
    lucks, groups = set(), {}
    for model in range(2):
        for sample in range(18):
            row, episode = divmod(sample, 3)
            world, agent = divmod(row, 2)
            length = lengths[world]
            assert batch.mask[model, sample].tolist() == [t < length for t in range(5)]
            clock, number, luck = batch.observation[model, sample, :length].T
            assert clock.tolist() == list(range(length)) and (number == world).all()
            assert (luck == luck[0]).all()
            lucks.add(luck[0].item())
            assert batch.reward[model, sample].tolist() == [sum(range(1, length + 1))]
            group = int(batch.group[model, sample])
            assert groups.setdefault((model, world, episode), group) == group
            action = dataset.action["act"][model * 3 + world, 5 * episode :][:length, agent]
            assert torch.equal(batch.action[model, sample, :length], action)
    assert len(lucks) == 36, "each agent has another luck in each episode"
    assert len(set(groups.values())) == len(groups) == 18, "each episode of a world is a group"


@pytest.mark.parametrize(
    ("sharing", "groups", "has_pairs"),
    [
        ("role", None, True),
        ("group", [0, 0, 1, 1], True),
        ("group", [1, 1, 0, 0], True),
        ("group", [0, 1, 0, 1], False),  # the agents of a pair have different models
        ("group", [0, 0, 0, 0, 1, 1], False),  # unequal numbers of pairs
        ("agent", None, False),
    ],
)
def test_pairs_are_of_adjacent_agents(sharing, groups, has_pairs):
    num_agents = len(groups) if groups else 4
    environment = TokenFeedback(
        num_completions=num_agents,
        choice=BradleyTerryChoice(annotator_error_rates=(0.1, 0.2)),
        **SMALL,
    )
    policy = make_policy("dpo", network=NET, parameter_sharing=sharing, agent_groups=groups)
    simulator, dataset = record_episodes(environment, policy, Worlds.grid([5, 2], 3), 2)
    state = simulator.policy_states["assistant"]
    batch, feedback = read_offline_data(dataset, state).generated, dataset.feedback
    assert batch.desirable is not None and (batch.pairs is not None) == has_pairs
    origin = {}  # of each sample: world among all, agent, episode
    mapping = state.persistent_state.mapping
    for model, row in mapping.valid.nonzero().tolist():
        for episode in range(2):
            world, agent = divmod(int(mapping.agent_rows[model, row]), num_agents)
            origin[model, 2 * row + episode] = world, agent, episode
    for (model, sample), (world, agent, episode) in origin.items():
        preferred = bool(feedback["preferred"][world, episode, agent])
        assert bool(batch.desirable[model, sample]) == preferred
        assert torch.equal(batch.reward[model, sample], feedback["reward"][world, episode, agent])
    if not has_pairs:
        return
    pairs = set()
    for model, pair in torch.ones_like(batch.preferred).nonzero().tolist():
        first, second = batch.pairs[model, pair].tolist()
        world, agent, episode = origin[model, first]
        assert origin[model, second] == (world, agent + 1, episode) and agent % 2 == 0
        at = world, episode, agent
        assert bool(batch.preferred[model, pair]) == bool(feedback["preferred"][at])
        assert batch.annotator[model, pair] == feedback["annotator"][at]
        pairs.add(at)
    assert len(pairs) == 6 * num_agents // 2 * 2, "every pair once"


def test_demonstrations_are_observed_token_by_token():
    """Observations of a demonstration: the same prompt, and the tokens so far."""
    environment = TokenFeedback(num_completions=4, **SMALL)
    policy = make_policy("sft", network=NET)
    simulator, dataset = record_episodes(environment, policy, Worlds.grid(2, 2), 2)
    data = read_offline_data(dataset, simulator.policy_states["assistant"])
    shown, layout = data.demonstrations("a test"), environment.roles[0].observation_space
    prompt = layout.read(data.generated.observation[:, :, :1], "prompt")
    assert torch.equal(layout.read(shown.observation, "prompt"), prompt.expand(-1, -1, 3, -1))
    one_hot = torch.nn.functional.one_hot(shown.action, 6).float()
    for t in range(3):
        completion = layout.read(shown.observation[:, :, t], "completion").unflatten(-1, (3, 6))
        assert torch.equal(completion[:, :, :t], one_hot[:, :, :t])
        assert not completion[:, :, t:].any()
    assert not layout.read(shown.observation, "critique").any()
    assert shown.is_demonstration.all() and shown.mask.all()
    demonstration = dataset.feedback["demonstration"]  # world episode agent token
    assert torch.equal(shown.action, demonstration.movedim(1, 2).reshape(2, -1, 3))


@pytest.mark.parametrize(
    "network",
    [
        NET,
        {"kind": "gru", "hidden_size": 8},
        {"kind": "transformer", "hidden_size": 8, "context_length": 3},
    ],
)
def test_the_likeliest_actions_are_the_recorded_ones(network):
    """At temperature 0, the recorded actions are the likeliest in an evaluation of the dataset."""
    environment = FixedLengthsNoFeedback(lengths=(3, 2), num_agents=2)
    policy = make_policy("kto", network=network, temperature=0.0)
    simulator, dataset = record_episodes(environment, policy, Worlds.grid(20, 2), 2)
    state = simulator.policy_states["actor"]
    batch = read_offline_data(dataset, state).generated
    parameters = state.persistent_state.train_state.parameters
    out = evaluate_plain_view(state, parameters, "act", batch)
    assert torch.equal(out.logits.argmax(-1)[batch.mask], batch.action[batch.mask])
    assert 0 < batch.action[batch.mask].float().mean() < 1


# --- datasets without the required data ---------------------------------------------------------


def check_refused(code, path, kind, environment, worlds, episodes=1, policy=None, **options):
    """Offline training on these episodes is refused with that code and path."""
    policy = policy or make_policy(kind, network=NET)
    simulator, dataset = record_episodes(environment, policy, worlds, episodes, **options)
    with refused(code, path=path):
        fit(simulator, dataset, 1)


def test_missing_feedback_is_an_error():
    check_refused("missing", "demonstration", "sft", Faulty(), Worlds.grid(1, 1), rounds=3)
    check_refused("missing", "preferred", "dpo", Faulty(), Worlds.grid(1, 1), rounds=3)
    check_refused("missing", "preferred", "kto", Faulty(), Worlds.grid(1, 1), rounds=3)
    check_refused("missing", "critique", "cut", Faulty(), Worlds.grid(1, 1), rounds=3)
    policy = make_policy("dpo", network=NET, parameter_sharing="agent")
    environment, worlds = TokenFeedback(num_completions=4, **SMALL), Worlds.grid(1, 1)
    check_refused("conflict", "parameter_sharing", "dpo", environment, worlds, policy=policy)


def test_feedback_must_be_given_once_an_episode():
    environment = FixedLengths(lengths=(3,))
    check_refused("wrong_shape", "reward", "kto", environment, Worlds.grid(1, 1), 2)


def test_an_empty_dataset_is_an_error():
    policy = make_policy("kto", network=NET)
    check_refused("wrong_order", "policies.actor", "kto", Faulty(), Worlds.grid(1, 1), 0)
    simulator, dataset = record_episodes(Faulty(), policy, Worlds.grid(1, 1), 1, rounds=3)
    unfinished = dataclasses.replace(dataset, done=torch.zeros_like(dataset.done))
    with refused("missing"):
        fit(simulator, unfinished, 1)


def test_episodes_of_all_worlds_must_begin_together():
    policy = make_policy("kto", network=NET)
    recorder = EpisodeRecorder(["actor"])
    simulator = Simulator(
        FixedLengthsNoFeedback(lengths=(2, 3)),
        {"actor": policy},
        worlds=Worlds.grid(1, 2),
        roles_to_train=[],
        recorder=recorder,
        autoreset_mode="same_step",
    )
    simulator.reset(0)
    for _ in range(6):
        simulator.step()
    with refused("unsupported", path="autoreset_mode"):
        fit(simulator, recorder.dataset("actor"), 1)


def test_demonstrations_need_an_observation_model():
    """Without it, demonstrations of several actions cannot be imitated."""

    class NoModel(TokenFeedback):
        @property
        def roles(self):
            return tuple(
                dataclasses.replace(role, observation_model=None) for role in super().roles
            )

    environment = NoModel(num_completions=2, **SMALL)
    check_refused("unsupported", "policies.assistant", "sft", environment, Worlds.grid(1, 1))
    assert isinstance(environment.roles[0], Role)


# --- effects of recipes -------------------------------------------------------------------------


def log_ratio(state, batch):
    """Log-probability of preferred minus other samples, and of preferred ones: means by model."""
    parameters = state.persistent_state.train_state.parameters
    with torch.no_grad():
        out = evaluate_plain_view(state, parameters, "answer", batch)
    first, second = (out.logp.sum(-1).gather(1, batch.pairs[..., k]) for k in range(2))
    chosen = torch.where(batch.preferred, first, second)
    rejected = torch.where(batch.preferred, second, first)
    return (chosen - rejected).mean(1), chosen.mean(1)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "simpo", "cpo", "kto"])
@unchecked()
def test_preferred_samples_become_likelier(kind):
    """In every replicate, and also for new prompts that were not in the dataset."""
    environment, worlds = TokenFeedback(num_completions=8, **SMALL), Worlds.grid(4, 8)
    policy = make_policy(kind, network=NET, learning_rate=0.01, batch_size=128)
    simulator, dataset = record_episodes(environment, policy, worlds, 10)
    state = simulator.policy_states["assistant"]
    batch = read_offline_data(dataset, state).generated
    new_simulator, new_dataset = record_episodes(environment, policy, worlds, 4, seed=1)
    new = read_offline_data(new_dataset, new_simulator.policy_states["assistant"]).generated
    (before, chosen), (before_new, _) = log_ratio(state, batch), log_ratio(state, new)
    fit(simulator, dataset, 6)
    (after, chosen_after), (after_new, _) = log_ratio(state, batch), log_ratio(state, new)
    assert (before.abs() < 0.05).all() and (after > 0.3).all(), after
    assert (before_new.abs() < 0.05).all() and (after_new > 0.15).all(), after_new
    if kind == "cpo":  # its imitation term makes preferred samples likelier
        assert (chosen_after > chosen).all()


@pytest.mark.full
@unchecked()
def test_reliability_of_annotators_is_estimated():
    """RE-PO finds error rates of 10 and 35 of 100 labels, within 7 (seed 0).

    A linear model, sufficient for preferences that are linear in the prompt, and clear choices.
    """
    fields = {**SMALL, "completion_length": 2, "inappropriate_vocab_share": 0.0}
    fields["choice"] = BradleyTerryChoice(rationality=1000, annotator_error_rates=(0.1, 0.35))
    environment = TokenFeedback(num_completions=8, **fields)
    policy = make_policy(
        "dpo",
        estimate_reliability=True,
        num_annotators=2,
        beta=3.0,
        learning_rate=0.03,
        batch_size=256,
        network={"kind": "mlp", "hidden_sizes": []},
    )
    state = fit(*record_episodes(environment, policy, Worlds.grid(4, 16), 24), 40)
    reliability = state.persistent_state.extra["reliability"]
    assert (reliability - torch.tensor([0.9, 0.65])).abs().max() < 0.07, reliability
    assert torch.equal(policy.state_dict(state)["reliability"], reliability)


@pytest.mark.full
@unchecked()
def test_token_critiques_give_better_flags_than_binary_ones():
    """CUT's flags, with tokens named in critiques and with one bit per completion, by replicate."""

    def train(critique):
        fields = {**SMALL, "vocab_size": 8, "completion_length": 4, "review": True}
        environment = TokenFeedback(num_completions=8, critique=critique, **fields)
        policy = make_policy("cut", network=NET, learning_rate=0.005)
        simulator, dataset = record_episodes(environment, policy, Worlds.grid(4, 8), 16)
        before = environment.metrics(simulator.state)["inappropriate_share"]
        fit(simulator, dataset, 12)
        options = {"worlds": simulator.worlds, "rounds": 4, "stage": 2, "roles_to_train": []}
        evaluation = Simulator(environment, simulator.policies, **options)
        evaluation.reset(0, simulator.policy_states)
        metrics = []
        for episode in range(4):
            if episode:
                evaluation.next_episode()
            run_episodes(evaluation, 1)
            metrics.append(environment.metrics(evaluation.state))
        names = ("detection_precision", "detection_recall", "inappropriate_share")
        means = {name: torch.stack([m[name] for m in metrics]).mean(0) for name in names}
        return {name: mean.view(4, 8).mean(1) for name, mean in means.items()}, before

    (tokens, before), (binary, _) = train("token_critique"), train("binary_critique")
    precision, recall = tokens["detection_precision"], tokens["detection_recall"]
    assert (precision > 0.6).all() and (recall > 0.8).all(), (precision, recall)
    assert (binary["detection_recall"] < 0.6).all(), binary

    def f1_score(means):
        p, r = means["detection_precision"], means["detection_recall"]
        return 2 * p * r / (p + r).clamp(min=1e-6)

    assert (f1_score(tokens) > f1_score(binary) + 0.2).all()
    assert (tokens["inappropriate_share"] < before.mean() - 0.08).all()


@pytest.mark.parametrize("kind", ["dckd", "adpa"])
@unchecked()
def test_the_teacher_is_trained_once(kind):
    environment = TokenFeedback(num_completions=4, **SMALL)
    policy = make_policy(kind, network=NET, teacher_hidden_sizes=[16], teacher_epochs=3)
    simulator, dataset = record_episodes(environment, policy, Worlds.grid(2, 4), 4)
    extra = simulator.policy_states["assistant"].persistent_state.extra
    initial = {name: tensor.clone() for name, tensor in extra.items()}
    assert not initial["teacher_trained"].any()
    fit(simulator, dataset, 1)
    trained = {name: tensor.clone() for name, tensor in extra.items()}
    assert trained["teacher_trained"].all()
    before = copy_model_parameters(simulator)
    fit(simulator, dataset, 2, first=1)
    assert all(torch.equal(extra[name], tensor) for name, tensor in trained.items())
    after = copy_model_parameters(simulator)
    assert any(not torch.equal(before[name], tensor) for name, tensor in after.items())
    for name in (n for n in initial if n.startswith("teacher.") and "weight" in n):
        reference = f"reference_{name}"
        assert not torch.equal(trained[name], trained[reference]), name
        assert not torch.equal(trained[reference], initial[reference]), name


@unchecked()
def test_stacked_offline_training_equals_separate_training():
    """DPO: parameters of five replicates after 51 steps, to 1e-5 of each trained alone."""
    environment = TokenFeedback(num_completions=4, **SMALL)
    policy = make_policy("dpo", network=NET, learning_rate=0.01, batch_size=8)

    def train(replicates):
        simulator, dataset = record_episodes(environment, policy, Worlds.grid(replicates, 2), 5)
        state = fit(simulator, dataset, 17)  # 20 pairs: 3 steps a pass
        assert (state.persistent_state.train_state.optimizer_state.step == 51).all()
        return copy_model_parameters(simulator)

    together = train(range(5))
    for replicate in range(5):
        for name, separate in train([replicate]).items():
            stacked = together[name][replicate : replicate + 1]
            torch.testing.assert_close(stacked, separate, atol=1e-5, rtol=0)


def test_online_learners_do_not_fit_and_offline_ones_do_not_update():
    assert make_policy("dpo").trains == {"offline"}
    assert make_policy("ppo").trains == {"online"}
    policies = {"actor": make_policy("sft", network=NET)}
    simulator = simulate_episodes(DelayedRecall(), policies, Worlds.grid(1, 1), 1)
    assert int(simulator.policy_states["actor"].persistent_state.num_rounds) == 0
