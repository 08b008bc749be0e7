"""Requests against its definition written out, against enumeration, and against formulas.

What supervisors say: `test_requests_feedback`. Seeds are fixed, so that tests say the same always.
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

from mores.core.environment import ActionOutput
from mores.core.pytree import flatten
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback import token_completions as rules
from mores.envs.feedback.random_token_policy import RandomTokenPolicy
from mores.envs.feedback.token_feedback import TokenFeedback, TokenFeedbackState
from mores.registry import make
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import refused

LEVEL = 1e-4  # of every single test of a distribution


def value_of(said: tuple[int, ...], liking: Any, bad: Any, penalty: float) -> float:
    """An answer's worth, as the class says it: new words are liked, wrong ones cost."""
    earned = 0.0
    for step, word in enumerate(said):
        if word not in said[:step]:
            earned += float(liking[word])
        if bad[word]:
            earned -= penalty
    return earned / len(said)


def told(game: TokenFeedback, worlds: Any = 1, seed: int = 0) -> tuple[Simulator, dict]:
    """A table after one episode of ramblers, and what seats were told, `[world, agent, ...]`."""
    diary = EpisodeRecorder(["assistant"])
    table = Simulator(game, dict(game.default_policies()), {}, worlds, 99, recorder=diary)
    table.reset(seed)
    while not table.all_finished:
        table.step()
    feedback = diary.dataset("assistant").feedback
    assert all(rows.shape[1] == 1 for rows in feedback.values())  # once an episode
    return table, {name: rows[:, 0] for name, rows in feedback.items()}


# --- what answers are worth -------------------------------------------------------------------


@given(data=st.data())
def test_the_optimum_is_the_best_of_all_answers(data: st.DataObject) -> None:
    words = data.draw(st.integers(1, 4))
    length = data.draw(st.integers(1, 4))
    penalty = data.draw(st.sampled_from([0.0, 0.25, 1.0, 3.0]))
    liking = data.draw(st.lists(st.floats(-2, 2, width=16), min_size=words, max_size=words))
    bad = data.draw(st.lists(st.booleans(), min_size=words, max_size=words))
    best = max(
        value_of(said, liking, bad, penalty)
        for said in itertools.product(range(words), repeat=length)
    )
    found = rules.optimal_reward(torch.tensor([liking]), torch.tensor([bad]), penalty, length)
    assert float(found) == pytest.approx(best, abs=1e-5)


