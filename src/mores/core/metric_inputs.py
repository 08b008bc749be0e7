"""Inputs of registered metrics by name, from a state of an environment.

values                    people's values `[world, agent, value]`
groups, names of traits   of people, `[world, agent]`
other names               entries of `Environment.latent`, then of `Environment.metrics`
initial_NAME              any of these at the start of the episode
reward_ROLE, return_ROLE  rewards `[world, agent]` in the last round, and their sum so far
completed_rounds          rounds of the episode so far `[world]`
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from torch import Tensor

from mores.core.environment import Environment
from mores.core.errors import UserError, did_you_mean
from mores.core.metric import Metric

INITIAL, REWARD, RETURN = "initial_", "reward_", "return_"
COMPLETED_ROUNDS = "completed_rounds"


def state_inputs(environment: Environment[Any], state: Any) -> dict[str, Tensor]:
    """Inputs that a state has, without those of `Environment.metrics`."""
    inputs, people = dict(environment.latent(state)), environment.people(state)
    if people is not None:
        inputs |= people.traits
        inputs["values"] = people.values
        if people.groups is not None:
            inputs["groups"] = people.groups
    return inputs


def select_inputs(
    environment: Environment[Any], state: Any, names: Iterable[str]
) -> dict[str, Tensor]:
    """The inputs of these names that a state has."""
    wanted, known = set(names), state_inputs(environment, state)
    if not wanted <= known.keys():  # the environment's own metrics may be expensive
        known = {**environment.metrics(state), **known}
    return {name: known[name] for name in wanted & known.keys()}


def episode_input_names(environment: Environment[Any]) -> list[str]:
    """Inputs that belong to the episode so far, not to a state."""
    roles = [role.name for role in environment.roles]
    return [f"{prefix}{role}" for prefix in (REWARD, RETURN) for role in roles] + [COMPLETED_ROUNDS]


def check_inputs(
    name: str, metric: Metric, environment: Environment[Any], state: Any, own: Iterable[str]
) -> None:
    """Check that an environment has the inputs that a metric needs.

    Args:
        name: of the metric, for messages.
        metric: the metric.
        environment: the environment.
        state: a state of it, at the start of an episode.
        own: names of the environment's own metrics.

    Raises:
        UserError: an input is missing; with those that there are.
    """
    known, episode = sorted(state_inputs(environment, state)), episode_input_names(environment)
    available = {*known, *own}
    for each in (each for each, needed in metric.inputs.items() if needed):
        if each in available or each in episode or each.removeprefix(INITIAL) in available:
            continue
        near = did_you_mean(each, [*known, *episode])
        if not near.startswith("; did"):
            near = f"; it has {', '.join([*known, *episode])}, its metrics, and initial_NAME"
        raise UserError(
            f"{name} needs the input {each!r}, which {type(environment).__name__} lacks{near}",
            code="missing",
            path="metrics",
        )
