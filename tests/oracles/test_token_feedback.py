"""`TokenFeedback` against its definition, enumeration and closed forms, with fixed seeds.

Feedback: `test_channels`.
"""

from __future__ import annotations

import dataclasses
import itertools
import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mores.core.policy import ActionOutput
from mores.core.pytree import flatten
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback.random_token_policy import RandomTokenPolicy
from mores.envs.feedback.token_completions import optimal_reward
from mores.envs.feedback.token_feedback import TokenFeedback, TokenFeedbackState
from mores.registry import make
from mores.registry.specs import policies_from_specs
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

LEVEL = 1e-4  # significance level of each test of a distribution


def completion_value(tokens: tuple[int, ...], utility: Any, bad: Any, penalty: float) -> float:
    """Reward of a completion by definition: utility of new tokens, penalty for bad ones."""
    value = 0.0
    for step, token in enumerate(tokens):
        if token not in tokens[:step]:
            value += float(utility[token])
        if bad[token]:
            value -= penalty
    return value / len(tokens)


def simulate_feedback(env: TokenFeedback, worlds: Any = 1, seed: int = 0) -> tuple[Simulator, dict]:
    """Simulator after one episode of random tokens, and the feedback `[world, agent, ...]`."""
    recorder = EpisodeRecorder(["assistant"])
    simulator = Simulator(env, dict(env.default_policies()), {}, worlds, 99, recorder=recorder)
    simulator.reset(seed)
    while not simulator.all_finished:
        simulator.step()
    feedback = recorder.dataset("assistant").feedback
    assert all(rows.shape[1] == 1 for rows in feedback.values())  # once per episode
    return simulator, {name: rows[:, 0] for name, rows in feedback.items()}


# --- rewards of completions -------------------------------------------------------------------


@given(data=st.data())
def test_optimum_by_enumeration(data: st.DataObject) -> None:
    vocab_size = data.draw(st.integers(1, 4))
    length = data.draw(st.integers(1, 4))
    penalty = data.draw(st.sampled_from([0.0, 0.25, 1.0, 3.0]))
    size = {"min_size": vocab_size, "max_size": vocab_size}
    utility = data.draw(st.lists(st.floats(-2, 2, width=16), **size))
    bad = data.draw(st.lists(st.booleans(), **size))
    best = max(
        completion_value(tokens, utility, bad, penalty)
        for tokens in itertools.product(range(vocab_size), repeat=length)
    )
    optimum = optimal_reward(torch.tensor([utility]), torch.tensor([bad]), penalty, length)
    assert float(optimum) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("weights", [(), (1.0, 0.0, 3.0)])
