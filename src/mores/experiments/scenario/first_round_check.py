"""Play one round of two worlds before an experiment begins, and see that all has its shape."""

from __future__ import annotations

import traceback
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mores.core.check_metrics import checked_metrics
from mores.core.environment import Environment, Policy
from mores.core.errors import UserError
from mores.core.people import Population
from mores.sim.simulator import Simulator

NUM_WORLDS = 2


def check_first_round(
    environment: Environment[Any],
    policies: Mapping[str, Policy],
    population: Population | None,
    seed: int,
) -> list[UserError]:
    """What is wrong with an environment or its players, as far as one round shows."""
    try:
        table = Simulator(environment, policies, worlds=NUM_WORLDS, rounds=2, population=population)
        table.reset(seed)
        before = _metric_shapes(checked_metrics(environment, table.state, NUM_WORLDS))
        wrong = _observation_shape_errors(table)
        table.step()
        after = _metric_shapes(checked_metrics(environment, table.state, NUM_WORLDS))
        wrong += _observation_shape_errors(table)
    except UserError as error:
        return [error]
    except MemoryError:
        raise
    except Exception as error:
        if "allocate" in str(error):  # PyTorch has no class of its own for it
            raise
        return [UserError(f"breaks in its first round: {describe_exception(error)}", code="failed")]
    for name in before | after:
        if before.get(name) != after.get(name):
            wrong.append(f"measure {name!r} is {before.get(name)} at first, then {after.get(name)}")
    return [UserError(line, code="failed") for line in dict.fromkeys(wrong)]


def describe_exception(error: BaseException) -> str:
    """An error of somebody's code in one line, with the place where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {error}{place}"


def _metric_shapes(metrics: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {name: tuple(tensor.shape) for name, tensor in metrics.items()}


def _observation_shape_errors(simulator: Simulator) -> list[str]:
    """Observations that are not `[world, seat, size]`."""
    wrong = []
    for phase in simulator.phases:
        for role in phase.action_spaces:
            seen = tuple(simulator.environment.observe(simulator.state, role, phase.name).shape)
            said = (
                NUM_WORLDS,
                simulator.roles[role].num_agents,
                simulator.roles[role].observation_space.size,
            )
            if seen != said:
                wrong.append(f"what {role!r} sees in {phase.name!r} is {seen}, not {said}")
    return wrong
