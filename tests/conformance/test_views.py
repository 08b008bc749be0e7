"""What every view promises: masks, repairs, owed pay, last sights, hidden things, measures."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import gymnasium
import numpy as np
import pettingzoo
import pytest
import torch

import mores
from mores import UserError, registry, tree
from mores.game import Box, Discrete, Phase
from mores.views import spaces
from mores.views.gym import Env
from mores.views.pettingzoo import AEC, Parallel
from mores.views.seats import outside_seats
from mores.views.torchrl import TorchRLEnv
from mores.views.vector import VectorEnv
from tests.conformance.games import EVERY_GAME, EVERY_SEAT, SHIPPED, Meeting, Relay, Still, make

# --- spaces --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_spaces_are_those_of_the_roles(kind: str) -> None:
    game = make(kind)
    for role in game.roles:
        seen = spaces.observation_space(role)
        assert (seen.shape, seen.dtype) == ((role.sees.size,), np.float32)
        assert np.array_equal(seen.low, np.array(role.sees.low, np.float32))
        assert np.array_equal(seen.high, np.array(role.sees.high, np.float32))
        done = spaces.action_space(game, role.name)
        acts = [phase.acts[role.name] for phase in game.phases if role.name in phase.acts]
        if isinstance(done, gymnasium.spaces.Discrete):
            assert done.n == max(act.options for act in acts)  # type: ignore[union-attr]
        else:
            assert all(done == spaces.box_space(act) for act in acts)  # type: ignore[arg-type]


def test_a_role_with_two_kinds_of_action_is_refused() -> None:
    class Mixed(Relay):
        other: Any

        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases[:2], Phase("pay", {"caller": self.other}))

    for other in (Box.of(pay=1), Box.of(pay=2)):
        with pytest.raises(UserError, match="split it in two roles"):
            Env(Mixed(other=other), "caller_0")
    assert Env(Mixed(other=Discrete(7)), "caller_0").action_space.n == 7

    class Boxes(Meeting):
        @property
        def phases(self) -> tuple[Phase, ...]:
            return (*super().phases, Phase("again", {"chair": Box.of(pull=1)}))

    with pytest.raises(UserError, match="in the phases vote, again"):
        Parallel(Boxes())


# --- masks and repairs ---------------------------------------------------------------------------

BAD_CHOICES = [-1, 99, math.nan, math.inf, 0.5]


def worst(env: Env) -> Any:
    """An action that is never allowed."""
    if isinstance(env.action_space, gymnasium.spaces.Discrete):
        return 99
    return np.full(env.action_space.shape, np.nan, np.float32)


@pytest.mark.parametrize(("kind", "seat"), EVERY_SEAT)
def test_a_bad_action_is_flagged_in_every_view(kind: str, seat: str) -> None:
    game = make(kind)
    env, vector = Env(game, seat), VectorEnv(game, 2, seat)
    for info in (env.reset(seed=1)[1], vector.reset(seed=1)[1]):
        assert not np.asarray(info["repaired"]).any()
    good, bad = env.action_space.sample(env.reset(seed=1)[1].get("action_mask")), worst(env)
    assert env.step(bad)[4]["repaired"] is True
    shown = vector.step(np.stack([np.asarray(good), np.asarray(bad)]).astype(np.float64))[4]
    assert shown["repaired"].tolist() == [False, True]
    parallel, native = Parallel(game, outside=[seat]), AEC(game, outside=[seat])
    assert parallel.reset(seed=1)[1][seat]["repaired"] is False
    assert parallel.step({seat: bad})[4][seat]["repaired"] is True
    native.reset(seed=1)
    native.step(bad)
    assert native.infos[seat]["repaired"] is True
    role = seat.rpartition("_")[0]
    batched = TorchRLEnv(game, 2, outside=[seat])
    data = batched.rand_action(batched.reset())
    data[role, "action"] = torch.stack(
        [data[role, "action"][0].double(), torch.as_tensor(bad)[None]]
    )
    flags = batched.step(data)["next", role, "repaired"]
    assert flags.flatten().tolist() == [False, True]


@pytest.mark.parametrize("bad", BAD_CHOICES)
def test_a_bad_choice_is_as_the_first_open_one(bad: float) -> None:
    game = Relay(quits=0)
    one, other = Env(game, "runner_1"), Env(game, "runner_1")
    one.reset(seed=3)
    first = int(other.reset(seed=3)[1]["action_mask"].argmax())
    given, meant = one.step(bad), other.step(first)
    assert given[4].pop("repaired")
    assert not meant[4].pop("repaired")
    assert given[1:4] == meant[1:4]
    assert np.array_equal(given[0], meant[0])


def test_masks_are_one_no_op_while_waiting() -> None:
    env = Parallel(Relay())
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
    env = Env(Relay(quits=0), "caller_0")
    masks = [env.reset(seed=1)[1]["action_mask"].tolist()]
    masks += [env.step(1)[4]["action_mask"].tolist() for _ in range(3)]
    assert masks == [[1, 1, 1, 0], [1, 1, 0, 0], [1, 1, 1, 1], [1, 1, 0, 0]]
    env.reset(seed=1)
    env.step(0)
    assert env.step(3)[4]["repaired"]  # open when calling, not when paying


def test_numbers_have_no_mask() -> None:
    env = Env(Meeting(), "voter_0")
    assert "action_mask" not in env.reset()[1]
    with pytest.raises(UserError, match="numbers, not choices"):
        env.action_masks()


def test_actions_that_are_no_numbers() -> None:
    env = Env(Meeting(), "voter_0")
    env.reset()
    for action, message in (("left", "is a number"), ([1, 2], "3 numbers"), (0.5, "lead with")):
        with pytest.raises(UserError, match=message):
            env.step(action)
    parallel = Parallel(Meeting())
    parallel.reset()
    with pytest.raises(UserError, match="no action for chair_0, who acts in 'vote'"):
        parallel.step({f"voter_{i}": np.zeros(3) for i in range(4)})
    with pytest.raises(UserError, match="different shapes"):
        parallel.step({a: np.zeros(3 if a == "voter_0" else 2) for a in parallel.agents})
    vector = VectorEnv(Meeting(), 2, "voter_0")
    vector.reset()
    with pytest.raises(UserError, match=r"lead with \(2, 1\)"):
        vector.step(torch.zeros(3, 3))
    with pytest.raises(UserError, match="one action for each of 2"):
        vector.step(1.0)


# --- pay and ends --------------------------------------------------------------------------------


def test_pay_over_same_step_autoreset() -> None:
    """Every episode's pay adds up to its rounds, though the next one has begun and earned."""
    env = VectorEnv(Relay(), 16, "runner_2", rounds=6)
    env.reset(seed=4)
    paid, rounds, lengths = torch.zeros(16), torch.zeros(16), []
    for _ in range(40):
        _, pay, terminated, truncated, info = env.step(info_choice(env))
        paid, rounds = paid + pay, rounds + 1
        over = terminated | truncated
        assert torch.equal(paid[over], 3 * 111 * rounds[over])
        assert torch.equal(truncated, (rounds == 6) & ~terminated)
        lengths += rounds[over].tolist()
        paid[over], rounds[over] = 0.0, 0.0
        assert ("final_obs" in info) == bool(over.any())
    assert set(lengths) == {1.0, 2.0, 3.0, 4.0, 5.0, 6.0}


