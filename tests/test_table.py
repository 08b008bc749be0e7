"""The table: pay, ends, seats, repairs, and saving, on games that reach its corners."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from mores.core import pytree
from mores.core.environment import Box, Discrete, MultiDiscrete, Phase, Role, StepResult
from mores.sim.simulation import simulate
from mores.sim.simulator import ExternalTurn, Simulator
from tests.conformance.games import EVERY_GAME, AnyOption, Meeting, Relay, Still, Tally, make
from tests.refusals import refused


def acts(table: Simulator, step: int) -> dict[str, torch.Tensor]:
    """Actions for everybody who must act, drawn from a seed and the step: legal choices."""
    generator = torch.Generator().manual_seed(step)
    given = {}
    for role in table.acting_roles:
        space, seats = table.phase.action_spaces[role], table.external[role]
        shape = (len(table.worlds), len(seats))
        if isinstance(space, Discrete):
            mask = table.action_mask(role, space.num_options)[:, seats]
            noise = torch.rand(mask.shape, generator=generator)
            given[role] = torch.where(mask, noise, -1.0).argmax(-1)
        elif isinstance(space, MultiDiscrete):
            mask = table.action_mask(role, space.num_options)[:, seats]
            noise = torch.where(mask, torch.rand(mask.shape, generator=generator), -1.0)
            each = noise.split(space.num_options, -1)
            given[role] = torch.stack([one.argmax(-1) for one in each], -1)
        else:
            low, high = torch.tensor(space.low).clamp(-9, 9), torch.tensor(space.high).clamp(-9, 9)
            given[role] = low + (high - low) * torch.rand(*shape, space.size, generator=generator)
    return given


def same(one: Any, other: Any) -> bool:
    """Two states or memories are equal, bit for bit."""
    first, second = pytree.flatten(one), pytree.flatten(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name].nan_to_num(7.5), second[name].nan_to_num(7.5)) for name in first
    )


def only(world: int, held: Any) -> Any:
    """One world of a state or memory."""
    return pytree.tree_map(lambda tensor: tensor[world : world + 1], held)


# --- pay ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset", [True, False])
def test_pay_between_turns_is_owed(autoreset: bool) -> None:
    """Whole rounds are paid in whole: also what comes before an episode's first own turn."""
    table = Simulator(Relay(), Relay().default_policies(), {"runner": [0, 2]}, 6, 5, autoreset)
    table.reset(1)
    paid, rounds, ends = torch.zeros(6, 3), torch.zeros(6), 0
    worth = torch.tensor([1.0, 2.0, 3.0])
    playing = torch.ones(6, dtype=torch.bool)
    for step in range(30):
        if table.all_finished:
            break
        turn = table.step(acts(table, step))
        assert not turn.reward["runner"][~playing].any()
        paid, rounds = paid + turn.reward["runner"], rounds + playing
        over = turn.terminated | turn.truncated
        assert torch.equal(paid[over], 111 * rounds[over, None] * worth)
        ends += int(over.sum())
        paid[over], rounds[over] = 0, 0
        if not autoreset:
            playing = playing & ~over
    assert ends == 6 if not autoreset else ends > 12


def test_pay_within_an_episode() -> None:
    """The first turn brings the pay of the first round's first phase, the last one no more."""
    table = Simulator(
        Relay(quits=0), Relay().default_policies(), {"runner": [0]}, 1, 3, autoreset=True
    )
    table.reset(1)
    pays = [float(table.step(acts(table, step)).reward["runner"][0, 0]) for step in range(6)]
    assert pays == [112, 111, 110, 112, 111, 110]


