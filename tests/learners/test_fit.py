"""Learning from records: what is read out of them, and what recipes make of it."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from mores.agents.learning.offline import evaluate_plain_view
from mores.agents.learning.offline_data import read_offline_data
from mores.core.environment import Role
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.feedback.token_feedback import TokenFeedback
from mores.registry import make_policy
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.learners.small_games import (
    Clockwork,
    Cue,
    Poisoned,
    Silent,
    play_on,
    policies,
    taught,
    unchecked,
)
from tests.refusals import refused

SMALL = {"words": 6, "length": 3, "features": 3}
NET = {"kind": "mlp", "hidden": [32]}


def recorded(game, player, worlds, episodes, seed=0, memory=None, rounds=None, autoreset=False):
    """A table at which nobody learned, and the record of its one role."""
    role = game.roles[0].name
    diary = EpisodeRecorder([role])
    rounds = rounds or getattr(game, "length", 100)
    table = Simulator(
        game,
        {role: player},
        worlds=worlds,
        rounds=rounds,
        roles_to_train=[],
        recorder=diary,
        stage=0 if memory is None else 1,
        autoreset=autoreset,
    )
    table.reset(seed, memory)
    play_on(table, episodes)
    return table, diary.dataset(role)


def fit(table, experience, passes, first=0):
    """Passes over a record, each with draws of its own; memory is changed in place."""
    (role, player) = next(iter(table.policies.items()))
    draws = RandomStreams.of(table.seed, table.worlds, stage=5)
    for number in range(first, first + passes):
        memory = player.fit_offline(
            table.policy_states[role], experience, draws.at(number).child("fit")
        )
        table.policy_states[role] = memory
    return table.policy_states[role]


# --- what is read -------------------------------------------------------------------------------


def test_samples_are_episodes_of_seats():
    """Three episodes in worlds of unequal length: sights, acts, rewards, and what is padding."""
    lengths = (2, 5, 3)
    game = Silent(lengths=lengths, seats=2)
    player = make_policy("kto", network=NET)
    table, experience = recorded(game, player, Worlds.grid(2, 3), 3)
    own = read_offline_data(experience, table.policy_states["actor"]).generated
    assert own.mask.shape == (2, 3 * 2 * 3, 5)
    assert own.pairs is None and own.desirable is None
    lucks, requests = set(), {}
    for policy in range(2):
        for sample in range(18):
            row, episode = divmod(sample, 3)
            world, seat = divmod(row, 2)
            length = lengths[world]
            assert own.mask[policy, sample].tolist() == [t < length for t in range(5)]
            clock, number, luck = own.observation[policy, sample, :length].T
            assert clock.tolist() == list(range(length)) and (number == world).all()
            assert (luck == luck[0]).all()
            lucks.add(luck[0].item())
            assert own.reward[policy, sample].tolist() == [sum(range(1, length + 1))]
            request = int(own.group[policy, sample])
            assert requests.setdefault((policy, world, episode), request) == request
            acted = experience.action["act"][policy * 3 + world, 5 * episode :][:length, seat]
            assert torch.equal(own.action[policy, sample, :length], acted)
    assert len(lucks) == 36, "every episode of every seat has a luck of its own"
    assert len(set(requests.values())) == len(requests) == 18, "and every one of a world a group"


@pytest.mark.parametrize(
    ("share", "groups", "paired"),
    [
        ("role", None, True),
        ("group", [0, 0, 1, 1], True),
        ("group", [1, 1, 0, 0], True),
        ("group", [0, 1, 0, 1], False),  # those of a pair are of two policies
        ("group", [0, 0, 0, 0, 1, 1], False),  # unlike numbers of pairs
        ("agent", None, False),
    ],
)
def test_pairs_are_of_seats_beside_each_other(share, groups, paired):
    seats = len(groups) if groups else 4
    game = TokenFeedback(num_completions=seats, annotator_error_rates=(0.1, 0.2), **SMALL)
    player = make_policy("dpo", network=NET, share=share, groups=groups)
    table, experience = recorded(game, player, Worlds.grid([5, 2], 3), 2)
    memory = table.policy_states["assistant"]
    own = read_offline_data(experience, memory).generated
    told = experience.feedback
    assert own.desirable is not None and (own.pairs is not None) == paired
    place = {}  # of each sample: world among all, seat, episode
    rows = memory.learned.mapping.agent_rows
    for policy, row in memory.learned.mapping.valid.nonzero().tolist():
        for episode in range(2):
            world, seat = divmod(int(rows[policy, row]), seats)
            place[policy, 2 * row + episode] = world, seat, episode
    for (policy, sample), (world, seat, episode) in place.items():
        wanted = bool(told["preferred"][world, episode, seat])
        assert bool(own.desirable[policy, sample]) == wanted
        assert torch.equal(own.reward[policy, sample], told["reward"][world, episode, seat])
    if not paired:
        return
    seen = set()
    for policy, pair in torch.ones_like(own.preferred).nonzero().tolist():
        one, other = own.pairs[policy, pair].tolist()
        (world, seat, episode), second = place[policy, one], place[policy, other]
        assert second == (world, seat + 1, episode) and seat % 2 == 0
        assert bool(own.preferred[policy, pair]) == bool(told["preferred"][world, episode, seat])
        assert own.annotator[policy, pair] == told["annotator"][world, episode, seat]
        seen.add((world, seat, episode))
    assert len(seen) == 6 * seats // 2 * 2, "every pair once"


def test_demonstrations_are_seen_word_by_word():
    """Sights of what was shown: the same request, and the words shown so far."""
    game = TokenFeedback(num_completions=4, **SMALL)
    table, experience = recorded(game, make_policy("sft", network=NET), Worlds.grid(2, 2), 2)
    record = read_offline_data(experience, table.policy_states["assistant"])
    shown, sees = record.demonstrations("a test"), game.roles[0].observation_space
    request = sees.read(record.generated.observation[:, :, :1], "request")
    assert torch.equal(sees.read(shown.observation, "request"), request.expand(-1, -1, 3, -1))
    marks = torch.nn.functional.one_hot(shown.action, 6).float()
    for t in range(3):
        written = sees.read(shown.observation[:, :, t], "answer").unflatten(-1, (3, 6))
        assert torch.equal(written[:, :, :t], marks[:, :, :t])
        assert not written[:, :, t:].any()
    assert not sees.read(shown.observation, "judgement").any()
    assert shown.is_demonstration.all() and shown.mask.all()
    told = experience.feedback["demonstration"]  # world episode seat word
    assert torch.equal(shown.action, told.movedim(1, 2).reshape(2, -1, 3))


@pytest.mark.parametrize(
    "network",
    [NET, {"kind": "gru", "hidden": 8}, {"kind": "transformer", "hidden": 8, "context": 3}],
)
def test_what_is_asked_of_a_record_is_what_acted(network):
    """Who always does the likeliest finds it the likeliest when the record is read."""
    game = Silent(lengths=(3, 2), seats=2)
    player = make_policy("kto", network=network, temperature=0.0)
    table, experience = recorded(game, player, Worlds.grid(20, 2), 2)
    memory = table.policy_states["actor"]
    own = read_offline_data(experience, memory).generated
    out = evaluate_plain_view(memory, memory.learned.train_state.parameters, "act", own)
    assert torch.equal(out.logits.argmax(-1)[own.mask], own.action[own.mask])
    assert 0 < own.action[own.mask].float().mean() < 1


# --- what cannot be read ------------------------------------------------------------------------


def unreadable(code, path, kind, game, worlds, episodes=1, player=None, **how):
    """What was recorded cannot be read: fitting is refused with that code and path."""
    player = player or make_policy(kind, network=NET)
    table, experience = recorded(game, player, worlds, episodes, **how)
    with refused(code, path=path):
        fit(table, experience, 1)


def test_errors_say_what_is_missing():
    unreadable("missing", "demonstration", "sft", Poisoned(), Worlds.grid(1, 1), rounds=3)
    unreadable("missing", "preferred", "dpo", Poisoned(), Worlds.grid(1, 1), rounds=3)
    unreadable("missing", "preferred", "kto", Poisoned(), Worlds.grid(1, 1), rounds=3)
    unreadable("missing", "judgement", "cut", Poisoned(), Worlds.grid(1, 1), rounds=3)
    alone, game = (
        make_policy("dpo", network=NET, share="agent"),
        TokenFeedback(num_completions=4, **SMALL),
    )
    unreadable("conflict", "share", "dpo", game, Worlds.grid(1, 1), player=alone)


def test_feedback_is_once_an_episode():
    unreadable("wrong_shape", "reward", "kto", Clockwork(lengths=(3,)), Worlds.grid(1, 1), 2)


def test_nothing_can_be_learned_from_nothing():
    player = make_policy("kto", network=NET)
    unreadable("wrong_order", "players.actor", "kto", Poisoned(), Worlds.grid(1, 1), 0)
    table, experience = recorded(Poisoned(), player, Worlds.grid(1, 1), 1, rounds=3)
    unfinished = dataclasses.replace(experience, done=torch.zeros_like(experience.done))
    with refused("missing"):
        fit(table, unfinished, 1)


def test_episodes_of_all_worlds_begin_together():
    player = make_policy("kto", network=NET)
    diary = EpisodeRecorder(["actor"])
    table = Simulator(
        Silent(lengths=(2, 3)),
        {"actor": player},
        worlds=Worlds.grid(1, 2),
        roles_to_train=[],
        recorder=diary,
        autoreset=True,
    )
    table.reset(0)
    for _ in range(6):
        table.step()
    with refused("unsupported", path="autoreset"):
        fit(table, diary.dataset("actor"), 1)


def test_demonstrations_need_foresight():
    """Where a next sight does not follow from one's act, several acts cannot be imitated."""

    class Blind(TokenFeedback):
        @property
        def roles(self):
            return tuple(
                dataclasses.replace(role, observation_model=None) for role in super().roles
            )

    blind = Blind(num_completions=2, **SMALL)
    unreadable("unsupported", "players.assistant", "sft", blind, Worlds.grid(1, 1))
    assert isinstance(blind.roles[0], Role)


