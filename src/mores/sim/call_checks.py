"""Checks of what environments, policies and populations return, which users implement too.

The simulator makes them at every call: names, types, dtypes and shapes, which need no read of a
tensor. Whether actions are legal needs one, and is checked in rounds 1, 2, 4, 8, ... of a
simulator. `mores.sim.value_checks` checks all values, in the first rounds of a scenario.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import torch
from torch import Tensor

from mores.core.environment import Environment, Phase, Role, StepResult
from mores.core.errors import UserError, did_you_mean
from mores.core.people import People
from mores.core.policy import ActionOutput, Policy
from mores.core.spaces import Box, Discrete, MultiDiscrete, Space
from mores.sim.action_validation import illegal_agents

# Dtypes by name in messages. Other integers and bool would select as masks where they index.
DTYPES = {
    "floating point": (torch.float16, torch.bfloat16, torch.float32, torch.float64),
    "integer": (torch.int8, torch.int16, torch.int32, torch.int64),
    "bool": (torch.bool,),
}


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
        self._last_phase = environment.phases[-1].name
        self._num_rounds, self._next_legality_check = 0, 0

    def people(self, population: object, people: object) -> None:
        """Check the result of `Population.sample_people`."""
        if not isinstance(people, People):
            method = f"{type(population).__name__}.sample_people"
            refuse(
                method, f"must return People, not {_describe(people)}", "wrong_type", "population"
            )

    def initial_state(self, state: Any) -> None:
        """Check the result of `Environment.reset` for all worlds."""

    def policy_state(self, role: str, state: Any) -> None:
        """Check the result of `Policy.initial_state` for all worlds."""

    def observation(self, state: Any, role: str, phase: str, observation: object) -> None:
        """Check the result of `Environment.observe`."""
        size = self.roles[role].observation_space.size
        what = f"the observation of {role!r} in {phase!r}"
        expected = (*self._leading(role), size)
        path = f"observation.{role}"
        _check_tensor(
            self.method("observe"),
            what,
            "world, agent, size",
            expected,
            observation,
            "floating point",
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
        count = options if isinstance(options, int) else sum(options)
        what = f"the action mask of {role!r} in {phase.name!r}"
        expected = (*self._leading(role), count)
        path = f"action_mask.{role}"
        _check_tensor(
            self.method("action_mask"), what, "world, agent, option", expected, mask, "bool", path
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
        method, path = self.act_method(role), f"policies.{role}"
        if not isinstance(output, ActionOutput):
            message = f"must return an ActionOutput, not {_describe(output)}"
            refuse(method, message, "wrong_type", path)
        space, action = phase.action_spaces[role], output.action
        dims, expected = "world, agent", self._leading(role)
        if not isinstance(space, Discrete):
            dims, expected = "world, agent, size", (*expected, space.size)
        dtype = "floating point" if isinstance(space, Box) else "integer"
        what = f"the action of {role!r} in {phase.name!r}"
        _check_tensor(method, what, dims, expected, action, dtype, path)
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
            "invalid_value" if in_space else "out_of_range",
            f"policies.{role}",
        )

    def step(self, state: Any, phase: Phase, result: object, finished: Tensor | None) -> None:
        """Check the result of `Environment.step`."""
        if phase.name == self._last_phase:
            if self._num_rounds == self._next_legality_check:
                self._next_legality_check = 2 * self._num_rounds + 1
            self._num_rounds += 1
        method = self.method("step")
        if not isinstance(result, StepResult):
            message = f"must return a StepResult, not {_describe(result)}"
            refuse(method, message, "wrong_type", "state")
        for role, reward in self._by_role("reward", result.reward):
            what, path = f"the reward of {role!r}", f"reward.{role}"
            _check_tensor(
                method, what, "world, agent", self._leading(role), reward, "floating point", path
            )
        if result.terminated is not None:
            _check_tensor(
                method,
                "terminated",
                "world",
                (self.num_worlds,),
                result.terminated,
                "bool",
                "terminated",
            )
        for role, tensors in self._by_role("feedback", result.feedback):
            path = f"feedback.{role}"
            if not isinstance(tensors, Mapping):
                message = f"the feedback of {role!r} must be tensors by name"
                refuse(method, f"{message}, not {_describe(tensors)}", "wrong_type", path)
            for name, tensor in tensors.items():
                what = f"the feedback {name!r} of {role!r}"
                _check_tensor(
                    method, what, "world, agent, ...", self._leading(role), tensor, "", path
                )

    def method(self, name: str) -> str:
        """Name of a method of the environment in messages."""
        return f"{type(self.environment).__name__}.{name}"

    def act_method(self, role: str) -> str:
        """Name of the method `act` of a policy in messages."""
        return f"{type(self.policies[role]).__name__}.act"

    def _leading(self, role: str) -> tuple[int, int]:
        return (self.num_worlds, self.roles[role].num_agents)

    def _by_role(self, what: str, content: Any) -> Iterator[tuple[str, Any]]:
        """Items of a mapping by role, after a check of its type and names."""
        method = self.method("step")
        if not isinstance(content, Mapping):
            message = f"{what} must be tensors by role, not {_describe(content)}"
            refuse(method, message, "wrong_type", what)
        for role, part in content.items():
            if role not in self.roles:
                message = f"{what} of an unknown role, {role!r}{did_you_mean(role, self.roles)}"
                refuse(method, message, "unknown_name", f"{what}.{role}")
            yield role, part


def refuse(method: str, message: str, code: str, path: str) -> NoReturn:
    """Raise the error of a method's result."""
    raise UserError(f"{method}: {message}", code=code, path=path)


def _check_tensor(
    method: str,
    what: str,
    dims: str,
    expected: tuple[int, ...],
    given: object,
    dtype: str,
    path: str,
) -> None:
    """Check type, shape and dtype of a result. `dtype`: a key of `DTYPES`, or empty: any."""
    leading, code = dims.endswith("..."), "wrong_type"
    if isinstance(given, Tensor):
        shape = given.shape[: len(expected)] if leading else given.shape
        if shape == expected and (not dtype or given.dtype in DTYPES[dtype]):
            return
        code = "wrong_type" if shape == expected else "wrong_shape"
    sizes = ", ".join(map(str, expected)) + (", ..." if leading else "")
    kind = f"{dtype} tensor" if dtype else "tensor"
    message = f"{what} must be a {kind} [{dims}] = [{sizes}], not {_describe(given)}"
    refuse(method, message, code, path)


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
