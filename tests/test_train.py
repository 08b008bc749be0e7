"""Training in a few lines of Python: what is asked for wrongly, and saved and loaded again."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ConfigDict
from torch import Tensor

import mores
from mores import UserError
from mores.arguments import device_of, names_in, whole_number
from mores.draws import Draws
from mores.game import Act, Box, Discrete, Phase, Player, Role, Step
from mores.trained import Trained
from tests.learners.small_games import Bare, unchecked

LEARNER = {"kind": "ppo", "share": "agent", "horizon": 4, "network": {"kind": "gru", "hidden": 4}}


def trained(game: Any = "matrix_game", player: Any = LEARNER, **asked: Any) -> Trained:
    return mores.train(
        game, {"player": player}, **{"episodes": 1, "rounds": 6, "replicates": 2, **asked}
    )


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"learn": ["playr"]}, "learn: there is no 'playr'; did you mean 'player'?"),
        ({"learn": "player"}, "learn: a list of names, ['player']"),
        ({"learn": []}, "learn: names nobody"),
        ({"measures": "cooperation"}, "measures: a list of names, ['cooperation']"),
        ({"people": "anes"}, "no population 'anes'; did you mean 'anes96'?"),
        ({"people": {}}, "population: give a name or a mapping with a kind, not {}"),
        ({"device": "cpuu"}, "there is no device 'cpuu'; did you mean 'cpu'?"),
        ({"player": "PPO"}, "no player 'PPO'; did you mean 'ppo'?"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError) as told:
        trained(**asked)
    assert str(told.value).startswith(said)


def test_what_is_of_the_wrong_type() -> None:
    with pytest.raises(UserError, match="seed: a whole number, not '1'"):
        whole_number("seed", "1", least=None)
    with pytest.raises(UserError, match="there is no device 'None'; known: cpu"):
        device_of(None)
    with pytest.raises(UserError, match="measures: there is no 3; known: score"):
        names_in("measures", [3], ["score"])
    assert names_in("measures", ["score", "score"], ["score"]) == ["score"]


@pytest.mark.parametrize(
    "player",
    [
        LEARNER,
        {"kind": "cast", "seats": [LEARNER, {"kind": "strategy", "name": "grudger"}]},
        {"kind": "reinforce", "share": "replicate"},
    ],
    ids=lambda player: player["kind"],
)
def test_what_was_saved_plays_as_before(tmp_path: Path, player: Any) -> None:
    game = {"kind": "matrix_game", "trembles": 0.1}
    before = trained(game, player, worlds=2, seed=5)
    after = mores.load_trained(before.save(tmp_path / "new" / "learners"))
    assert after.curves.identical(before.curves)
    assert after.test(episodes=2).identical(before.test(episodes=2))
    for name, tensor in before.learned("player").items():
        assert torch.equal(after.learned("player")[name], tensor)


def test_a_full_disk_leaves_the_earlier_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, path = trained(), tmp_path / "learners"
    before = found.save(path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match=r"cannot write .*learners: No space left on device"):
        found.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["learners"]


@pytest.mark.parametrize("path", ["", "."])
def test_a_path_is_needed(path: Any) -> None:
    with pytest.raises(UserError, match="the path of a file is needed"):
        trained().save(path)


def test_what_is_not_as_it_was_written_is_not_loaded(tmp_path: Path) -> None:
    path = trained().save(tmp_path / "learners")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    torch_made = tmp_path / "other"
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, torch_made)
    path.write_bytes(flipped)
    with pytest.raises(UserError, match="learners: it is not as it was written"):
        mores.load_trained(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(UserError, match="cannot read"):
        mores.load_trained(path)
    with pytest.raises(UserError, match="did not write it"):
        mores.load_trained(torch_made)
    with pytest.raises(UserError, match="there is no such file"):
        mores.load_trained(tmp_path / "none")


def test_a_class_without_a_name_is_not_saved(tmp_path: Path) -> None:
    from mores.agents.policies.strategies import Strategy

    class Mine(Strategy):
        pass

    players = [mores.make_player("ppo", horizon=4), Mine(name="grudger")]
    cast = mores.make_player("cast", seats=players)
    with pytest.raises(UserError, match=r"no player 'Mine'"):
        trained(player=cast).save(tmp_path / "learners")
    with pytest.raises(UserError, match="episodes: a whole number, at least 1, not 0"):
        trained(player=cast).test(episodes=0)


class First(Player):
    """Takes the first act, and carries tensors of its own, which cannot be compared."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    scale: Any = torch.ones(2)

    def act(self, phase: Phase, seen: Tensor, legal: Any, memory: Any, draws: Draws) -> Act:
        return Act(torch.zeros(seen.shape[:2], dtype=torch.int64))


