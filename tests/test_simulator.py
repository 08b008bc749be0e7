"""The simulator: rewards, ends, external agents, projected actions and saving."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

import mores
from mores.core import pytree
from mores.core.environment import Phase, Role, StepResult
from mores.core.spaces import Box, Discrete, MultiDiscrete
from mores.sim.autoreset import AutoresetMode
from mores.sim.simulation import simulate
from mores.sim.simulator import ExternalTurn, Simulator
from tests.conformance.environments import (
    ALL_KINDS,
    Meeting,
    RandomOption,
    Relay,
    RewardCounter,
    ZeroAction,
    make,
)
from tests.learners.small_environments import Minimal, unchecked
from tests.refusals import refused

ENDLESS = Relay(termination_probability=0)
WEIGHT = torch.tensor([1.0, 2.0, 3.0])  # reward of each runner per round, in units of 111


def random_actions(simulator: Simulator, step: int) -> dict[str, torch.Tensor]:
    """Legal actions of all external agents, random with the step as seed."""
    generator = torch.Generator().manual_seed(step)
    actions = {}
    for role in simulator.acting_roles:
        space, agents = simulator.phase.action_spaces[role], simulator.external[role]
        shape = (len(simulator.worlds), len(agents))
        if isinstance(space, Discrete):
            mask = simulator.action_mask(role, space.num_options)[:, agents]
            noise = torch.rand(mask.shape, generator=generator)
            actions[role] = torch.where(mask, noise, -1.0).argmax(-1)
        elif isinstance(space, MultiDiscrete):
            mask = simulator.action_mask(role, space.num_options)[:, agents]
            noise = torch.where(mask, torch.rand(mask.shape, generator=generator), -1.0)
            choices = noise.split(space.num_options, -1)
            actions[role] = torch.stack([choice.argmax(-1) for choice in choices], -1)
        else:
            low, high = (torch.tensor(x).clamp(-9, 9) for x in (space.low, space.high))
            noise = torch.rand(*shape, space.size, generator=generator)
            actions[role] = low + (high - low) * noise
    return actions


def equal(tree: Any, other: Any) -> bool:
    """Whether two states are equal, bit for bit."""
    first, second = pytree.flatten(tree), pytree.flatten(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name].nan_to_num(7.5), second[name].nan_to_num(7.5)) for name in first
    )


def select_world(world: int, tree: Any) -> Any:
    return pytree.tree_map(lambda tensor: tensor[world : world + 1], tree)


# --- rewards -----------------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset_mode", ["same_step", "disabled"])
def test_rewards_between_turns_are_summed(autoreset_mode: AutoresetMode) -> None:
    """All rewards of a round are delivered, also those before the first turn of an episode."""
    simulator = Simulator(
        Relay(), Relay().default_policies(), {"runner": [0, 2]}, 6, 5, autoreset_mode
    )
    simulator.reset(1)
    reward, rounds, ends = torch.zeros(6, 3), torch.zeros(6), 0
    running = torch.ones(6, dtype=torch.bool)
    for step in range(30):
        if simulator.all_finished:
            break
        turn = simulator.step(random_actions(simulator, step))
        assert not turn.reward["runner"][~running].any()
        reward, rounds = reward + turn.reward["runner"], rounds + running
        done = turn.terminated | turn.truncated
        assert torch.equal(reward[done], 111 * rounds[done, None] * WEIGHT)
        ends += int(done.sum())
        reward[done], rounds[done] = 0, 0
        if autoreset_mode == "disabled":
            running = running & ~done
    assert ends == 6 if autoreset_mode == "disabled" else ends > 12


def test_rewards_within_an_episode() -> None:
    """The first turn delivers the first phase too; after the last one nothing is pending."""
    policies = ENDLESS.default_policies()
    simulator = Simulator(ENDLESS, policies, {"runner": [0]}, 1, 3, autoreset_mode="same_step")
    simulator.reset(1)
    turns = [simulator.step(random_actions(simulator, step)) for step in range(6)]
    rewards = [float(turn.reward["runner"][0, 0]) for turn in turns]
    assert rewards == [112, 111, 110, 112, 111, 110]


# --- ends --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "autoreset_mode"),
    [(role, mode) for role in ("caller", "runner") for mode in ("same_step", "disabled")]
    + [("runner", "next_step")],
)
def test_worlds_of_a_batch_equal_single_worlds(role: str, autoreset_mode: AutoresetMode) -> None:
    """Turns, states and policy states do not depend on the other worlds or their ends."""
    worlds, rounds = 5, 4
    external = {role: [0]}
    policies = {"caller": RewardCounter(), "runner": RandomOption()}
    batch = Simulator(Relay(), policies, external, worlds, rounds, autoreset_mode)
    singles = [
        Simulator(Relay(), policies, external, [world], rounds, autoreset_mode)
        for world in range(worlds)
    ]
    for simulator in (batch, *singles):
        simulator.reset(3)
    ends, frozen = 0, autoreset_mode == "disabled"
    for step in range(20):
        if frozen and batch.all_finished:
            break
        actions = random_actions(batch, step)
        turn = batch.step(actions)
        for world, single in enumerate(singles):
            if frozen and single.all_finished:
                assert not turn.reward[role][world].any()
                continue
            own = single.step({role: actions[role][world : world + 1]})
            ends += int(own.terminated | own.truncated)
            assert torch.equal(turn.reward[role][world], own.reward[role][0])
            assert turn.terminated[world] == own.terminated[0]
            assert turn.truncated[world] == own.truncated[0]
            if own.final_observation is not None:
                final = turn.final_observation
                assert final is not None
                assert torch.equal(final[role][world], own.final_observation[role][0])
                assert equal(select_world(world, turn.final_state), own.final_state)
            assert equal(select_world(world, batch.state), single.state)
            assert equal(select_world(world, batch.policy_states), single.policy_states)
    assert ends == worlds if frozen else ends > worlds


def test_only_ended_worlds_are_reset() -> None:
    policies = Relay().default_policies()
    simulator = Simulator(Relay(), policies, {"caller": [0]}, 8, 50, autoreset_mode="same_step")
    simulator.reset(2)
    partial_resets = 0
    for step in range(30):
        episode, rounds = simulator.episode.clone(), simulator.round.clone()
        turn = simulator.step(random_actions(simulator, step))
        done = turn.terminated | turn.truncated
        partial_resets += bool(done.any()) and not bool(done.all())
        assert torch.equal(simulator.episode, episode + done)
        assert not simulator.round[done].any()
        if turn.final_state is not None:  # the other worlds are as at the end of the round
            unchanged = pytree.where(done, turn.final_state, simulator.state)
            assert equal(unchanged, turn.final_state)
            assert not torch.equal(turn.final_state.secret[done], simulator.state.secret[done])
        elif simulator.phase.name == "call":
            assert torch.equal(simulator.round, rounds + 1)
    assert partial_resets > 5


def test_policy_states_end_with_the_episode_unless_learned() -> None:
    external = {"caller": [0]}
    simulator = Simulator(
        ENDLESS, {"runner": RewardCounter()}, external, 2, 3, autoreset_mode="same_step"
    )
    simulator.reset(1)
    for step in range(2 * 7):  # seven rounds: two episodes and one round
        simulator.step(random_actions(simulator, step))
    expected = (7 + 1000 * 7 * 111 * WEIGHT).expand(2, 3)
    assert torch.equal(simulator.policy_states["runner"], expected)
    simulator = Simulator(
        ENDLESS, ENDLESS.default_policies(), external, 2, 3, autoreset_mode="same_step"
    )
    simulator.reset(1)
    for step in range(2 * 7):
        simulator.step(random_actions(simulator, step))
    assert torch.equal(simulator.policy_states["runner"], torch.ones(2, 3))


# --- external agents ---------------------------------------------------------------------------


def test_actions_are_in_the_order_of_the_external_agents() -> None:
    for agents in ([2, 0, 1], [2, 0]):
        simulator = Simulator(ENDLESS, ENDLESS.default_policies(), {"runner": agents}, 1, 9)
        simulator.reset(4)
        mask = simulator.action_mask("runner", 3)[0]
        actions = [int(mask[agent].int().argmax()) + (agent == 2) for agent in agents]
        turn = simulator.step({"runner": torch.tensor([actions])})
        assert not turn.projected["runner"].any()
        assert turn.final_state is None
        assert [int(simulator.state.ran[0, agent]) for agent in agents] == actions


def test_an_external_agent_with_the_actions_of_the_policy_changes_nothing() -> None:
    expected = simulate(Meeting(), worlds=2, rounds=6, seed=5).state
    states = {}
    for value in (0.0, 1.0):
        simulator = Simulator(Meeting(), Meeting().default_policies(), {"voter": [2]}, 2, 6)
        simulator.reset(5)
        while not simulator.all_finished:
            simulator.step({"voter": torch.full((2, 1, 3), value)})
        states[value] = simulator.state
    assert equal(states[0.0], expected)
    assert not equal(states[1.0], expected)
    others = states[1.0].position[:, :2]
    assert torch.equal(others, expected.position[:, :2])  # other agents are not affected


# --- projected actions -------------------------------------------------------------------------


class CounterInPlace(Minimal):
    """Breaks the contract: counts rounds in the state that it gets."""

    def observe(self, state: Tensor, role: str, phase: str) -> Tensor:
        return state[:, None, None].expand(-1, 2, 1) + 0.0

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("actor", 2, Box.of(round=1)),)

    def step(self, state: Tensor, *args: Any) -> StepResult[Tensor]:
        return super().step(state.add_(1.0), *args)


@unchecked()
def test_observations_of_a_state_that_is_changed_in_place() -> None:
    simulator = Simulator(CounterInPlace(), {}, {"actor": [0, 1]}, 2, 9)
    simulator.reset(0)
    for completed in range(4):
        assert (simulator.observe("actor") == completed).all()
        simulator.step({"actor": torch.zeros(2, 2, dtype=torch.int64)})


def test_illegal_choices_become_the_first_legal_option() -> None:
    simulator = Simulator(ENDLESS, ENDLESS.default_policies(), {"runner": [0, 1, 2]}, 4, 9)
    simulator.reset(6)
    mask = simulator.action_mask("runner", 3)
    assert 0 < int(mask[..., 0].sum()) < 12  # option 0 is legal for some runners only
    first_legal = mask.int().argmax(-1).to(torch.float32)
    for invalid in (-1, 3, 10**9, -(10**9), math.nan, math.inf, 0.5):
        simulator.reset(6)
        turn = simulator.step({"runner": torch.full((4, 3), float(invalid))})
        assert bool(turn.projected["runner"].all()), invalid
        assert torch.equal(simulator.state.ran, first_legal)
    simulator.reset(6)
    turn = simulator.step({"runner": torch.zeros(4, 3, dtype=torch.int64)})
    assert torch.equal(turn.projected["runner"], ~mask[..., 0])
    assert torch.equal(simulator.state.ran, first_legal)


def test_box_actions_are_clamped() -> None:
    external = {"voter": [1], "chair": [0]}
    simulator = Simulator(Meeting(), Meeting().default_policies(), external, 1, 9)
    projections = {
        (0.5, -1.0, 1.0): (0.5, -1.0, 1.0),
        (0.5, -1.0, 1.1): (0.5, -1.0, 1.0),
        (math.nan, 0.0, 0.0): (0.0, 0.0, 0.0),
        (0.0, math.inf, 0.0): (0.0, 1.0, 0.0),
        (-3.0, 0.0, 0.5): (-1.0, 0.0, 0.5),
    }
    for requested, legal in projections.items():
        states = []
        for action in (requested, legal):
            simulator.reset(1)
            chair = torch.tensor([[[1e30, -1e30]]])  # unbounded
            turn = simulator.step({"voter": torch.tensor([[action]]), "chair": chair})
            states.append(simulator.state)
            changed = action is requested and requested != legal
            assert bool(turn.projected["voter"][0, 0]) == changed, requested
            assert not turn.projected["chair"].any()
        assert equal(states[0], states[1])
        assert bool(torch.isfinite(states[0].position).all())


# --- saving ------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ALL_KINDS)
def test_ten_turns_equal_five_and_five(kind: str, tmp_path: Path) -> None:
    """Also across a file, within a round, with worlds in different rounds."""
    environment = make(kind)
    external = {environment.roles[-1].name: [0]}
    policies = dict(environment.default_policies())
    if kind == "relay":
        policies["caller"] = RewardCounter()

    def new_simulator() -> Simulator:
        return Simulator(environment, policies, external, 5, 4, autoreset_mode="same_step")

    def turns(simulator: Simulator, steps: range) -> list[ExternalTurn]:
        return [simulator.step(random_actions(simulator, step)) for step in steps]

    whole = new_simulator()
    whole.reset(2**63 + 12345)
    expected = turns(whole, range(10))
    first = new_simulator()
    first.reset(2**63 + 12345)
    save_file(first.state_dict(), tmp_path / "start.safetensors")  # where states share tensors
    turns(first, range(5))
    save_file(first.state_dict(), tmp_path / "simulator.safetensors")
    second = new_simulator()
    second.load_state_dict(load_file(tmp_path / "simulator.safetensors"))
    for turn, resumed in zip(expected[5:], turns(second, range(5, 10)), strict=True):
        assert equal(turn._asdict(), resumed._asdict())
    assert equal(second.state_dict(), whole.state_dict())


def test_finished_worlds_are_finished_after_loading() -> None:
    relay = Relay(termination_probability=0.5)
    simulator = Simulator(relay, relay.default_policies(), {"caller": [0]}, 6, 9)
    simulator.reset(1)
    step = 0
    while simulator.finished is None:
        simulator.step(random_actions(simulator, step))
        step += 1
    assert not simulator.all_finished
    other = Simulator(relay, relay.default_policies(), {"caller": [0]}, 6, 9)
    other.load_state_dict(simulator.state_dict())
    while not simulator.all_finished:
        turns = [each.step(random_actions(each, step)) for each in (simulator, other)]
        assert equal(turns[0]._asdict(), turns[1]._asdict())
        step += 1
    assert other.all_finished


# --- errors --------------------------------------------------------------------------------------


class Idle(Relay):
    """A relay with a role that acts in no phase."""

    @property
    def roles(self) -> tuple[Role, ...]:
        return (*super().roles, Role("looker", 1, Box.of(round=1)))


def test_invalid_arguments_are_errors() -> None:
    base = Relay().default_policies()

    def invalid(code: str, path: str, *args: Any, **kwargs: Any) -> None:
        with refused(code, path=path):
            Simulator(*args, **kwargs)

    invalid("unknown_name", "policies.runer", Relay(), {**base, "runer": RandomOption()})
    invalid("unknown_name", "external.walker", Relay(), base, {"walker": [0]})
    invalid("missing", "policies.caller", Relay(), {"runner": RandomOption()})
    some = {"runner": [0, 1]}
    invalid("missing", "policies.runner", Relay(), {"caller": RandomOption()}, some)
    invalid("out_of_range", "external.runner", Relay(), base, {"runner": [3]})
    invalid("duplicate", "external.runner", Relay(), base, {"runner": [1, 1]})
    invalid("out_of_range", "worlds", Relay(), base, worlds=0)
    invalid("out_of_range", "rounds", Relay(), base, rounds=0)
    invalid("unsupported", "external.looker", Idle(), base, {"looker": [0]})


def test_invalid_steps_are_errors() -> None:
    simulator = Simulator(Relay(), Relay().default_policies(), {"runner": [0, 1]}, 2, 1)
    with refused("wrong_order"):
        simulator.step({})
    with refused("wrong_order"):
        simulator.state_dict()
    simulator.reset(1)
    with refused("missing", path="actions.runner"):
        simulator.step({})
    with refused("unknown_name", path="actions.caller"):
        simulator.step({"runner": torch.zeros(2, 2), "caller": torch.zeros(2, 1)})
    for shape in ((2, 3), (1, 2), (2, 2, 1), (2,)):
        with refused("wrong_shape", path="actions.runner"):
            simulator.step({"runner": torch.zeros(shape)})
    simulator.step({"runner": torch.ones(2, 2)})
    with refused("wrong_order"):
        simulator.step({"runner": torch.ones(2, 2)})
    meeting = Simulator(Meeting(), {"chair": ZeroAction(size=2)}, {"voter": range(4)}, 2)
    meeting.reset(1)
    with refused("wrong_shape", path="actions.voter"):
        meeting.step({"voter": torch.zeros(2, 4, 2)})


def test_a_state_of_another_simulator_is_an_error() -> None:
    simulator = Simulator(Relay(), Relay().default_policies(), {"runner": [0]}, 2)
    simulator.reset(1)
    saved = simulator.state_dict()
    others = (
        Simulator(Relay(), Relay().default_policies(), {"runner": [0]}, 3),
        Simulator(Meeting(), Meeting().default_policies(), {"chair": [0]}, 2),
    )
    for other in others:
        with refused("incompatible"):
            other.load_state_dict(saved)


def test_termination_counts_only_in_the_last_phase() -> None:
    class Early(Relay):
        def step(self, state: Any, phase: str, actions: Any, streams: Any) -> StepResult[Any]:
            result = super().step(state, phase, actions, streams)
            if phase == "call":
                terminated = torch.ones(len(state.ran), dtype=torch.bool)
                return StepResult(result.state, result.reward, terminated)
            return result

    early = Early(termination_probability=0)
    simulator = Simulator(early, early.default_policies(), {}, 2, 5)
    simulator.reset(1)
    turns = [simulator.step() for _ in range(5)]
    done = [bool((turn.terminated | turn.truncated).all()) for turn in turns]
    assert done == [False] * 4 + [True]


def test_external_agents_act_in_their_phases() -> None:
    simulator = Simulator(ENDLESS, ENDLESS.default_policies(), {"caller": [0]}, 1, 2)
    simulator.reset(1)
    turns = []
    for step in range(4):
        assert isinstance(simulator.phase, Phase)
        turns.append((simulator.phase.name, int(simulator.round)))
        simulator.step(random_actions(simulator, step))
    assert turns == [("call", 0), ("pay", 0), ("call", 1), ("pay", 1)]


@unchecked()
def test_names_are_refused_in_place_of_objects() -> None:
    """Where an annotation is not checked, as in a user's process."""
    environment = mores.make_environment("lock_in", num_people=2)
    with refused("wrong_type", path="environment"):
        mores.simulate("lock_in")  # type: ignore[arg-type]
    with refused("wrong_type", path="policies.person"):
        Simulator(environment, {"person": 3})  # type: ignore[dict-item]
    with refused("wrong_type", path="population"):
        mores.simulate(environment, population="normal")  # type: ignore[arg-type]


@unchecked()
def test_a_class_is_registered_under_a_name() -> None:
    with refused("unknown_name", path="registry_name"):
        mores.register("policies", "mine", object)  # type: ignore[arg-type]
    with refused("wrong_type", path="mine"):
        mores.register("policy", "mine", 5)  # type: ignore[arg-type]


class Overwriting(RandomOption):
    """Writes into its observation."""

    def act(self, phase, observation, action_mask, state, streams):  # type: ignore[override]
        output = super().act(phase, observation, action_mask, state, streams)
        observation.fill_(torch.nan)
        return output


def test_a_policy_that_writes_into_its_observation_changes_no_other() -> None:
    """A client and a policy of one role read the same observation."""
    clean, overwritten = (
        Simulator(Relay(), {"caller": RandomOption(), "runner": policy}, {"runner": [0]}, 4, 5)
        for policy in (RandomOption(), Overwriting())
    )
    for simulator in (clean, overwritten):
        simulator.reset(1)
        for _ in range(3):
            before = simulator.observe("runner")
            simulator.step({"runner": torch.ones(4, 1, dtype=torch.int64)})
            del before
    assert torch.equal(clean.observe("runner"), overwritten.observe("runner"))