# --- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset", [True, False])
@pytest.mark.parametrize("role", ["caller", "runner"])
def test_worlds_together_are_as_alone(role: str, autoreset: bool) -> None:
    """Each world's turns, states and memories are those of the world alone, whoever ends when."""
    worlds, rounds = 5, 4
    out = {role: [0]}
    players = {"caller": Tally(), "runner": AnyOption()}
    together = Simulator(Relay(), players, out, worlds, rounds, autoreset)
    alone = [
        Simulator(Relay(), players, out, [world], rounds, autoreset) for world in range(worlds)
    ]
    for table in (together, *alone):
        table.reset(3)
    ends = 0
    for step in range(20):
        if together.all_finished:
            break
        given = acts(together, step)
        turn = together.step(given)
        for world, table in enumerate(alone):
            if table.all_finished:
                assert not turn.reward[role][world].any()
                continue
            own = table.step({role: given[role][world : world + 1]})
            ends += int(own.terminated | own.truncated)
            assert torch.equal(turn.reward[role][world], own.reward[role][0])
            assert turn.terminated[world] == own.terminated[0]
            assert turn.truncated[world] == own.truncated[0]
            if own.final_observation is not None:
                assert turn.final_observation is not None
                assert torch.equal(
                    turn.final_observation[role][world], own.final_observation[role][0]
                )
                assert same(only(world, turn.final_state), own.final_state)
            assert same(only(world, together.state), table.state)
            assert same(only(world, together.policy_states), table.policy_states)
    assert ends == worlds if not autoreset else ends > worlds


def test_only_worlds_that_ended_begin_anew() -> None:
    table = Simulator(Relay(), Relay().default_policies(), {"caller": [0]}, 8, 50, autoreset=True)
    table.reset(2)
    partly = 0
    for step in range(30):
        before, rounds = table.episode.clone(), table.round.clone()
        turn = table.step(acts(table, step))
        over = turn.terminated | turn.truncated
        partly += bool(over.any()) and not bool(over.all())
        assert torch.equal(table.episode, before + over)
        assert not table.round[over].any()
        if turn.final_state is not None:  # the others stand where the round left them
            assert same(pytree.where(over, turn.final_state, table.state), turn.final_state)
            assert not torch.equal(turn.final_state.secret[over], table.state.secret[over])
        elif table.phase.name == "call":
            assert torch.equal(table.round, rounds + 1)
    assert partly > 5


def test_memory_has_two_lifetimes() -> None:
    """Beliefs end with the episode; what a learner keeps does not, and holds all it earned."""
    table = Simulator(Relay(quits=0), {"runner": Tally()}, {"caller": [0]}, 2, 3, autoreset=True)
    table.reset(1)
    for step in range(2 * 7):  # seven rounds: two episodes and one round
        table.step(acts(table, step))
    worth = torch.tensor([1.0, 2.0, 3.0])
    assert torch.equal(table.policy_states["runner"], (7 + 1000 * 7 * 111 * worth).expand(2, 3))
    plain = Simulator(
        Relay(quits=0), Relay().default_policies(), {"caller": [0]}, 2, 3, autoreset=True
    )
    plain.reset(1)
    for step in range(2 * 7):
        plain.step(acts(plain, step))
    assert torch.equal(plain.policy_states["runner"], torch.ones(2, 3))


# --- seats -------------------------------------------------------------------------------------


def test_order_of_outside_seats_is_the_callers() -> None:
    """Actions go to the seats in the order in which they were named."""
    for seats in ([2, 0, 1], [2, 0]):
        table = Simulator(Relay(quits=0), Relay().default_policies(), {"runner": seats}, 1, 9)
        table.reset(4)
        legal = table.action_mask("runner", 3)[0]
        wanted = [int(legal[seat].int().argmax()) + (seat == 2) for seat in seats]
        turn = table.step({"runner": torch.tensor([wanted])})
        assert not turn.projected["runner"].any()
        assert turn.final_state is None
        assert [int(table.state.ran[0, seat]) for seat in seats] == wanted


def test_a_seat_outside_among_seats_inside() -> None:
    """Somebody outside who does what the player would do changes nothing; else it does."""
    inside = simulate(Meeting(), worlds=2, rounds=6, seed=5).state
    states = {}
    for pull in (0.0, 1.0):
        table = Simulator(Meeting(), Meeting().default_policies(), {"voter": [2]}, 2, 6)
        table.reset(5)
        while not table.all_finished:
            table.step({"voter": torch.full((2, 1, 3), pull)})
        states[pull] = table.state
    assert same(states[0.0], inside)
    assert not same(states[1.0], inside)
    assert torch.equal(states[1.0].at[:, :2], inside.at[:, :2])  # the others go their own way


# --- repairs -----------------------------------------------------------------------------------


