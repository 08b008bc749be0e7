"""What every view promises of spaces, masks and actions that are not allowed."""

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
from mores.core.environment import Box, Discrete, MultiDiscrete, Phase
from mores.sim.action_validation import project_action
from tests.conformance.games import EVERY_GAME, EVERY_SEAT, Errands, Meeting, Relay, make
from tests.refusals import refused


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_spaces_are_those_of_the_roles(kind: str) -> None:
    game = make(kind)
    for role in game.roles:
        seen = gymnasium_spaces.observation_space(role)
        assert (seen.shape, seen.dtype) == ((role.observation_space.size,), np.float32)
        assert np.array_equal(seen.low, np.array(role.observation_space.low, np.float32))
        assert np.array_equal(seen.high, np.array(role.observation_space.high, np.float32))
        done = gymnasium_spaces.action_space(game, role.name)
        acts = [
            phase.action_spaces[role.name]
            for phase in game.phases
            if role.name in phase.action_spaces
        ]
        if isinstance(done, gymnasium.spaces.Discrete):
            assert done.n == max(act.num_options for act in acts)  # type: ignore[union-attr]
        elif isinstance(done, gymnasium.spaces.MultiDiscrete):
            options = [act.num_options for act in acts]  # type: ignore[union-attr]
            assert done.nvec.tolist() == np.max(options, 0).tolist()
        else:
            assert all(done == gymnasium_spaces.box_space(act) for act in acts)  # type: ignore[arg-type]


def test_a_role_with_two_kinds_of_action_is_refused() -> None:
    class Mixed(Relay):
        other: Any

        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases[:2], Phase("pay", {"caller": self.other}))

    for other in (Box.of(pay=1), Box.of(pay=2), MultiDiscrete((2, 2))):
        with refused("unsupported", path="outside.caller"):
            GymnasiumEnv(Mixed(other=other), "caller_0")
    assert GymnasiumEnv(Mixed(other=Discrete(7)), "caller_0").action_space.n == 7

    class Boxes(Meeting):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases, Phase("again", {"chair": Box.of(pull=1)}))

    with refused("unsupported", path="outside.chair"):
        PettingZooParallelEnv(Boxes())

    class Choices(Errands):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases, Phase("night", {"porter": MultiDiscrete((2, 2))}))

    with refused("unsupported", path="outside.porter"):
        GymnasiumVectorEnv(Choices(), 2, "porter_0")


BAD_CHOICES = [-1, 99, math.nan, math.inf, 0.5]


def worst(env: GymnasiumEnv) -> Any:
    """An action that is never allowed."""
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return 99
    if isinstance(env.action_space, gymnasium.spaces.MultiDiscrete):
        return np.array([0] * (len(env.action_space.nvec) - 1) + [99])
    return np.full(env.action_space.shape, np.nan, np.float32)


@pytest.mark.parametrize(("kind", "seat"), EVERY_SEAT)
def test_a_bad_action_is_flagged_in_every_view(kind: str, seat: str) -> None:
    game = make(kind)
    env, vector = GymnasiumEnv(game, seat), GymnasiumVectorEnv(game, 2, seat)
    for info in (env.reset(seed=1)[1], vector.reset(seed=1)[1]):
        assert not np.asarray(info["repaired"]).any()
    good, bad = env.action_space.sample(env.reset(seed=1)[1].get("action_mask")), worst(env)
    assert env.step(bad)[4]["repaired"] is True
    shown = vector.step(np.stack([np.asarray(good), np.asarray(bad)]).astype(np.float64))[4]
    assert shown["repaired"].tolist() == [False, True]
    parallel, native = (
        PettingZooParallelEnv(game, external=[seat]),
        PettingZooAECEnv(game, external=[seat]),
    )
    assert parallel.reset(seed=1)[1][seat]["repaired"] is False
    assert parallel.step({seat: bad})[4][seat]["repaired"] is True
    native.reset(seed=1)
    native.step(bad)
    assert native.infos[seat]["repaired"] is True
    role = seat.rpartition("_")[0]
    batched = TorchRLEnv(game, 2, external=[seat])
    data = batched.rand_action(batched.reset())
    data[role, "action"] = torch.stack(
        [data[role, "action"][0].double(), torch.as_tensor(bad)[None]]
    )
    flags = batched.step(data)["next", role, "repaired"]
    assert flags.flatten().tolist() == [False, True]


@pytest.mark.parametrize("bad", BAD_CHOICES)
def test_a_bad_choice_is_as_the_first_open_one(bad: float) -> None:
    game = Relay(quits=0)
    one, other = GymnasiumEnv(game, "runner_1"), GymnasiumEnv(game, "runner_1")
    one.reset(seed=3)
    first = int(other.reset(seed=3)[1]["action_mask"].argmax())
    given, meant = one.step(bad), other.step(first)
    assert given[4].pop("repaired")
    assert not meant[4].pop("repaired")
    assert given[1:4] == meant[1:4]
    assert np.array_equal(given[0], meant[0])


CHOICES = MultiDiscrete((3, 1, 4))


