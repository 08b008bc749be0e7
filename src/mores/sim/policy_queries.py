"""Metrics of policies: what they would do on the observations that an environment asks about."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float, Num
from torch import Tensor

from mores.core.check_metrics import check_metric
from mores.core.environment import Phase, PolicyQuery
from mores.core.errors import UserError
from mores.core.policy import Policy
from mores.core.spaces import Discrete, MultiDiscrete, Space
from mores.sim.simulator import Simulator


@torch.no_grad()
def policy_metrics(simulator: Simulator) -> Mapping[str, Num[Tensor, "world *n"]]:
    """`Environment.policy_metrics` of the present state and policies, by name.

    Raises:
        UserError: a role has no policy, or one that cannot be evaluated; a result has another
            shape than it must have.
    """
    environment, state = simulator.environment, simulator.state
    found = {
        name: _answer(simulator, name, query)
        for name, query in environment.policy_queries(state).items()
    }
    answers = {name: answer for name, answer in found.items() if answer is not None}
    metrics = environment.policy_metrics(state, answers)
    owner = f" of {type(environment).__name__}"
    for name, value in metrics.items():
        check_metric(name, value, len(simulator.worlds), owner)
    names = environment.policy_metric_names
    if missing := {*names} - metrics.keys():
        raise UserError(
            f"{type(environment).__name__}.policy_metrics returns no {min(missing)!r}, which is "
            "among its policy_metric_names",
            code="missing",
            path=f"metrics.{min(missing)}",
        )
    return {name: metrics[name] for name in names}  # others could hide a metric of states


def _answer(
    simulator: Simulator, name: str, query: PolicyQuery
) -> Float[Tensor, "world agent query option"] | None:
    """The policy's expected action for a query, checked; or its features, `None` without any."""
    role = query.role
    policy = simulator.acting_policies.get(role)
    if policy is None or role in simulator.external:
        raise UserError(
            f"the metric needs a policy for all agents of {role}: external agents cannot be "
            "evaluated on given observations",
            code="unsupported",
            path="metrics",
        )
    phase = next(each for each in simulator.phases if each.name == query.phase)
    if query.output == "features":
        method = "hidden_features"
        answer: Any = policy.hidden_features(
            phase, query.observation, simulator.policy_states[role]
        )
        if answer is None:
            return None
        size = answer.shape[-1] if isinstance(answer, Tensor) and answer.ndim else 0
    else:
        method, size = "expected_action", _answer_size(phase.action_spaces[role])
        answer = _expected_action(simulator, policy, phase, query)
    expected = (*query.observation.shape[:3], size)
    if not isinstance(answer, Tensor) or answer.shape != expected:
        found = list(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
        raise UserError(
            f"{type(policy).__name__}.{method} must return {list(expected)} for the query "
            f"{name!r}, not {found}",
            code="wrong_shape",
            path=f"policies.{role}",
        )
    return answer


def _answer_size(space: Space) -> int:
    """Length of an expected action."""
    if isinstance(space, MultiDiscrete):
        return sum(space.num_options)
    return space.num_options if isinstance(space, Discrete) else space.size


def _expected_action(simulator: Simulator, policy: Policy, phase: Phase, query: PolicyQuery) -> Any:
    return policy.expected_action(
        phase,
        query.observation,
        query.action_mask,
        simulator.policy_states[query.role],
        search=simulator.searches(query.role),
    )
