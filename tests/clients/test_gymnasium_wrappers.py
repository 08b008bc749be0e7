"""All wrappers of `gymnasium.wrappers` and `gymnasium.wrappers.vector` around every environment.

The modules are enumerated: a wrapper of a later Gymnasium is tested too, without arguments. Where
a wrapper cannot apply, `refusal` says why, and the error that it raises is checked.
"""

from __future__ import annotations

import inspect
import itertools
import re
from collections.abc import Callable, Mapping
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from gymnasium import spaces, wrappers
from gymnasium.envs.registration import EnvSpec
from gymnasium.error import DependencyNotInstalled
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers import vector

from tests.clients.kinds import FILTERS, KINDS, gym_make, gym_make_vec
from tests.refusals import refused

# What wrappers of pictures warn of, and that identity transformations have no space of their own.
pytestmark = pytest.mark.filterwarnings(*FILTERS, "ignore::UserWarning")

SINGLE = sorted(name for name in wrappers.__all__ if name != "vector")
VECTOR = sorted(vector.__all__)
PICTURES = {"AddWhiteNoise", "GrayscaleObservation", "ObstructView", "ResizeObservation"}
RENDERED = PICTURES | {
    *("AddRenderObservation", "AtariPreprocessing", "HumanRendering"),
    *("RecordVideo", "RenderCollection"),
}
OPTIONAL = {"Jax", "cv2", "opencv", "moviepy", "pygame", "jax", "ale_py"}


def identity(value: Any) -> Any:
    return value


def shape_of(env: Any) -> tuple[int, ...]:
    return getattr(env, "single_observation_space", env.observation_space).shape


ARGUMENTS: Mapping[str, Callable[[Any], dict[str, Any]]] = {
    "AddWhiteNoise": lambda env: {"probability_of_noise_per_pixel": 0.1},
    "ArrayConversion": lambda env: {"env_xp": np, "target_xp": torch},
    "ClipReward": lambda env: {"min_reward": -1.0, "max_reward": 1.0},
    "DelayObservation": lambda env: {"delay": 1},
    "DiscretizeAction": lambda env: {"bins": 3},
    "DiscretizeObservation": lambda env: {"bins": 3},
    "DtypeObservation": lambda env: {"dtype": np.float32},
    "FilterObservation": lambda env: {"filter_keys": ["observation"]},
    "FrameStackObservation": lambda env: {"stack_size": 2},
    "ObstructView": lambda env: {"obstructed_pixels_ratio": 0.1, "obstruction_width": 4},
    "RecordVideo": lambda env: {"video_folder": "videos"},
    "RepeatAction": lambda env: {"num_repeats": 2},
    "RescaleAction": lambda env: {"min_action": -1.0, "max_action": 1.0},
    "RescaleObservation": lambda env: {"min_obs": 0.0, "max_obs": 1.0},
    "ReshapeObservation": lambda env: {"shape": (1, *shape_of(env))},
    "ResizeObservation": lambda env: {"shape": (16, 16)},
    "StickyAction": lambda env: {"repeat_action_probability": 0.3},
    "TimeLimit": lambda env: {"max_episode_steps": 3},
    "TransformAction": lambda env: {"func": identity, "action_space": None},
    "TransformObservation": lambda env: {"func": identity, "observation_space": None},
    "TransformReward": lambda env: {"func": identity},
    "VectorizeTransformAction": lambda env: {
        "wrapper": wrappers.TransformAction,
        "func": identity,
        "action_space": None,
    },
    "VectorizeTransformObservation": lambda env: {
        "wrapper": wrappers.TransformObservation,
        "func": identity,
        "observation_space": None,
    },
    "VectorizeTransformReward": lambda env: {"wrapper": wrappers.TransformReward, "func": identity},
}


def refusal(name: str, env: Any) -> str | None:
    """Pattern of the error, where a wrapper cannot apply; `None`: it must apply."""
    is_vector = isinstance(env, gymnasium.vector.VectorEnv)
    action_space = env.single_action_space if is_vector else env.action_space
    observation_space = env.single_observation_space if is_vector else env.observation_space
    if is_vector and name in {"HumanRendering", "RecordVideo"}:
        return "(?i)render.mode"  # a batch of worlds has no pictures
    if is_vector and issubclass(getattr(vector, name), gymnasium.vector.VectorObservationWrapper):
        if env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP:
            return "autoreset_mode"  # they would not transform `final_obs`
        if name == "NormalizeObservation" and env.unwrapped.autoreset_mode.name == "DISABLED":
            return "NEXT_STEP"
    if name in {"ClipAction", "RescaleAction", "DiscretizeAction"}:
        return None if isinstance(action_space, spaces.Box) else "Box"
    if name in {"DiscretizeObservation", "RescaleObservation"}:
        box = observation_space  # values and beliefs have no bounds
        return None if np.isfinite([box.low, box.high]).all() else "finite|unbounded"
    if is_vector and name in PICTURES:
        return "image"  # observations are vectors
    return None


def wrapped(module: Any, name: str, env: Any) -> Any:
    """The wrapped environment; skips wrappers whose packages are not installed."""
    try:
        wrapper = getattr(module, name)
        if inspect.isfunction(wrapper):
            pytest.skip("a function")
        return wrapper(env, **ARGUMENTS.get(name, lambda env: {})(env))
    except (DependencyNotInstalled, ModuleNotFoundError) as error:
        assert any(package in str(error) for package in OPTIONAL), error
        pytest.skip(str(error))