# --- what recipes make of it --------------------------------------------------------------------


def margin(memory, own):
    """By how much winners are likelier than losers, the mean over each policy's pairs."""
    with torch.no_grad():
        out = evaluate_plain_view(memory, memory.learned.train_state.parameters, "answer", own)
    first, second = (out.logp.sum(-1).gather(1, own.pairs[..., k]) for k in range(2))
    won, lost = torch.where(own.preferred, first, second), torch.where(own.preferred, second, first)
    return (won - lost).mean(1), won.mean(1)


@pytest.mark.parametrize("kind", ["dpo", "ipo", "simpo", "cpo", "kto"])
@unchecked()
def test_what_was_preferred_becomes_likelier(kind):
    """Also in answers to other requests, that were not learned from: in every replicate."""
    game = TokenFeedback(num_completions=8, **SMALL)
    player = make_policy(kind, network=NET, learning_rate=0.01, batch_size=128)
    table, experience = recorded(game, player, Worlds.grid(4, 8), 10)
    memory = table.policy_states["assistant"]
    own = read_offline_data(experience, memory).generated
    new_table, new = recorded(game, player, Worlds.grid(4, 8), 4, seed=1)
    new = read_offline_data(new, new_table.policy_states["assistant"]).generated
    (before, winners), (before_new, _) = margin(memory, own), margin(memory, new)
    fit(table, experience, 6)
    (after, winners_after), (after_new, _) = margin(memory, own), margin(memory, new)
    assert (before.abs() < 0.05).all() and (after > 0.3).all(), after
    assert (before_new.abs() < 0.05).all() and (after_new > 0.15).all(), after_new
    if kind == "cpo":  # its imitation keeps winners from becoming rarer
        assert (winners_after > winners).all()


