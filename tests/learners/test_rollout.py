"""What is gathered while acting: where episodes end and are cut, and which answers count."""

from __future__ import annotations

import pytest
import torch

from mores.agents.learning.on_policy import buffer_feedback, buffer_rewards
from mores.agents.learning.recipes.policy_gradients import GRPO, REINFORCE
from mores.agents.learning.recipes.ppo import PPO
from mores.agents.learning.update import evaluate_views
from mores.core import pytree
from mores.core.random_streams import Worlds
from tests.learners.small_games import Clockwork, Draft, play_on, taught

SEEN = []  # (batch, pay, lesson, memory's told) of every lesson of a watched learner
STILL = {"learning_rate": 1e-12, "clip_norm": 0.0}  # parameters of size 1 do not move


def watch(*what):
    """Keep copies: what was gathered is views of buffers that are written over."""
    SEEN.append(pytree.tree_map(torch.clone, what))


class WatchedPPO(PPO):
    def make_update_batch(self, batches, state):
        watch(batches["act"], buffer_rewards(state), estimate(self, batches, state))
        return super().make_update_batch(batches, state)


class WatchedGRPO(GRPO):
    def make_update_batch(self, batches, state):
        watch(
            batches["act"],
            buffer_rewards(state),
            buffer_feedback(state),
            self.episode_returns(state),
        )
        return super().make_update_batch(batches, state)


class WatchedREINFORCE(REINFORCE):
    def make_update_batch(self, batches, state):
        lesson = super().make_update_batch(batches, state)
        watch(batches["act"], buffer_rewards(state), lesson.batches["act"])
        return lesson


def estimate(player, batches, memory):
    """Advantages before they are normalised."""
    batch = batches["act"]
    found = player._advantages([batch], buffer_rewards(memory))
    return torch.where(batch.mask, found.value_target[..., 0] - batch.old_value, 0.0)


@pytest.fixture(autouse=True)
def _forget():
    SEEN.clear()


def value_of(number: float, round: float) -> float:
    """What the value head is made to say."""
    return 10.0 * number + 2.0 * round + 0.5


def with_known_values(table) -> None:
    """The value head says `value_of` of every sight (round, number, luck)."""
    pupil = table.policy_states["actor"].learned.train_state.parameters
    pupil["value.weight"].copy_(torch.tensor([2.0, 10.0, 0.0])[None, :, None])
    pupil["value.bias"].fill_(0.5)


def lived(lengths, limit, autoreset, rounds):
    """World by world what happens in so many rounds: (round of episode, reward, how it ended).

    Without autoreset worlds that ended stand still until all have, which is None here.
    """
    clock = [0] * len(lengths)
    resting = [False] * len(lengths)
    history = [[] for _ in lengths]
    for _ in range(rounds):
        for w, length in enumerate(lengths):
            if resting[w]:
                history[w].append(None)
                continue
            t = clock[w]
            end = "terminated" if t + 1 == length else "truncated" if t + 1 == limit else ""
            history[w].append((t, t + 1.0, end))
            clock[w] = 0 if end else t + 1
            resting[w] = bool(end) and not autoreset
        if all(resting):
            resting = [False] * len(lengths)
    return history


def advantages_by_hand(history, number, discount, smoothing):
    """GAE of one world's stretch, as the sum in its definition."""
    found = []
    for t, moment in enumerate(history):
        if moment is None:
            found.append(0.0)
            continue
        total, weight = 0.0, 1.0
        for later in range(t, len(history)):
            clock, reward, end = history[later]
            after = 0.0 if end == "terminated" else value_of(number, clock + 1)
            total += weight * (reward + discount * after - value_of(number, clock))
            weight *= discount * smoothing
            if end:
                break
        found.append(total)
    return found