def info_choice(env: VectorEnv) -> torch.Tensor:
    """The first open option in every world."""
    mask = env._own.mask()
    assert mask is not None
    return mask.int().argmax(-1)


def test_final_observation_is_the_true_last_one() -> None:
    """It is what a single world shows at its end, and not the start of the next episode."""
    vector, single = VectorEnv(Relay(quits=0), 1, "runner_0", rounds=2), None
    single = Env(Relay(quits=0), "runner_0", rounds=2)
    vector.reset(seed=5)
    _, info = single.reset(seed=5)
    for _ in range(2):
        choice = int(np.flatnonzero(info["action_mask"])[-1])
        seen, *_, told = vector.step(torch.tensor([choice]))
        last, _, _, truncated, info = single.step(choice)
    assert truncated
    assert torch.equal(told["final_obs"][0], torch.from_numpy(last))
    assert not torch.equal(seen[0], told["final_obs"][0])
    assert last[2] == choice  # what it did in its last turn is in its last sight


def test_where_no_world_ended_the_final_observation_is_empty() -> None:
    env = VectorEnv(Relay(), 12, "caller_0", rounds=9)
    env.reset(seed=1)
    told = {}
    while not told.get("_final_obs", torch.zeros(1)).any():
        *_, told = env.step(info_choice(env))
    ended = told["_final_obs"]
    assert not ended.all()
    assert not told["final_obs"][~ended].any()
    assert torch.equal(told["_final_info"], ended)


