"""Who sits where, by name or by object; text; and an environment of one's own."""

from __future__ import annotations

from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import pytest
import torch

import mores
from mores import registry
from mores.clients.gymnasium import GymnasiumEnv
from mores.clients.gymnasium_vector import GymnasiumVectorEnv
from mores.clients.pettingzoo import PettingZooAECEnv, PettingZooParallelEnv
from mores.clients.resolve import resolve_external_agents
from mores.clients.torchrl import TorchRLEnv
from tests.conformance.games import SHIPPED, Meeting, Relay, Still
from tests.refusals import refused


def test_who_is_outside() -> None:
    game = Relay()
    everybody = {"caller": [0], "runner": [0, 1, 2]}
    assert resolve_external_agents(game, None, None) == everybody
    assert resolve_external_agents(game, None, {"caller": 1}) == {"runner": [0, 1, 2]}
    assert resolve_external_agents(game, ["runner_2", "runner_0"], None) == {"runner": [0, 2]}
    assert resolve_external_agents(game, ["runner", "runner_0", "caller_0"], None) == everybody
    for wrong, code in (
        (["runer"], "unknown_name"),
        (["runner_3"], "out_of_range"),
        (["runner_x"], "unknown_name"),
        ([], "missing"),
        ("runner", "wrong_type"),
    ):
        with refused(code, path="outside"):
            resolve_external_agents(game, wrong, None)
    with refused("missing", path="outside"):
        PettingZooParallelEnv(game, policies=dict(game.default_policies()))


@pytest.mark.parametrize("form", [PettingZooParallelEnv, PettingZooAECEnv])
def test_partial_seats_outside(form: type) -> None:
    """Only the seats outside are listed; a player fills the rest of the role."""
    env = form(Meeting(), outside=["voter_1", "voter_3"], rounds=2)
    env.reset(seed=1)
    assert env.possible_agents == env.agents == ["voter_1", "voter_3"]
    before = env.simulator.state.at.clone()
    if form is PettingZooParallelEnv:
        env.step({agent: np.ones(3, np.float32) for agent in env.agents})
    else:
        for _ in range(2):
            env.step(np.ones(3, np.float32))
    inside = mores.Simulator(Meeting(), Meeting().default_policies(), {}, 1, 2)
    inside.reset(env.simulator.seed)
    assert torch.equal(inside.state.at, before)
    inside.step()
    moved = (inside.state.at != env.simulator.state.at).all(-1)[0]
    assert moved.tolist() == [False, True, False, True]


def test_seats_by_name() -> None:
    assert GymnasiumEnv(Relay()).agent_id.name == "caller_0"  # the role with fewest seats
    assert GymnasiumEnv(Relay(), "runner_2").agent_id == ("runner", 2)
    wrong = {"runner": "unknown_name", "runner_9": "out_of_range", "": "unknown_name"}
    for seat, code in wrong.items():
        with refused(code, path="seat"):
            GymnasiumEnv(Relay(), seat)


def test_players_are_objects_or_kinds() -> None:
    """Both say the same, and what is wrong is answered in one line."""
    for players in ({"chair": Still(size=2)}, {"voter": {"kind": "anyhow"}}):
        seat = "voter_0" if "chair" in players else "chair_0"
        GymnasiumEnv(Meeting(), seat, policies=players).reset()  # type: ignore[arg-type]
    wrong: list[tuple[Any, str, str]] = [
        ({"chairs": Still(size=2)}, "unknown_name", "players.chairs"),
        ({"chair": {"size": 2}}, "missing", "players.chair.kind"),
        ({"chair": {"kind": 2}}, "wrong_type", "players.chair.kind"),
        ({"chair": {"kind": "anyhw"}}, "unknown_name", "anyhw"),
        ({"chair": {"kind": "anyhow", "speed": 2}}, "unknown_name", "anyhow.speed"),
    ]
    for players, code, path in wrong:
        with refused(code, path=path):
            GymnasiumEnv(Meeting(), "voter_0", policies=players)
    with refused("conflict", path="voters"):
        GymnasiumEnv(Meeting(), voters=3)
    for form in (GymnasiumEnv, GymnasiumVectorEnv, PettingZooParallelEnv, TorchRLEnv):
        with refused("wrong_type", path="measures"):
            form(Meeting(), metrics="far")


