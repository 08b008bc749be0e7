"""The rollout buffer: ends and truncations of episodes, and the episodes that count."""

from __future__ import annotations

import pytest
import torch

from mores.agents.learning.on_policy import buffer_feedback, buffer_rewards
from mores.agents.learning.recipes.policy_gradients import GRPO, REINFORCE
from mores.agents.learning.recipes.ppo import PPO
from mores.agents.learning.update import evaluate_views
from mores.core import pytree
from mores.core.random_streams import Worlds
from mores.sim.autoreset import AUTORESET_MODES
from tests.learners.small_environments import (
    FixedLengths,
    TwoPhases,
    run_episodes,
    simulate_episodes,
)

RECORDED = []  # data of every update of a recording learner
FIXED = {"learning_rate": 1e-12, "max_grad_norm": 0.0}  # parameters of size 1 do not change
LINEAR = {"kind": "mlp", "hidden_sizes": []}


def record(*data):
    """Store copies: the batches are views of buffers that are written again."""
    RECORDED.append(pytree.tree_map(torch.clone, data))


class RecordingPPO(PPO):
    def make_update_batch(self, batches, state):
        record(batches["act"], buffer_rewards(state), raw_advantages(self, batches, state))
        return super().make_update_batch(batches, state)


class RecordingGRPO(GRPO):
    def make_update_batch(self, batches, state):
        record(
            batches["act"],
            buffer_rewards(state),
            buffer_feedback(state),
            self.episode_returns(state),
        )
        return super().make_update_batch(batches, state)


class RecordingREINFORCE(REINFORCE):
    def make_update_batch(self, batches, state):
        update_batch = super().make_update_batch(batches, state)
        record(update_batch.batches["act"])
        return update_batch


def raw_advantages(policy, batches, state):
    """Advantages before normalization."""
    batch = batches["act"]
    estimate = policy._advantages([batch], buffer_rewards(state))
    return torch.where(batch.mask, estimate.value_target[..., 0] - batch.old_value, 0.0)


@pytest.fixture(autouse=True)
def _clear_records():
    RECORDED.clear()


def value_of(world: float, round: float) -> float:
    """Output of the value head that `set_values` sets."""
    return 10.0 * world + 2.0 * round + 0.5


def set_values(simulator) -> None:
    """Set a linear value head to `value_of` of the observation (round, world, luck)."""
    parameters = simulator.policy_states["actor"].persistent_state.train_state.parameters
    parameters["value.weight"].copy_(torch.tensor([2.0, 10.0, 0.0])[None, :, None])
    parameters["value.bias"].fill_(0.5)


def expected_rounds(lengths, limit, autoreset_mode, rounds):
    """For each world, the rounds of a simulation: (round of the episode, reward, kind of end).

    A finished world waits for the others (disabled) or for one round (next_step); such rounds are
    None.
    """
    clock = [0] * len(lengths)
    finished = [False] * len(lengths)
    history = [[] for _ in lengths]
    for _ in range(rounds):
        for w, length in enumerate(lengths):
            if finished[w]:
                history[w].append(None)
                finished[w] = autoreset_mode == "disabled"
                continue
            t = clock[w]
            end = "terminated" if t + 1 == length else "truncated" if t + 1 == limit else ""
            history[w].append((t, t + 1.0, end))
            clock[w] = 0 if end else t + 1
            finished[w] = bool(end) and autoreset_mode != "same_step"
        if autoreset_mode == "disabled" and all(finished):
            finished = [False] * len(lengths)
    return history


def expected_advantages(history, world, gamma, gae_lambda):
    """GAE of the rounds of one world, as the sum of its definition."""
    advantages = []
    for t, moment in enumerate(history):
        if moment is None:
            advantages.append(0.0)
            continue
        total, weight = 0.0, 1.0
        for later in range(t, len(history)):
            clock, reward, end = history[later]
            next_value = 0.0 if end == "terminated" else value_of(world, clock + 1)
            total += weight * (reward + gamma * next_value - value_of(world, clock))
            weight *= gamma * gae_lambda
            if end:
                break
        advantages.append(total)
    return advantages