@pytest.mark.parametrize("form", [Parallel, AEC])
def test_max_cycles_counts_phases(form: type) -> None:
    """It may cut an episode off within a round."""
    env = form(Relay(quits=0), max_cycles=4)
    env.reset(seed=1)
    steps = 0
    while env.agents:
        steps += 1
        if form is Parallel:
            *_, truncated, _ = env.step(dict.fromkeys(env.agents, 1))
            over = all(truncated.values())
        else:
            over = env.truncations[env.agent_selection]
            env.step(None if over else 1)
    assert over
    assert steps == (4 if form is Parallel else 1 + 3 + 1 + 1 + 4)  # and four are told the end
    with pytest.raises(UserError, match="at least 1"):
        form(Relay(), max_cycles=0)


def test_after_the_end() -> None:
    env = Env(Relay(quits=1), "caller_0")
    env.reset(seed=1)
    env.step(0)
    assert env.step(0)[2]
    with pytest.raises(UserError, match="ended: reset"):
        env.step(0)
    parallel = Parallel(Relay(), max_cycles=1)
    parallel.reset()
    parallel.step({"caller_0": 0})
    assert parallel.step({}) == ({}, {}, {}, {}, {})


# --- what is hidden ------------------------------------------------------------------------------

# What a role must not see, as paths in the state: of others (each seat may see its own), or of all.
HIDDEN = {
    "coevolution": {"person": ["people/values", "anchor"], "": ["reference"]},
    "commission": {"agent": ["cost", "ability", "effort"]},
    "lock_in": {"": ["truth"]},
    "relay": {"runner": ["secret"]},
    "meeting": {},
}


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_changing_what_is_hidden_changes_no_observation(kind: str) -> None:
    game = make(kind)
    everybody = {role.name: list(range(role.count)) for role in game.roles}
    table = mores.Table(game, {}, everybody, 2, 9)
    table.reset(1)
    for _ in range(2 * len(game.phases)):  # on the way, so that states are not all zeros
        given = {}
        for role in table.acting:
            space = table.phase.acts[role]
            shape = (2, table.roles[role].count)
            given[role] = torch.ones(shape if isinstance(space, Discrete) else (*shape, space.size))
        table.step(given)
    held = tree.flatten(table.state)
    for owner, paths in HIDDEN.get(kind, {}).items():
        for path in paths:
            changed = dict(held)
            changed[path] = held[path] + 1
            if owner:  # the first seat keeps its own
                changed[path][:, 0] = held[path][:, 0]
            state = tree.restore(table.state, changed)
            assert not torch.equal(tree.flatten(state)[path], held[path])
            for role in game.roles:
                own = slice(0, 1) if role.name == owner else slice(None)
                for phase in game.phases:
                    seen = game.observe(state, role.name, phase.name)[:, own]
                    before = game.observe(table.state, role.name, phase.name)[:, own]
                    assert torch.equal(seen, before), (path, role.name, phase.name)


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_measures_are_told_only_on_request(kind: str) -> None:
    game = make(kind)
    seat = f"{game.roles[0].name}_0"
    names = set(game.measures(game.reset(mores.Draws.of(0, 1))))
    views: list[Any] = [Env(game, seat), VectorEnv(game, 2, seat), Parallel(game), AEC(game)]
    for view in views:
        got = view.reset(seed=1)
        infos = view.infos if isinstance(view, AEC) else got[1]
        told = set(infos) | {
            key for info in infos.values() if isinstance(info, dict) for key in info
        }
        assert not names & told
    name = sorted(names)[0]
    for view in (Env(game, seat, measures=[name]), VectorEnv(game, 2, seat, measures=[name])):
        assert name in view.reset(seed=1)[1]
    for view in (Parallel(game, measures=[name]), AEC(game, measures=[name])):
        got = view.reset(seed=1)
        infos = view.infos if isinstance(view, AEC) else got[1]
        assert all(name in info for info in infos.values())