def test_people_come_from_a_population() -> None:
    population = {"kind": "normal", "people": 4, "values": 2}
    views = [
        form("coevolution", people=4, population=population)
        for form in (
            GymnasiumEnv,
            GymnasiumVectorEnv,
            PettingZooParallelEnv,
            PettingZooAECEnv,
            TorchRLEnv,
        )
    ]
    for view in views:
        view.reset()
        assert view.simulator.population is not None
    with refused("wrong_shape", path="people"):
        GymnasiumEnv("coevolution", people=5, population=population).reset()


def test_options_there_are_none() -> None:
    for view in (GymnasiumEnv(Meeting()), GymnasiumVectorEnv(Meeting(), 2)):
        view.reset(options={})
        with refused("unsupported", path="options"):
            view.reset(options={"colour": 1})


def test_render_names_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    env = GymnasiumEnv(Relay(), "runner_1", rounds=7, render_mode="ansi", metrics=["secrets"])
    seen, _ = env.reset(seed=1)
    lines = env.render().splitlines()  # type: ignore[union-attr]
    assert lines[:3] == ["round 1 of 7, phase run", "runner_1", f"  secret: {seen[0]:.4g}"]
    assert lines[3:6] == [f"  called: {seen[1]:.4g}", "  ran: 0", "  phase: 1"]
    assert lines[6].startswith("secrets: ")
    assert len(lines[6].split()) == 4
    assert len(lines) == 7
    plain = PettingZooParallelEnv(Meeting(voters=2), render_mode="ansi")
    plain.reset(seed=1)
    assert "far" not in (plain.render() or "")
    assert [line for line in plain.render().splitlines() if line[0] != " "][1:] == [  # type: ignore
        "voter_0",
        "voter_1",
        "chair_0",
    ]
    assert capsys.readouterr().out == ""
    loud = GymnasiumEnv(Meeting(voters=20), "voter_0", render_mode="human")
    loud.reset(seed=1)
    loud.step(np.zeros(3))
    shown = capsys.readouterr().out
    assert shown.count("phase vote") == 2
    assert loud.render() is None
    with refused("unknown_name", path="render_mode"):
        GymnasiumEnv(Meeting(), render_mode="humn")


def test_an_environment_of_ones_own_is_known_everywhere() -> None:
    mores.register("environment", "test_relay", Relay)
    mores.register("environment", "test_relay", Relay)  # twice is once
    try:
        one = gymnasium.make("mores/TestRelay-v0", runners=2, seat="runner_1")
        assert one.unwrapped.game == Relay(runners=2)
        many = gymnasium.make_vec("mores/TestRelay-v0", num_envs=3)
        assert isinstance(many, GymnasiumVectorEnv)
        assert isinstance(many.spec.to_json(), str)  # type: ignore[union-attr]
        parallel = pettingzoo.make("parallel", "mores/test_relay_v0")
        assert isinstance(parallel, PettingZooParallelEnv)
        assert isinstance(pettingzoo.make("aec", "mores/test_relay_v0"), PettingZooAECEnv)
        from mores.clients.zoo import test_relay_v0  # type: ignore[attr-defined]

        assert test_relay_v0.parallel_env(runners=2).possible_agents[-1] == "runner_1"
        with refused("duplicate", path="test_relay"):
            mores.register("environment", "test_relay", Meeting)
        with refused("invalid_value", path="my-game"):
            mores.register("environment", "my-game", Meeting)
    finally:
        registry.ENVIRONMENTS.pop("test_relay")
        gymnasium.registry.pop("mores/TestRelay-v0")
        pettingzoo.parallel_registry.pop("mores/test_relay-v0")  # as PettingZoo writes it
        pettingzoo.aec_registry.pop("mores/test_relay-v0")


@pytest.mark.parametrize("kind", SHIPPED)
def test_parameters_do_not_meet_arguments_of_views(kind: str) -> None:
    """A parameter named `rounds` could not be given to a view by name."""
    taken = {"game", "seat", "outside", "players", "rounds", "population", "measures", "device"}
    taken |= {"render_mode", "max_cycles", "num_envs", "max_episode_steps", "worlds"}
    assert not taken & set(registry.class_of("environment", kind).model_fields)
