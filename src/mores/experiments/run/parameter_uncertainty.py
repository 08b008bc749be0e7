"""Cells at draws of uncertain parameters, and the share of each parameter in a result."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from mores.analysis import sensitivity
from mores.analysis.sensitivity import SensitivityIndices
from mores.core.threads import single_threaded
from mores.experiments.claims.claim_evaluation import (
    cells_by_point,
    metric_at_round,
    stage_and_round,
)
from mores.experiments.progress import activity
from mores.experiments.results.cell_result import CellResult
from mores.experiments.results.separate_draws import separate_draws
from mores.experiments.run import dry_run
from mores.experiments.run.draw_batches import batch_draws
from mores.experiments.scenario import expansion
from mores.experiments.scenario.cell import BuiltCell, Cell, CellPurpose
from mores.experiments.scenario.claim_inputs import claim_arm, required_arms
from mores.experiments.scenario.conditions import Condition, condition_at_point
from mores.experiments.scenario.loading import LoadedScenario
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Uncertainty


class CellPlan(NamedTuple):
    """The cells of a run, and the text of `resolved.yaml`: every parameter of each."""

    cells: tuple[Cell, ...]
    resolved_text: str


def plan_cells(loaded: LoadedScenario, with_dry_run: bool = True, batches: bool = True) -> CellPlan:
    """All cells of a run: the arms, and those at draws of uncertain parameters.

    Args:
        loaded: the scenario.
        with_dry_run: train its learners in a dry run; a resumed run has passed it.
        batches: several draws in a cell where that is possible: see `draw_batches`.

    Raises:
        ScenarioError: all problems of the scenario.
        UserError: a sensitivity analysis is requested, and SALib is not installed.
    """
    with activity(f"checking {loaded.scenario.name}"):
        return _plan_cells(loaded, with_dry_run, batches)


def _plan_cells(loaded: LoadedScenario, with_dry_run: bool, batches: bool) -> CellPlan:
    check = dry_run.check_scenario if with_dry_run else expansion.build_and_verify
    built_cells: Iterable[BuiltCell] = check(loaded)
    if loaded.scenario.uncertainty is not None:
        conditions = _conditions(loaded.scenario, loaded.scenario.uncertainty)
        draws = expansion.build_cells(loaded, conditions)  # checks every draw
        if batches:
            with single_threaded():
                cells_of_draws = list(batch_draws([b.cell for b in draws], loaded.scenario))
            draws = (cell.build() for cell in cells_of_draws)
        built_cells = itertools.chain(built_cells, draws)
    cells: list[Cell] = []

    def in_order() -> Iterator[BuiltCell]:
        for built in built_cells:  # one after another: objects of thousands would fill memory
            cells.append(built.cell)
            yield built

    text = expansion.resolved_yaml(loaded.scenario, in_order())
    return CellPlan(tuple(cells), text)


def _conditions(scenario: Scenario, uncertainty: Uncertainty) -> list[Condition]:
    """Arms of claims over parameters at draws of these, arms of the analysis at its design."""
    from scipy.stats import qmc  # slow to import

    low, high = np.array(list(uncertainty.parameters.values())).T
    hypercube = qmc.LatinHypercube(len(low), rng=np.random.default_rng(scenario.seed))
    draws = low + (high - low) * hypercube.random(uncertainty.draws)
    claims = [claim for claim in scenario.claims if claim.interval == "parameters"]
    parts: list[tuple[CellPurpose, Sequence[Claim | Sensitivity], np.ndarray]]
    parts = [("draw", claims, draws)]
    if (spec := uncertainty.sensitivity) is not None:
        parts.append(("design", [spec], _design_points(scenario, uncertainty, spec)))
    conditions = []
    for purpose, estimands, points in parts:
        for arm in required_arms(scenario, estimands):
            for n, values in enumerate(points.tolist()):
                point = dict(zip(uncertainty.parameters, values, strict=True))
                conditions.append(
                    condition_at_point(scenario, arm, point, "uncertainty", purpose, n)
                )
    return conditions


def _design_points(
    scenario: Scenario, uncertainty: Uncertainty, spec: Sensitivity
) -> Float[np.ndarray, "point parameter"]:
    size = spec.num_samples_or_default
    return sensitivity.sample_design(spec.method, uncertainty.parameters, size, scenario.seed)


def sensitivity_indices(
    scenario: Scenario, cells: Sequence[Cell], cell_results: Mapping[str, CellResult]
) -> SensitivityIndices | None:
    """The share of each uncertain parameter in a result; None if the scenario requests none."""
    uncertainty = scenario.uncertainty
    spec = uncertainty and uncertainty.sensitivity
    if uncertainty is None or spec is None:
        return None
    stage, at_round = stage_and_round(scenario, spec)
    arm = claim_arm(scenario, spec) or ""
    cells, cell_results = separate_draws(cells, cell_results)
    outputs, errors = [], []
    for cells_by_arm in cells_by_point(cells):
        if arm not in cells_by_arm or cells_by_arm[arm].purpose != "design":
            continue
        by_arm = {name: cell_results[cell.id] for name, cell in cells_by_arm.items()}
        where = spec.metric, stage.name, at_round, by_arm.get(scenario.control or "")
        values = metric_at_round(by_arm[arm], *where)
        if spec.compare_to is not None:
            values = values - metric_at_round(by_arm[spec.compare_to], *where)
        outputs.append(values.mean())
        errors.append(values.std(ddof=1) / len(values) ** 0.5 if len(values) > 1 else np.nan)
    return sensitivity.compute_indices(
        spec.method,
        uncertainty.parameters,
        _design_points(scenario, uncertainty, spec),
        np.array(outputs),
        None if np.isnan(errors).any() else np.array(errors),
    )
