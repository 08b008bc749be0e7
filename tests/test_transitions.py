"""Transitions given to learners, learned parameters across episodes, and recorded episodes."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from pydantic import Field
from safetensors.torch import load_file, save_file
from torch import Tensor

from mores.core import pytree
from mores.core.environment import Phase, Role, StepResult, Transition
from mores.core.learner import Learner
from mores.core.policy import ActionOutput
from mores.core.pytree import Persistent
from mores.core.random_streams import RandomStreams
from mores.sim.autoreset import AutoresetMode
from mores.sim.episode_recorder import EpisodeRecorder
from mores.sim.simulator import Simulator
from tests.conformance.environments import RandomOption, Relay, RelayState

WEIGHT = torch.tensor([1.0, 2.0, 3.0])  # reward of each runner per round, in units of 111
NUM_MODELS = 7  # unlike any number of worlds here


class FeedbackRelay(Relay):
    """A relay with feedback for runners after `call` and `run`, in odd rounds also `luck`.

    `signal` is given in both phases; the later one counts.
    """

    def step(
        self, state: RelayState, phase: str, actions: Any, streams: RandomStreams
    ) -> StepResult[RelayState]:
        result = super().step(state, phase, actions, streams)
        runner: dict[str, Tensor] = {}
        if phase == "call":
            runner = {"called": state.ran + 10, "signal": state.ran - 1}
        elif phase == "run":
            runner = {"signal": result.state.ran}
            if int(state.round.max()) % 2:
                runner["luck"] = result.state.secret - state.secret
        feedback = {"runner": runner, "caller": {"paid": state.round}} if runner else {}
        return dataclasses.replace(result, feedback=feedback)


@dataclasses.dataclass(frozen=True)
class LearnerState:
    """State of `RecordingLearner`."""

    num_actions: Tensor  # of the episode, [world, agent]
    learned: Persistent  # weights [model, 2], which outlive episodes


class RecordingLearner(RandomOption, Learner):
    """Learner that adds up rewards and records its transitions and initial states."""

    trains: ClassVar = {"online"}
    transitions: list[Any] = Field(default_factory=list)
    initial_worlds: list[int] = Field(default_factory=list)  # worlds of each `initial_state`
    uses_initial: bool = True

    def initial_state(
        self, role: Role, phases: tuple[Phase, ...], streams: RandomStreams
    ) -> LearnerState:
        self.initial_worlds.append(streams.num_worlds)
        zero = torch.zeros(streams.num_worlds, role.num_agents)
        return LearnerState(zero, Persistent({"weights": torch.zeros(NUM_MODELS, 2)}))

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Any,
        state: LearnerState,
        streams: RandomStreams,
    ) -> ActionOutput:
        output = super().act(phase, observation, action_mask, state.num_actions, streams)
        return ActionOutput(output.action, dataclasses.replace(state, num_actions=output.state))

    def update(
        self, state: LearnerState, transition: Transition, streams: RandomStreams
    ) -> LearnerState:
        self.transitions.append(transition)
        reward = transition.reward.sum()
        weights = state.learned.value["weights"] + reward * torch.ones(NUM_MODELS, 2)
        return dataclasses.replace(state, learned=Persistent({"weights": weights}))

    def on_episode_start(
        self, state: LearnerState, initial: Callable[[], LearnerState], reset_mask: Tensor
    ) -> LearnerState:
        if not self.uses_initial:
            return state
        new = dataclasses.replace(initial(), learned=state.learned)
        return new if bool(reset_mask.all()) else pytree.scatter(state, new, reset_mask)


def relay_simulator(
    autoreset_mode: AutoresetMode,
    worlds: int = 6,
    termination_probability: float = 0.3,
    **kwargs: Any,
) -> Simulator:
    """A simulator without external agents in which the runners learn."""
    environment = FeedbackRelay(termination_probability=termination_probability)
    policies = {"caller": RandomOption(), "runner": RecordingLearner()}
    return Simulator(environment, policies, {}, worlds, 4, autoreset_mode, **kwargs)


def transitions_of(simulator: Simulator) -> list[Transition]:
    return simulator.policies["runner"].transitions  # type: ignore[attr-defined]


# --- transitions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset_mode", ["same_step", "disabled"])
def test_transitions_agree_with_the_turns(autoreset_mode: AutoresetMode) -> None:
    simulator = relay_simulator(autoreset_mode, termination_probability=0.15)
    simulator.reset(3)
    transitions, ends = transitions_of(simulator), [0, 0]
    for _ in range(12):
        if simulator.all_finished:
            break
        finished = simulator.finished
        finished = torch.zeros(6, dtype=torch.bool) if finished is None else finished
        turn = simulator.step()
        transition = transitions[-1]
        assert torch.equal(transition.finished, finished)
        assert torch.equal(transition.terminated, turn.terminated)
        assert torch.equal(transition.truncated, turn.truncated)
        assert torch.equal(transition.done, turn.terminated | turn.truncated)
        assert torch.equal(transition.reward, 111 * WEIGHT * ~finished[:, None])
        after = simulator.state if turn.final_state is None else turn.final_state
        obs = simulator.environment.observe(after, "runner", "run")
        assert torch.equal(transition.next_observation, obs)
        ends[0] += int(turn.terminated.sum())
        ends[1] += int(turn.truncated.sum())
    assert min(ends) > 0  # both kinds of end occurred
    assert sum(ends) == 6 if autoreset_mode == "disabled" else sum(ends) > 12


def test_next_observation_of_a_truncated_episode() -> None:
    """It equals the observation in a simulator whose limit is later."""
    simulators = [relay_simulator("disabled", termination_probability=0.0) for _ in range(2)]
    simulators[1].rounds = 9
    for simulator in simulators:
        simulator.reset(5)
        for _ in range(4):
            simulator.step()
    truncated, continued = (transitions_of(simulator)[-1] for simulator in simulators)
    assert bool(truncated.truncated.all())
    assert not bool(continued.done.any())
    assert torch.equal(truncated.next_observation, continued.next_observation)


def test_feedback_is_merged_over_phases_and_cleared_between_rounds() -> None:
    simulator = relay_simulator("same_step", termination_probability=0.0)
    simulator.reset(1)
    transitions = transitions_of(simulator)
    for completed in range(4):
        before = simulator.state
        simulator.step()
        feedback = transitions[-1].feedback
        assert set(feedback) == {"called", "signal"} | ({"luck"} if completed % 2 else set())
        assert torch.equal(feedback["called"], before.ran + 10)  # of the first phase
        ran = transitions[-1].next_observation[..., 2]
        assert torch.equal(feedback["signal"], ran)  # of the later phase


class CallFeedbackRelay(Relay):
    """A relay with the earlier call as feedback for runners."""

    def step(
        self, state: RelayState, phase: str, actions: Any, streams: RandomStreams
    ) -> StepResult[RelayState]:
        result = super().step(state, phase, actions, streams)
        if phase == "call":
            earlier = {"runner": {"earlier_call": state.called.expand_as(state.ran)}}
            return dataclasses.replace(result, feedback=earlier)
        return result


def test_transitions_after_a_reset_within_a_round() -> None:
    """A call before the reset belongs to no round of a runner in that world; others keep theirs."""
    external = {"runner": [1]}
    actions = {"runner": torch.ones(6, 1, dtype=torch.int64)}
    reset_mask = torch.tensor([True, False, True, False, False, False])
    simulators = []
    for resets in (False, True):
        policies = {"caller": RandomOption(), "runner": RecordingLearner()}
        environment = CallFeedbackRelay(termination_probability=0.0)
        simulator = Simulator(environment, policies, external, 6, 9)
        simulator.reset(1)
        for completed in range(4):
            if resets and completed == 2:
                simulator.reset_worlds(reset_mask)
            simulator.step(actions)
        simulators.append(simulator)
    for whole, resumed in zip(*map(transitions_of, simulators), strict=True):
        assert torch.equal(resumed.reward, 111 * WEIGHT.expand(6, 3))
        feedback = [each.feedback["earlier_call"][~reset_mask] for each in (whole, resumed)]
        assert torch.equal(*feedback)
    first_round = transitions_of(simulators[1])[2].feedback["earlier_call"]
    assert (first_round[reset_mask] == 0).all()


def test_only_roles_to_train_are_updated() -> None:
    for roles, expected in ((None, 4), (["caller"], 0), ([], 0), (["runner"], 4)):
        simulator = relay_simulator("same_step", termination_probability=0.0, roles_to_train=roles)
        simulator.reset(1)
        for _ in range(4):
            simulator.step()
        assert len(transitions_of(simulator)) == expected


def equal(tree: Any, other: Any) -> bool:
    first, second = pytree.flatten(tree), pytree.flatten(other)
    return first.keys() == second.keys() and all(
        torch.equal(first[name], second[name]) for name in first
    )


def test_feedback_of_half_a_round_is_saved(tmp_path: Path) -> None:
    """Feedback before a save between two phases is in the transition after the last phase."""

    def new_simulator() -> Simulator:
        policies = {"caller": RandomOption(), "runner": RecordingLearner()}
        return Simulator(
            FeedbackRelay(), policies, {"caller": [0]}, 3, 4, autoreset_mode="same_step"
        )

    whole, half = new_simulator(), new_simulator()
    for simulator in (whole, half):
        simulator.reset(2)
        simulator.step({"caller": torch.zeros(3, 1)})  # phases `call` and `run`
    save_file(half.state_dict(), tmp_path / "half.safetensors")
    other = new_simulator()
    other.load_state_dict(load_file(tmp_path / "half.safetensors"))
    for simulator in (whole, other):
        simulator.step({"caller": torch.ones(3, 1)})  # phase `pay` completes the round
    first, second = transitions_of(whole)[-1], transitions_of(other)[-1]
    assert set(first.feedback) == {"called", "signal"}
    assert equal(first, second)


# --- persistent parts of policy states -----------------------------------------------------------


def test_persistent_parts_are_independent_of_worlds() -> None:
    """They are saved and restored, and not sliced, mixed or reset with a world."""
    mask = torch.tensor([True, False, False])
    old = LearnerState(torch.zeros(3, 2), Persistent({"weights": torch.zeros(NUM_MODELS, 2)}))
    new = LearnerState(torch.ones(3, 2), Persistent({"weights": torch.ones(NUM_MODELS, 2)}))
    assert set(pytree.flatten(old)) == {"num_actions", "learned/value/weights"}
    assert pytree.restore(old, pytree.flatten(new)).learned.value["weights"].min() == 1
    mixed = pytree.where(mask, old, new)  # persistent parts are those of the last argument
    assert mixed.learned is new.learned
    assert torch.equal(mixed.num_actions[:, 0], torch.tensor([0.0, 1.0, 1.0]))
    begun = LearnerState(torch.full((1, 2), 5.0), new.learned)
    scattered = pytree.scatter(old, begun, mask)
    assert scattered.learned is begun.learned
    assert torch.equal(scattered.num_actions[:, 0], torch.tensor([5.0, 0.0, 0.0]))
    sliced = pytree.tree_map(lambda tensor: tensor[:1], old)
    assert sliced.num_actions.shape == (1, 2)
    assert sliced.learned is old.learned
    other = LearnerState(old.num_actions, Persistent({"weights": torch.zeros(3, 2)}))
    with pytest.raises(ValueError, match="learned/value/weights"):
        pytree.restore(old, pytree.flatten(other))


def test_beliefs_end_with_the_world_and_parameters_do_not() -> None:
    """The beliefs of finished worlds do not change; the learner trains on the other worlds."""
    simulator = relay_simulator("disabled")
    simulator.reset(3)
    transitions, total = transitions_of(simulator), 0.0
    while not simulator.all_finished:
        finished, before = simulator.finished, simulator.policy_states["runner"].num_actions
        simulator.step()
        total += float(transitions[-1].reward.sum())
        state = simulator.policy_states["runner"]
        if finished is not None:
            assert torch.equal(state.num_actions[finished], before[finished])
        running = ~finished if finished is not None else ~torch.zeros(6, dtype=torch.bool)
        assert torch.equal(state.num_actions[running], before[running] + 1)
        weights = state.learned.value["weights"]
        assert torch.equal(weights, torch.full((NUM_MODELS, 2), total))
    assert total > 0


def test_parameters_persist_over_episodes_and_files(tmp_path: Path) -> None:
    simulator = relay_simulator("same_step", termination_probability=0.0)
    simulator.reset(1)
    for _ in range(6):  # an episode of four rounds, and two rounds
        simulator.step()
    state, total = simulator.policy_states["runner"], 6 * 6 * 111 * float(WEIGHT.sum())
    assert torch.equal(state.learned.value["weights"], torch.full((NUM_MODELS, 2), total))
    assert torch.equal(state.num_actions, torch.full((6, 3), 2.0))  # of the second episode
    save_file(simulator.state_dict(), tmp_path / "simulator.safetensors")
    other = relay_simulator("same_step", termination_probability=0.0)
    other.load_state_dict(load_file(tmp_path / "simulator.safetensors"))
    for each in (simulator, other):
        each.step()
    assert equal(simulator.policy_states["runner"], other.policy_states["runner"])
    weights = simulator.policy_states["runner"].learned.value["weights"]
    assert float(weights[0, 0]) == total / 6 * 7


# --- initial states ------------------------------------------------------------------------------


def test_initial_states_are_computed_for_reset_worlds_and_only_if_used() -> None:
    uses_initial, does_not = RecordingLearner(), RecordingLearner(uses_initial=False)
    environment = FeedbackRelay(termination_probability=0.5)
    for policy in (uses_initial, does_not):
        policies = {"caller": RandomOption(), "runner": policy}
        simulator = Simulator(environment, policies, {}, 6, 4, "same_step")
        simulator.reset(3)
        turns = [simulator.step() for _ in range(8)]
        ends = [int((turn.terminated | turn.truncated).sum()) for turn in turns]
        expected = [count for count in ends if count] if policy is uses_initial else []
        assert policy.initial_worlds == [6, *expected]
        assert any(0 < count < 6 for count in ends)


def test_a_stage_starts_with_the_parameters_of_the_stage_before() -> None:
    first = relay_simulator("same_step", termination_probability=0.0)
    first.reset(1)
    first.step()
    second = relay_simulator("same_step", worlds=2, termination_probability=0.0, stage=1)
    second.reset(1, {"runner": first.policy_states["runner"]})
    assert second.policies["runner"].initial_worlds == [2]  # type: ignore[attr-defined]
    state = second.policy_states["runner"]
    assert torch.equal(state.num_actions, torch.zeros(2, 3))
    assert state.learned is first.policy_states["runner"].learned
    new = relay_simulator("same_step", worlds=2, termination_probability=0.0, stage=1)
    new.reset(1, {})
    assert not new.policy_states["runner"].learned.value["weights"].any()


# --- recorded episodes ---------------------------------------------------------------------------


@pytest.mark.parametrize("autoreset_mode", ["same_step", "disabled"])
def test_recorded_episodes(autoreset_mode: AutoresetMode) -> None:
    """Records of the named roles by phase, feedback by time, ends by round."""
    recorder = EpisodeRecorder(["runner"])
    simulator = relay_simulator(autoreset_mode, recorder=recorder, roles_to_train=[])
    simulator.reset(3)
    done, finished, rounds = [], [], 0
    while not simulator.all_finished and rounds < 8:
        before = simulator.finished
        finished.append(torch.zeros(6, dtype=torch.bool) if before is None else before)
        turn = simulator.step()
        done.append(turn.terminated | turn.truncated)
        rounds += 1
    dataset = recorder.dataset("runner")
    assert dataset.done is not None
    assert dataset.finished is not None
    assert torch.equal(dataset.done, torch.stack(done, 1))
    assert torch.equal(dataset.finished, torch.stack(finished, 1))
    assert dataset.observation["run"].shape == (6, rounds, 3, 4)
    assert dataset.feedback["called"].shape == (6, rounds, 3)
    assert dataset.feedback["signal"].shape == (6, 2 * rounds, 3)  # in two phases of a round
    assert torch.equal(dataset.feedback["called"] - 10, dataset.observation["run"][..., 2])
    assert dataset.reward is not None
    assert dataset.reward.shape == (6, 3 * rounds, 3)
    reward = dataset.reward.view(6, rounds, 3, 3).sum(2)
    assert torch.equal(reward, (111 * WEIGHT * ~dataset.finished[..., None]))
    other = recorder.dataset("caller")
    assert (other.observation, other.feedback, other.reward) == ({}, {}, None)