@pytest.mark.parametrize("timing", ["terminal", "per_token"])
def test_rewards_feedback_and_metrics_by_definition(timing: str, weights: tuple) -> None:
    env = TokenFeedback(
        num_principals=3,
        conflict=0.7,
        principal_weights=weights,
        reward_timing=timing,
        num_completions=4,
        vocab_size=5,
        completion_length=4,
    )
    recorder = EpisodeRecorder(["assistant"])
    simulator = Simulator(env, {}, {"assistant": range(4)}, 30, 99, recorder=recorder)
    simulator.reset(3)
    actions = torch.randint(5, (30, 4, 4), generator=torch.Generator().manual_seed(1))
    steps = [simulator.step({"assistant": actions[..., t]}) for t in range(4)]
    rewards = torch.stack([turn.reward["assistant"] for turn in steps])
    assert simulator.all_finished
    latent, metrics = env.latent(simulator.state), env.metrics(simulator.state)
    utilities, inappropriate = latent["token_utility"], latent["inappropriate"]
    shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
    expected = np.empty((30, 4, 3))  # world agent principal
    for w, a, k in itertools.product(range(30), range(4), range(3)):
        tokens = tuple(actions[w, a].tolist())
        expected[w, a, k] = completion_value(tokens, utilities[w, k], inappropriate[w], 1.0)
    by_principal = expected.mean(1)
    feedback = recorder.dataset("assistant").feedback
    assert feedback["reward"][:, 0].numpy() == pytest.approx(expected, abs=1e-5)
    assert rewards.sum(0).numpy() == pytest.approx(expected @ shares, abs=1e-5)
    assert (timing == "per_token") == bool(rewards[:-1].any())
    assert metrics["score"].numpy() == pytest.approx((expected @ shares).mean(1), abs=1e-5)
    assert metrics["score_by_principal"].numpy() == pytest.approx(by_principal, abs=1e-5)
    assert metrics["worst_principal_score"].numpy() == pytest.approx(by_principal.min(1), abs=1e-5)
    utility = np.einsum("k,wkv->wv", shares, utilities.numpy())
    for world in range(5):
        bad = inappropriate[world]
        best = max(
            completion_value(tokens, utility[world], bad, 1.0)
            for tokens in itertools.product(range(5), repeat=4)
        )
        assert float(metrics["optimal_score"][world]) == pytest.approx(best, abs=1e-5)
        completions = actions[world].tolist()
        distinct = np.mean([len(set(tokens)) / 4 for tokens in completions])
        assert float(metrics["distinct_1"][world]) == pytest.approx(distinct)
        differ = [a[t] != b[t] for a, b in itertools.permutations(completions, 2) for t in range(4)]
        assert float(metrics["pairwise_diversity"][world]) == pytest.approx(np.mean(differ))
        wrong = [bool(bad[token]) for tokens in completions for token in tokens]
        assert float(metrics["inappropriate_share"][world]) == pytest.approx(np.mean(wrong))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_tokens_of_highest_harm_are_inappropriate(share: float) -> None:
    env = TokenFeedback(inappropriate_vocab_share=share, vocab_size=9, completion_length=2)
    streams = RandomStreams.of(0, 50)
    state, task = env.reset(streams), env.sample_tasks(streams)
    harm = np.einsum("wvf,wf->wv", task.harm_weights.numpy(), state.prompt.numpy())
    for world in range(50):
        worst = set(np.argsort(-harm[world])[: round(share * 9)].tolist())
        assert set(np.flatnonzero(state.inappropriate[world].numpy()).tolist()) == worst


def test_random_policy_equals_analytic_values() -> None:
    """4000 replicates, and 4000 worlds of one task: means within 4.5 standard errors."""
    env = TokenFeedback(
        num_principals=2,
        conflict=0.5,
        vocab_size=5,
        completion_length=3,
        num_completions=2,
        review=True,
    )
    expected = env.analytic_values(policies_from_specs(env.default_policies()), 5)
    names = {"score", "inappropriate_share", "distinct_1", "pairwise_diversity", "detection_recall"}
    assert set(expected) == names
    one_task = Worlds(torch.zeros(4000, dtype=torch.int64), torch.arange(4000))
    for worlds in (4000, one_task):
        result = simulate(env, {}, worlds, 5, seed=2, metrics=list(expected))
        for name, value in expected.items():
            samples = result.metrics[name].values.astype(float)
            error = samples.std(0, ddof=1) / math.sqrt(4000)
            assert (np.abs(samples.mean(0) - value) <= 4.5 * error + 1e-6).all(), name
    assert env.analytic_values({}, 5) == {}


# --- feedback, observation, review -------------------------------------------------------------


