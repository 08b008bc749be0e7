"""Checks of all values that environments and policies return, for the first rounds of a scenario.

Beyond `call_checks`: no NaN in observations and actions, finite rewards, a legal option for every
agent, tensors of the state whose first dimension is the world, and no method that modifies the
state it was given. The results are recorded, so that two simulations can be compared call by call.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from mores.core import pytree
from mores.core.check_metrics import checked_metrics
from mores.core.environment import Phase
from mores.core.spaces import Discrete, MultiDiscrete
from mores.sim.call_checks import CallChecks, refuse


class Call(NamedTuple):
    """A call of a user's method: its name, the path of an error in it, the tensors it returned."""

    method: str
    path: str
    tensors: Mapping[str, Tensor]


class ValueChecks(CallChecks):
    """Checks of values, in every round; see `CallChecks`.

    Attributes:
        calls: results since the list was last cleared; those of observations only if they are
            given to a policy.
    """

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.calls: list[Call] = []
        self._state: Any = None
        self._versions: list[tuple[str, Tensor, int]] = []
        self._observations: dict[str, tuple[Tensor, int]] = {}

    def people(self, population: object, people: object) -> None:
        """Check the result of `Population.sample_people`."""
        super().people(population, people)
        method = f"{type(population).__name__}.sample_people"
        self._record(method, "population", {"people": people})

    def initial_state(self, state: Any) -> None:
        """Check the result of `Environment.reset`."""
        super().initial_state(state)
        self._note_versions(state)
        self._record(self.method("reset"), "state", {"state": state})

    def policy_state(self, role: str, state: Any) -> None:
        """Check the result of `Policy.initial_state`."""
        super().policy_state(role, state)
        method = f"{type(self.policies[role]).__name__}.initial_state"
        self._record(method, f"policies.{role}", {"policy state": state})

    def observation(self, state: Any, role: str, phase: str, observation: Any) -> None:
        """Check the result of `Environment.observe`."""
        super().observation(state, role, phase, observation)
        method, path = self.method("observe"), f"observation.{role}"
        if observation.isnan().any():
            message = f"the observation of {role!r} in {phase!r} is NaN"
            refuse(method, message, path, code="not_finite")
        self._observations[role] = observation, observation._version
        self._record(method, path, {"observation": observation}, state)

    def action_mask(
        self, state: Any, role: str, phase: Phase, mask: Any, finished: Tensor | None
    ) -> None:
        """Check the result of `Environment.action_mask`."""
        super().action_mask(state, role, phase, mask, finished)
        method, path = self.method("action_mask"), f"action_mask.{role}"
        space = phase.action_spaces.get(role)
        if mask is not None and isinstance(space, (Discrete, MultiDiscrete)):
            self.check_options(role, phase.name, space, mask, finished)
        self._record(method, path, {} if mask is None else {"action mask": mask}, state)

    def action(
        self,
        state: Any,
        role: str,
        phase: Phase,
        mask: Tensor | None,
        output: Any,
        finished: Tensor | None,
    ) -> None:
        """Check the result of `Policy.act`."""
        super().action(state, role, phase, mask, output, finished)
        method, path = self.act_method(role), f"policies.{role}"
        observation, version = self._observations[role]
        if observation._version != version:
            message = "modifies the observation that it is given (no [...] =, no function in _)"
            refuse(method, message, path, code="modified_input")
        self.check_legal(role, phase.name, phase.action_spaces[role], output.action, mask, finished)
        if output.action.isnan().any():
            message = f"the action of {role!r} in {phase.name!r} is NaN"
            refuse(method, message, path, code="not_finite")
        self._record(method, path, {"action": output.action, "policy state": output.state}, state)

    def step(self, state: Any, phase: Phase, result: Any, finished: Tensor | None) -> None:
        """Check the result of `Environment.step`."""
        super().step(state, phase, result, finished)
        method = self.method("step")
        for role, reward in result.reward.items():
            if not reward.isfinite().all():
                message = f"the reward of {role!r} in {phase.name!r} is NaN or infinite"
                refuse(method, message, f"reward.{role}", code="not_finite")
        ended = {} if result.terminated is None else {"terminated": result.terminated}
        parts = {"state": result.state, "reward": result.reward, **ended}
        self._record(method, "state", {**parts, "feedback": result.feedback}, state)
        self._note_versions(result.state)

    def metrics(self, state: Any) -> Mapping[str, Tensor]:
        """The metrics of a state, checked."""
        metrics = checked_metrics(self.environment, state, self.num_worlds)
        self._record(self.method("metrics"), "metrics", metrics, state)
        return metrics

    def latent(self, state: Any) -> None:
        """Check the result of `Environment.latent`."""
        latent = {"latent": self.environment.latent(state)}
        self._record(self.method("latent"), "latent", latent, state)

    def _record(self, method: str, path: str, result: Mapping[str, Any], state: Any = None) -> None:
        """Record the tensors of a result, which must have the world as first dimension.

        The state that the method was given must be unmodified, by the version counters of tensors.
        """
        if state is not None and state is not self._state:
            self._note_versions(state)
        for name, tensor, version in self._versions if state is not None else ():
            if tensor._version != version:
                message = (
                    f"modifies the state that it is given{f', {name!r}' if name else ''}: "
                    "return a new one (no +=, no [...] =, no function that ends in _)"
                )
                refuse(method, message, path, code="modified_input")
        tensors = pytree.flatten(result, include_persistent=False)
        for name, tensor in tensors.items():
            if tensor.shape[:1] != (self.num_worlds,):
                message = (
                    f"{name!r} must have the world as first dimension, {self.num_worlds}, not "
                    f"{list(tensor.shape)}: keep static data on the object itself"
                )
                refuse(method, message, path, code="wrong_shape")
        self.calls.append(Call(method, path, tensors))

    def _note_versions(self, state: Any) -> None:
        self._state = state
        self._versions = [(n, t, t._version) for n, t in pytree.flatten(state).items()]
