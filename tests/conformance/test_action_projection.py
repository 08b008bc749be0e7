"""Spaces, masks and illegal actions in every client."""

from __future__ import annotations

import math
from typing import Any

import gymnasium
import hypothesis
import hypothesis.strategies as st
import numpy as np
import pytest
import torch

from mores.clients import gymnasium_spaces
from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.clients.torchrl import TorchRLEnv
from mores.core.environment import Phase
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part
from mores.registry.specs import policies_from_specs
from mores.sim.action_validation import project_action
from tests.conformance.environments import ALL_AGENTS, ALL_KINDS, Errands, Meeting, Relay, make
from tests.refusals import refused


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_default_policies_and_spaces_match_the_roles(kind: str) -> None:
    environment = make(kind)
    policies = policies_from_specs(environment.default_policies())
    assert policies.keys() <= {role.name for role in environment.roles}
    for role in environment.roles:
        space = gymnasium_spaces.observation_space(role)
        assert (space.shape, space.dtype) == ((role.observation_space.size,), np.float32)
        assert np.array_equal(space.low, np.array(role.observation_space.low, np.float32))
        assert np.array_equal(space.high, np.array(role.observation_space.high, np.float32))
        space = gymnasium_spaces.action_space(environment, role.name)
        by_phase = [phase.action_spaces.get(role.name) for phase in environment.phases]
        own = [each for each in by_phase if each is not None]
        if isinstance(space, gymnasium.spaces.Discrete):
            assert space.n == max(each.num_options for each in own)  # type: ignore[union-attr]
        elif isinstance(space, gymnasium.spaces.MultiDiscrete):
            options = [each.num_options for each in own]  # type: ignore[union-attr]
            assert space.nvec.tolist() == np.max(options, 0).tolist()
        else:
            assert all(space == gymnasium_spaces.box_space(each) for each in own)  # type: ignore


def test_a_role_with_two_kinds_of_action_space_is_an_error() -> None:
    class Mixed(Relay):
        other: Any

        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases[:2], Phase("pay", {"caller": self.other}))

    for other in (Box.of(pay=1), Box.of(pay=2), MultiDiscrete((2, 2))):
        with refused("unsupported", path="external.caller"):
            GymnasiumEnv(Mixed(other=other), "caller_0")
    assert GymnasiumEnv(Mixed(other=Discrete(7)), "caller_0").action_space.n == 7

    class TwoBoxes(Meeting):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases, Phase("again", {"chair": Box.of(pull=1)}))

    with refused("unsupported", path="external.chair"):
        PettingZooParallelEnv(TwoBoxes())

    class TwoMultiDiscrete(Errands):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases, Phase("night", {"porter": MultiDiscrete((2, 2))}))

    with refused("unsupported", path="external.porter"):
        GymnasiumVectorEnv(TwoMultiDiscrete(), 2, "porter_0")