@pytest.mark.cut(3)
@pytest.mark.parametrize("autoreset_mode", AUTORESET_MODES)
@pytest.mark.parametrize(
    ("num_steps", "limit"), [pytest.param(1, 4, marks=pytest.mark.full), (5, 100), (7, 4)]
)
def test_episodes_may_end_and_be_truncated_anywhere(num_steps, limit, autoreset_mode):
    """The value after a terminated episode is 0, after a truncated one that of the observation."""
    lengths, rounds = (2, 3, 5), 15
    fields = {"network": LINEAR, "gamma": 0.9, "gae_lambda": 0.8, "update_epochs": 1, **FIXED}
    policies = {"actor": RecordingPPO(num_steps=num_steps, **fields)}
    environment, worlds = FixedLengths(lengths=lengths, num_agents=2), Worlds.grid(2, 3)
    simulator = simulate_episodes(
        environment, policies, worlds, 0, limit, autoreset_mode=autoreset_mode
    )
    set_values(simulator)
    for _ in range(rounds):
        if autoreset_mode == "disabled" and simulator.all_finished:
            simulator.next_episode()
        simulator.step()
    history = expected_rounds(lengths, limit, autoreset_mode, rounds)
    assert len(RECORDED) == rounds // num_steps
    for number, (batch, rewards, advantage) in enumerate(RECORDED):
        window = slice(number * num_steps, (number + 1) * num_steps)
        for row in range(6):
            world = row // 2
            part = history[world][window]
            valid = [moment is not None for moment in part]
            starts = [moment is not None and moment[0] == 0 for moment in part]
            expected = expected_advantages(part, world, 0.9, 0.8)
            for model in range(2):
                assert batch.mask[model, row].tolist() == valid
                episode_start = batch.episode_start[model, row] & batch.mask[model, row]
                assert episode_start.tolist() == starts
                reward = [0.0 if moment is None else moment[1] for moment in part]
                assert rewards["reward"][model, row].tolist() == reward
                torch.testing.assert_close(advantage[model, row], torch.tensor(expected))


def test_an_interrupted_episode_bootstraps_from_its_last_value():
    """The last round before the interruption is dropped; its value follows the round before."""
    policy = RecordingPPO(
        num_steps=6, network=LINEAR, gamma=0.9, gae_lambda=0.8, update_epochs=1, **FIXED
    )
    environment, worlds = FixedLengths(lengths=(5,)), Worlds.grid(1, 1)
    simulator = simulate_episodes(environment, {"actor": policy}, worlds, 0, 100)
    set_values(simulator)
    for step in range(6):
        if step == 3:
            simulator.next_episode()
        simulator.step()
    ((batch, _, advantage),) = RECORDED
    assert batch.mask[0, 0].tolist() == [True, True, False, True, True, True]
    assert batch.episode_start[0, 0].tolist() == [True, False, False, True, False, False]
    history = [(0, 1.0, ""), (1, 2.0, "truncated"), None, (0, 1.0, ""), (1, 2.0, ""), (2, 3.0, "")]
    expected = expected_advantages(history, 0, 0.9, 0.8)
    torch.testing.assert_close(advantage[0, 0], torch.tensor(expected))


def test_recorded_log_probabilities_equal_those_of_training():
    """Log-probabilities and values of the acting models are those of an evaluation in training."""
    for network in ({"kind": "mlp", "hidden_sizes": [4]}, {"kind": "gru", "hidden_size": 4}):
        RECORDED.clear()
        policy = RecordingPPO(num_steps=4, network=network, update_epochs=1, **FIXED)
        environment, worlds = FixedLengths(lengths=(3, 5)), Worlds.grid(2, 2)
        simulator = simulate_episodes(
            environment, {"actor": policy}, worlds, 0, 99, autoreset_mode="same_step"
        )
        state = simulator.policy_states["actor"]
        for _ in range(12):
            simulator.step()
        assert len(RECORDED) == 3
        for batch, _, _ in RECORDED:
            batch = batch.take(torch.tensor([[1, 0], [1, 1]]))  # as in minibatches
            out = evaluate_views(
                state.spec.stacked_model,
                state.spec.role.observation_space,
                state.persistent_state.train_state.parameters,
                "act",
                batch,
            )["plain"]
            torch.testing.assert_close(out.logp, batch.old_logp, atol=1e-5, rtol=1e-4)
            torch.testing.assert_close(out.value, batch.old_value, atol=1e-5, rtol=1e-4)


class RecordingPhases(PPO):
    def make_update_batch(self, batches, state):
        estimate = self._advantages(list(batches.values()), buffer_rewards(state))
        record(buffer_rewards(state)["reward"], estimate.value_target)
        return super().make_update_batch(batches, state)


def test_a_round_is_discounted_once_for_all_its_phases():
    """With values of 0 and lambda 1, the target in the last phase is the return of the round."""
    policy = RecordingPhases(num_steps=4, gamma=0.5, gae_lambda=1.0, network=LINEAR, **FIXED)
    simulator = simulate_episodes(TwoPhases(), {"actor": policy}, Worlds.grid(1, 3), 0, 99)
    for name in ("value.weight", "value.bias"):
        train_state = simulator.policy_states["actor"].persistent_state.train_state
        train_state.parameters[name].zero_()
    for _ in range(4):
        simulator.step()
    ((reward, target),) = RECORDED
    for t in range(4):
        expected = sum(0.5**k * reward[:, :, t + k] for k in range(4 - t))
        torch.testing.assert_close(target[:, :, t, 1], expected)
        torch.testing.assert_close(target[:, :, t, 0], 0.5**0.5 * expected)