def test_feedback_only_with_the_last_token_and_without_ground_truth() -> None:
    env = TokenFeedback(completion_length=3, review=True)
    streams = RandomStreams.of(0, 5)
    state = env.reset(streams.child("start"))
    space = env.roles[0].observation_space
    for number in range(4):
        tokens = torch.full((5, 8), number)
        step = env.step(state, "answer", {"assistant": tokens}, streams.at(number))
        assert bool(step.feedback) == (number == 2)  # once
        assert bool(step.reward["assistant"].any()) == (number == 2)
        assert step.terminated is not None and bool(step.terminated.all()) == (number >= 2)
        if step.feedback:
            feedback = step.feedback["assistant"]
            names = {"reward", "preferred", "annotator", "critique", "principal"}
            demonstration = {"demonstration", "demonstration_reward", "demonstration_return"}
            assert set(feedback) == names | demonstration
            assert all(x.shape[:2] == (5, 8) for x in feedback.values())
        observation = env.observe(step.state, "assistant", "answer")
        assert not bool(space.read(observation, "critique").any())
        critique = space.read(env.observe(step.state, "assistant", "review"), "critique")
        assert torch.equal(critique, step.state.critique)
        assert bool(critique.any()) == (number >= 2)
        state = step.state
    other = dataclasses.replace(
        state,
        token_utility=state.token_utility + 1,
        inappropriate=~state.inappropriate,
        flags=state.flags + 1,
    )
    for phase in ("answer", "review"):
        observation = env.observe(other, "assistant", phase)
        assert torch.equal(observation, env.observe(state, "assistant", phase))


@pytest.mark.parametrize("review", [False, True])
def test_observation_model_predicts_the_next_observation(review: bool) -> None:
    env = TokenFeedback(completion_length=4, review=review)
    model = env.roles[0].observation_model
    assert model is not None
    simulator = Simulator(env, dict(env.default_policies()), {}, 6, 99)
    simulator.reset(1)
    for number in range(4):
        observation = simulator.observe("assistant")
        # all tokens in parallel
        predicted = observation[:, :, None].expand(-1, -1, 12, -1)
        predicted = model(predicted, torch.arange(12).expand(6, 8, 12))
        simulator.step()
        token = simulator.state.tokens[..., number]
        next_observation = simulator.observe("assistant")
        assert torch.equal(model(observation, token), next_observation)
        chosen = predicted[torch.arange(6)[:, None], torch.arange(8), token]
        assert torch.equal(chosen, next_observation)
    assert torch.equal(model(next_observation, token), next_observation)  # complete


class FlaggingPolicy(RandomTokenPolicy):
    """Flags `[world, agent, step]` for complete completions, ones before."""

    flags: Any

    def act(
        self, phase: Any, observation: Any, action_mask: Any, state: Any, streams: RandomStreams
    ) -> ActionOutput:
        if phase.name == "answer":
            return super().act(phase, observation, action_mask, state, streams)
        complete = state.read(observation, "completion").sum(-1)[0, 0] == self.flags.shape[-1]
        return ActionOutput(self.flags if complete else torch.ones_like(self.flags), state)


def test_precision_and_recall_of_flags() -> None:
    env = TokenFeedback(num_completions=2, completion_length=3, vocab_size=6, review=True)
    flags = torch.rand(40, 2, 3, generator=torch.Generator().manual_seed(0))
    flags[:10] = 0.5  # not above the threshold
    names = ["flagged_share", "detection_precision", "detection_recall"]
    policy = FlaggingPolicy(flags=flags)
    result = simulate(env, {"assistant": policy}, 40, 9, seed=1, metrics=names)
    assert (result.metrics["flagged_share"][:, :3] == 0).all()  # only the last review counts
    state = result.state
    for world in range(40):
        wrong = state.inappropriate[world][state.tokens[world]].numpy()
        flagged = flags[world].numpy() > 0.5
        hits = (wrong & flagged).sum()
        precision = hits / flagged.sum() if flagged.any() else 1.0
        recall = hits / wrong.sum() if wrong.any() else 1.0
        last = [float(result.metrics[name][world, -1]) for name in names]
        assert last == pytest.approx([flagged.mean(), precision, recall])
    assert any(not state.inappropriate[w][state.tokens[w]].any() for w in range(40))


# --- tasks, replicates, principals -------------------------------------------------------------