@pytest.mark.parametrize("weights", [(), (1.0, 0.0, 3.0)])
@pytest.mark.parametrize("paid", ["end", "words"])
def test_pay_feedback_and_measures_are_the_definition(paid: str, weights: tuple) -> None:
    game = TokenFeedback(
        num_principals=3,
        conflict=0.7,
        principal_weights=weights,
        reward_timing=paid,
        num_completions=4,
        vocab_size=5,
        completion_length=4,
    )
    table = Simulator(
        game,
        {},
        {"assistant": range(4)},
        30,
        99,
        recorder=(diary := EpisodeRecorder(["assistant"])),
    )
    table.reset(3)
    acts = torch.randint(5, (30, 4, 4), generator=torch.Generator().manual_seed(1))
    pay = torch.stack(
        [table.step({"assistant": acts[..., t]}).reward["assistant"] for t in range(4)]
    )
    assert table.all_finished
    hidden, measures = game.latent(table.state), game.metrics(table.state)
    shares = np.array(weights or (1, 1, 1)) / sum(weights or (1, 1, 1))
    worth = np.array(
        [
            [
                [value_of(tuple(seat), liking, bad, 1.0) for liking in likings]
                for seat in answers.tolist()
            ]
            for answers, likings, bad in zip(
                acts, hidden["liking"], hidden["inappropriate"], strict=True
            )
        ]
    )  # world seat principal
    feedback = diary.dataset("assistant").feedback
    assert feedback["reward"][:, 0].numpy() == pytest.approx(worth, abs=1e-5)
    assert pay.sum(0).numpy() == pytest.approx(worth @ shares, abs=1e-5)
    assert (paid == "words") == bool(pay[:-1].any())
    assert measures["score"].numpy() == pytest.approx((worth @ shares).mean(1), abs=1e-5)
    assert measures["principal_scores"].numpy() == pytest.approx(worth.mean(1), abs=1e-5)
    assert measures["worst_principal"].numpy() == pytest.approx(worth.mean(1).min(1), abs=1e-5)
    liking = np.einsum("k,wkv->wv", shares, hidden["liking"].numpy())
    for world in range(5):
        best = max(
            value_of(said, liking[world], hidden["inappropriate"][world], 1.0)
            for said in itertools.product(range(5), repeat=4)
        )
        assert float(measures["optimum"][world]) == pytest.approx(best, abs=1e-5)
        said = acts[world].tolist()
        different = np.mean([len(set(seat)) / 4 for seat in said])
        assert float(measures["diversity"][world]) == pytest.approx(different)
        apart = [a[t] != b[t] for a, b in itertools.permutations(said, 2) for t in range(4)]
        assert float(measures["variety"][world]) == pytest.approx(np.mean(apart))
        wrong = [bool(hidden["inappropriate"][world, word]) for seat in said for word in seat]
        assert float(measures["inappropriate_share"][world]) == pytest.approx(np.mean(wrong))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_the_words_of_highest_harm_are_inappropriate(share: float) -> None:
    game = TokenFeedback(inappropriate_vocab_share=share, vocab_size=9, completion_length=2)
    draws = RandomStreams.of(0, 50)
    state, task = game.reset(draws), game.sample_tasks(draws)
    harm = np.einsum("wvf,wf->wv", task.harm_weights.numpy(), state.prompt.numpy())
    for world in range(50):
        worst = set(np.argsort(-harm[world])[: round(share * 9)].tolist())
        assert set(np.flatnonzero(state.inappropriate[world].numpy()).tolist()) == worst


def test_what_is_predicted_of_ramblers_is_what_happens() -> None:
    """4000 replicates: each mean within 4.5 standard errors, at every round; so for one task."""
    game = TokenFeedback(
        num_principals=2,
        conflict=0.5,
        vocab_size=5,
        completion_length=3,
        num_completions=2,
        review=True,
    )
    formulas = game.analytic_values(game.default_policies(), 5)
    assert set(formulas) == {
        *("score", "inappropriate_share", "diversity", "variety", "detection_recall")
    }
    one_task = Worlds(torch.zeros(4000, dtype=torch.int64), torch.arange(4000))
    for worlds in (4000, one_task):
        played = simulate(game, {}, worlds, 5, seed=2, metrics=list(formulas))
        for name, formula in formulas.items():
            rows = played.metrics[name].double().numpy()
            error = rows.std(0, ddof=1) / math.sqrt(4000)
            assert (np.abs(rows.mean(0) - formula) <= 4.5 * error + 1e-6).all(), name
    assert game.analytic_values({}, 5) == {}


# --- hearing, seeing, reviewing ----------------------------------------------------------------


