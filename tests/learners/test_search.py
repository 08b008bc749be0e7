"""Deciding by search: a plain search by hand, seat by seat, takes the same options."""

from __future__ import annotations

import itertools

import pytest
import torch

from mores.core.environment import Box, Discrete, Part, Role, StepResult
from mores.core.random_streams import Worlds
from mores.registry import make_policy
from mores.sim.simulator import Simulator
from tests.learners.small_games import Moment, OneRole, frozen, play_on, policies, taught
from tests.learners.test_fit import NET
from tests.refusals import refused


class Letters(OneRole):
    """A word letter by letter. Luck says which letters count double; one may be closed."""

    length: int = 3
    letters: int = 4
    foresight: bool = True

    def sees(self) -> Box:
        return Box.of(word=Part(self.length * self.letters, 0.0, 1.0), at=Part(self.length + 1))

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("actor", self.seats, self.sees(), self.after if self.foresight else None),)

    def space(self):
        return Discrete(self.letters)

    def reset(self, streams, people=None) -> Moment:
        state = super().reset(streams, people)
        blank = torch.zeros(streams.num_worlds, self.seats, self.sees().size)
        blank[..., self.length * self.letters] = 1.0
        return Moment(**{**vars(state), "done": blank})

    def observe(self, state, role, phase):
        return state.done

    def after(self, seen, letter):
        word, at = seen.split([self.length * self.letters, self.length + 1], -1)
        here = at[..., :-1, None] * torch.nn.functional.one_hot(letter, self.letters)[..., None, :]
        word = word + here.flatten(-2)
        moved = torch.cat([torch.zeros_like(at[..., :1]), at[..., :-1]], -1)
        moved[..., -1] = moved[..., -1] + at[..., -1]  # a whole word stays as it is
        return torch.cat([word, moved], -1)

    def action_mask(self, state, role, phase):
        closed = torch.arange(self.letters) == 1
        odd = (state.number % 2 == 1)[:, None, None]
        return ~(closed & odd).expand(-1, self.seats, -1)

    def step(self, state, phase, actions, streams):
        done = self.after(state.done, actions["actor"])
        after = Moment(**{**vars(state), "done": done, "round": state.round + 1})
        return StepResult(after, {}, after.round >= self.length)


class Turned(Letters):
    """The letters are read backwards."""

    def after(self, seen, letter):
        return super().after(seen, self.letters - 1 - letter)


def searching(**search):
    """A table of learners with random linear policies and critics that decide by a search."""
    player = make_policy("ppo", network={"kind": "mlp", "hidden": []}, share="agent", **search)
    table = Simulator(
        Letters(seats=2),
        {"actor": player},
        worlds=Worlds.grid(3, 2),
        rounds=9,
        roles_to_train=[],
        search=True,
    )
    table.reset(0)
    source = torch.Generator().manual_seed(1)
    for tensor in table.policy_states["actor"].learned.train_state.parameters.values():
        tensor.copy_(torch.randn(tensor.shape, generator=source))
    return table


def plain(table, world, seat):
    """Log-probabilities and the value of a sight of one seat, by its own parameters."""
    weights = policies(table)
    own = (world // 2) * 2 + seat  # replicates of two worlds, two policies each

    def logp(seen):
        raw = seen @ weights["act.act.weight"][own] + weights["act.act.bias"][own, 0]
        return raw.log_softmax(-1)

    def value(seen):
        return float(seen @ weights["value.weight"][own, :, 0] + weights["value.bias"][own, 0, 0])

    return logp, value


def words_by_hand(table, choose):
    """The words that all seats write if each letter is chosen so."""
    game, found = table.environment, {}
    for world, seat in itertools.product(range(6), range(2)):
        logp, value = plain(table, world, seat)
        seen = table.observe("actor")[world, seat]
        legal = [a for a in range(4) if not (a == 1 and world % 2)]
        for _ in range(3):
            seen = game.next_observation(
                seen, torch.tensor(choose(seen, legal, logp, value, game.next_observation))
            )
        found[world, seat] = seen
    return found


def as_it_should(table, choose):
    expected = words_by_hand(table, choose)
    play_on(table, 1)
    for (world, seat), seen in expected.items():
        assert torch.equal(table.state.done[world, seat], seen), (world, seat)


@pytest.mark.parametrize("ahead", [0, 1, 2])
def test_looking_ahead_is_what_it_says(ahead):
    """Of the three likeliest open letters, log-probability and twice the value some acts later."""
    table = searching(
        search="look_ahead", search_ahead=ahead, search_candidates=3, search_weight=2.0
    )

    def choose(seen, legal, logp, value, after):
        def score(letter):
            there = after(seen, torch.tensor(letter))
            for _ in range(ahead):
                there = after(there, logp(there).argmax())
            return float(logp(seen)[letter]) + 2.0 * value(there)

        likeliest = sorted(legal, key=lambda letter: -float(logp(seen)[letter]))[:3]
        return max(likeliest, key=score)

    as_it_should(table, choose)


def test_the_best_of_enough_is_the_best_of_all():
    """512 candidates are all letters, where none is rare: the most promising open one is taken."""
    table = searching(search="best_of", search_candidates=512)
    for name in ("act.act.weight", "act.act.bias"):
        table.policy_states["actor"].learned.train_state.parameters[name].mul_(0.3)

    def choose(seen, legal, logp, value, after):
        return max(legal, key=lambda letter: value(after(seen, torch.tensor(letter))))

    as_it_should(table, choose)


def test_a_search_foresees_where_it_is():
    """Who goes on in another environment looks ahead by its rules, not by those of the one left."""
    table = searching(search="look_ahead", search_ahead=0, search_candidates=4, search_weight=9.0)
    elsewhere = frozen(table, Turned(seats=2))

    def choose(seen, legal, logp, value, after):
        return max(
            legal,
            key=lambda letter: (
                float(logp(seen)[letter]) + 9.0 * value(after(seen, torch.tensor(letter)))
            ),
        )

    here = words_by_hand(table, choose)
    there = words_by_hand(elsewhere, choose)
    assert any(not torch.equal(word, there[seat]) for seat, word in here.items())
    as_it_should(elsewhere, choose)


def test_without_a_search_the_likeliest_is_done():
    def choose(seen, legal, logp, value, after):
        return max(legal, key=lambda letter: float(logp(seen)[letter]))

    as_it_should(searching(), choose)
    as_it_should(searching(search="look_ahead", search_candidates=1), choose)


@pytest.mark.parametrize("search", ["best_of", "look_ahead"])
def test_a_search_says_what_it_needs(search):
    with refused("unsupported", path="grpo.search"):
        make_policy("grpo", search=search)
    for game, network, code in (
        (Letters(foresight=False), NET, "unsupported"),
        (Letters(), {"kind": "gru"}, "conflict"),
    ):
        player = make_policy("ppo", search=search, network=network)
        table = taught(game, {"actor": player}, Worlds.grid(1, 1), 0)
        table.step()  # to act, no search is needed
        with refused(code, path="search"):
            frozen(table).step()