def test_measures_of_an_episode_that_ended() -> None:
    """`info` tells of the new episode, `final_info` of the one that ended; alone it is the same."""
    names = ("rounds", "secrets")
    env = VectorEnv(Relay(quits=0), 1, "caller_0", rounds=3, measures=names)
    one = Env(Relay(quits=0), "caller_0", rounds=3, measures=names)
    batched = TorchRLEnv(Relay(quits=0), 1, outside=["caller"], rounds=3, measures=names)
    batched.set_seed(2)
    env.reset(seed=2)
    one.reset(seed=2)
    data = batched.reset()
    for _ in range(6):
        *_, told = env.step(torch.tensor([1]))
        *_, alone = one.step(1)
        data["caller", "action"] = torch.ones(1, 1, dtype=torch.int64)
        data, start = batched.step_and_maybe_reset(data)
        data, shown = start, data["next", "measures"]
    assert told["rounds"].tolist() == [0.0]
    assert told["final_info"]["rounds"].tolist() == [3.0] == [alone["rounds"]]
    assert np.array_equal(told["final_info"]["secrets"][0].numpy(), alone["secrets"])
    assert torch.equal(shown["secrets"], told["final_info"]["secrets"])
    assert torch.equal(start["measures", "secrets"], told["secrets"])
    with pytest.raises(UserError, match=r"no measure 'round'.*did you mean 'rounds'"):
        Env(Relay(), "caller_0", measures=["round"]).reset()


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_what_is_given_out_is_ones_own(kind: str) -> None:
    """Writing into observations, masks and measures changes nothing inside."""
    game = make(kind)
    seat = f"{game.roles[0].name}_0"
    names = sorted(game.measures(game.reset(mores.Draws.of(0, 1))))
    for view in (Env(game, seat, measures=names), VectorEnv(game, 2, seat, measures=names)):
        seen, info = view.reset(seed=1)
        held = {name: tensor.clone() for name, tensor in tree.flatten(view.table.state).items()}
        seen[...] = 7
        for value in info.values():
            if isinstance(value, (np.ndarray, torch.Tensor)):
                value[...] = 1
        now = tree.flatten(view.table.state)
        assert all(torch.equal(now[n].nan_to_num(), held[n].nan_to_num()) for n in held)
    parallel = Parallel(game, measures=names)
    seen, _ = parallel.reset(seed=1)
    state = parallel.state().copy()
    for array in seen.values():
        array[...] = 7
    parallel.state()[...] = 7
    assert np.array_equal(parallel.state(), state)


# --- seats and players ---------------------------------------------------------------------------


def test_who_is_outside() -> None:
    game = Relay()
    everybody = {"caller": [0], "runner": [0, 1, 2]}
    assert outside_seats(game, None, None) == everybody
    assert outside_seats(game, None, {"caller": 1}) == {"runner": [0, 1, 2]}
    assert outside_seats(game, ["runner_2", "runner_0"], None) == {"runner": [0, 2]}
    assert outside_seats(game, ["runner", "runner_0", "caller_0"], None) == everybody
    for wrong, message in (
        (["runer"], "did you mean 'runner_0'"),
        (["runner_3"], "they run to runner_2"),
        (["runner_x"], "no seat"),
        ([], "nobody is outside"),
        ("runner", "is a list"),
    ):
        with pytest.raises(UserError, match=message):
            outside_seats(game, wrong, None)
    with pytest.raises(UserError, match="nobody is outside"):
        Parallel(game, players=dict(game.baseline()))


@pytest.mark.parametrize("form", [Parallel, AEC])
def test_partial_seats_outside(form: type) -> None:
    """Only the seats outside are listed; a player fills the rest of the role."""
    env = form(Meeting(), outside=["voter_1", "voter_3"], rounds=2)
    env.reset(seed=1)
    assert env.possible_agents == env.agents == ["voter_1", "voter_3"]
    before = env.table.state.at.clone()
    if form is Parallel:
        env.step({agent: np.ones(3, np.float32) for agent in env.agents})
    else:
        for _ in range(2):
            env.step(np.ones(3, np.float32))
    inside = mores.Table(Meeting(), Meeting().baseline(), {}, 1, 2)
    inside.reset(env.table.seed)
    assert torch.equal(inside.state.at, before)
    inside.step()
    moved = (inside.state.at != env.table.state.at).all(-1)[0]
    assert moved.tolist() == [False, True, False, True]


def test_seats_by_name() -> None:
    assert Env(Relay()).seat.name == "caller_0"  # the role with fewest seats
    assert Env(Relay(), "runner_2").seat == ("runner", 2)
    for wrong, message in (("runner", "no seat"), ("runner_9", "run to runner_2"), ("", "no seat")):
        with pytest.raises(UserError, match=message):
            Env(Relay(), wrong)