@pytest.mark.parametrize(
    "parts",
    [
        {"position": Part(2, -0.1, 0.7), "intensity": Part(1, -0.1, 0.7)},
        {"position": Part(2, -0.1, 0.7), "intensity": Part(1, 0.0, 1.0)},
        {"position": Part(2, -0.1), "intensity": Part(1, -0.1)},
        {"position": Part(3)},
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_a_box_clamps_each_number_to_its_limits(parts: dict[str, Part], dtype: torch.dtype) -> None:
    space = Box.of(**parts)
    vector = torch.linspace(-2, 2, 5 * space.size, dtype=dtype).view(space.size, 5).T
    expected = np.clip(vector.numpy(), *np.array([space.low, space.high], np.float32))
    clamped = space.clamp(vector)
    assert clamped.dtype == dtype
    assert np.array_equal(clamped.numpy(), expected)
    assert space.clamp(torch.full((1, space.size), math.nan)).isnan().all()


INVALID_CHOICES = [-1, 99, math.nan, math.inf, 0.5]


def invalid_action(env: GymnasiumEnv) -> Any:
    """An action that is never legal."""
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return 99
    if isinstance(env.action_space, gymnasium.spaces.MultiDiscrete):
        return np.array([0] * (len(env.action_space.nvec) - 1) + [999])
    return np.full(env.action_space.shape, np.nan, np.float32)


@pytest.mark.cut(5)
@pytest.mark.parametrize(("kind", "agent"), ALL_AGENTS)
def test_an_invalid_action_is_flagged_in_every_client(kind: str, agent: str) -> None:
    environment = make(kind)
    env = GymnasiumEnv(environment, agent)
    # in same_step the flag of a world that ends is in final_info
    vector = GymnasiumVectorEnv(environment, 2, agent, autoreset_mode="Disabled")
    for info in (env.reset(seed=1)[1], vector.reset(seed=1)[1]):
        assert not np.asarray(info["projected"]).any()
    mask = env.reset(seed=1)[1].get("action_mask")
    valid, invalid = env.action_space.sample(mask), invalid_action(env)
    assert env.step(invalid)[4]["projected"] is True
    actions = np.stack([np.asarray(valid), np.asarray(invalid)]).astype(np.float64)
    assert vector.step(actions)[4]["projected"].tolist() == [False, True]
    parallel = PettingZooParallelEnv(environment, external=[agent])
    aec = PettingZooAECEnv(environment, external=[agent])
    assert parallel.reset(seed=1)[1][agent]["projected"] is False
    assert parallel.step({agent: invalid})[4][agent]["projected"] is True
    aec.reset(seed=1)
    aec.step(invalid)
    assert aec.infos[agent]["projected"] is True
    role = agent.rpartition("_")[0]
    torchrl_env = TorchRLEnv(environment, 2, external=[agent])
    data = torchrl_env.rand_action(torchrl_env.reset())
    data[role, "action"] = torch.stack(
        [data[role, "action"][0].double(), torch.as_tensor(invalid)[None]]
    )
    projected = torchrl_env.step(data)["next", role, "projected"]
    assert projected.flatten().tolist() == [False, True]


@pytest.mark.parametrize("invalid", INVALID_CHOICES)
def test_an_invalid_choice_becomes_the_first_legal_one(invalid: float) -> None:
    relay = Relay(termination_probability=0)
    env, other = GymnasiumEnv(relay, "runner_1"), GymnasiumEnv(relay, "runner_1")
    env.reset(seed=3)
    first_legal = int(other.reset(seed=3)[1]["action_mask"].argmax())
    result, expected = env.step(invalid), other.step(first_legal)
    assert result[4].pop("projected")
    assert not expected[4].pop("projected")
    assert result[1:4] == expected[1:4]
    assert np.array_equal(result[0], expected[0])


CHOICES = MultiDiscrete((3, 1, 4))


@st.composite
def actions_and_masks(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """Requested options of three choices, and legal ones: at least one for each choice."""
    action = [draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, math.nan])) for _ in range(3)]
    legal: list[bool] = []
    for count in CHOICES.num_options:
        legal += draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    return action, legal


@hypothesis.given(actions_and_masks(), st.booleans())
def test_several_choices_are_projected_separately(
    action_and_mask: tuple[list[float], list[bool]], masked: bool
) -> None:
    """Each as a single choice; legal ones do not change, one illegal choice flags the action."""
    requested, legal = action_and_mask
    mask = torch.tensor(legal)[None, None] if masked else None
    action = torch.tensor(requested)[None, None]
    result = project_action(CHOICES, action, mask, "porter")
    assert result.action.dtype == torch.int64
    singles, start = [], 0
    for choice, count in enumerate(CHOICES.num_options):
        own = None if mask is None else mask[..., start : start + count]
        singles.append(project_action(Discrete(count), action[..., choice], own, "porter"))
        start += count
    assert result.action[0, 0].tolist() == [int(single.action) for single in singles]
    assert bool(result.projected) == any(bool(single.projected) for single in singles)
    masks = torch.tensor(legal).split(CHOICES.num_options)
    for option, wish, own in zip(result.action[0, 0].tolist(), requested, masks, strict=True):
        assert not masked or own[option]
        valid = wish in range(len(own)) and (not masked or bool(own[int(wish)]))
        assert option == (wish if valid else (int(own.int().argmax()) if masked else 0))