def test_choices_are_kept_legal() -> None:
    """An option that is closed, out of range or no number becomes the first open one, flagged."""
    table = Simulator(Relay(quits=0), Relay().default_policies(), {"runner": [0, 1, 2]}, 4, 9)
    table.reset(6)
    legal = table.action_mask("runner", 3)
    assert 0 < int(legal[..., 0].sum()) < 12  # both kinds of runner are there
    first = legal.int().argmax(-1).to(torch.float32)
    for bad in (-1, 3, 10**9, -(10**9), math.nan, math.inf, 0.5):
        table.reset(6)
        turn = table.step({"runner": torch.full((4, 3), float(bad))})
        assert bool(turn.projected["runner"].all()), bad
        assert torch.equal(table.state.ran, first)
    table.reset(6)
    turn = table.step({"runner": torch.zeros(4, 3, dtype=torch.int64)})
    assert torch.equal(turn.projected["runner"], ~legal[..., 0])
    assert torch.equal(table.state.ran, first)


def test_numbers_are_kept_in_range() -> None:
    table = Simulator(Meeting(), Meeting().default_policies(), {"voter": [1], "chair": [0]}, 1, 9)
    cases = {
        (0.5, -1.0, 1.0): False,
        (0.5, -1.0, 1.1): True,
        (math.nan, 0.0, 0.0): True,
        (0.0, math.inf, 0.0): True,
        (-3.0, 0.0, 0.5): True,
    }
    kept = {
        (0.5, -1.0, 1.1): (0.5, -1.0, 1.0),
        (math.nan, 0.0, 0.0): (0.0, 0.0, 0.0),
        (0.0, math.inf, 0.0): (0.0, 1.0, 0.0),
        (-3.0, 0.0, 0.5): (-1.0, 0.0, 0.5),
    }
    for wanted, changed in cases.items():
        states = []
        for action in (wanted, kept.get(wanted, wanted)):
            table.reset(1)
            turn = table.step(
                {"voter": torch.tensor([[action]]), "chair": torch.tensor([[[1e30, -1e30]]])}
            )
            states.append(table.state)
            assert bool(turn.projected["voter"][0, 0]) == (changed and action == wanted), wanted
            assert not turn.projected["chair"].any()  # it has no bounds
        assert same(states[0], states[1])
        assert bool(torch.isfinite(states[0].at).all())


# --- saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", EVERY_GAME)
def test_ten_rounds_are_five_and_five(kind: str, tmp_path: Path) -> None:
    """Also across a file, in the midst of a round, with worlds in different rounds."""
    game = make(kind)
    out = {game.roles[-1].name: [0]}
    players = dict(game.default_policies())
    if kind == "relay":
        players["caller"] = Tally()

    def fresh() -> Simulator:
        return Simulator(game, players, out, 5, 4, autoreset=True)

    def turns(table: Simulator, steps: range) -> list[ExternalTurn]:
        return [table.step(acts(table, step)) for step in steps]

    whole = fresh()
    whole.reset(2**63 + 12345)
    expected = turns(whole, range(10))
    first = fresh()
    first.reset(2**63 + 12345)
    save_file(first.state_dict(), tmp_path / "start.safetensors")  # where states share tensors
    turns(first, range(5))
    save_file(first.state_dict(), tmp_path / "table.safetensors")
    second = fresh()
    second.load_state_dict(load_file(tmp_path / "table.safetensors"))
    for one, other in zip(expected[5:], turns(second, range(5, 10)), strict=True):
        assert same(one._asdict(), other._asdict())
    assert same(second.state_dict(), whole.state_dict())


def test_worlds_that_are_over_stay_over_when_loaded() -> None:
    table = Simulator(Relay(quits=0.5), Relay().default_policies(), {"caller": [0]}, 6, 9)
    table.reset(1)
    step = 0
    while table.finished is None:
        table.step(acts(table, step))
        step += 1
    assert not table.all_finished
    other = Simulator(Relay(quits=0.5), Relay().default_policies(), {"caller": [0]}, 6, 9)
    other.load_state_dict(table.state_dict())
    while not table.all_finished:
        assert same(
            table.step(acts(table, step))._asdict(), other.step(acts(other, step))._asdict()
        )
        step += 1
    assert other.all_finished


