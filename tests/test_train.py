"""Training in a few lines of Python: what is asked for wrongly, and saved and loaded again."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest
import torch

import mores
from mores import UserError
from mores.arguments import device_of, names_in, whole_number
from mores.trained import Trained

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
    with pytest.raises(UserError, match="mores did not write it"):
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