@pytest.mark.parametrize("autoreset", [False, True])
@pytest.mark.parametrize(("horizon", "limit"), [(1, 4), (5, 100), (7, 4)])
def test_episodes_may_end_and_be_cut_anywhere(horizon, limit, autoreset):
    """Terminated episodes are followed by nothing, cut ones by the value of the next sight."""
    lengths, rounds = (2, 3, 5), 15
    player = WatchedPPO(
        num_steps=horizon,
        network={"kind": "mlp", "hidden": []},
        gamma=0.9,
        gae_lambda=0.8,
        update_epochs=1,
        **STILL,
    )
    game = Clockwork(lengths=lengths, seats=2)
    table = taught(game, {"actor": player}, Worlds.grid(2, 3), 0, limit, autoreset=autoreset)
    with_known_values(table)
    for _ in range(rounds):
        if table.all_finished:
            table.next_episode()
        table.step()
    history = lived(lengths, limit, autoreset, rounds)
    assert len(SEEN) == rounds // horizon
    for number, (batch, pay, advantage) in enumerate(SEEN):
        stretch = slice(number * horizon, (number + 1) * horizon)
        for row in range(6):
            world = row // 2
            part = history[world][stretch]
            real = [moment is not None for moment in part]
            began = [moment is not None and moment[0] == 0 for moment in part]
            expected = advantages_by_hand(part, world, 0.9, 0.8)
            for policy in range(2):
                assert batch.mask[policy, row].tolist() == real
                begins = batch.episode_start[policy, row] & batch.mask[policy, row]
                assert begins.tolist() == began
                rewards = [0.0 if moment is None else moment[1] for moment in part]
                assert pay["reward"][policy, row].tolist() == rewards
                torch.testing.assert_close(advantage[policy, row], torch.tensor(expected))


def test_an_episode_that_is_broken_off_is_cut_at_what_was_expected():
    """The last round before is not learned from; the one before that is followed by its value."""
    linear = {"kind": "mlp", "hidden": []}
    player = WatchedPPO(
        num_steps=6, network=linear, gamma=0.9, gae_lambda=0.8, update_epochs=1, **STILL
    )
    table = taught(Clockwork(lengths=(5,)), {"actor": player}, Worlds.grid(1, 1), 0, 100)
    with_known_values(table)
    for step in range(6):
        if step == 3:
            table.next_episode()
        table.step()
    ((batch, _, advantage),) = SEEN
    assert batch.mask[0, 0].tolist() == [True, True, False, True, True, True]
    assert batch.episode_start[0, 0].tolist() == [True, False, False, True, False, False]
    history = [(0, 1.0, ""), (1, 2.0, "truncated"), None, (0, 1.0, ""), (1, 2.0, ""), (2, 3.0, "")]
    expected = advantages_by_hand(history, 0, 0.9, 0.8)
    torch.testing.assert_close(advantage[0, 0], torch.tensor(expected))


