"""Simulate one round of two worlds before an experiment, and check the shapes of its tensors."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mores.core.check_metrics import checked_metrics
from mores.core.environment import Environment
from mores.core.errors import UserError
from mores.core.people import Population
from mores.core.policy import Policy
from mores.sim.simulator import Simulator

NUM_WORLDS = 2


def check_first_round(
    environment: Environment[Any],
    policies: Mapping[str, Policy],
    population: Population | None,
    seed: int,
) -> list[UserError]:
    """Errors of an environment or its policies that one round reveals."""
    try:
        sim = Simulator(environment, policies, worlds=NUM_WORLDS, rounds=2, population=population)
        sim.reset(seed)
        before = _metric_shapes(checked_metrics(environment, sim.state, NUM_WORLDS))
        messages = _observation_shape_errors(sim)
        sim.step()
        after = _metric_shapes(checked_metrics(environment, sim.state, NUM_WORLDS))
        messages += _observation_shape_errors(sim)
    except UserError as error:
        return [error]
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # PyTorch has no class of its own for it
            raise
        return [UserError(f"fails in its first round: {describe_exception(error)}", code="failed")]
    for name in before | after:
        if before.get(name) != after.get(name):
            shapes = f"{before.get(name)} at reset and {after.get(name)} after a round"
            messages.append(f"the shape of the metric {name!r} is {shapes}")
    return [UserError(message, code="failed") for message in dict.fromkeys(messages)]


def describe_exception(error: BaseException) -> str:
    """An exception in one line, with the file and line that raised it."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _metric_shapes(metrics: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in metrics.items()}


def _observation_shape_errors(simulator: Simulator) -> list[str]:
    """Messages for observations whose shape is not `[world, agent, size]`."""
    messages = []
    for phase in simulator.phases:
        for name in phase.action_spaces:
            role = simulator.roles[name]
            shape = tuple(simulator.environment.observe(simulator.state, name, phase.name).shape)
            expected = (NUM_WORLDS, role.num_agents, role.observation_space.size)
            if shape != expected:
                shapes = f"has shape {shape}, not {expected}"
                messages.append(f"the observation of {name!r} in {phase.name!r} {shapes}")
    return messages
