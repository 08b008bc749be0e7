"""External agents, policies and populations by name or object; rendering; user environments."""

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
from mores.core.turn_text import TurnText
from mores.envs.strategic.matrix_game import MatrixGame
from tests.conformance.environments import SHIPPED, Meeting, Relay, ZeroAction
from tests.refusals import refused


def test_external_agents_by_name() -> None:
    relay = Relay()
    all_agents = {"caller": [0], "runner": [0, 1, 2]}
    assert resolve_external_agents(relay, None, None) == all_agents
    assert resolve_external_agents(relay, None, {"caller": 1}) == {"runner": [0, 1, 2]}
    assert resolve_external_agents(relay, ["runner_2", "runner_0"], None) == {"runner": [0, 2]}
    names = ["runner", "runner_0", "caller_0"]
    assert resolve_external_agents(relay, names, None) == all_agents
    for external, code in (
        (["runer"], "unknown_name"),
        (["runner_3"], "out_of_range"),
        (["runner_x"], "unknown_name"),
        ([], "missing"),
        ("runner", "wrong_type"),
    ):
        with refused(code, path="external"):
            resolve_external_agents(relay, external, None)
    with refused("missing", path="external"):
        PettingZooParallelEnv(relay, policies=dict(relay.default_policies()))


@pytest.mark.parametrize("client", [PettingZooParallelEnv, PettingZooAECEnv])
def test_some_agents_of_a_role_are_external(client: type) -> None:
    """Only external agents are listed; the policy acts for the other agents of the role."""
    env = client(Meeting(), external=["voter_1", "voter_3"], rounds=2)
    env.reset(seed=1)
    assert env.possible_agents == env.agents == ["voter_1", "voter_3"]
    before = env.simulator.state.position.clone()
    if client is PettingZooParallelEnv:
        env.step({agent: np.ones(3, np.float32) for agent in env.agents})
    else:
        for _ in range(2):
            env.step(np.ones(3, np.float32))
    simulator = mores.Simulator(Meeting(), Meeting().default_policies(), {}, 1, 2)
    simulator.reset(env.simulator.seed)
    assert torch.equal(simulator.state.position, before)
    simulator.step()
    differs = (simulator.state.position != env.simulator.state.position).all(-1)[0]
    assert differs.tolist() == [False, True, False, True]


def test_agent_by_name() -> None:
    assert GymnasiumEnv(Relay()).agent_id.name == "caller_0"  # the role with the fewest agents
    assert GymnasiumEnv(Relay(), "runner_2").agent_id == ("runner", 2)
    wrong = {"runner": "unknown_name", "runner_9": "out_of_range", "": "unknown_name"}
    for agent, code in wrong.items():
        with refused(code, path="agent"):
            GymnasiumEnv(Relay(), agent)


def test_policies_are_objects_or_kinds() -> None:
    for policies in ({"chair": ZeroAction(size=2)}, {"voter": {"kind": "random"}}):
        agent = "voter_0" if "chair" in policies else "chair_0"
        GymnasiumEnv(Meeting(), agent, policies=policies).reset()  # type: ignore[arg-type]
    wrong: list[tuple[Any, str, str]] = [
        ({"chairs": ZeroAction(size=2)}, "unknown_name", "policies.chairs"),
        ({"chair": {"size": 2}}, "missing", "policies.chair.kind"),
        ({"chair": {"kind": 2}}, "wrong_type", "policies.chair.kind"),
        ({"chair": {"kind": "randm"}}, "unknown_name", "randm"),
        ({"chair": {"kind": "random", "speed": 2}}, "unknown_name", "random.speed"),
    ]
    for policies, code, path in wrong:
        with refused(code, path=path):
            GymnasiumEnv(Meeting(), "voter_0", policies=policies)
    with refused("conflict", path="num_voters"):
        GymnasiumEnv(Meeting(), num_voters=3)
    for client in (GymnasiumEnv, GymnasiumVectorEnv, PettingZooParallelEnv, TorchRLEnv):
        with refused("wrong_type", path="metrics"):
            client(Meeting(), metrics="distance")


def test_people_from_a_population() -> None:
    population = {"kind": "normal", "num_people": 4, "num_values": 2}
    clients = [
        client("coevolution", num_people=4, population=population)
        for client in (
            GymnasiumEnv,
            GymnasiumVectorEnv,
            PettingZooParallelEnv,
            PettingZooAECEnv,
            TorchRLEnv,
        )
    ]
    for client in clients:
        client.reset()
        assert client.simulator.population is not None
    with refused("wrong_shape", path="population"):
        GymnasiumEnv("coevolution", num_people=5, population=population).reset()


def test_reset_has_no_options() -> None:
    for client in (GymnasiumEnv(Meeting()), GymnasiumVectorEnv(Meeting(), 2)):
        client.reset(options={})
        with refused("unsupported", path="options"):
            client.reset(options={"color": 1})