def test_players_are_objects_or_kinds() -> None:
    """Both say the same, and what is wrong is answered in one line."""
    for players in ({"chair": Still(size=2)}, {"voter": {"kind": "anyhow"}}):
        Env(Meeting(), "voter_0" if "chair" in players else "chair_0", players=players).reset()  # type: ignore[arg-type]
    wrong: list[tuple[Any, str]] = [
        ({"chairs": Still(size=2)}, "did you mean 'chair'"),
        ({"chair": {"size": 2}}, "'kind': name"),
        ({"chair": {"kind": "anyhw"}}, "no player 'anyhw'; did you mean 'anyhow'"),
        ({"chair": {"kind": "anyhow", "speed": 2}}, "no such parameter"),
    ]
    for players, message in wrong:
        with pytest.raises(UserError, match=message):
            Env(Meeting(), "voter_0", players=players)
    with pytest.raises(UserError, match="not with a ready game"):
        Env(Meeting(), voters=3)


def test_people_come_from_a_population() -> None:
    population = {"kind": "normal", "people": 4, "values": 2}
    views = [
        form("coevolution", people=4, population=population)
        for form in (Env, VectorEnv, Parallel, AEC, TorchRLEnv)
    ]
    for view in views:
        view.reset()
        assert view.table.people is not None
    with pytest.raises(UserError, match="population brings"):
        Env("coevolution", people=5, population=population).reset()


def test_options_there_are_none() -> None:
    for view in (Env(Meeting()), VectorEnv(Meeting(), 2)):
        view.reset(options={})
        with pytest.raises(UserError, match="no options; got"):
            view.reset(options={"colour": 1})


# --- text ----------------------------------------------------------------------------------------


def test_render_names_the_parts(capsys: pytest.CaptureFixture[str]) -> None:
    env = Env(Relay(), "runner_1", rounds=7, render_mode="ansi", measures=["secrets"])
    seen, _ = env.reset(seed=1)
    lines = env.render().splitlines()  # type: ignore[union-attr]
    assert lines[:3] == ["round 1 of 7, phase run", "runner_1", f"  secret: {seen[0]:.4g}"]
    assert lines[3:6] == [f"  called: {seen[1]:.4g}", "  ran: 0", "  phase: 1"]
    assert lines[6].startswith("secrets: ")
    assert len(lines[6].split()) == 4
    assert len(lines) == 7
    plain = Parallel(Meeting(voters=2), render_mode="ansi")
    plain.reset(seed=1)
    assert "far" not in (plain.render() or "")
    assert [line for line in plain.render().splitlines() if line[0] != " "][1:] == [  # type: ignore
        "voter_0",
        "voter_1",
        "chair_0",
    ]
    assert capsys.readouterr().out == ""
    loud = Env(Meeting(voters=20), "voter_0", render_mode="human")
    loud.reset(seed=1)
    loud.step(np.zeros(3))
    shown = capsys.readouterr().out
    assert shown.count("phase vote") == 2
    assert loud.render() is None
    with pytest.raises(UserError, match="did you mean 'human'"):
        Env(Meeting(), render_mode="humn")


# --- your own environment ------------------------------------------------------------------------


def test_an_environment_of_ones_own_is_known_everywhere() -> None:
    mores.register("environment", "test_relay", Relay)
    mores.register("environment", "test_relay", Relay)  # twice is once
    try:
        one = gymnasium.make("mores/TestRelay-v0", runners=2, seat="runner_1")
        assert one.unwrapped.game == Relay(runners=2)
        many = gymnasium.make_vec("mores/TestRelay-v0", num_envs=3)
        assert isinstance(many, VectorEnv)
        assert isinstance(many.spec.to_json(), str)  # type: ignore[union-attr]
        parallel = pettingzoo.make("parallel", "mores/test_relay_v0")
        assert isinstance(parallel, Parallel)
        assert isinstance(pettingzoo.make("aec", "mores/test_relay_v0"), AEC)
        from mores.zoo import test_relay_v0  # type: ignore[attr-defined]

        assert test_relay_v0.parallel_env(runners=2).possible_agents[-1] == "runner_1"
        with pytest.raises(UserError, match="already"):
            mores.register("environment", "test_relay", Meeting)
        with pytest.raises(UserError, match="is no name"):
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


def test_state_is_made_of_sights() -> None:
    env = Parallel(Relay())
    seen, _ = env.reset(seed=1)
    assert np.array_equal(env.state(), np.concatenate(list(seen.values())))
    assert env.state() in env.state_space
    assert dataclasses.asdict(env.table.state).keys() >= {"secret"}
