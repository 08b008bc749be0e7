"""What depends on parameters that nobody knows: further cells, and which parameter carries it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float
from scipy.stats import qmc

from mores.analysis import sensitivity
from mores.analysis.sensitivity import SensitivityIndices
from mores.experiments.claims.claim_evaluation import cells_by_point, metric_at_round
from mores.experiments.results.cell_result import CellResult
from mores.experiments.run import dry_run
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.claim_inputs import claim_arm, required_arms
from mores.experiments.scenario.conditions import Condition, condition_at_point
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Scenario
from mores.experiments.scenario.stages import Sensitivity, Uncertainty


def plan_cells(loaded: LoadedScenario, with_dry_run: bool = True) -> tuple[Cell, ...]:
    """All cells of a run: the arms, and what is played at draws of uncertain parameters.

    Args:
        loaded: the scenario.
        with_dry_run: see how its learners fare, which a run that was begun has seen.

    Raises:
        ScenarioError: everything that is wrong with the scenario.
        UserError: a sensitivity analysis is asked for, and SALib is not installed.
    """
    cells = dry_run.check_scenario(loaded) if with_dry_run else expansion.expand_and_verify(loaded)
    uncertain = loaded.scenario.uncertainty
    if uncertain is None:
        return cells
    asked = [*_draw_conditions(loaded, uncertain), *_design_conditions(loaded, uncertain)]
    return (*cells, *expansion.cells_for_conditions(loaded, asked))


def _draw_conditions(loaded: LoadedScenario, uncertainty: Uncertainty) -> list[Condition]:
    """Every arm that a claim over parameters needs, at points drawn from their ranges."""
    scenario = loaded.scenario
    arms = required_arms(scenario, [c for c in scenario.claims if c.interval == "parameters"])
    ranges = uncertainty.parameters
    cube = qmc.LatinHypercube(len(ranges), rng=np.random.default_rng(scenario.seed))
    low, high = np.array(list(ranges.values())).T
    points = low + (high - low) * cube.random(uncertainty.draws)
    return [
        _condition_at(loaded, arm, n, row, "draw") for arm in arms for n, row in enumerate(points)
    ]


def _design_conditions(loaded: LoadedScenario, uncertainty: Uncertainty) -> list[Condition]:
    """The arms that a sensitivity analysis looks at, at the points of its design."""
    asked, scenario = uncertainty.sensitivity, loaded.scenario
    if asked is None:
        return []
    points = _design_points(scenario, uncertainty, asked)
    arms = required_arms(scenario, [asked])
    return [
        _condition_at(loaded, arm, n, row, "design") for arm in arms for n, row in enumerate(points)
    ]


def _design_points(
    scenario: Scenario, uncertainty: Uncertainty, sensitivity_spec: Sensitivity
) -> Float[np.ndarray, "point parameter"]:
    return sensitivity.sample_design(
        sensitivity_spec.method,
        uncertainty.parameters,
        sensitivity_spec.num_samples_or_default,
        scenario.seed,
    )


def _condition_at(
    loaded: LoadedScenario, arm: str, index: int, values: np.ndarray, purpose: str
) -> Condition:
    scenario = loaded.scenario
    assert scenario.uncertainty is not None
    point = dict(zip(scenario.uncertainty.parameters, values.tolist(), strict=True))
    kind = "draw" if purpose == "draw" else "design"
    return condition_at_point(scenario, loaded.source_map, arm, point, "uncertainty", kind, index)


def sensitivity_indices(
    scenario: Scenario, cells: Sequence[Cell], cell_results: Mapping[str, CellResult]
) -> SensitivityIndices | None:
    """How much of a result each uncertain parameter carries, if the scenario asks for it."""
    uncertain = scenario.uncertainty
    asked = uncertain and uncertain.sensitivity
    if uncertain is None or asked is None:
        return None
    stage = scenario.stage(None)
    at = scenario.rounds_per_episode(stage) if asked.at_round is None else asked.at_round
    arm = claim_arm(scenario, asked)
    outputs, errors = [], []
    for here in cells_by_point(cells):
        if arm not in here or here[arm].purpose != "design":
            continue
        beside = {name: cell_results[cell.id] for name, cell in here.items()}
        control = beside.get(scenario.control or "")
        values = metric_at_round(beside[arm], asked.metric, stage.name, at, control)
        if asked.compare_to is not None:
            values = values - metric_at_round(
                beside[asked.compare_to], asked.metric, stage.name, at, control
            )
        outputs.append(values.mean())
        errors.append(values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan)
    return sensitivity.compute_indices(
        asked.method,
        uncertain.parameters,
        _design_points(scenario, uncertain, asked),
        np.array(outputs),
        None if np.isnan(errors).any() else np.array(errors),
    )
