"""Checks of what environments, policies and populations return, which users implement too.

The simulator makes them at every call: names, types, dtypes and shapes, which need no read of a
tensor. Whether actions are legal needs one, and is checked in rounds 1, 2, 4, 8, ... of a
simulator. `mores.sim.value_checks` checks all values, in the first rounds of a scenario.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import UserError, did_you_mean
from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.sim.action_validation import illegal_agents

FLOATS = (torch.float32, torch.float64, torch.float16, torch.bfloat16)
# Other integers, and bool, select as masks where they index.
INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8)
BOOL = (torch.bool,)


class CallChecks:
    """Checks of the results of one simulator's calls.

    Every method raises a `UserError` that names the class and method whose result violates the
    contract. `finished`: worlds whose results are not used; `None`: no world.

    Args:
        environment: the environment.
        policies: policy of each role.
        roles: roles of the environment, by name.
        num_worlds: number of worlds.
    """

    def __init__(
        self,
        environment: Environment[Any],
        policies: Mapping[str, Policy],
        roles: Mapping[str, Role],
        num_worlds: int,
    ) -> None:
        self.environment, self.policies, self.roles = environment, policies, roles
        self.num_worlds = num_worlds
        self._leading = {name: (num_worlds, role.num_agents) for name, role in roles.items()}
        self._observation_shapes = {
            name: (*self._leading[name], role.observation_space.size)
            for name, role in roles.items()
        }
        self._last_phase = environment.phases[-1].name
        self._num_rounds, self._next_legality_check = 0, 0

    def people(self, population: object, people: object) -> None:
        """Check the result of `Population.sample_people`."""
        if not isinstance(people, People):
            method = f"{type(population).__name__}.sample_people"
            refuse(
                method,
                f"must return People, not {_describe(people)}",
                "population",
                code="wrong_type",
            )

    def initial_state(self, state: Any) -> None:
        """Check the result of `Environment.reset` for all worlds."""

    def policy_state(self, role: str, state: Any) -> None:
        """Check the result of `Policy.initial_state` for all worlds."""

    def observation(self, state: Any, role: str, phase: str, observation: object) -> None:
        """Check the result of `Environment.observe`."""
        expected = self._observation_shapes[role]
        if not _matches(observation, expected, FLOATS):
            what, path = f"the observation of {role!r} in {phase!r}", f"observation.{role}"
            _refuse_tensor(
                self.method("observe"),
                what,
                "world, agent, size",
                expected,
                observation,
                FLOATS,
                path,
            )

    def action_mask(
        self, state: Any, role: str, phase: Phase, mask: object, finished: Tensor | None
    ) -> None:
        """Check the result of `Environment.action_mask`."""
        space = phase.action_spaces.get(role)
        if mask is None or space is None or isinstance(space, Box):
            return
        options = space.num_options
        expected = (*self._leading[role], options if isinstance(options, int) else sum(options))
        if not _matches(mask, expected, BOOL):
            what, path = f"the action mask of {role!r} in {phase.name!r}", f"action_mask.{role}"
            _refuse_tensor(
                self.method("action_mask"), what, "world, agent, option", expected, mask, BOOL, path
            )
        if self._num_rounds == self._next_legality_check:
            assert isinstance(mask, Tensor)
            self.check_options(role, phase.name, space, mask, finished)

    def check_options(
        self,
        role: str,
        phase: str,
        space: Discrete | MultiDiscrete,
        mask: Tensor,
        finished: Tensor | None,
    ) -> None:
        """Check that a mask leaves every agent an option of every choice."""
        counts = space.num_options
        choices = mask.split((counts,) if isinstance(counts, int) else counts, -1)
        empty = torch.stack([~choice.any(-1) for choice in choices]).any(0)
        empty = empty if finished is None else empty & ~finished[:, None]
        if empty.any():
            agent = int(empty.nonzero()[0, 1])
            refuse(
                self.method("action_mask"),
                f"the action mask leaves {role}_{agent} no option in {phase!r}",
                f"action_mask.{role}",
                code="invalid_value",
            )

    def action(
        self,
        state: Any,
        role: str,
        phase: Phase,
        mask: Tensor | None,
        output: object,
        finished: Tensor | None,
    ) -> None:
        """Check the result of `Policy.act`."""
        if not isinstance(output, ActionOutput):
            message = f"must return an ActionOutput, not {_describe(output)}"
            refuse(self.act_method(role), message, f"policies.{role}", code="wrong_type")
        space, action = phase.action_spaces[role], output.action
        dims, expected = "world, agent", self._leading[role]
        if not isinstance(space, Discrete):
            dims, expected = "world, agent, size", (*expected, space.size)
        dtypes = FLOATS if isinstance(space, Box) else INTEGERS
        if not _matches(action, expected, dtypes):
            method, what = self.act_method(role), f"the action of {role!r} in {phase.name!r}"
            _refuse_tensor(method, what, dims, expected, action, dtypes, f"policies.{role}")
        if self._num_rounds == self._next_legality_check:
            self.check_legal(role, phase.name, space, action, mask, finished)

    def check_legal(
        self,
        role: str,
        phase: str,
        space: Space,
        action: Tensor,
        mask: Tensor | None,
        finished: Tensor | None,
    ) -> None:
        """Check that the actions of a role are legal."""
        illegal = illegal_agents(space, action, mask)
        illegal = illegal if finished is None else illegal & ~finished[:, None]
        if not illegal.any():
            return
        world, agent = illegal.nonzero()[0].tolist()
        in_space = not illegal_agents(space, action, None)[world, agent]
        refuse(
            self.act_method(role),
            f"the action {action[world, agent].tolist()} of {role}_{agent} in {phase!r} is not "
            f"in {'its action mask' if in_space else _describe_space(space)}",
            f"policies.{role}",
            code="invalid_value" if in_space else "out_of_range",
        )

    def step(self, state: Any, phase: Phase, result: object, finished: Tensor | None) -> None:
        """Check the result of `Environment.step`."""
        if phase.name == self._last_phase:
            if self._num_rounds == self._next_legality_check:
                self._next_legality_check = 2 * self._num_rounds + 1
            self._num_rounds += 1
        if not isinstance(result, StepResult):
            message = f"must return a StepResult, not {_describe(result)}"
            refuse(self.method("step"), message, "state", code="wrong_type")
        self._check_reward(result.reward)
        ended, expected = result.terminated, (self.num_worlds,)
        if ended is not None and not _matches(ended, expected, BOOL):
            method = self.method("step")
            _refuse_tensor(method, "terminated", "world", expected, ended, BOOL, "terminated")
        self._check_feedback(result.feedback)

    def _check_reward(self, reward: Mapping[str, Any]) -> None:
        self._check_roles("reward", reward)
        for role, part in reward.items():
            if not _matches(part, self._leading[role], FLOATS):
                what, path = f"the reward of {role!r}", f"reward.{role}"
                method, expected = self.method("step"), self._leading[role]
                _refuse_tensor(method, what, "world, agent", expected, part, FLOATS, path)

    def _check_feedback(self, feedback: Mapping[str, Any]) -> None:
        self._check_roles("feedback", feedback)
        for role, tensors in feedback.items():
            method, path, expected = self.method("step"), f"feedback.{role}", self._leading[role]
            if not isinstance(tensors, Mapping):
                message = f"the feedback of {role!r} must be tensors by name"
                refuse(method, f"{message}, not {_describe(tensors)}", path, code="wrong_type")
            for name, tensor in tensors.items():
                if not isinstance(tensor, Tensor) or tensor.shape[:2] != expected:
                    what, dims = f"the feedback {name!r} of {role!r}", "world, agent, ..."
                    _refuse_tensor(method, what, dims, expected, tensor, None, path)

    def _check_roles(self, what: str, content: object) -> None:
        """Check that a part of a step's result is a mapping by role."""
        if type(content) is not dict and not isinstance(content, Mapping):  # the first is faster
            message = f"{what} must be tensors by role, not {_describe(content)}"
            refuse(self.method("step"), message, what, code="wrong_type")
        for role in content:
            if role not in self.roles:
                message = f"{what} of an unknown role, {role!r}{did_you_mean(role, self.roles)}"
                refuse(self.method("step"), message, f"{what}.{role}", code="unknown_name")

    def method(self, name: str) -> str:
        """Name of a method of the environment in messages."""
        return f"{type(self.environment).__name__}.{name}"

    def act_method(self, role: str) -> str:
        """Name of the method `act` of a policy in messages."""
        return f"{type(self.policies[role]).__name__}.act"