def test_who_sees_nothing_learns_and_nothing_need_be_measured() -> None:
    learner = mores.make_player("ppo", horizon=4, learning_rate=0.05, entropy_weight=0.0)
    found = mores.train(Bare(), {"actor": learner}, episodes=20, rounds=8, worlds=4)
    assert dict(found.curves.sizes) == {"world": 4, "episode": 20} and not found.curves.data_vars
    bias = found.learned("actor")["act.act.bias"][0, 0]
    assert bias[1] > bias[0] and found.test().sizes["episode"] == 1


@unchecked()
def test_a_learner_is_tested_where_it_learned() -> None:
    """At its seats of a cast, or alone; elsewhere it would play as it was made, and is refused."""
    learner = {"kind": "ppo", "horizon": 32, "discount": 0.96, "network": {"kind": "mlp"}}
    cooperator = {"kind": "strategy", "name": "cooperator"}

    def cast(*seats: Any) -> dict[str, Any]:
        return {"player": {"kind": "cast", "seats": list(seats)}}

    found = trained(player=cast(learner, cooperator)["player"], episodes=12, rounds=64)
    grudger = {"kind": "strategy", "name": "grudger"}
    tested = found.test(players=cast(learner, grudger)).cooperations.mean("world")[0]
    assert tested[0] < 0.1  # as it learned: who always cooperates is exploited
    for others in (cast(cooperator, learner), {"player": learner}):
        with pytest.raises(UserError, match="player: a learner would play untrained"):
            found.test(players=others)
    alone = trained()
    with pytest.raises(UserError, match="player: a learner would play untrained"):
        alone.test(players=cast(learner, cooperator))
    strangers = alone.test(players=cast(cooperator, grudger))  # nobody who learned is left
    assert float(strangers.cooperation.mean()) == 1
    quick = {"agent": {"kind": "ppo", "horizon": 8}}
    offer = mores.train("commission", quick, episodes=2, rounds=16)
    with pytest.raises(UserError, match="principal: a learner would play untrained"):
        offer.test(players={"principal": "ppo"})  # where nobody learned
    both = {"principal": quick["agent"], **quick}
    one = mores.train("commission", both, episodes=2, rounds=16, learn=["principal"])
    assert one.test().sizes["episode"] == 1  # as in training, where nobody taught the agent
    with pytest.raises(UserError, match="agent: a learner would play untrained"):
        one.test(players=quick)
    with pytest.raises(UserError, match="search: true or false, not 'no'"):
        alone.test(search="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paid", "said"),
    [
        (lambda acts: {"actor": acts[:, 0]}, r"the game pays actor \[2\], not \[world, agent\]"),
        (lambda acts: {"acter": acts}, "a role that it has not, 'acter'; did you mean 'actor'"),
        (lambda acts: {"actor": acts.tolist()}, "the game pays actor a list"),
    ],
)
@unchecked()
def test_a_game_that_pays_wrongly_is_told_so(
    paid: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(self: Bare, state: Tensor, phase: str, actions: Any, draws: Draws) -> Step[Tensor]:
        return Step(state, paid(actions["actor"].float()))

    monkeypatch.setattr(Bare, "step", step)
    with pytest.raises(UserError, match=said):
        mores.train(Bare(), {"actor": "ppo"}, episodes=2, rounds=64, worlds=2)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ({"mood": 3.0}, "with 3 worlds; here it is float"),
        ({"mood": torch.zeros(2)}, "measure 'mood' of Bare is [world] or [world, n]"),
        ({"mood": torch.zeros(3, 1, 1)}, "here it is [3, 1, 1]"),
        ({"mood": torch.zeros(3, 0)}, "here it is [3, 0]"),
        ({"mood": torch.zeros(3, dtype=torch.bfloat16)}, "here it is strided, bfloat16"),
        ({"mood": torch.zeros(3).to_sparse()}, "here it is sparse_coo, float32"),
        ({"world": torch.zeros(3)}, "measures: 'world' is what results are laid out by"),
        ({3: torch.zeros(3)}, "measures of Bare are tensors by name, not {3: "),
        (None, "measures of Bare are tensors by name, not None"),
    ],
)
@unchecked()
def test_a_game_that_measures_wrongly_is_told_so(
    found: Any, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bare, "measures", lambda self, state: found)
    with pytest.raises(UserError) as told:
        mores.train(Bare(), {"actor": "ppo"}, episodes=2, rounds=64, worlds=3)
    assert said in str(told.value)


