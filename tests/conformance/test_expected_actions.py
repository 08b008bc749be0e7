"""Scripted policies: the expected action is the mean of what they draw."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from mores.core.environment import Phase
from mores.core.errors import UserError
from mores.core.policy import Policy
from mores.core.random_streams import RandomStreams, Worlds
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.registry import REGISTRIES, class_of, make_policy
from mores.sim.simulator import Simulator
from tests.cases import FULL
from tests.conformance.environments import ALL_KINDS, make
from tests.learners.small_environments import unchecked

NUM_WORLDS, NUM_DRAWS, MAX_Z = 8, 64, 5.5
POLICIES = [
    kind
    for kind in sorted(REGISTRIES["policy"].package_kinds - {"per_agent", "language"})
    if class_of("policy", kind).expected_action is not Policy.expected_action
]
# Language models draw by one function in every environment, and a draw of theirs is slow.
LANGUAGE_KINDS = ALL_KINDS if FULL else ["matrix_game"]


def one_hot(space: Space, action: Tensor) -> Tensor:
    """Actions with options one-hot, as expected actions are."""
    if isinstance(space, Box):
        return action
    if isinstance(space, Discrete):
        return torch.nn.functional.one_hot(action, space.num_options).float()
    parts = [
        torch.nn.functional.one_hot(action[..., i], n) for i, n in enumerate(space.num_options)
    ]
    return torch.cat(parts, -1).float()


@pytest.mark.cut(4)
@pytest.mark.parametrize("kind", ALL_KINDS)
@unchecked()
def test_expected_actions_are_means_of_drawn_ones(kind):
    """In the states after two rounds, in every role and phase, for all policies that can act."""
    environment = make(kind)
    for role in environment.roles:
        for policy_kind in POLICIES:
            if policy_kind.startswith("language") and kind not in LANGUAGE_KINDS:
                continue
            try:
                policy = make_policy(policy_kind)
                simulator = Simulator(
                    environment,
                    {**environment.default_policies(), role.name: policy},
                    worlds=NUM_WORLDS,
                    rounds=4,
                )
                simulator.reset(5)
            except (UserError, KeyError):  # it has parameters to set, or refuses the role
                continue
            for _ in range(2):
                if not simulator.all_finished:
                    simulator.step()
            for phase in environment.phases:
                if role.name in phase.action_spaces:
                    try:
                        check_expected_action(simulator, role.name, phase)
                    except UserError:  # what a language model generates has no expected action
                        if not policy_kind.startswith("language"):
                            raise


def check_expected_action(simulator: Simulator, role: str, phase: Phase) -> None:
    """Compare with the mean over draws; where one action is sure it must be equal."""
    environment, state = simulator.environment, simulator.state
    policy, policy_state = simulator.acting_policies[role], simulator.policy_states[role]
    obs = environment.observe(state, role, phase.name)
    mask, space = environment.action_mask(state, role, phase.name), phase.action_spaces[role]
    queried = None if mask is None else mask[:, :, None]
    expected = policy.expected_action(phase, obs[:, :, None], queried, policy_state)[:, :, 0]
    streams = RandomStreams.of(11, Worlds.grid(NUM_WORLDS))
    drawn = torch.stack(
        [
            one_hot(space, policy.act(phase, obs, mask, policy_state, streams.at(i)).action)
            for i in range(NUM_DRAWS)
        ]
    )
    name = f"{type(policy).__name__} as {role} in {phase.name}"
    assert expected.shape == drawn.shape[1:], name
    std = drawn.std(0)
    if isinstance(space, (Discrete, MultiDiscrete)):
        choices = 1 if isinstance(space, Discrete) else space.size
        torch.testing.assert_close(
            expected.sum(-1), torch.full(expected.shape[:-1], float(choices)), msg=name
        )
        std = (expected * (1 - expected)).clamp(min=0).sqrt()
    tolerance = MAX_Z * std / NUM_DRAWS**0.5 + 1e-4
    rare = expected < 1 / NUM_DRAWS  # the number of draws is not normal: 6 have a chance of 1e-8
    tolerance = torch.where(rare, tolerance.clamp(min=6 / NUM_DRAWS), tolerance)
    assert (drawn.mean(0) - expected).abs().le(tolerance).all(), name