# --- mistakes of the user ------------------------------------------------------------------------


class Idle(Relay):
    """A relay with somebody who looks on and never acts."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (*super().roles, Role("looker", 1, Box.of(round=1)))


def test_mistakes_are_the_users() -> None:
    base = Relay().default_policies()

    def wrong(code: str, path: str, *args: Any, **kwargs: Any) -> None:
        with refused(code, path=path):
            Simulator(*args, **kwargs)

    wrong("unknown_name", "players.runer", Relay(), {**base, "runer": AnyOption()})
    wrong("unknown_name", "outside.walker", Relay(), base, {"walker": [0]})
    wrong("missing", "players.caller", Relay(), {"runner": AnyOption()})
    wrong("missing", "players.runner", Relay(), {"caller": AnyOption()}, {"runner": [0, 1]})
    wrong("out_of_range", "outside.runner", Relay(), base, {"runner": [3]})
    wrong("duplicate", "outside.runner", Relay(), base, {"runner": [1, 1]})
    wrong("out_of_range", "worlds", Relay(), base, worlds=0)
    wrong("out_of_range", "rounds", Relay(), base, rounds=0)
    wrong("unsupported", "outside.looker", Idle(), base, {"looker": [0]})


def test_mistakes_at_play_are_the_users() -> None:
    table = Simulator(Relay(), Relay().default_policies(), {"runner": [0, 1]}, 2, 1)
    with refused("wrong_order"):
        table.step({})
    with refused("wrong_order"):
        table.state_dict()
    table.reset(1)
    with refused("missing", path="actions.runner"):
        table.step({})
    with refused("unknown_name", path="actions.caller"):
        table.step({"runner": torch.zeros(2, 2), "caller": torch.zeros(2, 1)})
    for shape in ((2, 3), (1, 2), (2, 2, 1), (2,)):
        with refused("wrong_shape", path="actions.runner"):
            table.step({"runner": torch.zeros(shape)})
    table.step({"runner": torch.ones(2, 2)})
    with refused("wrong_order"):
        table.step({"runner": torch.ones(2, 2)})
    boxes = Simulator(Meeting(), {"chair": Still(size=2)}, {"voter": range(4)}, 2)
    boxes.reset(1)
    with refused("wrong_shape", path="actions.voter"):
        boxes.step({"voter": torch.zeros(2, 4, 2)})


def test_a_state_of_another_table_is_refused() -> None:
    table = Simulator(Relay(), Relay().default_policies(), {"runner": [0]}, 2)
    table.reset(1)
    saved = table.state_dict()
    others = (
        Simulator(Relay(), Relay().default_policies(), {"runner": [0]}, 3),
        Simulator(Meeting(), Meeting().default_policies(), {"chair": [0]}, 2),
    )
    for other in others:
        with refused("incompatible"):
            other.load_state_dict(saved)


def test_an_end_counts_only_in_the_last_phase() -> None:
    """A game that says `ended` in another phase is not heard: the contract says so."""

    class Hasty(Relay):
        def step(self, state: Any, phase: str, actions: Any, streams: Any) -> StepResult[Any]:
            step = super().step(state, phase, actions, streams)
            if phase == "call":
                return StepResult(
                    step.state, step.reward, torch.ones(len(state.ran), dtype=torch.bool)
                )
            return step

    table = Simulator(Hasty(quits=0), Hasty().default_policies(), {}, 2, 5)
    table.reset(1)
    ends = [
        bool((turn.terminated | turn.truncated).all()) for turn in (table.step() for _ in range(5))
    ]
    assert ends == [False] * 4 + [True]


def test_phases_are_those_of_the_game() -> None:
    """With nobody outside a step is a round; the outside seats are asked in their own phases."""
    table = Simulator(Relay(quits=0), Relay().default_policies(), {"caller": [0]}, 1, 2)
    table.reset(1)
    asked = []
    for step in range(4):
        assert isinstance(table.phase, Phase)
        asked.append((table.phase.name, int(table.round)))
        table.step(acts(table, step))
    assert asked == [("call", 0), ("pay", 0), ("call", 1), ("pay", 1)]