def refuse(method: str, message: str, path: str, *, code: str) -> NoReturn:
    """Raise the error of a method's result."""
    raise UserError(f"{method}: {message}", code=code, path=path)


def _matches(given: object, shape: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> bool:
    return isinstance(given, Tensor) and given.shape == shape and given.dtype in dtypes


def _refuse_tensor(
    method: str,
    what: str,
    dims: str,
    expected: tuple[int, ...],
    given: object,
    dtypes: tuple[torch.dtype, ...] | None,
    path: str,
) -> NoReturn:
    """Refuse a result of a wrong type, shape or dtype. `dtypes`: `None`: any."""
    leading, code = dims.endswith("..."), "wrong_type"
    if isinstance(given, Tensor):
        shape = given.shape[: len(expected)] if leading else given.shape
        code = "wrong_type" if shape == expected else "wrong_shape"
    sizes = ", ".join(map(str, expected)) + (", ..." if leading else "")
    kind = {FLOATS: "floating point ", INTEGERS: "integer ", BOOL: "bool ", None: ""}[dtypes]
    message = f"{what} must be a {kind}tensor [{dims}] = [{sizes}], not {_describe(given)}"
    refuse(method, message, path, code=code)


def _describe(given: object) -> str:
    if isinstance(given, Tensor):
        return f"{list(given.shape)} {given.dtype}".replace("torch.", "")
    return "None" if given is None else f"a {type(given).__name__}"


def _describe_space(space: Space) -> str:
    if isinstance(space, Discrete):
        return f"the options 0 to {space.num_options - 1}"
    if isinstance(space, MultiDiscrete):
        return f"its choices of {list(space.num_options)} options, from 0"
    ranges = (f"{name} in [{p.low:g}, {p.high:g}]" for name, p in space.parts.items())
    return f"its space, {', '.join(ranges)}"
