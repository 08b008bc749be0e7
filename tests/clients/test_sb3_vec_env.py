"""`SB3VecEnv`: the interface that Stable-Baselines3's learners expect, and training in it."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import norm
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecCheckNan, VecMonitor, VecNormalize

import mores
from mores.clients.array_conversion import MultiDiscreteMask
from mores.clients.stable_baselines3 import SB3VecEnv
from tests.clients.kinds import AGENTS, FILTERS, gym_make, small
from tests.conformance.environments import Meeting, Relay, ZeroAction
from tests.refusals import check_message, refused

pytestmark = pytest.mark.filterwarnings(*FILTERS)


def random_actions(env: SB3VecEnv, generator: np.random.Generator) -> np.ndarray:
    """A random action of every world, legal or not."""
    env.action_space.seed(int(generator.integers(2**31)))
    return np.stack([np.asarray(env.action_space.sample()) for _ in range(env.num_envs)])


# --- observations, rewards, infos ---------------------------------------------------------------


@pytest.mark.cut(6)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_equal_to_gymnasium_vector_env(kind: str, agent: str) -> None:
    """Bit for bit over several episodes: observations, rewards, ends, masks, metrics."""
    environment = mores.make_environment(kind, **small(kind))
    names = sorted(environment.metrics(environment.reset(mores.RandomStreams.of(0, 1))))[:1]
    kwargs: dict[str, Any] = {"agent": agent, "rounds": 3, "metrics": names, **small(kind)}
    env, vector = SB3VecEnv(kind, 4, **kwargs), mores.GymnasiumVectorEnv(kind, 4, **kwargs)
    env.seed(11)
    obs, (expected, vector_info) = env.reset(), vector.reset(seed=11)
    generator, num_ends = np.random.default_rng(2), 0
    for _ in range(12):
        assert obs.dtype == np.float32
        assert obs.tobytes() == expected.numpy().tobytes()
        if "action_mask" in vector_info:
            masks = env.env_method("action_masks")
            assert np.array_equal(np.stack(masks), vector_info["action_mask"].numpy())
        actions = random_actions(env, generator)
        obs, reward, done, infos = env.step(actions)
        expected, vector_reward, terminated, truncated, vector_info = vector.step(actions)
        assert reward.tobytes() == vector_reward.numpy().tobytes()
        assert (done.dtype, done.tolist()) == (bool, (terminated | truncated).tolist())
        for world, info in enumerate(infos):
            assert ("terminal_observation" in info) == done[world]
            source = vector_info["final_info"] if done[world] else vector_info
            assert info["projected"] is bool(source["projected"][world])
            metric = source[names[0]][world].numpy()
            assert np.array_equal(info[names[0]], metric, equal_nan=True)
            if done[world]:
                num_ends += 1
                final = vector_info["final_obs"][world].numpy()
                assert info["terminal_observation"].tobytes() == final.tobytes()
                assert info["TimeLimit.truncated"] is bool(truncated[world])
    assert num_ends >= 4


@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_equal_to_dummy_vec_env(kind: str, agent: str) -> None:
    """The first episode equals that of `DummyVecEnv` around a single environment."""
    env = SB3VecEnv(kind, 1, agent, rounds=4, **small(kind))
    dummy = DummyVecEnv([lambda: Monitor(gym_make(kind, agent=agent, rounds=4).unwrapped)])
    for vector in (env, dummy):
        vector.seed(5)
    assert env.reset().tobytes() == dummy.reset().tobytes()
    generator = np.random.default_rng(3)
    done = [False]
    while not done[0]:
        actions = random_actions(env, generator)
        obs, reward, done, (info,) = env.step(actions)
        dummy_obs, dummy_reward, dummy_done, (dummy_info,) = dummy.step(actions)
        assert reward.tobytes() == dummy_reward.tobytes()
        assert done.tolist() == dummy_done.tolist()
        assert info["projected"] == dummy_info["projected"]
        if not done[0]:
            assert obs.tobytes() == dummy_obs.tobytes()
    assert info["terminal_observation"].tobytes() == dummy_info["terminal_observation"].tobytes()
    assert info["TimeLimit.truncated"] == dummy_info["TimeLimit.truncated"]


def test_results_are_copies() -> None:
    """Steps do not write into returned arrays, and changes of arrays do not reach the worlds."""
    env = SB3VecEnv(Meeting(), 3, "voter_0", rounds=2)
    env.seed(1)
    obs = env.reset()
    copy, state = obs.copy(), env.vector_env.simulator.state.position.clone()
    env.step(np.zeros((3, 3), np.float32))
    assert np.array_equal(obs, copy)
    obs[...] = 7
    env.seed(1)
    assert np.array_equal(env.reset(), copy)
    assert torch.equal(env.vector_env.simulator.state.position, state)


def test_seeds() -> None:
    env = SB3VecEnv(Relay(), 3, "runner_0")
    seeds = []
    for seed in (4, None, 4):
        if seed is not None:
            env.seed(seed)
        env.reset()
        seeds.append(env.vector_env.simulator.seed)
    assert seeds[0] == seeds[2] != seeds[1]


def test_masks_for_sb3_contrib() -> None:
    """An attribute shows whether masks exist; a method returns the mask of every world."""
    env = SB3VecEnv("errands", 5, "porter_1")
    env.reset()
    assert env.has_attr("action_masks")
    masks = np.stack(env.env_method("action_masks"))
    assert (masks.dtype, masks.shape) == (bool, (5, 8))
    assert np.array_equal(env.env_method("action_masks", indices=[3])[0], masks[3])
    assert np.array_equal(env.get_attr("action_masks", 3)[0](), masks[3])
    assert not SB3VecEnv(Meeting(), 2, "voter_0").has_attr("action_masks")
    single = gym_make("errands", agent="porter_1").unwrapped
    mask = single.reset(seed=2)[1]["action_mask"]
    assert isinstance(mask, MultiDiscreteMask)
    assert [len(part) for part in mask] == [3, 3, 2]
    assert np.array_equal(torch.as_tensor(mask), single.action_masks())


# --- errors --------------------------------------------------------------------------------------


def test_errors() -> None:
    env = SB3VecEnv(Meeting(), 2, "voter_0")
    env.reset()
    with refused("wrong_order"):
        env.step_wait()
    with refused("unknown_name", path="render_mod") as attribute:
        env.get_attr("render_mod")
    with refused("unknown_name", path="leave") as method:
        env.env_method("leave")
    with refused("unsupported", path="voter_0") as masks:
        env.env_method("action_masks")
    assert all(isinstance(e.value, AttributeError) for e in (attribute, method, masks))
    with refused("unsupported", path="environment"):
        env.set_attr("environment", 1)
    env.set_options({"color": 1})
    with refused("unsupported", path="options"):
        env.reset()
    with refused("unknown_name", path="lock_in.peple"):
        mores.SB3VecEnv("lock_in", 2, peple=3)
    with refused("wrong_shape", path="actions.voter"):
        env.step(np.zeros((3, 3)))


@pytest.mark.full
def test_not_installed() -> None:
    """Without Stable-Baselines3 the error names the package; the rest of mores works."""
    code = (
        "import sys\n"
        "sys.modules['stable_baselines3'] = None\n"  # as if it were not installed
        "import mores\n"
        "mores.GymnasiumVectorEnv('lock_in', 2, num_people=2).reset()\n"
        "try:\n"
        "    mores.SB3VecEnv\n"
        "except mores.UserError as error:\n"
        "    print(error.code, error.path)\n"
        "    print(error)\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    error, message = run.stdout.splitlines()
    assert error == "not_installed stable_baselines3"
    check_message(re.sub(r"\(.*\)", "(message of the ImportError)", message))


# --- training ------------------------------------------------------------------------------------


@pytest.mark.cut(9)
@pytest.mark.parametrize(("kind", "agent"), AGENTS)
def test_policy_gradients_for_every_agent(kind: str, agent: str) -> None:
    env = VecMonitor(SB3VecEnv(kind, 8, agent, rounds=5, **small(kind)))
    for learner in (
        PPO("MlpPolicy", env, n_steps=8, batch_size=32, n_epochs=1, seed=0, device="cpu"),
        A2C("MlpPolicy", VecCheckNan(VecNormalize(env)), n_steps=8, seed=0, device="cpu"),
    ):
        learner.learn(256)
        assert learner.num_timesteps == 256
        lengths = [episode["l"] for episode in learner.ep_info_buffer or ()]
        assert lengths
        assert max(lengths) <= 5 * env.unwrapped.vector_env._client.turns_per_round


def test_replay_buffer_has_final_observations() -> None:
    """A truncated transition ends in the final observation, and is marked as truncated."""
    env = SB3VecEnv("coevolution", 4, "assistant_0", rounds=3, **small("coevolution"))
    learner = SAC("MlpPolicy", env, learning_starts=4, train_freq=1, batch_size=8, device="cpu")
    learner.learn(48)
    buffer = learner.replay_buffer
    assert buffer is not None
    steps = buffer.pos
    truncated = buffer.timeouts[:steps] == 1
    assert np.array_equal(truncated, np.arange(steps)[:, None].repeat(4, 1) % 3 == 2)
    next_obs, obs = buffer.next_observations[: steps - 1], buffer.observations[1:steps]
    assert np.array_equal(next_obs[~truncated[:-1]], obs[~truncated[:-1]])
    assert (next_obs[truncated[:-1]] != obs[truncated[:-1]]).any(-1).all()
    DQN("MlpPolicy", SB3VecEnv(Relay(), 4, "runner_0"), learning_starts=4, device="cpu").learn(40)


def test_training_is_reproducible() -> None:
    def trained_parameters(seed: int) -> np.ndarray:
        env = SB3VecEnv("dr_mdp", 8, rounds=4, horizon=4, num_people=1)
        learner = PPO("MlpPolicy", env, n_steps=8, batch_size=32, seed=seed, device="cpu")
        learner.learn(128)
        return torch.cat([p.detach().flatten() for p in learner.policy.parameters()]).numpy()

    assert np.array_equal(trained_parameters(3), trained_parameters(3))
    assert not np.array_equal(trained_parameters(3), trained_parameters(4))


ROUNDS = 20


def agents(num_envs: int) -> VecMonitor:
    """Agents of `moral_hazard` whose principal always promises and pays half of the output."""
    kwargs = {"rounds": ROUNDS, "termination_probability": 0.0}
    return VecMonitor(SB3VecEnv("moral_hazard", num_envs, "agent_0", **kwargs))


def optimal_return() -> float:
    """Return of an agent with optimal effort, in closed form.

    Effort e > 0 yields e + noise * z, z normal, of which half is paid where it is positive, and
    costs `cost * e^2 / 2`. Costs are uniform on [.2, .8], ability is 1, 2 or 3; 3 is never best.
    """
    noise, costs = 0.5, np.linspace(0.2, 0.8, 10_001)

    def payoff(effort: int) -> np.ndarray:
        ratio = effort / noise
        pay = 0.5 * (effort * norm.cdf(ratio) + noise * norm.pdf(ratio))
        return pay - 0.5 * costs * effort**2

    one, two, three = (payoff(effort) for effort in (1, 2, 3))
    assert (three < np.maximum(one, two)).all()
    return ROUNDS * float((one + 2 * np.maximum(one, two)).mean() / 3)


@pytest.mark.full
def test_ppo_learns_effort() -> None:
    """From below a fifth to within 5 % of the optimal return, over 512 new worlds.

    The standard error of a mean return is .09 of an optimal return of 5.1: 5 % is about three
    standard errors, and the untrained policy is more than twenty below the optimum.
    """
    learner = PPO(
        "MlpPolicy",
        agents(64),
        n_steps=16,
        batch_size=256,
        n_epochs=4,
        learning_rate=3e-3,
        gamma=0.9,
        seed=0,
        device="cpu",
    )

    def mean_return() -> float:
        env = agents(512)
        env.seed(99)
        result, _ = evaluate_policy(learner, env, n_eval_episodes=512, deterministic=False)
        return float(result)

    optimum, before = optimal_return(), mean_return()
    learner.learn(16 * 1024)
    after = mean_return()
    assert before < 0.2 * optimum
    assert 0.95 * optimum < after < 1.06 * optimum


def test_policies_of_other_agents() -> None:
    env = SB3VecEnv(Meeting(), 2, "voter_0", policies={"chair": ZeroAction(size=2)})
    assert env.reset().shape == (2, 2)
    assert env.env_is_wrapped(Monitor) == [False, False]