def reset_and_tasks(
    env: TokenFeedback, seed: int, worlds: Worlds, **address: int
) -> tuple[TokenFeedbackState, Any]:
    streams = RandomStreams.of(seed, worlds, **address).child("start").child("game")
    return env.reset(streams), env.sample_tasks(streams)


def test_tasks_are_constant_within_a_replicate() -> None:
    env, worlds = TokenFeedback(num_principals=2, conflict=0.5), Worlds.grid([3, 8], 2)
    state, task = reset_and_tasks(env, 0, worlds)
    weights, harm = task.preference_weights, task.harm_weights
    assert torch.equal(weights[0], weights[1])
    assert torch.equal(harm[2], harm[3])
    assert not torch.equal(weights[0], weights[2])
    assert not torch.equal(harm[0], harm[2])
    assert len({tuple(x) for x in state.prompt.tolist()}) == 4  # independent prompts
    for address in ({"stage": 2}, {"episode": 5}):
        later, same = reset_and_tasks(env, 0, worlds, **address)
        assert torch.equal(same.preference_weights, weights)
        assert torch.equal(same.harm_weights, harm)
        assert not torch.equal(later.prompt, state.prompt)
    assert torch.equal(reset_and_tasks(env, 1, worlds)[1].preference_weights, weights)
    other = reset_and_tasks(env.model_copy(update={"task_seed": 1}), 0, worlds)[1]
    assert not torch.equal(other.preference_weights, weights)
    utility = np.einsum("wkvf,wf->wkv", weights.numpy(), state.prompt.numpy()) / 2
    assert state.token_utility.numpy() == pytest.approx(utility, abs=1e-5)


@pytest.mark.parametrize("conflict", [0.0, 0.36, 1.0])
def test_utility_weights_of_principals(conflict: float) -> None:
    """Standard normal with correlation 1 - conflict: 48,000 pairs."""
    task = TokenFeedback(num_principals=2, conflict=conflict).sample_tasks(
        RandomStreams.of(0, 1000)
    )
    one, two = (task.preference_weights[:, k].double().numpy().ravel() for k in (0, 1))
    assert torch.equal(task.preference_weights[:, 0], task.preference_weights[:, 1]) == (
        conflict == 0
    )
    assert stats.kstest(one, "norm").pvalue > LEVEL
    assert stats.kstest(two, "norm").pvalue > LEVEL
    if conflict:
        deviation = np.arctanh(stats.pearsonr(one, two).statistic) - np.arctanh(1 - conflict)
        assert abs(deviation) * math.sqrt(len(one) - 3) < stats.norm.isf(LEVEL / 2)


def test_replicate_37_alone_equals_replicate_37_of_128() -> None:
    env = TokenFeedback(
        num_principals=3,
        conflict=0.4,
        review=True,
        vocab_size=11,
        completion_length=5,
        num_prompt_features=3,
    )
    together, feedback = simulate_feedback(env, 128, seed=6)
    for worlds, index in (([37], 0), ([100, 37, 5], 1)):
        alone, alone_feedback = simulate_feedback(env, worlds, seed=6)
        for path, tensor in flatten(alone.state).items():
            assert torch.equal(tensor[index], flatten(together.state)[path][37]), path
        for name, tensor in alone_feedback.items():
            assert torch.equal(tensor[index], feedback[name][37]), name
        metrics = env.metrics(alone.state)
        for name, tensor in env.metrics(together.state).items():
            assert torch.equal(tensor[37], metrics[name][index]), name


RATES = "choice.annotator_error_rates"


def choice(**parameters: Any) -> dict[str, Any]:
    return {"choice": {"kind": "bradley_terry", **parameters}}


