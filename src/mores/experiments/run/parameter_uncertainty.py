"""What depends on parameters that nobody knows: further cells, and which parameter carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import qmc

from mores.analysis import sensitivity
from mores.analysis.sensitivity import Indices
from mores.experiments.claims.claim_evaluation import by_point, values_at
from mores.experiments.results.cell_result import Record
from mores.experiments.run import dry_run
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.claim_inputs import arm_of, arms_looked_at
from mores.experiments.scenario.conditions import Condition, at_point
from mores.experiments.scenario.loading import Loaded
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Sensitivity, Uncertain


def plan(loaded: Loaded, rehearse: bool = True) -> tuple[Cell, ...]:
    """All cells of a run: the arms, and what is played at draws of uncertain parameters.

    Args:
        loaded: the scenario.
        rehearse: see how its learners fare, which a run that was begun has seen.

    Raises:
        ScenarioError: everything that is wrong with the scenario.
        UserError: a sensitivity analysis is asked for, and SALib is not installed.
    """
    cells = dry_run.check(loaded) if rehearse else expansion.check(loaded)
    uncertain = loaded.scenario.uncertain
    if uncertain is None:
        return cells
    asked = [*_draws(loaded, uncertain), *_design(loaded, uncertain)]
    return (*cells, *expansion.cells_of(loaded, asked))


def _draws(loaded: Loaded, uncertain: Uncertain) -> list[Condition]:
    """Every arm that a claim over parameters needs, at points drawn from their ranges."""
    scenario = loaded.scenario
    arms = arms_looked_at(scenario, [c for c in scenario.claims if c.interval == "parameters"])
    ranges = uncertain.parameters
    cube = qmc.LatinHypercube(len(ranges), rng=np.random.default_rng(scenario.seed))
    low, high = np.array(list(ranges.values())).T
    points = low + (high - low) * cube.random(uncertain.draws)
    return [_at(loaded, arm, n, row, "draw") for arm in arms for n, row in enumerate(points)]


def _design(loaded: Loaded, uncertain: Uncertain) -> list[Condition]:
    """The arms that a sensitivity analysis looks at, at the points of its design."""
    asked, scenario = uncertain.sensitivity, loaded.scenario
    if asked is None:
        return []
    points = _points(scenario, uncertain, asked)
    arms = arms_looked_at(scenario, [asked])
    return [_at(loaded, arm, n, row, "design") for arm in arms for n, row in enumerate(points)]


def _points(
    scenario: Scenario, uncertain: Uncertain, asked: Sensitivity
) -> Float[np.ndarray, "point parameter"]:
    return sensitivity.design(asked.method, uncertain.parameters, asked.points, scenario.seed)


def _at(loaded: Loaded, arm: str, number: int, row: np.ndarray, purpose: str) -> Condition:
    scenario = loaded.scenario
    assert scenario.uncertain is not None
    point = dict(zip(scenario.uncertain.parameters, row.tolist(), strict=True))
    kind = "draw" if purpose == "draw" else "design"
    return at_point(scenario, loaded.places, arm, point, "uncertain", kind, number)


def carried_by(
    scenario: Scenario, cells: Sequence[Cell], records: Mapping[str, Record]
) -> Indices | None:
    """How much of a result each uncertain parameter carries, if the scenario asks for it."""
    uncertain = scenario.uncertain
    asked = uncertain and uncertain.sensitivity
    if uncertain is None or asked is None:
        return None
    stage = scenario.stage(None)
    at = scenario.rounds_in(stage) if asked.at is None else asked.at
    arm = arm_of(scenario, asked)
    outputs, errors = [], []
    for here in by_point(cells):
        if arm not in here or here[arm].purpose != "design":
            continue
        beside = {name: records[cell.id] for name, cell in here.items()}
        control = beside.get(scenario.control or "")
        values = values_at(beside[arm], asked.measure, stage.name, at, control)
        if asked.against is not None:
            values = values - values_at(
                beside[asked.against], asked.measure, stage.name, at, control
            )
        outputs.append(values.mean())
        errors.append(values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan)
    return sensitivity.indices(
        asked.method,
        uncertain.parameters,
        _points(scenario, uncertain, asked),
        np.array(outputs),
        None if np.isnan(errors).any() else np.array(errors),
    )