@pytest.mark.parametrize("lengths", [(2, 3, 5), (1, 4, 4), (18, 7)])
@pytest.mark.parametrize("autoreset_mode", ["disabled", "same_step"])
def test_episodic_learners_use_complete_episodes(lengths, autoreset_mode):
    """One complete episode of every world: the first that begins after the last update.

    With autoreset a world may be within an episode at that time; the rest of it is left out.
    Rewards, feedback and observations are those of the complete episode.
    """
    policies = {"actor": RecordingGRPO(gamma=0.5, group_by="replicate", **FIXED)}
    environment = FixedLengths(lengths=lengths, num_agents=2)
    worlds = Worlds.grid(2, len(lengths))
    simulator = simulate_episodes(
        environment, policies, worlds, 0, 1000, autoreset_mode=autoreset_mode
    )
    for _ in range(8 * max(lengths)):
        if len(RECORDED) == 4:
            break
        if simulator.all_finished:
            simulator.next_episode()
        simulator.step()
    assert len(RECORDED) == 4
    for batch, rewards, feedback, returns in RECORDED:
        for row in range(2 * len(lengths)):
            length = lengths[row // 2]
            mask = batch.mask[:, row]
            assert mask.sum(-1).tolist() == [length] * 2
            for model in range(2):
                valid = mask[model]
                expected = [t + 1.0 for t in range(length)]
                assert rewards["reward"][model, row][valid].tolist() == expected
                assert batch.episode_start[model, row][valid].tolist()[1:] == [False] * (length - 1)
                luck = batch.observation[model, row, :, 2][valid]
                assert (luck == luck[0]).all()
                assert feedback["reward"][model, row].tolist() == [row // 2, luck[0].item()]
                total = sum(0.5**t * (t + 1.0) for t in range(length))
                assert returns[model, row].item() == pytest.approx(total)


def test_without_autoreset_every_episode_gives_an_update():
    policy, environment = RecordingGRPO(**FIXED), FixedLengths(lengths=(2, 5))
    simulate_episodes(environment, {"actor": policy}, Worlds.grid(1, 2), 6, 100)
    assert len(RECORDED) == 6
    assert all(batch.mask[0].sum(-1).tolist() == [2, 5] for batch, *_ in RECORDED)


def test_interrupted_episodes_do_not_count():
    """After an early reset, updates use complete episodes only."""
    policy, environment = RecordingGRPO(**FIXED), FixedLengths(lengths=(2, 5))
    simulator = simulate_episodes(environment, {"actor": policy}, Worlds.grid(1, 2), 0, 100)
    for _ in range(3):
        simulator.step()
    simulator.next_episode()
    run_episodes(simulator, 2)
    assert len(RECORDED) == 2
    assert all(batch.mask[0].sum(-1).tolist() == [2, 5] for batch, *_ in RECORDED)


def test_truncated_episodes_count_up_to_the_cut():
    """In REINFORCE as in group recipes: no value of what follows a cut after 3 rounds of 5."""
    for recipe in (RecordingREINFORCE, RecordingGRPO):
        policy = recipe(gamma=1.0, **FIXED)
        environment = FixedLengths(lengths=(2, 5))
        simulate_episodes(environment, {"actor": policy}, Worlds.grid(1, 2), 1, 3)
    ((reinforce,), (_, rewards, _, group_returns)) = RECORDED
    assert rewards["truncated"][0].any(-1).tolist() == [False, True]
    assert group_returns[0].tolist() == [1 + 2, 1 + 2 + 3]
    returns = torch.tensor([[3.0, 2.0, 0.0], [6.0, 5.0, 3.0]])
    expected = torch.where(returns > 0, returns - returns[returns > 0].mean(), 0.0)
    torch.testing.assert_close(reinforce.advantage[0], expected)


@pytest.mark.parametrize("normalize", [False, True])
def test_advantages_of_reinforce_are_returns_less_their_mean(normalize):
    """Discounted returns with mean 0 over all worlds; with the option, standard deviation 1."""
    policy = RecordingREINFORCE(gamma=0.5, normalize_advantage=normalize, **FIXED)
    environment = FixedLengths(lengths=(2, 3))
    simulate_episodes(environment, {"actor": policy}, Worlds.grid(1, 2), 1, 100)
    # 1 + 2/2, 2; 1 + 2/2 + 3/4, 2 + 3/2, 3
    returns = torch.tensor([2.0, 2.0, 0.0, 2.75, 3.5, 3.0])
    valid = returns[[0, 1, 3, 4, 5]]
    std = valid.std() if normalize else 1.0
    expected = ((returns - valid.mean()) / std).view(2, 3)
    expected[0, 2] = 0.0
    ((batch,),) = RECORDED
    torch.testing.assert_close(batch.advantage[0], expected)
