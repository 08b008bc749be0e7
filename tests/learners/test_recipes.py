"""Recipes one after another, and learners that are saved and loaded."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from pydantic import Field

from mores.agents.learning.losses import kl, nll
from mores.agents.learning.offline import said
from mores.agents.learning.offline_data import read
from mores.agents.learning.recipes.sft import SFT
from mores.core import pytree
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import Requests
from mores.experiments.results.pytree_serialization import packed, unpacked
from mores.registry import make_player
from mores.sim.simulator import Table
from tests.learners.small_games import (
    Clockwork,
    Poisoned,
    play_on,
    policies,
    taught,
    unchecked,
)
from tests.learners.test_fit import NET, SMALL, fit, recorded
from tests.refusals import refused

# --- one after another --------------------------------------------------------------------------


def seated(table, player, game=None, **more):
    """The next stage: another player with what the one before knows."""
    (role,) = table.players
    after = Table(
        game or table.game,
        {role: player},
        worlds=table.worlds,
        rounds=table.rounds,
        stage=table.stage + 1,
        learning=[],
        **more,
    )
    after.reset(table.seed, table.memory)
    return after


def test_preferences_go_on_from_imitation():
    """Parameters go on; DPO's reference is what it began from, and stays."""
    game = Requests(answers=4, **SMALL)
    table, record = recorded(game, make_player("sft", network=NET), Worlds.grid(2, 2), 3)
    fit(table, record, 2)
    imitated = policies(table)
    after = seated(table, make_player("dpo", network=NET, learning_rate=0.01))
    pupil = after.memory["assistant"].learned.pupil
    for name, tensor in imitated.items():
        assert torch.equal(pupil.parameters[name], tensor)
        assert torch.equal(pupil.reference[name], tensor)
    assert not pupil.moments.steps.any() and int(after.memory["assistant"].learned.rounds) == 2
    fit(after, record, 2)
    for name, tensor in imitated.items():
        assert torch.equal(pupil.reference[name], tensor)
        assert torch.equal(policies(table)[name], tensor), "the predecessor's own stay"
    assert any(not torch.equal(now, imitated[name]) for name, now in policies(after).items())


def test_who_stopped_has_stopped_for_good():
    player = make_player("ppo", network=NET, horizon=4)
    table = taught(Poisoned(sick=1), {"actor": player}, Worlds.grid(2, 1), 1, 4)
    other = make_player("reinforce", network=NET)
    after = seated(table, other)
    assert other.troubles(after.memory["actor"]) == player.troubles(table.memory["actor"]) != []
    taught_more = Table(Poisoned(), {"actor": other}, worlds=table.worlds, rounds=4, stage=2)
    taught_more.reset(0, after.memory)
    play_on(taught_more, 1)
    for name, tensor in policies(table).items():
        if name in policies(taught_more):
            moved = policies(taught_more)[name] != tensor
            assert not moved[1].any() and (moved[0].any() or "bias" in name), name


class Unsound(Requests):
    """Whatever replicate 1 earns, and what is said of its answers' worth, is no number."""

    bad: float = Field(0.0, allow_inf_nan=True)

    def step(self, state, phase, actions, draws):
        def spoilt(told):
            sick = (draws.replicate == 1).view(-1, *[1] * (told.dim() - 1))
            return torch.where(sick, self.bad, told) if told.is_floating_point() else told

        step = super().step(state, phase, actions, draws)
        said = {r: {n: spoilt(x) for n, x in f.items()} for r, f in step.feedback.items()}
        reward = {role: spoilt(x) for role, x in step.reward.items()}
        return dataclasses.replace(step, reward=reward, feedback=said)


IN_REPLICATE_1 = r"assistant, replicate 1: not a number in round {} of its training"
AS_THEY_ACT = [
    ("ppo", {"horizon": 3}),
    *((kind, {}) for kind in ("reinforce", "grpo", "rloo", "grao", "expert_iteration")),
    ("online_dpo", {}),
    ("online_dpo", {"aggregate": "sum"}),
    ("expert_iteration", {"aggregate": "minimum"}),
]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(("kind", "more"), AS_THEY_ACT)
@unchecked()
def test_who_is_paid_no_number_stops_and_is_named(kind, more, bad):
    player = make_player(kind, network=NET, **more)
    game = Unsound(answers=4, bad=bad, **SMALL)
    table = taught(game, {"assistant": player}, Worlds.grid(2, 2), 1, 3)
    assert player.troubles(table.memory["assistant"]) == [IN_REPLICATE_1.format(3)]
    first, second = player.learned(table.memory["assistant"])["updates"].tolist()
    assert first > 0 and second == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut", "dckd",
                                  "adpa", "restoring"])  # fmt: skip
