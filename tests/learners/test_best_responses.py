"""What learners come to where theory says what is best: against opponents that do not learn."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping

import nashpy
import numpy as np
import pytest
import torch
from torch import Tensor

from mores.core.environment import StepResult
from mores.core.random_streams import RandomStreams, Worlds
from mores.envs.strategic.bimatrix_games import NAMED_GAMES
from mores.envs.strategic.matrix_game import MatrixGame
from mores.registry import make_policy
from tests.learners.small_games import Cue, Moment, OneRole, frozen, policies, taught, unchecked

SIXTEEN = 16
MIXES = (0.1, 0.35, 0.5, 0.8)  # probability that the opponent takes its first option


@dataclasses.dataclass(frozen=True)
class Case:
    """A named game of two by two seen from one side, against a mix of the other's options."""

    name: str
    side: int
    mix: float

    @property
    def pays(self) -> np.ndarray:
        """What one earns, by own option and the other's."""
        table = np.array(NAMED_GAMES[self.name][self.side])
        return table if self.side == 0 else table.T

    @property
    def gap(self) -> float:
        """How much better the first option is."""
        first, second = self.pays @ [self.mix, 1 - self.mix]
        return float(first - second)


@functools.cache
def cases() -> list[Case]:
    """Every class of game of two by two, both sides of those that differ, where it matters."""
    found = []
    for name, tables in NAMED_GAMES.items():
        if tables.num_options == (2, 2):
            same = np.array_equal(np.array(tables.row_payoffs), np.array(tables.column_payoffs).T)
            found += [Case(name, side, mix) for side in range(2 - same) for mix in MIXES]
    return [case for case in found if abs(case.gap) >= 0.5]


class ManyCases(OneRole):
    """Replicate r plays case r // 16 against its mix, once an episode; nothing is to be seen."""

    def observe(self, state: Moment, role: str, phase: str) -> Tensor:
        return torch.ones(len(state.round), self.seats, 3)

    def step(
        self, state: Moment, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[Moment]:
        tables = torch.tensor(np.array([case.pays for case in cases()]), dtype=torch.float32)
        mixes = torch.tensor([case.mix for case in cases()])
        which = torch.div(state.replicate.long(), SIXTEEN, rounding_mode="floor")
        other = streams.uniform("other", self.seats)[..., 0] >= mixes[which][:, None]
        paid = tables[which[:, None], actions["actor"], other.long()]
        return StepResult(
            dataclasses.replace(state, round=state.round + 1, paid=paid), {"actor": paid}
        )


def test_the_oracle_is_nashpys():
    """Best responses by enumeration are what nashpy says of a profile."""
    names = {case.name for case in cases()}
    assert len(names) == 8 and len(cases()) >= 25
    for case in cases():
        game = nashpy.Game(case.pays, np.zeros((2, 2)))
        pure = [1.0, 0.0] if case.gap > 0 else [0.0, 1.0]
        assert game.is_best_response(np.array(pure), np.array([case.mix, 1 - case.mix]))[0]


@pytest.mark.slow
@pytest.mark.parametrize("recipe", ["ppo", "grpo", "reinforce"])
@unchecked()
def test_every_learner_finds_the_best_response(recipe):
    """All 16 learners of every case take the best option with a probability above .9 (seed 0)."""
    more = {
        "ppo": {"horizon": 1, "minibatches": 1, "entropy_weight": 0.0},
        "grpo": {"epochs": 4},
        "reinforce": {"epochs": 2, "entropy_weight": 0.0},
    }[recipe]
    player = make_policy(recipe, learning_rate=0.02, network={"kind": "mlp", "hidden": [4]}, **more)
    replicates = SIXTEEN * len(cases())
    worlds = Worlds.grid(replicates, 1)
    table = taught(ManyCases(seats=192), {"actor": player}, worlds, episodes=40, rounds=1)
    test = frozen(table)
    memory, weights = test.policy_states["actor"], policies(test)
    seen = test.observe("actor")[:, :1]
    raw, _, _ = memory.spec.stacked_model.forward_step(weights, "act", seen, seen[..., :0])
    first = raw.softmax(-1)[:, 0, 0].view(-1, SIXTEEN)
    for case, chance in zip(cases(), first, strict=True):
        best = chance if case.gap > 0 else 1 - chance
        assert best.min() > 0.9, f"{recipe}, {case}: {best}"


@pytest.mark.slow
@pytest.mark.parametrize(("discount", "episodes"), [(0.96, 20), (0.0, 8)])
@unchecked()
def test_tit_for_tat_is_met_with_cooperation_by_who_looks_ahead(discount, episodes):
    """The repeated prisoner's dilemma: what pays against tit-for-tat depends on the discount.

    At .96 to cooperate for ever is the best response, at 0 to defect. At least 90 of 100 of 64
    independent learners come to it in a frozen test (seed 0).
    """
    learner = {
        "kind": "ppo",
        "network": {"kind": "mlp", "hidden": [32]},
        "learning_rate": 0.01,
        "discount": discount,
        "horizon": 32,
        "minibatches": 1,
    }
    cast = make_policy("cast", seats=[learner, {"kind": "strategy", "name": "tit_for_tat"}])
    game = MatrixGame(payoffs="prisoners_dilemma", memory_depth=1)
    table = taught(game, {"player": cast}, Worlds.grid(64, 4), episodes, 64)
    test = frozen(table)
    while not test.all_finished:
        test.step()
    share = game.metrics(test.state)["cooperations"][:, 0].view(64, 4).mean(1)
    right = share > 0.9 if discount else share < 0.1
    assert right.float().mean() >= 0.9, right.float().mean()


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["mlp", "gru", "transformer"])
@unchecked()
def test_only_networks_that_remember_recall(kind):
    """A cue shown two rounds ago: whoever remembers is right, a perceptron as often as a coin."""
    network = {
        "mlp": {"kind": "mlp", "hidden": [16]},
        "gru": {"kind": "gru", "hidden": 12},
        "transformer": {"kind": "transformer", "hidden": 16, "blocks": 1, "context": 3},
    }[kind]
    rate = 0.005 if kind == "transformer" else 0.02
    player = make_policy(
        "ppo",
        network=network,
        horizon=3,
        minibatches=1,
        learning_rate=rate,
        entropy_weight=0.03,
        discount=0.9,
    )
    game = Cue(seats=32, delay=2)
    table = taught(game, {"actor": player}, Worlds.grid(4, 4), episodes=40, rounds=10)
    test = frozen(table)
    while not test.all_finished:
        test.step()
    right = test.state.paid.view(4, -1).mean(1)
    if kind == "mlp":
        assert (right < 0.75).all(), right  # of 128 coins, 96: p < 1e-7
    else:  # all did with every one of 4 seeds; one may be slow elsewhere
        assert (right > 0.95).sum() >= 3, right