def check(module: Any, name: str, env: Any, steps: int) -> None:
    """The wrapper runs for some steps, or refuses as expected."""
    if name in {"JaxToNumpy", "JaxToTorch"}:
        pytest.importorskip("jax")
    if name == "DiscretizeObservation" and 3 ** shape_of(env)[0] > 2**63:
        pytest.skip("more cells than its number counts, without an error")
    if (pattern := refusal(name, env)) is not None:
        with pytest.raises((TypeError, ValueError, AssertionError)) as raised:
            wrapped(module, name, env)
        message = str(raised.value)  # some assertions of Gymnasium below 1.3 have none
        assert not message or re.search(pattern, message), raised.value
        return
    env = wrapped(module, name, env)
    observation, _ = env.reset(seed=1)
    env.action_space.seed(1)
    for _ in range(steps):
        if not isinstance(observation, torch.Tensor):
            assert name == "DiscretizeObservation" or observation in env.observation_space
        observation, _, terminated, truncated, _ = env.step(env.action_space.sample())
        done = terminated | truncated
        is_over = done if isinstance(done, bool | np.bool_) else bool(done.any())
        if is_over and env.metadata.get("autoreset_mode") in (None, AutoresetMode.DISABLED):
            break
    env.close()


# Pictures take time: by default of one environment.
SINGLE_CASES = [
    pytest.param(
        kind, name, marks=pytest.mark.full if name in RENDERED and kind != "dr_mdp" else ()
    )
    for kind in KINDS
    for name in SINGLE
]


@pytest.mark.cut(23)
@pytest.mark.parametrize(("kind", "name"), SINGLE_CASES)
def test_wrappers(kind: str, name: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    render_mode = "rgb_array" if name in RENDERED else None
    observation = "dict" if name == "FilterObservation" else "vector"
    env = gym_make(kind, rounds=3, render_mode=render_mode, observation=observation)
    if name in PICTURES:
        env = wrappers.AddRenderObservation(env)
    if name == "AtariPreprocessing":
        pytest.skip("for the ALE's games, whose attributes it reads")
    if name == "HumanRendering":
        pytest.skip("opens a window")
    check(wrappers, name, env, 4)


@pytest.mark.cut(41)
@pytest.mark.parametrize(
    ("kind", "name", "mode"), [*itertools.product(KINDS, VECTOR, AutoresetMode)]
)
def test_vector_wrappers(kind: str, name: str, mode: AutoresetMode) -> None:
    if mode is AutoresetMode.NEXT_STEP and gym_make(kind).unwrapped._client.turns_per_round > 1:
        pytest.skip("this mode needs agents that act once a round")
    observation = "dict" if name == "FilterObservation" else "vector"
    array = "torch" if name.startswith("TorchTo") else "numpy"
    env = gym_make_vec(
        kind, num_envs=2, rounds=3, array=array, autoreset_mode=mode, observation=observation
    )
    check(vector, name, env, 4)


@pytest.mark.parametrize("kind", ["dr_mdp", "errands"])
def test_time_awareness(kind: str) -> None:
    """`TimeAwareObservation` reads the limit that `rounds` implies; it truncates once."""
    env = gym_make(kind, rounds=3)
    turns = env.unwrapped._client.turns_per_round
    assert env.spec.max_episode_steps == 3 * turns
    aware = wrappers.TimeAwareObservation(env, flatten=False)
    observation, _ = aware.reset(seed=1)
    steps, done = 0, False
    while not done:
        observation, _, terminated, truncated, _ = aware.step(aware.action_space.sample())
        steps, done = steps + 1, terminated or truncated
    assert steps == 3 * turns or terminated
    assert float(np.ravel(observation["time"])[0]) > 0
    limited = gymnasium.make(gym_make(kind, rounds=3).spec)  # now Gymnasium's own limit, too
    assert limited.spec.max_episode_steps == 3 * turns
    assert gym_make_vec(kind, rounds=3).spec.max_episode_steps == 3 * turns
    assert gym_make_vec(kind, rounds=3, max_episode_steps=turns).spec.max_episode_steps == turns


@pytest.mark.parametrize("as_json", [False, True])
def test_a_specification_limits_rounds(as_json: bool) -> None:
    """Gymnasium would end the episodes at the old limit: more rounds are refused, fewer are not."""
    single = gym_make("errands", rounds=3).spec
    batch = gym_make_vec("errands", num_envs=2, rounds=3).spec
    limited = gym_make_vec("errands", rounds=3, max_episode_steps=2).spec
    if as_json:
        single, batch, limited = (
            EnvSpec.from_json(spec.to_json()) for spec in (single, batch, limited)
        )
    for spec, make in ((single, gymnasium.make), (batch, gymnasium.make_vec)):
        with refused("conflict", path="rounds"):
            make(spec, rounds=4)
        turns = spec.max_episode_steps // 3
        shorter = make(spec, rounds=2)
        assert shorter.unwrapped.spec.max_episode_steps == 2 * turns
        with refused("conflict", path="rounds"):
            make(shorter.spec, rounds=3)
        assert make(spec).spec.max_episode_steps == 3 * turns
    assert gymnasium.make_vec(limited).spec.max_episode_steps == 2