def test_render_shows_the_turn_in_words() -> None:
    """Environments with text show it, with messages of agents escaped."""
    env = GymnasiumEnv("matrix_game", "player_0", render_mode="ansi")
    env.reset(seed=1)
    first = "round 1 of 100, phase choose\nplayer_0\n  This is the first round.\n"
    assert (env.render() or "").startswith(first)
    assert "\n  1. cooperate: you get 3 if" in (env.render() or "")

    class Rude(MatrixGame):
        def describe(self, *args: Any) -> TurnText:
            return TurnText("\x1b[2J a message", "What now?", "choice", ("\x07 this", "that"))

    env = GymnasiumEnv(Rude(), "player_0", render_mode="ansi")
    env.reset(seed=1)
    text = env.render() or ""
    assert "\\x1b[2J a message" in text and "\\x07 this" in text
    assert all(c.isprintable() or c == "\n" for c in text)


def test_render_names_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    env = GymnasiumEnv(Relay(), "runner_1", rounds=7, render_mode="ansi", metrics=["secrets"])
    obs, _ = env.reset(seed=1)
    lines = env.render().splitlines()  # type: ignore[union-attr]
    assert lines[:3] == ["round 1 of 7, phase run", "runner_1", f"  secret: {obs[0]:.4g}"]
    assert lines[3:6] == [f"  called: {obs[1]:.4g}", "  ran: 0", "  phase: 1"]
    assert lines[6].startswith("secrets: ")
    assert len(lines[6].split()) == 4
    assert len(lines) == 7
    parallel = PettingZooParallelEnv(Meeting(num_voters=2), render_mode="ansi")
    parallel.reset(seed=1)
    text = parallel.render() or ""
    assert "distance" not in text
    headings = [line for line in text.splitlines() if line[0] != " "][1:]
    assert headings == ["voter_0", "voter_1", "chair_0"]
    assert capsys.readouterr().out == ""
    human = GymnasiumEnv(Meeting(num_voters=20), "voter_0", render_mode="human")
    human.reset(seed=1)
    human.step(np.zeros(3))
    assert capsys.readouterr().out.count("phase vote") == 2
    assert human.render() is None
    with refused("unknown_name", path="render_mode"):
        GymnasiumEnv(Meeting(), render_mode="humn")


def test_a_registered_environment_is_known_to_every_library() -> None:
    mores.register("environment", "test_relay", Relay)
    mores.register("environment", "test_relay", Relay)  # a second time is allowed
    try:
        single = gymnasium.make("mores/TestRelay-v0", num_runners=2, agent="runner_1")
        assert single.unwrapped.environment == Relay(num_runners=2)  # type: ignore[attr-defined]
        vector = gymnasium.make_vec("mores/TestRelay-v0", num_envs=3)
        assert isinstance(vector, GymnasiumVectorEnv)
        assert isinstance(vector.spec.to_json(), str)  # type: ignore[union-attr]
        parallel = pettingzoo.make("parallel", "mores/test_relay_v0")
        assert isinstance(parallel, PettingZooParallelEnv)
        assert isinstance(pettingzoo.make("aec", "mores/test_relay_v0"), PettingZooAECEnv)
        from mores.clients.zoo import test_relay_v0  # type: ignore[attr-defined]

        assert test_relay_v0.parallel_env(num_runners=2).possible_agents[-1] == "runner_1"
        with refused("duplicate", path="test_relay"):
            mores.register("environment", "test_relay", Meeting)
        with refused("invalid_value", path="my-env"):
            mores.register("environment", "my-env", Meeting)
    finally:
        registry.REGISTRIES["environment"].pop("test_relay")
        gymnasium.registry.pop("mores/TestRelay-v0")
        pettingzoo.parallel_registry.pop("mores/test_relay-v0")  # PettingZoo's spelling
        pettingzoo.aec_registry.pop("mores/test_relay-v0")


@pytest.mark.parametrize(
    ("registry_name", "name", "hint"),
    [
        ("environment", "ppo", "; it is a recipe"),
        ("policy", "lock_in", "; it is an environment and a scenario"),
        ("policy", "degrot", "; did you mean the update rule 'degroot'?"),
        ("population", "karate", "; it is a scenario: mores check karate"),
        ("environment", "lokin", "; did you mean 'lock_in'?"),
    ],
)
def test_an_unknown_name_is_looked_up_elsewhere(registry_name: str, name: str, hint: str) -> None:
    with refused("unknown_name", path=name) as error:
        registry.make(registry_name, name, {})
    assert str(error.value).endswith(hint)


@pytest.mark.parametrize("kind", SHIPPED)
def test_parameters_do_not_collide_with_arguments_of_clients(kind: str) -> None:
    """A parameter named `rounds` could not be given to a client by name."""
    arguments = {"environment", "agent", "external", "policies", "rounds", "population", "metrics"}
    arguments |= {"device", "render_mode", "max_cycles", "num_envs", "max_episode_steps", "worlds"}
    assert not arguments & set(registry.class_of("environment", kind).model_fields)
