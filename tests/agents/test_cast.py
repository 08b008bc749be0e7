"""Players who share a role: each plays its own seats as it would alone, and learns from them."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from mores import registry
from mores.agents.composite.per_agent import PerAgentPolicy
from mores.agents.scripted.repeated_game import Strategy
from mores.agents.scripted.uniform_random import UniformRandom
from mores.cli.commands import main
from mores.core import pytree
from mores.core.environment import ActionOutput, Phase, Policy, Role, Transition
from mores.core.random_streams import Worlds
from mores.envs.opinion.coevolution import Coevolution
from mores.envs.strategic.matrix_game import ImitateLast, MatrixGame
from mores.experiments.run.dry_run import check_scenario
from mores.experiments.scenario.expansion import expand, resolved_yaml
from mores.experiments.scenario.loading import load_scenario
from mores.experiments.scenario.source_locations import ScenarioError, format_path
from mores.registry import make_policy
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.simulation import simulate
from mores.sim.simulator import Simulator
from tests.refusals import check_message, refused


@dataclasses.dataclass(frozen=True)
class Tally:
    """What a bookkeeper has: earnings and sights of its seats, and what it read in a record."""

    earned: Tensor  # [world, agent]
    seen: Tensor  # [world, agent, size]
    read: Tensor  # [world, agent]


class Bookkeeper(Policy):
    """Always cooperates, and keeps all that it earned."""

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: Any) -> Tally:
        nothing = torch.zeros(streams.num_worlds, role.num_agents)
        return Tally(
            nothing,
            torch.zeros(streams.num_worlds, role.num_agents, role.observation_space.size),
            nothing,
        )

    def act(
        self, phase: Phase, observation: Tensor, action_mask: Any, state: Tally, streams: Any
    ) -> ActionOutput:
        return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), state)

    def act_with_search(
        self, phase: Phase, observation: Tensor, action_mask: Any, state: Tally, streams: Any
    ) -> ActionOutput:
        return ActionOutput(torch.ones(observation.shape[:2], dtype=torch.int64), state)

    def on_episode_start(self, state: Tally, initial: Any, reset_mask: Tensor) -> Tally:
        return state

    def update(self, state: Tally, transition: Transition, streams: Any) -> Tally:
        return dataclasses.replace(
            state, earned=state.earned + transition.reward, seen=transition.next_observation
        )

    def fit_offline(self, state: Tally, dataset: Any, streams: Any) -> Tally:
        return dataclasses.replace(state, read=dataset.reward.sum(1))

    def state_dict(self, state: Tally) -> dict[str, Tensor]:
        return {"earned": state.earned}

    def stop_reasons(self, state: Tally) -> list[str]:
        return ["has no ink"]


@pytest.fixture
def bookkeeper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(registry.POLICIES, "bookkeeper", Bookkeeper)


def groups(**more: Any) -> tuple[MatrixGame, PerAgentPolicy]:
    """Seven seats: two bookkeepers, three who copy, two defectors."""
    game = MatrixGame(payoffs="public_goods", num_agents=7, multiplier=3.0, **more)
    players = (Bookkeeper(), ImitateLast(epsilon=0.3), Strategy(name="defector"))
    return game, PerAgentPolicy(policies=players, agents_per_policy=(2, 3, 2))


def test_everybody_has_its_own_seats():
    game, cast = groups()
    table = Simulator(game, {"player": cast}, worlds=5, rounds=20)
    table.reset(3)
    earned = torch.zeros(5, 7)
    for _ in range(6):
        table.step()
        earned += table.state.paid
        assert (table.state.last_action[:, :2] == 0).all()
        assert (table.state.last_action[:, 5:] == 1).all()
    tally = table.policy_states["player"].members[0]
    assert torch.equal(tally.earned, earned[:, :2])
    assert torch.equal(tally.seen, table.observe("player")[:, :2])
    assert torch.equal(
        cast.state_dict(table.policy_states["player"])["seats 0/earned"], tally.earned
    )
    assert cast.stop_reasons(table.policy_states["player"]) == ["seats 0: has no ink"]


def test_a_seat_plays_as_it_would_alone():
    """A cast of one is that player with draws of its own, and seats do not share draws."""
    game, cast = groups()
    twice = PerAgentPolicy(policies=[ImitateLast(epsilon=0.5), ImitateLast(epsilon=0.5)])
    played = simulate(MatrixGame(), {"player": twice}, 200, 1, metrics=["cooperations"])
    first, second = played.metrics["cooperations"][:, 1].unbind(-1)
    assert not torch.equal(first, second)
    whole = simulate(
        MatrixGame(), {"player": Strategy(name="tit_for_tat")}, 4, 9, metrics=["payoffs"]
    )
    parts = PerAgentPolicy(policies=[Strategy(name="tit_for_tat")] * 2)
    shared = simulate(MatrixGame(), {"player": parts}, 4, 9, metrics=["payoffs"])
    assert torch.equal(whole.metrics["payoffs"][:, 1:], shared.metrics["payoffs"][:, 1:])
    alone = simulate(game, {"player": cast}, [3], 8, metrics=["payoffs"])
    together = simulate(game, {"player": cast}, 6, 8, metrics=["payoffs"])
    assert torch.equal(alone.metrics["payoffs"][0, 1:], together.metrics["payoffs"][3, 1:])


def test_what_was_learned_outlives_an_episode_and_the_rest_does_not():
    """Worlds begin anew at times of their own, and fresh memories are made once for each."""
    game, cast = groups(continuation=0.6, memory=2)
    begun: list[int] = []

    class Counted(PerAgentPolicy):
        def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: Any) -> Any:
            begun.append(streams.num_worlds)
            return super().initial_state(role, phases, streams)

    cast = Counted(policies=cast.policies, agents_per_policy=cast.agents_per_policy)
    table = Simulator(game, {"player": cast}, worlds=6, rounds=20, autoreset=True)
    table.reset(1)
    earned, ends = torch.zeros(6, 7), []
    for _ in range(10):
        turn = table.step()
        earned += (table.state if turn.final_state is None else turn.final_state).paid
        ends += [int(turn.terminated.sum())] if turn.final_state is not None else []
    assert torch.equal(table.policy_states["player"].members[0].earned, earned[:, :2])
    assert sum(ends) > 6
    assert begun == [6, *ends]


def test_search_and_records_are_passed_on():
    game, cast = groups()
    diary = EpisodeRecorder({"player"})
    table = Simulator(game, {"player": cast}, worlds=3, rounds=4, search=True, recorder=diary)
    table.reset(0)
    for _ in range(4):
        table.step()
    assert (table.state.last_action[:, :2] == 1).all()
    draws = table._streams
    fitted = cast.fit_offline(table.policy_states["player"], diary.dataset("player"), draws)
    assert fitted.member_states[0].read == pytest.approx(table.state.earned[:, :2])


def test_it_can_what_its_players_can():
    learner, scripted = Bookkeeper(), Strategy(name="defector")
    for what in ("learn", "fit", "assist"):
        assert PerAgentPolicy(policies=[scripted, learner]).supports(what)
        assert not PerAgentPolicy(policies=[scripted, UniformRandom()]).supports(what)
    assert PerAgentPolicy(policies=[scripted, learner]).supports("on_episode_start")

    class Forgetful(Policy):
        def act(
            self, phase: Phase, observation: Tensor, action_mask: Any, state: Any, streams: Any
        ) -> ActionOutput:
            return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), state)

        def update(self, state: Any, transition: Transition, streams: Any) -> Any:
            return state

    assert not PerAgentPolicy(policies=[Forgetful(), learner]).supports("on_episode_start")


def test_another_cast_takes_over_what_its_players_know():
    """In a new stage a learner goes on; who finds another kind's memory begins anew."""
    game, cast = groups()
    table = Simulator(game, {"player": cast}, worlds=3, rounds=20)
    table.reset(8)
    table.step()
    known = table.policy_states["player"]
    others = (Bookkeeper(), Bookkeeper(), Strategy(name="grudger"))
    for players, counts in ((others, (2, 3, 2)), (others, (3, 2, 2)), (others[:2], (2, 5))):
        after = Simulator(
            game,
            {"player": PerAgentPolicy(policies=players, agents_per_policy=counts)},
            worlds=3,
            rounds=20,
            stage=1,
        )
        after.reset(8, {"player": known})
        members = after.policy_states["player"].members
        assert torch.equal(members[0].earned, known.members[0].earned) == (counts[0] == 2)
        assert not members[1].earned.any()
        after.step()
        assert (after.state.last_action == 0).all()