@unchecked()
def test_whose_record_has_no_numbers_stops_and_is_named(kind, bad):
    more = {"teacher_passes": 1} if kind in ("dckd", "adpa") else {}
    player = make_player(kind, network=NET, **more)
    table, record = recorded(Requests(answers=4, **SMALL), player, Worlds.grid(2, 2), 2)
    record.seen["answer"][2:] = bad
    pupil = table.memory["assistant"].learned.pupil
    if kind == "restoring":
        pupil.reference.update({name: x + 0.1 for name, x in pupil.parameters.items()})
    fit(table, record, 1)
    when = 0 if more else 1  # the teacher's own lesson comes before
    assert player.troubles(table.memory["assistant"]) == [IN_REPLICATE_1.format(when)]
    assert pupil.updates.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("network", "share"),
    [
        ({"kind": "mlp", "hidden": [16]}, "role"),
        ({"kind": "mlp", "hidden": [32, 32]}, "role"),
        ({"kind": "mlp", "hidden": []}, "role"),
        ({"kind": "gru", "hidden": 32}, "role"),
        (NET, "agent"),
        ({**NET, "activation": "relu"}, "role"),
    ],
)
def test_other_policies_cannot_go_on(network, share):
    game = Requests(answers=2, words=3, length=1, features=4)
    table, _ = recorded(game, make_player("sft", network=NET), Worlds.grid(2, 1), 1)
    other = make_player("dpo", network=network, share=share)
    with refused("incompatible", path="players.assistant"):
        seated(table, other)


class Later(SFT):
    """Another recipe, which does the same."""


@unchecked()
def test_restoring_gives_back_as_much_as_is_allowed():
    """What a second lesson took returns until that lesson suffers by .3 nats; all if it may."""
    lessons = [Requests(answers=4, task=task, **SMALL) for task in range(2)]
    net = {"kind": "mlp", "hidden": [16]}
    table, worlds = None, Worlds.grid(3, 8)
    for game, recipe in zip(lessons, (SFT, Later), strict=True):
        player = recipe(network=net, learning_rate=0.02)
        memory = None if table is None else table.memory
        table, record = recorded(game, player, worlds, 8, memory=memory)
        fit(table, record, 30)
        if memory is None:
            first = policies(table)
    tuned = policies(table)
    found = read(record, table.memory["assistant"])
    shown = found.demonstrations("sft")

    def downstream(parameters):
        with torch.no_grad():
            return nll(said(table.memory["assistant"], parameters, "answer", shown), shown)

    def misaligned(parameters):
        with torch.no_grad():
            theirs = said(table.memory["assistant"], first, "answer", found.own)
            ours = said(table.memory["assistant"], parameters, "answer", found.own)
            batch = found.own.replace(reference_logits=theirs.logits)
            return kl(ours, batch, direction="forward")

    def restored(allowed, **plan):
        player = make_player("restoring", network=net, allowed=allowed, **plan)
        after = seated(table, player)
        fit(after, record, 1)
        return policies(after)

    some = restored(0.3, step_share=0.002, steps=60)
    rise = downstream(some) - downstream(tuned)
    assert (rise <= 0.3 + 1e-5).all() and (rise > 0.02).all(), rise
    assert (misaligned(some) < 0.95 * misaligned(tuned)).all()
    nothing = restored(0.0, step_share=0.05)
    assert (downstream(nothing) <= downstream(tuned) + 1e-5).all()
    # Only weights whose way back is downhill are restored: nearly all, in the end.
    everything = restored(1e6, step_share=0.1)
    assert (misaligned(everything) < 0.02 * misaligned(tuned)).all()


def test_restoring_needs_something_to_restore():
    game = Requests(answers=2, **SMALL)
    player = make_player("restoring", network=NET)
    table, record = recorded(game, player, Worlds.grid(1, 1), 1)
    with refused("wrong_order", path="stages"):
        fit(table, record, 1)
    table, record = recorded(game, make_player("sft", network=NET), Worlds.grid(1, 1), 1)
    with refused("wrong_order", path="stages"):
        seated(table, player)


