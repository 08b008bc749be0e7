"""Recipes one after another, and learners that are saved and loaded."""

from __future__ import annotations

import dataclasses
import math

import pytest
import torch
from pydantic import Field

from mores.agents.learning.losses import kl_loss, nll_loss
from mores.agents.learning.offline import evaluate_plain_view
from mores.agents.learning.offline_data import read_offline_data
from mores.agents.learning.recipes.sft import SFT
from mores.core import pytree
from mores.core.random_streams import Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.experiments.results.pytree_serialization import deserialize, serialize
from mores.registry import make_policy
from mores.sim.simulator import Simulator
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
    (role,) = table.policies
    after = Simulator(
        game or table.environment,
        {role: player},
        worlds=table.worlds,
        rounds=table.rounds,
        stage=table.stage + 1,
        roles_to_train=[],
        **more,
    )
    after.reset(table.seed, table.policy_states)
    return after


def test_preferences_go_on_from_imitation():
    """Parameters go on; DPO's reference is what it began from, and stays."""
    game = TokenFeedback(num_completions=4, **SMALL)
    table, record = recorded(game, make_policy("sft", network=NET), Worlds.grid(2, 2), 3)
    fit(table, record, 2)
    imitated = policies(table)
    after = seated(table, make_policy("dpo", network=NET, learning_rate=0.01))
    pupil = after.policy_states["assistant"].learned.train_state
    for name, tensor in imitated.items():
        assert torch.equal(pupil.parameters[name], tensor)
        assert torch.equal(pupil.reference_parameters[name], tensor)
    assert (
        not pupil.optimizer_state.step.any()
        and int(after.policy_states["assistant"].learned.num_rounds) == 2
    )
    fit(after, record, 2)
    for name, tensor in imitated.items():
        assert torch.equal(pupil.reference_parameters[name], tensor)
        assert torch.equal(policies(table)[name], tensor), "the predecessor's own stay"
    assert any(not torch.equal(now, imitated[name]) for name, now in policies(after).items())


def test_who_stopped_has_stopped_for_good():
    player = make_policy("ppo", network=NET, horizon=4)
    table = taught(Poisoned(sick=1), {"actor": player}, Worlds.grid(2, 1), 1, 4)
    other = make_policy("reinforce", network=NET)
    after = seated(table, other)
    assert (
        other.troubles(after.policy_states["actor"])
        == player.stop_reasons(table.policy_states["actor"])
        != []
    )
    taught_more = Simulator(Poisoned(), {"actor": other}, worlds=table.worlds, rounds=4, stage=2)
    taught_more.reset(0, after.policy_states)
    play_on(taught_more, 1)
    for name, tensor in policies(table).items():
        if name in policies(taught_more):
            moved = policies(taught_more)[name] != tensor
            assert not moved[1].any() and (moved[0].any() or "bias" in name), name


class Unsound(TokenFeedback):
    """Whatever replicate 1 earns, and what is said of its answers' worth, is no number."""

    bad: float = Field(0.0, allow_inf_nan=True)

    def step(self, state, phase, actions, streams):
        def spoilt(told):
            sick = (streams.replicate == 1).view(-1, *[1] * (told.dim() - 1))
            return torch.where(sick, self.bad, told) if told.is_floating_point() else told

        step = super().step(state, phase, actions, streams)
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
    player = make_policy(kind, network=NET, **more)
    game = Unsound(num_completions=4, bad=bad, **SMALL)
    table = taught(game, {"assistant": player}, Worlds.grid(2, 2), 1, 3)
    assert player.stop_reasons(table.policy_states["assistant"]) == [IN_REPLICATE_1.format(3)]
    first, second = player.state_dict(table.policy_states["assistant"])["updates"].tolist()
    assert first > 0 and second == 0


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["sft", "dpo", "ipo", "simpo", "cpo", "kto", "cut", "dckd",
                                  "adpa", "restoring"])  # fmt: skip
