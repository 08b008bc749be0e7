"""Training in a few lines of Python: what is asked for wrongly, and saved and loaded again."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ConfigDict
from torch import Tensor

import mores
from mores.core.arguments import check_device, check_integer, check_names
from mores.core.environment import ActionOutput, Box, Discrete, Phase, Policy, Role, StepResult
from mores.core.random_streams import RandomStreams
from mores.experiments.trained import TrainingResult
from tests.learners.small_games import Bare, unchecked
from tests.refusals import check_message, refused

LEARNER = {"kind": "ppo", "share": "agent", "horizon": 4, "network": {"kind": "gru", "hidden": 4}}


def trained(game: Any = "matrix_game", player: Any = LEARNER, **asked: Any) -> TrainingResult:
    return mores.train(
        game, {"player": player}, **{"episodes": 1, "rounds": 6, "replicates": 2, **asked}
    )


@pytest.mark.parametrize(
    ("asked", "code", "path"),
    [
        ({"learn": ["playr"]}, "unknown_name", "learn"),
        ({"learn": "player"}, "wrong_type", "learn"),
        ({"learn": []}, "missing", "learn"),
        ({"measures": "cooperation"}, "wrong_type", "measures"),
        ({"people": "anes"}, "unknown_name", "anes"),
        ({"people": {}}, "missing", "people.kind"),
        ({"device": "cpuu"}, "unknown_name", "device"),
        ({"player": "PPO"}, "unknown_name", "PPO"),
        ({"player": {"kind": ["ppo"]}}, "wrong_type", "players.player.kind"),
    ],
)
def test_mistakes_are_told_before_anything_is_trained(
    asked: dict[str, Any], code: str, path: str
) -> None:
    with refused(code, path=path):
        trained(**asked)


def test_what_is_of_the_wrong_type() -> None:
    with refused("wrong_type", path="seed"):
        check_integer("seed", "1", minimum=None)
    with refused("out_of_range", path="rounds"):
        check_integer("rounds", 3, maximum=2)
    with pytest.raises(mores.UserError) as device:
        check_device(None)
    assert (device.value.code, device.value.path) == ("unknown_name", "device")
    check_message(str(device.value).replace(", cuda", ""))
    with refused("unknown_name", path="measures"):
        check_names("measures", [3], ["score"])
    assert check_names("measures", ["score", "score"], ["score"]) == ["score"]


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
    assert after.evaluate(episodes=2).identical(before.evaluate(episodes=2))
    for name, tensor in before.state_dict("player").items():
        assert torch.equal(after.state_dict("player")[name], tensor)


def test_a_full_disk_leaves_the_earlier_save(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found, path = trained(), Path("learners")
    before = found.save(path).read_bytes()

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "replace", full)
    with refused("not_writable", path="learners"):
        found.save(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["learners"]


@pytest.mark.parametrize("path", ["", "."])
def test_a_path_is_needed(path: Any) -> None:
    with refused("invalid_value", path="path"):
        trained().save(path)


def test_what_is_not_as_it_was_written_is_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = trained().save("learners")
    whole = path.read_bytes()
    flipped = bytearray(whole)
    flipped[-3] ^= 1
    torch_made = Path("other")
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(1)}, torch_made)
    path.write_bytes(flipped)
    with refused("unreadable", path="learners"):
        mores.load_trained(path)
    path.write_bytes(whole[:-3])
    with pytest.raises(mores.UserError) as cut:
        mores.load_trained(path)
    assert (cut.value.code, cut.value.path) == ("unreadable", "learners")
    check_message(re.sub(r"\(.*\)", "(what safetensors says)", str(cut.value)))
    with refused("unreadable", path="other"):
        mores.load_trained(torch_made)
    with refused("unreadable", path="none"):
        mores.load_trained("none")


def test_a_class_without_a_name_is_not_saved(tmp_path: Path) -> None:
    from mores.agents.scripted.repeated_game import Strategy

    class Mine(Strategy):
        pass

    players = [mores.make_policy("ppo", horizon=4), Mine(name="grudger")]
    cast = mores.make_policy("cast", seats=players)
    with refused("unknown_name", path="cast.seats.1"):
        trained(player=cast).save(tmp_path / "learners")
    with refused("out_of_range", path="episodes"):
        trained(player=cast).evaluate(episodes=0)


class First(Policy):
    """Takes the first act, and carries tensors of its own, which cannot be compared."""

    model_config = ConfigDict(arbitrary_types_allowed=True)
    scale: Any = torch.ones(2)

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Any,
        streams: RandomStreams,
    ) -> ActionOutput:
        return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64))


def test_who_sees_nothing_learns_and_nothing_need_be_measured() -> None:
    learner = mores.make_policy("ppo", horizon=4, learning_rate=0.05, entropy_weight=0.0)
    found = mores.train(Bare(), {"actor": learner}, episodes=20, rounds=8, worlds=4)
    assert dict(found.curves.sizes) == {"world": 4, "episode": 20} and not found.curves.data_vars
    bias = found.state_dict("actor")["act.act.bias"][0, 0]
    assert bias[1] > bias[0] and found.evaluate().sizes["episode"] == 1


@unchecked()
def test_a_learner_is_tested_where_it_learned() -> None:
    """At its seats of a cast, or alone; elsewhere it would play as it was made, and is refused."""
    learner = {"kind": "ppo", "horizon": 32, "discount": 0.96, "network": {"kind": "mlp"}}
    cooperator = {"kind": "strategy", "name": "cooperator"}

    def cast(*seats: Any) -> dict[str, Any]:
        return {"player": {"kind": "cast", "seats": list(seats)}}

    found = trained(player=cast(learner, cooperator)["player"], episodes=12, rounds=64)
    grudger = {"kind": "strategy", "name": "grudger"}
    tested = found.evaluate(policies=cast(learner, grudger)).cooperations.mean("world")[0]
    assert tested[0] < 0.1  # as it learned: who always cooperates is exploited
    for others in (cast(cooperator, learner), {"player": learner}):
        with refused("not_trained", path="players.player"):
            found.evaluate(policies=others)
    alone = trained()
    with refused("not_trained", path="players.player"):
        alone.evaluate(policies=cast(learner, cooperator))
    strangers = alone.evaluate(policies=cast(cooperator, grudger))  # nobody who learned is left
    assert float(strangers.cooperation.mean()) == 1
    quick = {"agent": {"kind": "ppo", "horizon": 8}}
    offer = mores.train("commission", quick, episodes=2, rounds=16)
    with refused("not_trained", path="players.principal"):
        offer.evaluate(policies={"principal": "ppo"})  # where nobody learned
    both = {"principal": quick["agent"], **quick}
    one = mores.train("commission", both, episodes=2, rounds=16, roles_to_train=["principal"])
    assert one.evaluate().sizes["episode"] == 1  # as in training, where nobody taught the agent
    with refused("not_trained", path="players.agent"):
        one.evaluate(policies=quick)
    with refused("wrong_type", path="search"):
        alone.evaluate(search="no")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("paid", "path"),
    [
        (lambda acts: {"actor": acts[:, 0]}, "reward.actor"),
        (lambda acts: {"acter": acts}, "reward.acter"),
        (lambda acts: {"actor": acts.tolist()}, "reward.actor"),
    ],
)
@unchecked()
def test_a_game_that_pays_wrongly_is_told_so(
    paid: Any, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def step(
        self: Bare, state: Tensor, phase: str, actions: Any, draws: RandomStreams
    ) -> StepResult[Tensor]:
        return StepResult(state, paid(actions["actor"].float()))

    monkeypatch.setattr(Bare, "step", step)
    with refused("failed", path=path):
        mores.train(Bare(), {"actor": "ppo"}, episodes=2, rounds=64, worlds=2)


@pytest.mark.parametrize(
    ("found", "code", "path"),
    [
        ({"mood": 3.0}, "failed", "measures.mood"),
        ({"mood": torch.zeros(2)}, "failed", "measures.mood"),
        ({"mood": torch.zeros(3, 1, 1)}, "failed", "measures.mood"),
        ({"mood": torch.zeros(3, 0)}, "failed", "measures.mood"),
        ({"mood": torch.zeros(3, dtype=torch.bfloat16)}, "failed", "measures.mood"),
        ({"mood": torch.zeros(3).to_sparse()}, "failed", "measures.mood"),
        ({"world": torch.zeros(3)}, "invalid_value", "measures"),
        ({3: torch.zeros(3)}, "failed", "measures"),
        (None, "failed", "measures"),
    ],
)
@unchecked()
def test_a_game_that_measures_wrongly_is_told_so(
    found: Any, code: str, path: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bare, "metrics", lambda self, state: found)
    with refused(code, path=path):
        mores.train(Bare(), {"actor": "ppo"}, episodes=2, rounds=64, worlds=3)


def test_what_was_learned_is_tested_elsewhere() -> None:
    """Who sees and may do the same there does the same, and earns what that earns there."""
    found = trained(episodes=8, rounds=32)
    here, there = (
        found.evaluate(),
        found.evaluate(environment={"kind": "matrix_game", "payoffs": "chicken"}),
    )
    torch.testing.assert_close(here.cooperations.values, there.cooperations.values)
    assert not (here.payoff == there.payoff).any()
    requests = mores.make_environment("requests")
    for game, code, path in (
        ({"kind": "matrix_game", "memory": 2}, "incompatible", "players.player"),
        (requests, "incompatible", "game"),
        ("matrix_gam", "unknown_name", "matrix_gam"),
    ):
        with refused(code, path=path):
            found.evaluate(environment=game)
    public = {"kind": "matrix_game", "payoffs": "public_goods", "memory": 0}
    with refused("incompatible", path="players.assistant"):
        mores.train("requests", {"assistant": "grpo"}, episodes=1, rounds=6).evaluate(
            environment={"kind": "requests", "features": 16, "length": 5}, rounds=5
        )  # as many numbers, which mean something else
    givers = trained({**public, "levels": 3}, {**LEARNER, "share": "role"})
    with refused("incompatible", path="players.player"):
        givers.evaluate(environment={**public, "levels": 2})
    with refused("wrong_shape", path="players.player"):
        trained(player={"kind": "cast", "seats": [LEARNER, LEARNER]}).evaluate(
            environment={**public, "agents": 3, "memory": 1, "levels": 2}
        )


def test_a_learner_that_is_the_baseline_goes_along() -> None:
    """Elsewhere it plays, and not what plays there where nobody is asked for."""

    class Counted(Bare):
        learns: bool

        def default_policies(self) -> Mapping[str, Policy]:
            learner = mores.make_policy("ppo", horizon=4, entropy_weight=0.0)
            return {"actor": learner if self.learns else First()}

        def step(
            self, state: Tensor, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
        ) -> StepResult[Tensor]:
            return StepResult(actions["actor"].float().mean(1), {"actor": actions["actor"].float()})

        def metrics(self, state: Tensor) -> Mapping[str, Tensor]:
            return {"did": state}

    found = mores.train(Counted(learns=True), {}, episodes=20, rounds=8, worlds=8)
    assert float(found.evaluate(environment=Counted(learns=False)).did.mean()) == 1
    with refused("incompatible", path="game"):
        found.evaluate(environment="requests")


def test_other_people_are_met_elsewhere() -> None:
    learner = {"kind": "ppo", "horizon": 4, "network": {"kind": "mlp", "hidden": [4]}}
    found = mores.train(
        {"kind": "coevolution", "people": 6, "values": 2},
        {"assistant": learner},
        episodes=1,
        rounds=4,
        population={"kind": "normal", "people": 6, "values": 2},
    )
    fewer = {"kind": "coevolution", "people": 5, "values": 2}
    with refused("wrong_shape", path="people"):
        found.evaluate(environment=fewer)
    people = {"kind": "normal", "people": 5, "values": 2}
    assert found.evaluate(environment=fewer, population=people).sizes["world"] == 1
    calm = found.evaluate(population={**people, "people": 6, "spread": 0.1})
    assert float(calm.spread.mean()) < float(found.evaluate().spread.mean())


@pytest.mark.parametrize(
    ("game", "role", "player"),
    [
        ("commission", "principal", "careful_agent"),
        ("commission", "agent", "fair_principal"),
        ("matrix_game", "player", "report"),
        ("matrix_game", "player", "planner"),
        ("matrix_game", "player", "advocate"),
    ],
)
def test_players_of_another_environment_say_what_they_need(
    game: str, role: str, player: str
) -> None:
    with refused("unsupported", path=f"players.{role}"):
        mores.simulate(mores.make_environment(game), {role: mores.make_policy(player)}, rounds=1)


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
            self, state: Tensor, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
        ) -> StepResult[Tensor]:
            return StepResult(state, {role: done.float() for role, done in actions.items()})

    for share, taught in (("replicate", True), ("role", False)):
        learner = mores.make_policy("ppo", horizon=4, share=share)
        sides = {"left": learner, "right": learner}
        found = mores.train(Both(), sides, episodes=1, rounds=8, roles_to_train=["left"])
        untrained = refused("not_trained", path="players.right")
        with contextlib.nullcontext() if taught else untrained:
            found.evaluate(policies={"right": learner})


@unchecked()
def test_what_is_not_there_at_first_is_not_asked_for() -> None:
    class Diarist(First):
        """Says what it was paid, once it was."""

        def initial_state(self, role: Role, phases: Any, streams: RandomStreams) -> list[Tensor]:
            return []

        def on_episode_start(self, state: Any, initial: Any, reset_mask: Tensor) -> Any:
            return state

        def act(
            self,
            phase: Phase,
            observation: Tensor,
            action_mask: Any,
            state: Any,
            streams: RandomStreams,
        ) -> ActionOutput:
            return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), state)

        def update(self, state: Any, transition: Any, streams: RandomStreams) -> Any:
            return [*state, transition.reward.sum(1)]

        def state_dict(self, state: Any) -> dict[str, Tensor]:
            return {"paid": torch.stack(state, 1)}

    found = mores.train(Bare(), {"actor": Diarist()}, episodes=2, rounds=3)
    assert found.state_dict("actor")["paid"].shape == (1, 6)
