"""What a round led to, told to learners; what they keep; and what is kept of them for later."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from mores.core import pytree
from mores.core.environment import ActionOutput, Phase, Role, StepResult, Transition
from mores.core.pytree import Persistent
from mores.core.random_streams import RandomStreams
from mores.sim.episode_dataset import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.conformance.games import AnyOption, Race, Relay

WORTH = torch.tensor([1.0, 2.0, 3.0])  # what runners earn in a round, in units of 111
POLICIES = 7  # unlike any number of worlds here


class Told(Relay):
    """A relay whose runners are told of their call and their run, and in odd rounds of their luck.

    `said` comes in two phases, and the later one counts.
    """

    def step(
        self, state: Race, phase: str, actions: Any, streams: RandomStreams
    ) -> StepResult[Race]:
        step = super().step(state, phase, actions, streams)
        runner: dict[str, Tensor] = {}
        if phase == "call":
            runner = {"called": state.ran + 10, "said": state.ran - 1}
        elif phase == "run":
            runner = {"said": step.state.ran}
            if int(state.round.max()) % 2:
                runner["luck"] = step.state.secret - state.secret
        feedback = {"runner": runner, "caller": {"paid": state.round}} if runner else {}
        return dataclasses.replace(step, feedback=feedback)


@dataclasses.dataclass(frozen=True)
class Skill:
    """What a learner remembers of every world, and what it has learned in all of them."""

    acts: Tensor  # [world, agent]: beliefs, which end with the episode
    learned: Persistent  # weights [policy, 2]


class Learner(AnyOption):
    """Somebody who keeps what it learned, and writes down what it was told."""

    heard: list[Any] = Field(default_factory=list)
    began: list[int] = Field(default_factory=list)
    asks_for_fresh: bool = True

    def initial_state(self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams) -> Skill:
        self.began.append(streams.num_worlds)
        nothing = torch.zeros(streams.num_worlds, role.num_agents)
        return Skill(nothing, Persistent({"weights": torch.zeros(POLICIES, 2)}))

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: Skill,
        streams: RandomStreams,
    ) -> ActionOutput:
        act = super().act(phase, observation, action_mask, state.acts, streams)
        return ActionOutput(act.action, dataclasses.replace(state, acts=act.state))

    def update(self, state: Skill, transition: Transition, streams: RandomStreams) -> Skill:
        self.heard.append(transition)
        pay = transition.reward.sum()
        weights = state.learned.value["weights"] + pay * torch.ones(POLICIES, 2)
        return dataclasses.replace(state, learned=Persistent({"weights": weights}))

    def on_episode_start(
        self, state: Skill, initial: Callable[[], Skill], reset_mask: Tensor
    ) -> Skill:
        if not self.asks_for_fresh:
            return state
        begun = dataclasses.replace(initial(), learned=state.learned)
        return begun if bool(reset_mask.all()) else pytree.scatter(state, begun, reset_mask)


def relay(autoreset: bool, worlds: int = 6, quits: float = 0.3, **more: Any) -> Simulator:
    """A table where the runners learn and nobody is outside."""
    game = Told(quits=quits)
    return Simulator(
        game, {"caller": AnyOption(), "runner": Learner()}, {}, worlds, 4, autoreset, **more
    )


# --- outcomes ------------------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset", [True, False])
def test_an_outcome_is_what_the_round_led_to(autoreset: bool) -> None:
    """Pay, ends and last sights agree with what the table itself says, whoever ends when."""
    table = relay(autoreset, quits=0.15)
    table.reset(3)
    heard, ends = table.policies["runner"].heard, [0, 0]  # type: ignore[attr-defined]
    for _ in range(12):
        if table.all_finished:
            break
        over = torch.zeros(6, dtype=torch.bool) if table.finished is None else table.finished
        turn = table.step()
        told = heard[-1]
        assert torch.equal(told.finished, over)
        assert torch.equal(told.terminated, turn.terminated)
        assert torch.equal(told.truncated, turn.truncated)
        assert torch.equal(told.ended, turn.terminated | turn.truncated)
        assert torch.equal(told.reward, 111 * WORTH * ~over[:, None])
        after = table.state if turn.final_state is None else turn.final_state
        assert torch.equal(told.seen, table.environment.observe(after, "runner", "run"))
        ends[0] += int(turn.terminated.sum())
        ends[1] += int(turn.truncated.sum())
    assert min(ends) > 0  # both kinds of end were met
    assert sum(ends) == 6 if not autoreset else sum(ends) > 12


def test_seen_is_what_would_have_been_acted_on_next() -> None:
    """Where the limit cut an episode off, the same world with a later limit goes on from there."""
    tables = [relay(False, quits=0.0), relay(False, quits=0.0)]
    tables[1].rounds = 9
    for table in tables:
        table.reset(5)
        for _ in range(4):
            table.step()
    cut, further = (table.policies["runner"].heard[-1] for table in tables)  # type: ignore
    assert bool(cut.truncated.all())
    assert not bool(further.ended.any())
    assert torch.equal(cut.seen, further.seen)


def test_feedback_is_merged_over_phases_and_cleared_between_rounds() -> None:
    table = relay(True, quits=0.0)
    table.reset(1)
    heard = table.policies["runner"].heard  # type: ignore[attr-defined]
    for played in range(4):
        before = table.state
        table.step()
        told = heard[-1].feedback
        assert set(told) == {"called", "said"} | ({"luck"} if played % 2 else set())
        assert torch.equal(told["called"], before.ran + 10)  # of the first phase
        assert torch.equal(told["said"], heard[-1].seen[..., 2])  # what they did: the later one


def test_only_learners_that_may_learn_are_told() -> None:
    for learning, expected in ((None, 4), (["caller"], 0), ([], 0), (["runner"], 4)):
        table = relay(True, quits=0.0, learning=learning)
        table.reset(1)
        for _ in range(4):
            table.step()
        assert len(table.policies["runner"].heard) == expected  # type: ignore[attr-defined]


def same_outcome(one: Transition, other: Transition) -> bool:
    first, second = pytree.flatten(one), pytree.flatten(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_feedback_of_half_a_round_is_saved(tmp_path: Path) -> None:
    """Saved between two phases of a round, what was told in the first is heard after the last."""

    def fresh() -> Simulator:
        players = {"caller": AnyOption(), "runner": Learner()}
        return Simulator(Told(), players, {"caller": [0]}, 3, 4, autoreset=True)

    whole, half = fresh(), fresh()
    for table in (whole, half):
        table.reset(2)
        table.step({"caller": torch.zeros(3, 1)})  # call, and the runners run
    save_file(half.state_dict(), tmp_path / "half.safetensors")
    other = fresh()
    other.load_state_dict(load_file(tmp_path / "half.safetensors"))
    for table in (whole, other):
        table.step({"caller": torch.ones(3, 1)})  # pay: the round is over
    first, second = (table.policies["runner"].heard for table in (whole, other))  # type: ignore
    assert set(first[-1].feedback) == {"called", "said"}
    assert same_outcome(first[-1], second[-1])


# --- what is kept --------------------------------------------------------------------------------


def test_kept_stands_apart_from_worlds() -> None:
    """It is saved and restored, and neither sliced, nor mixed, nor begun anew with a world."""
    mask = torch.tensor([True, False, False])
    old = Skill(torch.zeros(3, 2), Persistent({"weights": torch.zeros(POLICIES, 2)}))
    new = Skill(torch.ones(3, 2), Persistent({"weights": torch.ones(POLICIES, 2)}))
    assert set(pytree.flatten(old)) == {"acts", "learned/held/weights"}
    assert pytree.restore(old, pytree.flatten(new)).learned.value["weights"].min() == 1
    mixed = pytree.where(mask, old, new)  # the newer one is the other: what was kept is as it is
    assert mixed.learned is new.learned
    assert torch.equal(mixed.acts[:, 0], torch.tensor([0.0, 1.0, 1.0]))
    begun = Skill(torch.full((1, 2), 5.0), new.learned)
    put = pytree.scatter(old, begun, mask)
    assert put.learned is begun.learned
    assert torch.equal(put.acts[:, 0], torch.tensor([5.0, 0.0, 0.0]))
    sliced = pytree.tree_map(lambda tensor: tensor[:1], old)
    assert sliced.acts.shape == (1, 2)
    assert sliced.learned is old.learned
    with pytest.raises(ValueError, match="learned/held/weights"):
        pytree.restore(
            old, pytree.flatten(Skill(old.acts, Persistent({"weights": torch.zeros(3, 2)})))
        )


def test_beliefs_end_with_the_world_and_what_is_learned_does_not() -> None:
    """Where worlds stand still their beliefs do, and the learner goes on learning of the others."""
    table = relay(False)
    table.reset(3)
    heard, earned = table.policies["runner"].heard, 0.0  # type: ignore[attr-defined]
    while not table.all_finished:
        over, before = table.finished, table.policy_states["runner"].acts
        table.step()
        earned += float(heard[-1].reward.sum())
        memory = table.policy_states["runner"]
        if over is not None:
            assert torch.equal(memory.acts[over], before[over])
        playing = ~over if over is not None else ~torch.zeros(6, dtype=torch.bool)
        assert torch.equal(memory.acts[playing], before[playing] + 1)
        assert torch.equal(memory.learned.value["weights"], torch.full((POLICIES, 2), earned))
    assert earned > 0


def test_what_was_learned_goes_on_over_episodes_and_files(tmp_path: Path) -> None:
    table = relay(True, quits=0.0)
    table.reset(1)
    for _ in range(6):  # an episode of four rounds, and two
        table.step()
    memory, earned = table.policy_states["runner"], 6 * 6 * 111 * float(WORTH.sum())
    assert torch.equal(memory.learned.value["weights"], torch.full((POLICIES, 2), earned))
    assert torch.equal(memory.acts, torch.full((6, 3), 2.0))  # begun anew with the episode
    save_file(table.state_dict(), tmp_path / "table.safetensors")
    other = relay(True, quits=0.0)
    other.load_state_dict(load_file(tmp_path / "table.safetensors"))
    for one in (table, other):
        one.step()
    first, second = (pytree.flatten(one.policy_states["runner"]) for one in (table, other))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert float(first["learned/held/weights"][0, 0]) == earned / 6 * 7


# --- beginning again -----------------------------------------------------------------------------


def test_fresh_memories_are_made_of_the_worlds_that_begin_and_only_if_asked_for() -> None:
    asks, does_not = Learner(), Learner(asks_for_fresh=False)
    for player in (asks, does_not):
        table = Simulator(
            Told(quits=0.5), {"caller": AnyOption(), "runner": player}, {}, 6, 4, True
        )
        table.reset(3)
        ends = [int((turn.terminated | turn.truncated).sum()) for turn in map(step, [table] * 8)]
        expected = [ended for ended in ends if ended] if player is asks else []
        assert player.began == [6, *expected]
        assert any(0 < ended < 6 for ended in ends)


def step(table: Simulator) -> Any:
    return table.step()


def test_a_stage_begins_again_with_what_was_learned_in_the_one_before() -> None:
    first = relay(True, quits=0.0)
    first.reset(1)
    first.step()
    second = relay(True, worlds=2, quits=0.0, stage=1)
    second.reset(1, {"runner": first.policy_states["runner"]})
    player = second.policies["runner"]
    assert player.began == [2]  # type: ignore[attr-defined]
    memory = second.policy_states["runner"]
    assert torch.equal(memory.acts, torch.zeros(2, 3))
    assert memory.learned is first.policy_states["runner"].learned
    new = relay(True, worlds=2, quits=0.0, stage=1)
    new.reset(1, {})
    assert not new.policy_states["runner"].learned.value["weights"].any()


# --- the diary -----------------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset", [True, False])
def test_a_diary_tells_when_what_was_told_and_when_episodes_ended(autoreset: bool) -> None:
    """A time each time that somebody was told, of the roles that were asked for; ends by round."""
    diary = EpisodeRecorder(["runner"])
    table = relay(autoreset, diary=diary, learning=[])
    table.reset(3)
    ends, over, acts = [], [], 0
    while not table.all_finished and acts < 8:
        over.append(torch.zeros(6, dtype=torch.bool) if table.finished is None else table.finished)
        turn = table.step()
        ends.append(turn.terminated | turn.truncated)
        acts += 1
    lived = diary.dataset("runner")
    assert lived.done is not None
    assert lived.finished is not None
    assert torch.equal(lived.done, torch.stack(ends, 1))
    assert torch.equal(lived.finished, torch.stack(over, 1))
    assert lived.observation["run"].shape == (6, acts, 3, 4)
    assert lived.feedback["called"].shape == (6, acts, 3)
    assert lived.feedback["said"].shape == (6, 2 * acts, 3)  # told twice a round
    assert torch.equal(lived.feedback["called"] - 10, lived.observation["run"][..., 2])
    assert lived.reward is not None
    assert lived.reward.shape == (6, 3 * acts, 3)
    paid = lived.reward.view(6, acts, 3, 3).sum(2)
    assert torch.equal(paid, (111 * WORTH * ~lived.finished[..., None]))
    stranger = diary.dataset("caller")
    assert (stranger.observation, stranger.feedback, stranger.reward) == ({}, {}, None)