@pytest.mark.parametrize(
    ("parameters", "code", "path"),
    [
        ({"num_completions": 3}, "invalid_value", "num_completions"),
        ({"completion_length": 13}, "conflict", ""),
        ({"principal_weights": [1, 1]}, "wrong_shape", ""),
        (
            {"num_principals": 2, "principal_weights": [0, 0]},
            *("invalid_value", "principal_weights"),
        ),
        (
            {"num_principals": 2, "principal_weights": [-1, 2]},
            *("out_of_range", "principal_weights.0"),
        ),
        (choice(annotator_error_rates=[0.1, 1.5]), "out_of_range", f"{RATES}.1"),
        (choice(annotator_error_rates=[2]), "out_of_range", f"{RATES}.0"),
        (choice(annotator_error_rates=[]), "wrong_shape", RATES),
        (choice(rationality=float("inf")), "not_finite", "choice.rationality"),
        ({"critique": "word"}, "unknown_name", "critique"),
        ({"critique": "noisy_rating"}, "unsupported", "critique"),
        ({"penalti": 0.5}, "unknown_name", "penalti"),
    ],
)
def test_invalid_parameters(parameters: dict, code: str, path: str) -> None:
    with refused(code, f"token_feedback.{path}".rstrip(".")):
        make("environment", "token_feedback", parameters)


def test_populations_are_refused() -> None:
    from mores.agents.people.normal import NormalPopulation

    with refused("unsupported", path="population"):
        simulate(TokenFeedback(), population=NormalPopulation(num_people=8, num_values=1))


# --- rewards without information --------------------------------------------------------------


def test_random_rewards_are_independent_of_actions() -> None:
    """Equal bit for bit under other actions; prompts and demonstrations are those of the twin."""
    size = {"num_completions": 4, "num_principals": 2, "conflict": 0.5}
    env, twin = TokenFeedback(**size, reward_source="random"), TokenFeedback(**size)
    random_actions = torch.randint(12, (50, 4, 6), generator=torch.Generator().manual_seed(1))
    results = {}
    for name, environment, actions in (
        ("first", env, random_actions),
        ("other", env, torch.zeros_like(random_actions)),
        ("twin", twin, random_actions),
    ):
        recorder = EpisodeRecorder(["assistant"])
        simulator = Simulator(environment, {}, {"assistant": range(4)}, 50, 99, recorder=recorder)
        simulator.reset(3)
        for step in range(6):
            turn = simulator.step({"assistant": actions[..., step]})
        feedback = recorder.dataset("assistant").feedback
        results[name] = turn.reward["assistant"], feedback, environment.metrics(simulator.state)
    first, feedback, metrics = results["first"]
    other, other_feedback, _ = results["other"]
    reward, twin_feedback, twin_metrics = results["twin"]
    assert torch.equal(first, other)
    for name in ("reward", "preferred", "annotator"):
        assert torch.equal(feedback[name], other_feedback[name])
    assert not torch.equal(first, reward)
    for name in ("demonstration", "demonstration_reward", "annotator"):
        assert torch.equal(feedback[name], twin_feedback[name])
    assert all(torch.equal(value, twin_metrics[name]) for name, value in metrics.items())
    assert (first.std(1) > 0).all()  # agents differ


def test_random_rewards_have_the_distribution_of_random_completions() -> None:
    """Mean and spread over 4,000 prompts, seed 7, and no correlation with the own completion."""
    rewards, own = [], []
    for source in ("random", "own"):
        env = TokenFeedback(num_completions=2, reward_source=source)
        simulator, feedback = simulate_feedback(env, 4000, seed=7)
        rewards.append(feedback["reward"].double().flatten().numpy())
        own.append(env._completion_scores(simulator.state, simulator.state.tokens).flatten())
    assert np.array_equal(own[0], own[1])
    assert stats.ks_2samp(*rewards).pvalue > LEVEL
    # prompts have rewards in common: residuals within a prompt
    random, exact = (np.subtract(*x.reshape(-1, 2).T) for x in rewards)
    assert stats.pearsonr(random, exact).pvalue > LEVEL


def test_random_rewards_are_terminal() -> None:
    parameters = {"reward_source": "random", "reward_timing": "per_token"}
    with refused("conflict", "token_feedback.reward_source"):
        make("environment", "token_feedback", parameters)