def test_what_was_learned_is_tested_elsewhere() -> None:
    """Who sees and may do the same there does the same, and earns what that earns there."""
    found = trained(episodes=8, rounds=32)
    here, there = found.test(), found.test(game={"kind": "matrix_game", "payoffs": "chicken"})
    torch.testing.assert_close(here.cooperations.values, there.cooperations.values)
    assert not (here.payoff == there.payoff).any()
    requests = mores.make_game("requests")
    for game, said in (
        ({"kind": "matrix_game", "memory": 2}, "player learned to see 5 numbers, and sees 9 here"),
        (requests, "nobody who learned plays there: player did, and its roles are assistant"),
        ("matrix_gam", "did you mean 'matrix_game'"),
    ):
        with pytest.raises(UserError, match=said):
            found.test(game=game)
    public = {"kind": "matrix_game", "payoffs": "public_goods", "memory": 0}
    with pytest.raises(UserError, match=r"learned to see request \(.*, and sees request"):
        mores.train("requests", {"assistant": "grpo"}, episodes=1, rounds=6).test(
            game={"kind": "requests", "features": 16, "length": 5}, rounds=5
        )  # as many numbers, which mean something else
    givers = trained({**public, "levels": 3}, {**LEARNER, "share": "role"})
    with pytest.raises(UserError, match=r"learned to choose one of 3 in phase .* one of 2 here"):
        givers.test(game={**public, "levels": 2})
    with pytest.raises(UserError, match="a cast for 2 seats, and player has 3"):
        trained(player={"kind": "cast", "seats": [LEARNER, LEARNER]}).test(
            game={**public, "agents": 3, "memory": 1, "levels": 2}
        )


def test_a_learner_that_is_the_baseline_goes_along() -> None:
    """Elsewhere it plays, and not what plays there where nobody is asked for."""

    class Counted(Bare):
        learns: bool

        def baseline(self) -> Mapping[str, Player]:
            learner = mores.make_player("ppo", horizon=4, entropy_weight=0.0)
            return {"actor": learner if self.learns else First()}

        def step(
            self, state: Tensor, phase: str, actions: Mapping[str, Tensor], draws: Draws
        ) -> Step[Tensor]:
            return Step(actions["actor"].float().mean(1), {"actor": actions["actor"].float()})

        def measures(self, state: Tensor) -> Mapping[str, Tensor]:
            return {"did": state}

    found = mores.train(Counted(learns=True), {}, episodes=20, rounds=8, worlds=8)
    assert float(found.test(game=Counted(learns=False)).did.mean()) == 1
    with pytest.raises(UserError, match="nobody who learned plays there"):
        found.test(game="requests")