@st.composite
def chosen_and_open(draw: st.DrawFn) -> tuple[list[float], list[bool]]:
    """What somebody asks for in three choices, and what is open: in each something."""
    asked = [draw(st.sampled_from([-1.0, 0.0, 0.5, 1.0, 2.0, 3.0, math.nan])) for _ in range(3)]
    opens: list[bool] = []
    for count in CHOICES.num_options:
        opens += draw(st.lists(st.booleans(), min_size=count, max_size=count).filter(any))
    return asked, opens


@hypothesis.given(chosen_and_open(), st.booleans())
def test_each_of_several_choices_is_mended_by_itself(
    given: tuple[list[float], list[bool]], masked: bool
) -> None:
    """As a single choice would be; what is open stays, and one wrong choice flags the act."""
    asked, opens = given
    legal = torch.tensor(opens)[None, None] if masked else None
    action = torch.tensor(asked)[None, None]
    found = project_action(CHOICES, action, legal, "porter")
    assert found.action.dtype == torch.int64
    singles, at = [], 0
    for choice, count in enumerate(CHOICES.num_options):
        own = None if legal is None else legal[..., at : at + count]
        singles.append(project_action(Discrete(count), action[..., choice], own, "porter"))
        at += count
    assert found.action[0, 0].tolist() == [int(one.action) for one in singles]
    assert bool(found.projected) == any(bool(one.projected) for one in singles)
    split = torch.tensor(opens).split(CHOICES.num_options)
    for one, wanted, allowed in zip(found.action[0, 0].tolist(), asked, split, strict=True):
        assert not masked or allowed[one]
        fine = wanted in range(len(allowed)) and (not masked or bool(allowed[int(wanted)]))
        assert one == (wanted if fine else (int(allowed.int().argmax()) if masked else 0))


def test_masks_of_several_choices() -> None:
    """As Gymnasium samples by, as one row for learners; what another phase has is closed."""
    env = GymnasiumEnv(Errands(quits=0), "porter_0")
    morning = env.reset(seed=1)[1]["action_mask"]
    at, strength = env.simulator.state.at[0, 0], env.simulator.state.strength[0, 0]
    assert [mask.tolist() for mask in morning] == [
        [int(place != at) for place in range(3)],
        [int(load <= strength) for load in range(3)],
        [1, 1],
    ]
    assert env.action_masks().tolist() == [bool(x) for mask in morning for x in mask]
    assert all(mask.dtype == np.int8 for mask in morning)
    closed = np.array([int(at), 0, 1])
    evening = env.step(closed)[4]
    assert evening["repaired"]
    assert env.simulator.state.at[0, 0] == int(at == 0)  # the first place that was open
    assert [mask.tolist() for mask in evening["action_mask"]] == [[1, 1, 1], [1, 1, 0], [1, 1]]
    assert env.step(np.array([0, 2, 0]))[4]["repaired"]  # a load of the morning
    parallel = PettingZooParallelEnv(Errands(), external=["porter", "clerk"])
    _, infos = parallel.reset(seed=1)
    waiting = infos["porter_1"]["action_mask"]
    assert [mask.tolist() for mask in waiting] == [[1, 0, 0], [1, 0, 0], [1, 0]]


def test_masks_are_one_no_op_while_waiting() -> None:
    env = PettingZooParallelEnv(Relay())
    _, infos = env.reset(seed=1)
    seen = []
    for _ in range(3):
        acting = {agent for agent in env.agents if infos[agent]["acting"]}
        seen.append(acting)
        for agent in env.agents:
            mask = infos[agent]["action_mask"]
            assert mask.dtype == np.int8
            if agent not in acting:
                assert mask.tolist() == [1] + [0] * (len(mask) - 1)
        actions = {a: int(infos[a]["action_mask"].argmax()) for a in env.agents}
        waiting = {agent: 99 for agent in env.agents if agent not in acting}
        _, _, _, _, infos = env.step(actions | waiting)  # what they do is ignored
        assert not any(info["repaired"] for info in infos.values())
    runners = {"runner_0", "runner_1", "runner_2"}
    assert seen == [{"caller_0"}, runners, {"caller_0"}]


def test_options_of_another_phase_are_closed() -> None:
    """Four options when calling, two when paying: one space, and a mask."""
    env = GymnasiumEnv(Relay(quits=0), "caller_0")
    masks = [env.reset(seed=1)[1]["action_mask"].tolist()]
    masks += [env.step(1)[4]["action_mask"].tolist() for _ in range(3)]
    assert masks == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    env.reset(seed=1)
    env.step(0)
    assert env.step(3)[4]["repaired"]  # open when calling, not when paying


def test_numbers_have_no_mask() -> None:
    env = GymnasiumEnv(Meeting(), "voter_0")
    assert "action_mask" not in env.reset()[1]
    with refused("unsupported", path="voter_0"):
        env.action_masks()


def test_actions_that_are_no_numbers() -> None:
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
def test_what_is_no_number_is_refused_and_not_repaired(actions: Any) -> None:
    many = GymnasiumVectorEnv(Relay(), 2)
    many.reset(seed=0)
    with refused("wrong_type", path="actions.caller_0"):
        many.step(actions)