def test_nothing_is_said_before_the_last_word_and_never_what_is_true() -> None:
    game = TokenFeedback(completion_length=3, review=True)
    draws = RandomStreams.of(0, 5)
    state = game.reset(draws.child("start"))
    for number in range(4):
        words = torch.full((5, 8), number)
        step = game.step(state, "answer", {"assistant": words}, draws.at(number))
        assert bool(step.feedback) == (number == 2)  # and not again once it is over
        assert bool(step.reward["assistant"].any()) == (number == 2)
        assert step.terminated is not None and bool(step.terminated.all()) == (number >= 2)
        if step.feedback:
            told_of = step.feedback["assistant"]
            names = {"reward", "preferred", "annotator", "judgement", "principal"}
            shown = {"demonstration", "demonstration_reward", "demonstration_worth"}
            assert set(told_of) == names | shown
            assert all(x.shape[:2] == (5, 8) for x in told_of.values())
        seen = game.observe(step.state, "assistant", "answer")
        assert not bool(game.roles[0].observation_space.read(seen, "judgement").any())
        in_review = game.observe(step.state, "assistant", "review")
        shown = game.roles[0].observation_space.read(in_review, "judgement")
        assert torch.equal(shown, step.state.critique)
        assert bool(shown.any()) == (number >= 2)
        state = step.state
    other = dataclasses.replace(
        state,
        token_utility=state.token_utility + 1,
        inappropriate=~state.inappropriate,
        flags=state.flags + 1,
    )
    for phase in ("answer", "review"):
        unchanged = game.observe(other, "assistant", phase)
        assert torch.equal(unchanged, game.observe(state, "assistant", phase))


@pytest.mark.parametrize("review", [False, True])
def test_after_is_what_is_seen_next(review: bool) -> None:
    game = TokenFeedback(completion_length=4, review=review)
    role = game.roles[0]
    assert role.observation_model is not None
    table = Simulator(game, dict(game.default_policies()), {}, 6, 99)
    table.reset(1)
    for number in range(4):
        seen = table.observe("assistant")
        ahead = seen[:, :, None].expand(-1, -1, 12, -1)  # every word, side by side
        ahead = role.observation_model(ahead, torch.arange(12).expand(6, 8, 12))
        table.step()
        word = table.state.said[..., number]
        now = table.observe("assistant")
        assert torch.equal(role.observation_model(seen, word), now)
        assert torch.equal(ahead[torch.arange(6)[:, None], torch.arange(8), word], now)
    assert torch.equal(role.observation_model(now, word), now)  # nothing comes after the last word


class Flagging(RandomTokenPolicy):
    """Flags with the numbers of a table, `[world, agent, step]`, or all of them before the end."""

    flags: Any

    def act(
        self, phase: Any, observation: Any, action_mask: Any, state: Any, streams: RandomStreams
    ) -> ActionOutput:
        if phase.name == "answer":
            return super().act(phase, observation, action_mask, state, streams)
        complete = state.read(observation, "answer").sum(-1)[0, 0] == self.flags.shape[-1]
        return ActionOutput(self.flags if complete else torch.ones_like(self.flags), state)


def test_precision_and_recall_of_flags() -> None:
    game = TokenFeedback(num_completions=2, completion_length=3, vocab_size=6, review=True)
    flags = torch.rand(40, 2, 3, generator=torch.Generator().manual_seed(0))
    flags[:10] = 0.5  # not above
    names = ["flagged", "detection_precision", "detection_recall"]
    played = simulate(game, {"assistant": Flagging(flags=flags)}, 40, 9, seed=1, metrics=names)
    assert (played.metrics["flagged"][:, :3] == 0).all()  # reviews before the last do not count
    wrong_words = played.state.inappropriate
    for world in range(40):
        wrong = wrong_words[world][played.state.said[world]].numpy()
        raised = flags[world].numpy() > 0.5
        hits = (wrong & raised).sum()
        precision = hits / raised.sum() if raised.any() else 1.0
        recall = hits / wrong.sum() if wrong.any() else 1.0
        last = [float(played.metrics[name][world, -1]) for name in names]
        assert last == pytest.approx([raised.mean(), precision, recall])
    assert any(not wrong_words[w][played.state.said[w]].any() for w in range(40))


# --- tasks, replicates, principals -------------------------------------------------------------


def tasks_of(
    game: TokenFeedback, seed: int, worlds: Worlds, **when: int
) -> tuple[TokenFeedbackState, Any]:
    draws = RandomStreams.of(seed, worlds, **when).child("start").child("game")
    return game.reset(draws), game.sample_tasks(draws)