@unchecked()
def test_annotators_are_believed_as_far_as_they_deserve():
    """RE-PO finds that one errs in 10 of 100 labels and the other in 35, within 7 (seed 0).

    A linear policy, enough for tastes that are linear in the request, and clear choices.
    """
    game = TokenFeedback(
        num_completions=8,
        vocab_size=6,
        completion_length=2,
        num_prompt_features=3,
        inappropriate_vocab_share=0.0,
        rationality=1000.0,
        annotator_error_rates=(0.1, 0.35),
    )
    player = make_policy(
        "dpo",
        robust=True,
        annotators=2,
        scale=3.0,
        learning_rate=0.03,
        batch_size=256,
        network={"kind": "mlp", "hidden": []},
    )
    table, experience = recorded(game, player, Worlds.grid(4, 16), 24)
    memory = fit(table, experience, 40)
    reliability = memory.learned.extra["reliability"]
    assert (reliability - torch.tensor([0.9, 0.65])).abs().max() < 0.07, reliability
    assert torch.equal(player.state_dict(memory)["reliability"], reliability)


@pytest.mark.slow
@unchecked()
def test_judgements_that_name_words_tell_what_is_wrong():
    """CUT's flags: words named in judgements against one bit an answer, replicate by replicate."""

    def flagged(judgement):
        game = TokenFeedback(
            num_completions=8,
            vocab_size=8,
            completion_length=4,
            num_prompt_features=3,
            review=True,
            critique_detail=judgement,
        )
        player = make_policy("cut", network=NET, learning_rate=0.005)
        table, experience = recorded(game, player, Worlds.grid(4, 8), 16)
        before = game.metrics(table.state)["inappropriate_share"]
        fit(table, experience, 12)
        test = Simulator(
            game, table.policies, worlds=table.worlds, rounds=4, stage=2, roles_to_train=[]
        )
        test.reset(0, table.policy_states)
        found = []
        for episode in range(4):
            if episode:
                test.next_episode()
            play_on(test, 1)
            found.append(game.metrics(test.state))
        names = ("detection_precision", "detection_recall", "inappropriate_share")
        by_replicate = {
            n: torch.stack([f[n] for f in found]).mean(0).view(4, 8).mean(1) for n in names
        }
        return by_replicate, before

    (words, before), (bit, _) = flagged("words"), flagged("bit")
    precision, recall = words["detection_precision"], words["detection_recall"]
    assert (precision > 0.6).all() and (recall > 0.8).all(), (precision, recall)
    assert (bit["detection_recall"] < 0.6).all(), bit

    def both(found):
        p, r = found["detection_precision"], found["detection_recall"]
        return 2 * p * r / (p + r).clamp(min=1e-6)

    assert (both(words) > both(bit) + 0.2).all()
    assert (words["inappropriate_share"] < before.mean() - 0.08).all()