# --- saved and loaded ---------------------------------------------------------------------------

SAVED = {
    "ppo": ("ppo", {"horizon": 7}),
    "gru": ("ppo", {"horizon": 7, "network": {"kind": "gru", "hidden": 6}}),
    "transformer": (
        "ppo",
        {"horizon": 7, "network": {"kind": "transformer", "hidden": 8, "context": 6}},
    ),
    "grpo": ("grpo", {"kl_weight": 0.1, "aggregate": "sum"}),
}


@pytest.mark.parametrize(("recipe", "at"), [*((recipe, 10) for recipe in SAVED), ("grpo", 21)])
def test_learners_play_on_bit_for_bit(recipe, at):
    """Saved in the midst of an episode and a horizon, loaded into a fresh table: all the same."""
    kind, settings = SAVED[recipe]
    lengths = (4, 6) if recipe != "grpo" else (22, 5)  # buffers of answers grow beyond 16 rounds
    game = Clockwork(lengths=lengths, seats=2)

    def table():
        player = make_player(kind, **{"network": NET, **settings})
        return Table(game, {"actor": player}, worlds=Worlds.grid(2, 2), rounds=30, autoreset=True)

    straight, resumed = table(), table()
    straight.reset(3)
    for step in range(30):
        if step == at:
            saved = straight.state_dict()
        straight.step()
    assert all(isinstance(t, torch.Tensor) for t in saved.values())
    resumed.load_state_dict(saved)
    for _ in range(30 - at):
        resumed.step()
    one, other = straight.state_dict(), resumed.state_dict()
    assert one.keys() == other.keys()
    for name, tensor in one.items():
        assert torch.equal(tensor.nan_to_num(7.0), other[name].nan_to_num(7.0)), name


def test_a_learner_that_took_over_is_saved_with_its_reference():
    """The reference is there although this recipe makes none of its own."""
    game = Requests(answers=2, **SMALL)
    table, _ = recorded(game, make_player("sft", network=NET), Worlds.grid(2, 1), 1)
    after = seated(table, make_player("simpo", network=NET))
    saved = after.state_dict()
    fresh = Table(game, after.players, worlds=table.worlds, rounds=3, stage=1, learning=[])
    fresh.load_state_dict(saved)
    reference = fresh.memory["assistant"].learned.pupil.reference
    assert reference.keys() == policies(table).keys()
    assert all(torch.equal(reference[name], tensor) for name, tensor in policies(table).items())


def test_what_was_saved_elsewhere_is_refused():
    game = Clockwork(lengths=(3,), seats=2)

    def table(**settings):
        found = Table(game, {"actor": make_player("ppo", **settings)}, worlds=2, rounds=9)
        found.reset(0)
        return found

    saved = table(network=NET).state_dict()
    for other in (
        {"network": {"kind": "mlp", "hidden": [8]}},
        {"share": "agent", "network": NET},
        {"network": {"kind": "gru", "hidden": 32}},
    ):
        with refused("incompatible"):
            table(**other).load_state_dict(saved)


def test_memories_can_be_packed_for_a_run():
    """What a run keeps to go on after a kill: unpacked, it is what was packed, bit for bit."""
    player = make_player("ppo", network=NET, horizon=5)
    game, worlds = Clockwork(lengths=(3, 4)), Worlds.grid(2, 2)
    table = taught(game, {"actor": player}, worlds, 2, 9)
    blank = taught(game, {"actor": player}, worlds, 0, 9).memory["actor"]
    again = unpacked(blank, packed(table.memory["actor"], blank))
    for name, tensor in pytree.flatten(table.memory["actor"]).items():
        assert torch.equal(pytree.flatten(again)[name], tensor), name


@pytest.mark.parametrize(
    ("kind", "settings", "path"),
    [
        ("ppo", {"groups": [0, 1]}, "ppo.groups"),
        ("ppo", {"search_candidates": 8}, "ppo.search_candidates"),
        ("ppo", {"search": "best_of", "search_ahead": 1}, "ppo.search_ahead"),
        ("dpo", {"annotators": 2}, "dpo.annotators"),
    ],
)
def test_nothing_is_set_in_vain(kind, settings, path):
    with refused("conflict", path=path):
        make_player(kind, **settings)