@unchecked()
def test_whose_record_has_no_numbers_stops_and_is_named(kind, bad):
    more = {"teacher_passes": 1} if kind in ("dckd", "adpa") else {}
    player = make_policy(kind, network=NET, **more)
    table, record = recorded(
        TokenFeedback(num_completions=4, **SMALL), player, Worlds.grid(2, 2), 2
    )
    record.observation["answer"][2:] = bad
    pupil = table.policy_states["assistant"].learned.train_state
    if kind == "restoring":
        pupil.reference_parameters.update({name: x + 0.1 for name, x in pupil.parameters.items()})
    fit(table, record, 1)
    when = 0 if more else 1  # the teacher's own lesson comes before
    assert player.stop_reasons(table.policy_states["assistant"]) == [IN_REPLICATE_1.format(when)]
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
    game = TokenFeedback(
        num_completions=2, vocab_size=3, completion_length=1, num_prompt_features=4
    )
    table, _ = recorded(game, make_policy("sft", network=NET), Worlds.grid(2, 1), 1)
    other = make_policy("dpo", network=network, share=share)
    with refused("incompatible", path="players.assistant"):
        seated(table, other)


class Later(SFT):
    """Another recipe, which does the same."""


@unchecked()
def test_restoring_gives_back_as_much_as_is_allowed():
    """What a second lesson took returns until that lesson suffers by .3 nats; all if it may."""
    lessons = [TokenFeedback(num_completions=4, task_seed=task, **SMALL) for task in range(2)]
    net = {"kind": "mlp", "hidden": [16]}
    table, worlds = None, Worlds.grid(3, 8)
    for game, recipe in zip(lessons, (SFT, Later), strict=True):
        player = recipe(network=net, learning_rate=0.02)
        memory = None if table is None else table.policy_states
        table, record = recorded(game, player, worlds, 8, memory=memory)
        fit(table, record, 30)
        if memory is None:
            first = policies(table)
    tuned = policies(table)
    found = read_offline_data(record, table.policy_states["assistant"])
    shown = found.demonstrations("sft")

    def downstream(parameters):
        with torch.no_grad():
            return nll_loss(
                evaluate_plain_view(table.policy_states["assistant"], parameters, "answer", shown),
                shown,
            )

    def misaligned(parameters):
        with torch.no_grad():
            theirs = evaluate_plain_view(
                table.policy_states["assistant"], first, "answer", found.generated
            )
            ours = evaluate_plain_view(
                table.policy_states["assistant"], parameters, "answer", found.generated
            )
            batch = found.generated.replace(reference_logits=theirs.logits)
            return kl_loss(ours, batch, direction="forward")

    def restored(allowed, **plan):
        player = make_policy("restoring", network=net, allowed=allowed, **plan)
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
    game = TokenFeedback(num_completions=2, **SMALL)
    player = make_policy("restoring", network=NET)
    table, record = recorded(game, player, Worlds.grid(1, 1), 1)
    with refused("wrong_order", path="stages"):
        fit(table, record, 1)
    table, record = recorded(game, make_policy("sft", network=NET), Worlds.grid(1, 1), 1)
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
        player = make_policy(kind, **{"network": NET, **settings})
        return Simulator(
            game, {"actor": player}, worlds=Worlds.grid(2, 2), rounds=30, autoreset=True
        )

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
    game = TokenFeedback(num_completions=2, **SMALL)
    table, _ = recorded(game, make_policy("sft", network=NET), Worlds.grid(2, 1), 1)
    after = seated(table, make_policy("simpo", network=NET))
    saved = after.state_dict()
    fresh = Simulator(
        game, after.policies, worlds=table.worlds, rounds=3, stage=1, roles_to_train=[]
    )
    fresh.load_state_dict(saved)
    reference = fresh.policy_states["assistant"].learned.train_state.reference_parameters
    assert reference.keys() == policies(table).keys()
    assert all(torch.equal(reference[name], tensor) for name, tensor in policies(table).items())


def test_what_was_saved_elsewhere_is_refused():
    game = Clockwork(lengths=(3,), seats=2)

    def table(**settings):
        found = Simulator(game, {"actor": make_policy("ppo", **settings)}, worlds=2, rounds=9)
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
    player = make_policy("ppo", network=NET, horizon=5)
    game, worlds = Clockwork(lengths=(3, 4)), Worlds.grid(2, 2)
    table = taught(game, {"actor": player}, worlds, 2, 9)
    blank = taught(game, {"actor": player}, worlds, 0, 9).policy_states["actor"]
    again = deserialize(blank, serialize(table.policy_states["actor"], blank))
    for name, tensor in pytree.flatten(table.policy_states["actor"]).items():
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
        make_policy(kind, **settings)