def test_a_learner_in_a_cast_of_another_size_moves_on():
    """What it gathered in the stage before and did not learn from is dropped, as it would alone."""
    game = MatrixGame(payoffs="public_goods", num_agents=3)
    ppo = make_policy("ppo", horizon=20, network={"kind": "mlp", "hidden": [4]})
    rules = make_policy("strategy", name="defector")
    first = Simulator(game, {"player": PerAgentPolicy(policies=(ppo, rules, rules))}, rounds=30)
    first.reset(0)
    for _ in range(30):
        first.step()
    second = Simulator(
        game,
        {"player": PerAgentPolicy(policies=(ppo, rules), agents_per_policy=(1, 2))},
        rounds=30,
        stage=1,
    )
    second.reset(0, first.policy_states)
    held = second.policy_states["player"].members[0].learned
    assert int(held.rollout.length) == 0 and held.train_state.updates.tolist() == [0]
    for _ in range(12):
        second.step()
    assert second.policy_states["player"].members[0].learned.train_state.updates.tolist() == [0]


def test_equal_casts_at_two_roles_join_seat_by_seat():
    class Sharing(Bookkeeper):
        def share_parameters(self, state: Tally, other_state: Tally) -> Tally:
            return other_state

    cast = PerAgentPolicy(policies=[Strategy(name="defector"), Sharing()])
    assert cast.supports("share_parameters")
    assert not PerAgentPolicy(policies=[Bookkeeper()]).supports("share_parameters")
    mine, theirs = (
        simulate(MatrixGame(), {"player": cast}, 2, n).policy_states["player"] for n in (1, 2)
    )
    joined = cast.share_parameters(mine, theirs)
    assert joined.member_states[0] is mine.members[0]
    assert joined.member_states[1] is theirs.members[1]