def test_a_task_belongs_to_a_replicate() -> None:
    game, worlds = TokenFeedback(num_principals=2, conflict=0.5), Worlds.grid([3, 8], 2)
    state, task = tasks_of(game, 0, worlds)
    assert torch.equal(task.tastes[0], task.tastes[1])
    assert torch.equal(task.harm_weights[2], task.harm_weights[3])
    assert not torch.equal(task.tastes[0], task.tastes[2])
    assert not torch.equal(task.harm_weights[0], task.harm_weights[2])
    assert len({tuple(x) for x in state.prompt.tolist()}) == 4  # each has a request of its own
    for when in ({"stage": 2}, {"episode": 5}):
        later, same = tasks_of(game, 0, worlds, **when)
        assert torch.equal(task.tastes, same.tastes) and torch.equal(
            task.harm_weights, same.harm_weights
        )
        assert not torch.equal(later.prompt, state.prompt)
    assert torch.equal(tasks_of(game, 1, worlds)[1].tastes, task.tastes)
    other = tasks_of(game.model_copy(update={"task_seed": 1}), 0, worlds)[1]
    assert not torch.equal(other.tastes, task.tastes)
    suits = np.einsum("wkvf,wf->wkv", task.tastes.numpy(), state.prompt.numpy()) / 2
    assert state.token_utility.numpy() == pytest.approx(suits, abs=1e-5)


@pytest.mark.parametrize("conflict", [0.0, 0.36, 1.0])
def test_principals_agree_as_far_as_conflict_lets_them(conflict: float) -> None:
    """Tastes are standard normal, and correlate by 1 - conflict: 48,000 pairs of them."""
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
        apart = np.arctanh(stats.pearsonr(one, two).statistic) - np.arctanh(1 - conflict)
        assert abs(apart) * math.sqrt(len(one) - 3) < stats.norm.isf(LEVEL / 2)


def test_replicate_37_alone_is_replicate_37_of_128() -> None:
    game = TokenFeedback(
        num_principals=3,
        conflict=0.4,
        review=True,
        vocab_size=11,
        completion_length=5,
        num_prompt_features=3,
    )
    together, feedback = told(game, 128, seed=6)
    for worlds, place in (([37], 0), ([100, 37, 5], 1)):
        alone, theirs = told(game, worlds, seed=6)
        for path, tensor in flatten(alone.state).items():
            assert torch.equal(tensor[place], flatten(together.state)[path][37]), path
        for name, tensor in theirs.items():
            assert torch.equal(tensor[place], feedback[name][37]), name
        measured = game.metrics(alone.state)
        for name, tensor in game.metrics(together.state).items():
            assert torch.equal(tensor[37], measured[name][place]), name


@pytest.mark.parametrize(
    ("wrong", "code", "path"),
    [
        ({"answers": 3}, "invalid_value", "requests.answers"),
        ({"length": 13}, "conflict", "requests"),
        ({"weights": [1, 1]}, "wrong_shape", "requests"),
        ({"principals": 2, "weights": [0, 0]}, "invalid_value", "requests.weights"),
        ({"principals": 2, "weights": [-1, 2]}, "out_of_range", "requests.weights.0"),
        ({"error_rates": [0.1, 1.5]}, "out_of_range", "requests.error_rates.1"),
        ({"error_rates": [2]}, "out_of_range", "requests.error_rates.0"),
        ({"error_rates": []}, "wrong_shape", "requests.error_rates"),
        ({"judgement": "word"}, "invalid_value", "requests.judgement"),
        ({"rationality": float("inf")}, "not_finite", "requests.rationality"),
        ({"detecton": 0.5}, "unknown_name", "requests.detecton"),
    ],
)
def test_bad_parameters(wrong: dict, code: str, path: str) -> None:
    with refused(code, path):
        make("environment", "requests", wrong)


def test_no_people_are_taken() -> None:
    from mores.agents.people.normal import NormalPopulation

    with refused("unsupported", path="people"):
        simulate(TokenFeedback(), population=NormalPopulation(people=8, num_values=1))