def test_masks_of_several_choices() -> None:
    """A tuple for Gymnasium's sampling, one row for learners; options of other phases illegal."""
    env = GymnasiumEnv(Errands(termination_probability=0), "porter_0")
    morning = env.reset(seed=1)[1]["action_mask"]
    place, strength = env.simulator.state.place[0, 0], env.simulator.state.strength[0, 0]
    assert [mask.tolist() for mask in morning] == [
        [int(option != place) for option in range(3)],
        [int(load <= strength) for load in range(3)],
        [1, 1],
    ]
    assert env.action_masks().tolist() == [bool(x) for mask in morning for x in mask]
    assert all(mask.dtype == np.int8 for mask in morning)
    illegal = np.array([int(place), 0, 1])
    evening = env.step(illegal)[4]
    assert evening["projected"]
    assert env.simulator.state.place[0, 0] == int(place == 0)  # the first legal place
    assert [mask.tolist() for mask in evening["action_mask"]] == [[1, 1, 1], [1, 1, 0], [1, 1]]
    assert env.step(np.array([0, 2, 0]))[4]["projected"]  # a load of the morning
    parallel = PettingZooParallelEnv(Errands(), external=["porter", "clerk"])
    _, infos = parallel.reset(seed=1)
    waiting = infos["porter_1"]["action_mask"]
    assert [mask.tolist() for mask in waiting] == [[1, 0, 0], [1, 0, 0], [1, 0]]


def test_waiting_agents_have_one_legal_no_op() -> None:
    env = PettingZooParallelEnv(Relay())
    _, infos = env.reset(seed=1)
    acting_by_phase = []
    for _ in range(3):
        acting = {agent for agent in env.agents if infos[agent]["acting"]}
        acting_by_phase.append(acting)
        for agent in env.agents:
            mask = infos[agent]["action_mask"]
            assert mask.dtype == np.int8
            if agent not in acting:
                assert mask.tolist() == [1] + [0] * (len(mask) - 1)
        actions = {a: int(infos[a]["action_mask"].argmax()) for a in env.agents}
        ignored = {agent: 99 for agent in env.agents if agent not in acting}
        _, _, _, _, infos = env.step(actions | ignored)
        assert not any(info["projected"] for info in infos.values())
    runners = {"runner_0", "runner_1", "runner_2"}
    assert acting_by_phase == [{"caller_0"}, runners, {"caller_0"}]


def test_options_of_another_phase_are_illegal() -> None:
    """Four options in `call`, two in `pay`: one space with a mask."""
    env = GymnasiumEnv(Relay(termination_probability=0), "caller_0")
    masks = [env.reset(seed=1)[1]["action_mask"].tolist()]
    masks += [env.step(1)[4]["action_mask"].tolist() for _ in range(3)]
    assert masks == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    env.reset(seed=1)
    env.step(0)
    assert env.step(3)[4]["projected"]  # legal in `call`, not in `pay`


def test_boxes_have_no_mask() -> None:
    env = GymnasiumEnv(Meeting(), "voter_0")
    assert "action_mask" not in env.reset()[1]
    with refused("unsupported", path="voter_0"):
        env.action_masks()


def test_actions_of_wrong_type_or_shape_are_errors() -> None:
    env = GymnasiumEnv(Meeting(), "voter_0")
    env.reset()
    for action, code, path in (
        ("left", "wrong_type", "actions.voter_0"),
        ([1, 2], "wrong_shape", "actions.voter"),
        (0.5, "wrong_shape", "actions.voter"),
    ):
        with refused(code, path=path):
            env.step(action)
    parallel = PettingZooParallelEnv(Meeting())
    parallel.reset()
    with refused("missing", path="actions.chair_0"):
        parallel.step({f"voter_{i}": np.zeros(3) for i in range(4)})
    with refused("wrong_shape", path="actions.voter"):
        parallel.step({a: np.zeros(3 if a == "voter_0" else 2) for a in parallel.agents})
    errands = GymnasiumEnv(Errands(), "porter_0")
    errands.reset()
    with refused("wrong_shape", path="actions.porter"):
        errands.step([0, 0])
    with refused("wrong_shape", path="actions.porter"):
        errands.step(0)
    vector = GymnasiumVectorEnv(Meeting(), 2, "voter_0")
    vector.reset()
    with refused("wrong_shape", path="actions.voter"):
        vector.step(torch.zeros(3, 3))
    with refused("wrong_shape", path="actions"):
        vector.step(1.0)


@pytest.mark.parametrize("actions", [None, [None, 1], ["a", "b"], [[0], [0, 1]]])
def test_actions_that_are_not_numbers_are_errors_in_vector_envs(actions: Any) -> None:
    vector = GymnasiumVectorEnv(Relay(), 2)
    vector.reset(seed=0)
    with refused("wrong_type", path="actions.caller_0"):
        vector.step(actions)
