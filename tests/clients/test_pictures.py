"""Pictures (`render_mode` "rgb_array") of every environment in both APIs, fast enough for video."""

from __future__ import annotations

import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import RecordVideo

from mores.clients.gymnasium import GymnasiumEnv
from mores.envs.opinion.lock_in import LockIn
from tests.clients.kinds import FILTERS, KINDS, gym_make, zoo_make
from tests.conformance.environments import Errands

SHAPE = (608, 800, 3)
pytestmark = pytest.mark.filterwarnings(*FILTERS)


@pytest.mark.cut(20)
@pytest.mark.parametrize("kind", KINDS)
def test_every_environment(kind: str) -> None:
    """A picture follows the episode, and a new episode starts a new one."""
    env = gym_make(kind, render_mode="rgb_array", rounds=3)
    env.reset(seed=1)
    first = env.render()
    assert (first.shape, first.dtype) == (SHAPE, np.uint8)
    env.action_space.seed(1)
    done = False
    while not done:
        *_, terminated, truncated, _ = env.step(env.action_space.sample())
        done = terminated or truncated
    last = env.render()
    assert 0.003 < (first != last).any(2).mean() < 0.5
    assert 0.7 < (last > 250).all(2).mean() < 0.98, "neither empty nor covered"
    env.reset(seed=1)
    assert np.array_equal(env.render(), first)


@pytest.mark.full
@pytest.mark.parametrize("api", ["parallel", "aec"])
def test_pettingzoo(api: str) -> None:
    env = zoo_make(api, "coevolution", render_mode="rgb_array", rounds=3)
    env.reset(seed=1)
    first = env.render()
    actions = {agent: env.action_space(agent).sample() for agent in env.agents}
    if api == "parallel":
        env.step(actions)
    else:
        for _ in range(len(actions)):
            env.step(env.action_space(env.agent_selection).sample())
    assert first.shape == SHAPE
    assert not np.array_equal(env.render(), first)


@pytest.mark.full
def test_rendering_changes_no_numbers() -> None:
    kwargs: dict[str, Any] = {"agent": "porter_1", "rounds": 4}
    env = GymnasiumEnv(Errands(), render_mode="rgb_array", **kwargs)
    plain = GymnasiumEnv(Errands(), **kwargs)
    obs, expected = env.reset(seed=4)[0], plain.reset(seed=4)[0]
    for _ in range(8):
        assert np.array_equal(obs, expected)
        action = plain.action_space.sample()
        (obs, reward, *done, _), (expected, other, *_) = env.step(action), plain.step(action)
        assert reward == other
        env.render()
        if done[0] or done[1]:
            break


class OwnDrawing(LockIn):
    """Draws its reports."""

    def draw(self, state: Any, axes: Any, world: int = 0) -> None:
        axes.bar(range(state.reports.shape[1]), state.reports[world].tolist(), color="red")


@pytest.mark.full
def test_an_environment_draws_its_own_picture() -> None:
    env = GymnasiumEnv(OwnDrawing(num_people=4), render_mode="rgb_array", rounds=3)
    env.reset(seed=1)
    env.step(np.array([3.0]))
    red = (env.render() == [255, 0, 0]).all(2)
    assert red[100:360, 60:460].sum() > 1000
    assert not red[:, 470:].any()


@pytest.mark.full
def test_pictures_are_fast() -> None:
    """Processor time of a frame; the first one of an episode also makes the figure."""
    env = gymnasium.make("mores/Coevolution-v1", render_mode="rgb_array")
    env.reset(seed=1)
    times = []
    for _ in range(25):
        env.step(env.action_space.sample())
        start = time.process_time()
        env.render()
        times.append(time.process_time() - start)
    assert np.median(times) < 0.1


def test_record_video(tmp_path: Any) -> None:
    pytest.importorskip("moviepy", reason="pip install moviepy")
    env = gym_make("dr_mdp", render_mode="rgb_array", rounds=5)
    env = RecordVideo(env, str(tmp_path / "videos"), disable_logger=True)
    env.reset(seed=1)
    for _ in range(5):
        env.step(env.action_space.sample())
    env.close()
    (video,) = (tmp_path / "videos").glob("*.mp4")
    assert video.stat().st_size > 1000