def test_other_people_are_met_elsewhere() -> None:
    learner = {"kind": "ppo", "horizon": 4, "network": {"kind": "mlp", "hidden": [4]}}
    found = mores.train(
        {"kind": "coevolution", "people": 6, "values": 2},
        {"assistant": learner},
        episodes=1,
        rounds=4,
        people={"kind": "normal", "people": 6, "values": 2},
    )
    fewer = {"kind": "coevolution", "people": 5, "values": 2}
    with pytest.raises(UserError, match="the population brings 6 people"):
        found.test(game=fewer)
    people = {"kind": "normal", "people": 5, "values": 2}
    assert found.test(game=fewer, people=people).sizes["world"] == 1
    calm = found.test(people={**people, "people": 6, "spread": 0.1})
    assert float(calm.spread.mean()) < float(found.test().spread.mean())


@pytest.mark.parametrize(
    ("game", "role", "player", "said"),
    [
        ("commission", "principal", "careful_agent", "careful_agent needs a role that sees 'cost'"),
        ("commission", "agent", "fair_principal", "fair_principal makes offers as a principal"),
        ("matrix_game", "player", "report", "report needs a role that sees 'belief': player does"),
        ("matrix_game", "player", "planner", "planner needs a role that sees 'played'"),
        ("matrix_game", "player", "advocate", "advocate needs an assistant that has a 'position'"),
    ],
)
def test_players_of_another_environment_say_what_they_need(
    game: str, role: str, player: str, said: str
) -> None:
    with pytest.raises(UserError, match=said):
        mores.play(mores.make_game(game), {role: mores.make_player(player)}, rounds=1)


@unchecked()
def test_who_shares_what_another_role_learned_has_learned_it() -> None:
    class Both(Bare):
        """Two roles that see and do the same."""

        @property
        def roles(self) -> tuple[Role, ...]:
            return (Role("left", 2, Box.of()), Role("right", 2, Box.of()))

        @property
        def phases(self) -> tuple[Phase, ...]:
            return (Phase("act", {"left": Discrete(2), "right": Discrete(2)}),)

        def step(
            self, state: Tensor, phase: str, actions: Mapping[str, Tensor], draws: Draws
        ) -> Step[Tensor]:
            return Step(state, {role: done.float() for role, done in actions.items()})

    for share, refused in (("replicate", False), ("role", True)):
        learner = mores.make_player("ppo", horizon=4, share=share)
        sides = {"left": learner, "right": learner}
        found = mores.train(Both(), sides, episodes=1, rounds=8, learn=["left"])
        with pytest.raises(UserError) if refused else contextlib.nullcontext():
            found.test(players={"right": learner})


@unchecked()
def test_what_is_not_there_at_first_is_not_asked_for() -> None:
    class Diarist(First):
        """Says what it was paid, once it was."""

        def start(self, role: Role, phases: Any, draws: Draws) -> list[Tensor]:
            return []

        def again(self, memory: Any, fresh: Any, over: Tensor) -> Any:
            return memory

        def act(self, phase: Phase, seen: Tensor, legal: Any, memory: Any, draws: Draws) -> Act:
            return Act(torch.zeros(seen.shape[:2], dtype=torch.int64), memory)

        def learn(self, memory: Any, outcome: Any, draws: Draws) -> Any:
            return [*memory, outcome.reward.sum(1)]

        def learned(self, memory: Any) -> dict[str, Tensor]:
            return {"paid": torch.stack(memory, 1)}

    found = mores.train(Bare(), {"actor": Diarist()}, episodes=2, rounds=3)
    assert found.learned("actor")["paid"].shape == (1, 6)