def test_a_table_with_a_cast_is_saved_and_played_on():
    game, cast = groups()
    tables = [Simulator(game, {"player": cast}, worlds=3, rounds=20) for _ in range(2)]
    for table in tables:
        table.reset(8)
    for _ in range(3):
        tables[0].step()
    tables[1].load_state_dict(tables[0].state_dict())
    for _ in range(4):
        for table in tables:
            table.step()
    first, second = (pytree.flatten([table.state, table.policy_states]) for table in tables)
    assert all(torch.equal(first[name], second[name]) for name in first)


SCENARIO = """\
name: pair
about: A learner against somebody who answers.
env: {kind: matrix_game}
players:
  player:
    kind: cast
    seats:
      - {kind: bookkeeper}
      - {kind: strategy, name: tit_for_tat, noise: 0.1}
rounds: 4
measures: [payoffs]
stages:
  - {name: train, loop: improve, learn: player, episodes: 2}
  - {name: test}
"""


@pytest.mark.usefixtures("bookkeeper")
def test_in_a_scenario(tmp_path):
    """It learns in a stage, is written out with all parameters, and is read again."""
    (tmp_path / "pair.yaml").write_text(SCENARIO)
    assert main(["check", str(tmp_path / "pair.yaml")]) == 0
    loaded = load_scenario(tmp_path / "pair.yaml")
    cells = expand(loaded)
    text = resolved_yaml(loaded.scenario, cells)
    assert "kind: bookkeeper" in text
    assert "noise: 0.1" in text
    assert "threshold: null" in text
    player = cells[0].build().policies["player"]
    assert make_policy("cast", **player.model_dump(mode="json")) == player