def test_what_was_done_is_kept_as_it_was_said():
    """Old log-probabilities and values are those of the policies that acted, whatever the cuts."""
    for network in ({"kind": "mlp", "hidden": [4]}, {"kind": "gru", "hidden": 4}):
        SEEN.clear()
        player = WatchedPPO(num_steps=4, network=network, update_epochs=1, **STILL)
        table = taught(
            Clockwork(lengths=(3, 5)), {"actor": player}, Worlds.grid(2, 2), 0, 99, autoreset=True
        )
        memory = table.policy_states["actor"]
        for _ in range(12):
            table.step()
        assert len(SEEN) == 3
        for batch, _, _ in SEEN:
            batch = batch.take(torch.tensor([[1, 0], [1, 1]]))  # as minibatches do
            out = evaluate_views(
                memory.spec.stacked_model,
                memory.spec.role.observation_space,
                memory.learned.train_state.parameters,
                "act",
                batch,
            )["plain"]
            torch.testing.assert_close(out.logp, batch.old_logp, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(out.value, batch.old_value, atol=1e-5, rtol=1e-4)


class WatchedPhases(PPO):
    def make_update_batch(self, batches, state):
        found = self._advantages(list(batches.values()), buffer_rewards(state))
        watch(buffer_rewards(state)["reward"], found.value_target)
        return super().make_update_batch(batches, state)


def test_a_round_is_discounted_once_whatever_its_phases():
    """With values of 0 and no smoothing, the target in the last phase is the round's return."""
    player = WatchedPhases(
        num_steps=4, gamma=0.5, gae_lambda=1.0, network={"kind": "mlp", "hidden": []}, **STILL
    )
    table = taught(Draft(), {"actor": player}, Worlds.grid(1, 3), 0, 99)
    for name in ("value.weight", "value.bias"):
        table.policy_states["actor"].learned.train_state.parameters[name].zero_()
    for _ in range(4):
        table.step()
    ((reward, target),) = SEEN
    for t in range(4):
        expected = sum(0.5**k * reward[:, :, t + k] for k in range(4 - t))
        torch.testing.assert_close(target[:, :, t, 1], expected)
        torch.testing.assert_close(target[:, :, t, 0], 0.5**0.5 * expected)


@pytest.mark.parametrize("lengths", [(2, 3, 5), (1, 4, 4), (18, 7)])
@pytest.mark.parametrize("autoreset", [False, True])
def test_only_whole_answers_count(lengths, autoreset):
    """Of every world one whole episode, the first that it begins after the update before.

    With autoreset worlds are within an episode when the others are done: the rest of that one is
    left out. Rewards, what was said of it and sights are of that episode alone.
    """
    player = WatchedGRPO(gamma=0.5, group_by="replicate", **STILL)
    game = Clockwork(lengths=lengths, seats=2)
    worlds = Worlds.grid(2, len(lengths))
    table = taught(game, {"actor": player}, worlds, 0, 1000, autoreset=autoreset)
    for _ in range(8 * max(lengths)):
        if len(SEEN) == 4:
            break
        if table.all_finished:
            table.next_episode()
        table.step()
    assert len(SEEN) == 4
    for batch, pay, said, worth in SEEN:
        for row in range(2 * len(lengths)):
            length = lengths[row // 2]
            mask = batch.mask[:, row]
            assert mask.sum(-1).tolist() == [length] * 2
            for policy in range(2):
                real = mask[policy]
                rewards = [t + 1.0 for t in range(length)]
                assert pay["reward"][policy, row][real].tolist() == rewards
                assert batch.episode_start[policy, row][real].tolist()[1:] == [False] * (length - 1)
                luck = batch.observation[policy, row, :, 2][real]
                assert (luck == luck[0]).all()
                assert said["reward"][policy, row].tolist() == [row // 2, luck[0].item()]
                total = sum(0.5**t * (t + 1.0) for t in range(length))
                assert worth[policy, row].item() == pytest.approx(total)


def test_without_autoreset_every_episode_is_a_lesson():
    player = WatchedGRPO(**STILL)
    taught(Clockwork(lengths=(2, 5)), {"actor": player}, Worlds.grid(1, 2), 6, 100)
    assert len(SEEN) == 6
    assert all(batch.mask[0].sum(-1).tolist() == [2, 5] for batch, *_ in SEEN)


def test_an_episode_that_was_broken_off_is_no_answer():
    """Whoever begins a new episode in the midst of one gets a lesson on whole ones only."""
    player = WatchedGRPO(**STILL)
    table = taught(Clockwork(lengths=(2, 5)), {"actor": player}, Worlds.grid(1, 2), 0, 100)
    for _ in range(3):
        table.step()
    table.next_episode()
    play_on(table, 2)
    assert all(batch.mask[0].sum(-1).tolist() == [2, 5] for batch, *_ in SEEN) and len(SEEN) == 2


def test_returns_are_what_follows_in_the_episode():
    """REINFORCE: the discounted sum of what follows, over all worlds with mean 0, deviation 1."""
    player = WatchedREINFORCE(gamma=0.5, **STILL)
    taught(Clockwork(lengths=(2, 3)), {"actor": player}, Worlds.grid(1, 2), 1, 100)
    worth = torch.tensor([2.0, 2.0, 0.0, 2.75, 3.5, 3.0])  # 1 + 2/2, 2; 1 + 2/2 + 3/4, 2 + 3/2, 3
    kept = worth[[0, 1, 3, 4, 5]]
    expected = ((worth - kept.mean()) / kept.std()).view(2, 3)
    expected[0, 2] = 0.0
    _, _, batch = SEEN[0]
    torch.testing.assert_close(batch.advantage[0], expected)
