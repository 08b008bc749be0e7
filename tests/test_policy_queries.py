"""Metrics of policies, computed from their expected actions on given observations."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

import mores
from mores.clients.gymnasium import GymnasiumEnv
from mores.core.environment import Environment, Phase, PolicyQuery, Role, StepResult
from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.random_streams import RandomStreams
from mores.core.spaces import Box, Discrete, MultiDiscrete, Part, Space
from mores.sim.metric_tracker import MetricTracker
from mores.sim.simulator import Simulator
from tests.refusals import refused

NUM_WORLDS, NUM_AGENTS, NUM_ROUNDS = 6, 2, 400


@dataclasses.dataclass(frozen=True)
class PointState:
    point: Tensor  # [world, 1], constant
    count: Tensor  # [world, agent, size]: sum of actions, options one-hot
    rounds: Tensor  # [world]


class Point(Environment[PointState]):
    """Agents act on one constant observation: the frequency of actions estimates the expected."""

    space_name: str = "discrete"
    masked: bool = False

    @property
    def space(self) -> Space:
        spaces: dict[str, Space] = {
            "discrete": Discrete(3),
            "multi": MultiDiscrete((2, 3)),
            "box": Box.of(x=Part(2, -1.0, 3.0)),
        }
        return spaces[self.space_name]

    @property
    def roles(self) -> tuple[Role, ...]:
        return (Role("agent", NUM_AGENTS, Box.of(point=1)),)

    @property
    def phases(self) -> tuple[Phase, ...]:
        return (Phase("act", {"agent": self.space}),)

    def reset(self, streams: RandomStreams, people: People | None = None) -> PointState:
        point = streams.normal("point")[:, 0]
        size = {"discrete": 3, "multi": 5, "box": 2}[self.space_name]
        return PointState(point, torch.zeros(len(point), NUM_AGENTS, size), 0 * point[:, 0])

    def observe(self, state: PointState, role: str, phase: str) -> Tensor:
        return state.point[:, None].expand(-1, NUM_AGENTS, -1)

    def action_mask(self, state: PointState, role: str, phase: str) -> Tensor | None:
        if not self.masked:
            return None
        legal = torch.tensor([True, False, True])
        return legal.expand(len(state.rounds), NUM_AGENTS, -1)

    def step(
        self, state: PointState, phase: str, actions: Mapping[str, Tensor], streams: RandomStreams
    ) -> StepResult[PointState]:
        action = actions["agent"]
        if self.space_name == "box":
            taken = action
        elif self.space_name == "discrete":
            taken = torch.nn.functional.one_hot(action, 3)
        else:
            first = torch.nn.functional.one_hot(action[..., 0], 2)
            taken = torch.cat([first, torch.nn.functional.one_hot(action[..., 1], 3)], -1)
        return StepResult(PointState(state.point, state.count + taken, state.rounds + 1))

    def metrics(self, state: PointState) -> Mapping[str, Tensor]:
        mean = state.count / state.rounds.clamp(min=1)[:, None, None]
        return {"frequency": mean.flatten(1)}

    @property
    def policy_metric_names(self) -> tuple[str, ...]:
        return ("expected", "of_world_0")

    def policy_queries(self, state: PointState) -> Mapping[str, PolicyQuery]:
        obs = self.observe(state, "agent", "act")[:, :, None]
        mask = self.action_mask(state, "agent", "act")
        shared = state.point[0].expand(*obs.shape)
        return {
            "own": PolicyQuery("agent", "act", obs, None if mask is None else mask[:, :, None]),
            "shared": PolicyQuery("agent", "act", shared),
        }

    def policy_metrics(
        self, state: PointState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return {"expected": answers["own"].flatten(1), "of_world_0": answers["shared"].flatten(1)}

    def default_policies(self) -> Mapping[str, Any]:
        return {"agent": "random"}


class FirstOption(Policy):
    """A policy without `expected_action`."""

    def act(
        self,
        phase: Phase,
        observation: Tensor,
        action_mask: Tensor | None,
        state: Any,
        streams: RandomStreams,
        search: bool = False,
    ) -> ActionOutput:
        return ActionOutput(torch.zeros(observation.shape[:2], dtype=torch.int64), state)


POLICIES = {
    "random": {"kind": "random"},
    "learner": {"kind": "ppo", "learning_rate": 0},
    "per_agent": {
        "kind": "per_agent",
        "policies": [{"kind": "random"}, {"kind": "reinforce", "learning_rate": 0}],
    },
}


def metrics_of(environment: Point, policy: Any, rounds: int = 1) -> dict[str, Tensor]:
    simulator = Simulator(environment, {"agent": policy}, worlds=NUM_WORLDS, rounds=rounds)
    simulator.reset(3)
    tracker = MetricTracker(simulator, ["frequency", "expected", "of_world_0"])
    for _ in range(rounds):
        tracker.step()
    return tracker.values()


@pytest.mark.cut(2)
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("space", ["discrete", "masked", "multi", "box"])
def test_expected_actions_are_the_means_of_drawn_ones(policy: str, space: str) -> None:
    masked = space == "masked"
    environment = Point(space_name="discrete" if masked else space, masked=masked)
    values = metrics_of(environment, POLICIES[policy], NUM_ROUNDS)
    error = values["frequency"] - values["expected"]
    std = 0.5 if space != "box" else 1.2  # at most, of one draw
    assert (error.abs() / (std / NUM_ROUNDS**0.5)).max() < 4.5
    if masked:
        assert (values["expected"].unflatten(1, (NUM_AGENTS, 3))[..., 1] == 0).all()


def test_expanded_queries_equal_separate_ones() -> None:
    """Each model is evaluated once if all its agents have one observation."""
    values = metrics_of(Point(), {"kind": "ppo", "parameter_sharing": "agent"})
    torch.testing.assert_close(values["of_world_0"][0], values["expected"][0])
    assert len(values["of_world_0"].unique(dim=0)) == NUM_WORLDS  # a model in each replicate


def test_greedy_search_has_probability_one() -> None:
    simulator = Simulator(Point(), {"agent": {"kind": "ppo"}}, worlds=2, rounds=1, search=True)
    simulator.reset(1)
    values = MetricTracker(simulator, ["expected"]).values()["expected"]
    assert set(values.flatten().tolist()) == {0.0, 1.0}


def test_what_cannot_be_evaluated_is_refused() -> None:
    with refused("unsupported", "policies.agent"):
        metrics_of(Point(), {"kind": "ppo", "network": {"kind": "gru"}})
    with refused("unsupported", "policies"):
        metrics_of(Point(), FirstOption())
    with refused("unsupported", "metrics"):
        GymnasiumEnv(Point(), metrics=["expected"]).reset(seed=1)


class Homonyms(Point):
    """A metric of states has the name of one of policies."""

    def metrics(self, state: PointState) -> Mapping[str, Tensor]:
        return {"expected": state.rounds}


class Undeclared(Point):
    """Policy metrics hold one that is not declared, with the name of a metric of states."""

    def policy_metrics(
        self, state: PointState, answers: Mapping[str, Tensor]
    ) -> Mapping[str, Tensor]:
        return {**super().policy_metrics(state, answers), "frequency": -state.rounds}


def test_no_metric_hides_another_of_its_name() -> None:
    with refused("duplicate", "metrics.expected"):
        mores.simulate(Homonyms(), rounds=1, metrics=["expected"])
    assert metrics_of(Undeclared(), "random")["frequency"].min() >= 0


def test_flags_are_not_the_output_of_a_network() -> None:
    """CUT computes them from two evaluations of a completion."""
    fields = {"num_completions": 2, "critique": "token_critique", "review": True}
    env = mores.make_environment("token_feedback", **fields)
    role = env.roles[0].name
    simulator = Simulator(env, {role: {"kind": "cut"}}, worlds=1, rounds=1)
    simulator.reset(0)
    policy, state = simulator.acting_policies[role], simulator.policy_states[role]
    observation = torch.zeros(1, env.roles[0].num_agents, 1, env.roles[0].observation_space.size)
    completion, review = env.phases
    assert policy.expected_action(completion, observation, None, state).isfinite().all()
    with refused("unsupported", f"policies.{role}"):
        policy.expected_action(review, observation, None, state)


def test_simulate_and_train_know_metrics_of_policies() -> None:
    result = mores.simulate(Point(), rounds=2, worlds=3, metrics=["expected"])
    assert "expected" in result.metrics
    trained = mores.train(
        Point(),
        {"agent": {"kind": "ppo", "num_steps": 2}},
        rounds=2,
        episodes=2,
        metrics=["expected"],
    )
    assert "expected" in trained.curves