@pytest.mark.usefixtures("bookkeeper")
@pytest.mark.parametrize(
    ("old", "new", "told", "meant"),
    [
        ("noise: 0.1", "nose: 0.1", ["9:51 .seats.1.nose unknown_name"], "noise"),
        ("noise: 0.1", "noise: 1.5", ["9:52 .seats.1.noise out_of_range"], None),
        ("noise: 0.1", "noise: yes", ["9:52 .seats.1.noise wrong_type"], None),
        ("tit_for_tat", "tit_fur_tat", ["9:32 .seats.1.name unknown_name"], "tit_for_tat"),
        ("name: tit_for_tat, ", "", ["9:9 .seats.1.name missing"], None),
        ("kind: strategy", "kind: stratgy", ["9:9 .seats.1 unknown_name"], "strategy"),
        ("{kind: bookkeeper}", "bookkeeper", ["8:9 .seats.0 wrong_type"], None),
        ("{kind: bookkeeper}", "{name: a}", ["8:9 .seats.0 missing"], None),
        ("{kind: bookkeeper}", "{kind: ppo, network: {kind: mlp, hiden: [4]}}",
         ["8:49 .seats.0.network.hiden unknown_name"], "hidden"),
        ("    seats:", "    counts: [2, 1]\n    seats:", ["6:5  wrong_shape"], None),
        ("    seats:", "    counts: [2]\n    seats:", ["6:5  wrong_shape"], None),
        ("    seats:", "    counts: [2, 0]\n    seats:", ["7:13 .counts out_of_range"], None),
        ("      - {kind: bookkeeper}\n", "",
         ["6:5  wrong_shape", "12:41 stages.0.learn.0 unsupported"], None),
        ("kind: bookkeeper", "kind: mirror",
         ["6:5  unsupported", "13:41 stages.0.learn.0 unsupported"], None),
    ],
)  # fmt: skip
def test_mistakes_are_told_with_their_place(tmp_path, monkeypatch, capsys, old, new, told, meant):
    assert old in SCENARIO
    monkeypatch.chdir(tmp_path)
    (tmp_path / "pair.yaml").write_text(SCENARIO.replace(old, new))
    with pytest.raises(ScenarioError) as refusal:
        check_scenario(load_scenario("pair.yaml"))
    expected = []
    for line in told:
        place, path, code = line.split(" ")
        whole = path if path.startswith("stages") else f"players.player{path}"
        expected.append((f"pair.yaml:{place}", whole, code))
    found = refusal.value.problems
    assert [(str(one.location), format_path(one.path), one.code) for one in found] == expected
    assert main(["check", "pair.yaml"]) == 2
    text = capsys.readouterr().err
    assert text == f"{refusal.value}\n"
    assert meant is None or text.endswith(f"; did you mean {meant!r}?\n")
    check_message(text)


def test_mistakes_in_python():
    with refused("unknown_name", path="cast.seats.0"):
        make_policy("cast", seats=[{"kind": "strategi"}])
    with refused("out_of_range", path="cast.seats.1.noise"):
        make_policy(
            "cast", seats=[UniformRandom(), {"kind": "strategy", "name": "random", "noise": 2}]
        )
    inner = {"kind": "cast", "seats": [{"kind": "anyhow"}, {"kind": "copy", "slips": -1.0}]}
    with refused("out_of_range", path="cast.seats.0.seats.1.slips"):
        make_policy("cast", seats=[inner])


def test_boxes_are_cast_too():
    """Acts of several numbers: two kinds of assistants in one community."""
    game = Coevolution(num_people=5, num_assistants=3)
    cast = make_policy(
        "cast", seats=[{"kind": "mirror"}, {"kind": "persuade", "goal": [9.0, 9.0]}], counts=[1, 2]
    )
    alone = simulate(game, {"assistant": make_policy("mirror")}, 2, 5)
    played = simulate(game, {"assistant": cast}, 2, 5)
    assert not torch.equal(alone.state.people.values, played.state.people.values)
    memory = played.policy_states["assistant"].members
    assert [m.belief.shape[1] for m in memory] == [1, 2]


def test_worlds_of_a_replicate_share_who_plays():
    game = MatrixGame()
    cast = PerAgentPolicy(
        policies=[Strategy(name=("cooperator", "defector")), Strategy(name="defector")]
    )
    played = simulate(game, {"player": cast}, Worlds.grid(3, 2), 1, metrics=["cooperations"])
    assert played.metrics["cooperations"][:, 1, 0].tolist() == [1.0, 0.0] * 3