@pytest.mark.parametrize("kind", ["dckd", "adpa"])
@unchecked()
def test_a_teacher_is_made_once(kind):
    game = TokenFeedback(num_completions=4, **SMALL)
    player = make_policy(kind, network=NET, teacher_hidden=[16], teacher_passes=3)
    table, experience = recorded(game, player, Worlds.grid(2, 4), 4)
    extra = table.policy_states["assistant"].learned.extra
    first = {name: tensor.clone() for name, tensor in extra.items()}
    assert not first["taught"].any()
    fit(table, experience, 1)
    then = {name: tensor.clone() for name, tensor in extra.items()}
    assert then["taught"].all()
    before = policies(table)
    fit(table, experience, 2, first=1)
    assert all(torch.equal(extra[name], tensor) for name, tensor in then.items())
    assert any(not torch.equal(before[name], now) for name, now in policies(table).items())
    for name in (n.removeprefix("teacher.") for n in first if n.startswith("teacher.")):
        if "weight" in name:
            assert not torch.equal(then[f"teacher.{name}"], then[f"untaught.{name}"]), name
            assert not torch.equal(then[f"untaught.{name}"], first[f"untaught.{name}"]), name


@unchecked()
def test_many_fit_as_each_alone():
    """DPO: parameters of five replicates after 50 steps, to 1e-5 of each trained alone."""
    game = TokenFeedback(num_completions=4, **SMALL)
    player = make_policy("dpo", network=NET, learning_rate=0.01, batch_size=8)

    def learned(replicates):
        table, experience = recorded(game, player, Worlds.grid(replicates, 2), 5)
        memory = fit(table, experience, 17)  # 20 pairs: 3 steps a pass
        assert (memory.learned.train_state.optimizer_state.step == 51).all()
        return policies(table)

    together = learned(range(5))
    for replicate in range(5):
        for name, tensor in learned([replicate]).items():
            among = together[name][replicate : replicate + 1]
            torch.testing.assert_close(among, tensor, atol=1e-5, rtol=0)


def test_learners_that_act_do_not_fit_and_the_reverse():
    assert make_policy("dpo").supports("fit_offline") and not make_policy("dpo").supports("update")
    assert make_policy("ppo").supports("update") and not make_policy("ppo").supports("fit_offline")
    table = taught(Cue(), {"actor": make_policy("sft", network=NET)}, Worlds.grid(1, 1), 1)
    assert int(table.policy_states["actor"].learned.num_rounds) == 0
