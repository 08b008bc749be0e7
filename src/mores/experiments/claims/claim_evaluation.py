"""Put a scenario's claims to what was recorded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.core.errors import UserError
from mores.experiments.claims import verdicts
from mores.experiments.claims.verdicts import ClaimData, Verdict
from mores.experiments.results.cell_result import CellResult, StageResult, mean_by_label
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.specification import Claim, Scenario
from mores.metrics.drift import effect_vs_control

TOLERANCE_IN_ULPS = 32  # last bits of float32 by which equal arms may differ after many operations

CellResults = Mapping[str, CellResult]  # by cell id


@dataclasses.dataclass(frozen=True)
class ClaimEvaluation:
    """The verdict on a claim, and over a sweep those at each point of it.

    Attributes:
        verdict: over all points.
        arm: the arm it is about.
        points: of the sweep, in its order; one, without paths, where there is none.
        point_verdicts: the verdict at each; none where the claim is over uncertain parameters.
    """

    verdict: Verdict
    arm: str
    points: list[Mapping[str, Any]]
    point_verdicts: list[Verdict]


def evaluate_claims(
    scenario: Scenario, cells: Sequence[Cell], cell_results: CellResults
) -> list[ClaimEvaluation]:
    """What becomes of each claim; over a sweep a claim must hold at every point."""
    points = cells_by_point(cells)
    return [_evaluate_claim(claim, scenario, points, cell_results) for claim in scenario.claims]


def point_key(cell: Cell) -> str:
    """What cells at the same point of the sweep, and of the uncertain parameters, share."""
    point = dict(cell.point) if cell.purpose == "arm" else None  # arms may keep values of their own
    return json.dumps([cell.purpose, cell.index, point], sort_keys=True)


def cells_by_point(cells: Sequence[Cell]) -> list[dict[str, Cell]]:
    """The cells at each point by arm, the points in the order of their first cells."""
    points: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        points.setdefault(point_key(cell), {})[cell.arm] = cell
    return list(points.values())


def _evaluate_claim(
    claim: Claim,
    scenario: Scenario,
    cells_at_points: Sequence[dict[str, Cell]],
    cell_results: CellResults,
) -> ClaimEvaluation:
    arm = claim_arm(scenario, claim) or ""
    purpose = "draw" if claim.interval == "parameters" else "arm"
    points: list[Mapping[str, Any]] = []
    found: list[ClaimData] = []
    ablated: list[ClaimData] = []
    remarks: list[str] = []
    idle: list[bool] = []
    for here in cells_at_points:
        if arm in here and here[arm].purpose == purpose:
            needed = {claim.compare_to, claim.ablation, scenario.control, arm} & here.keys()
            beside = {name: cell_results[here[name].id] for name in needed}
            points.append(dict(here[arm].point))
            found.append(make_claim_data(claim, scenario, arm, beside))
            if claim.ablation is not None:
                ablated.append(make_claim_data(claim, scenario, claim.ablation, beside))
            remarks.append(describe_stopped_trainings(claim, scenario, arm, beside))
            idle.append(claim.kind == "learned" and no_updates_made(claim, scenario, beside[arm]))
    if claim.interval == "parameters":
        overall = _fail_if_untrained(
            verdicts.evaluate_claim_over_draws(claim, found, ablated), arm, any(idle)
        )
        remark = (
            f"at one of the draws or more, {told}" if (told := _first_nonempty(remarks)) else ""
        )
        return ClaimEvaluation(_with_remark(overall, remark), arm, [{}], [])
    parts = zip(found, ablated or [None] * len(found), idle, remarks, strict=True)
    bare = [
        (_fail_if_untrained(verdicts.evaluate_claim(claim, *figures, there), arm, nobody), told)
        for figures, there, nobody, told in parts
    ]
    single = [_with_remark(verdict, told) for verdict, told in bare]
    if len(single) == 1:
        return ClaimEvaluation(single[0], arm, points, single)
    remark = f"at one of the points or more, {told}" if (told := _first_nonempty(remarks)) else ""
    overall = verdicts.combine_verdicts(claim, [verdict for verdict, _ in bare])
    return ClaimEvaluation(_with_remark(overall, remark), arm, points, single)


def describe_stopped_trainings(
    claim: Claim, scenario: Scenario, arm: str, results_by_arm: CellResults
) -> str:
    """How many of the trainings that a claim looks at had stopped early, in words; or nothing.

    They count as they are: whoever stopped goes on as it had become, and to leave it out would be
    to choose among results.
    """
    names = [stage.name for stage in scenario.stages_through(claim.stage)]
    told = []
    for name in dict.fromkeys(filter(None, (arm, claim.compare_to, claim.ablation))):
        record = results_by_arm[name]
        stopped = [one for one in record.stopped if one.stage in names]
        if stopped:
            many = len({one.replicate if one.replicate >= 0 else one.message for one in stopped})
            n = len(np.unique(record.replicate))
            told.append(f"{many} of {n} trainings in {name} had stopped")
    return ", ".join(told)


def no_updates_made(claim: Claim, scenario: Scenario, cell_result: CellResult) -> bool:
    """Whether all who were to learn in an arm, in the stages up to a claim's, made no update."""
    names = [stage.name for stage in scenario.stages_through(claim.stage)]
    taught = [one for one in cell_result.training_statuses if one.stage in names]
    return bool(taught) and all(one.none_updated for one in taught)


def _fail_if_untrained(verdict: Verdict, arm: str, untrained: bool) -> Verdict:
    """The verdict on a learned claim, which cannot hold where nobody learned."""
    if not untrained:
        return verdict
    reason = f"nobody in {arm} ever learned anything: no policy made an update"
    return dataclasses.replace(verdict, status="fails", reason=reason)


def _first_nonempty(remarks: Sequence[str]) -> str:
    return next(filter(None, remarks), "")


def _with_remark(verdict: Verdict, remark: str) -> Verdict:
    """A verdict with something else that is to be known, in its reason as well."""
    if not remark:
        return verdict
    return dataclasses.replace(verdict, reason=f"{verdict.reason}; {remark}", remark=remark)


def make_claim_data(
    claim: Claim, scenario: Scenario, arm: str, results_by_arm: CellResults
) -> ClaimData:
    """What a claim looks at, one figure a replicate, at one point.

    Args:
        claim: the claim, or anything that names a measure, a stage and a round as it does.
        scenario: what it belongs to.
        arm: the arm that it is about.
        results_by_arm: the records of the arms at that point, by arm.
    """
    stage = scenario.stage(claim.stage)
    at = scenario.rounds_per_episode(stage) if claim.at_round is None else claim.at_round
    record, control = results_by_arm[arm], results_by_arm.get(scenario.control or "")
    values = metric_at_round(record, claim.metric, stage.name, at, control)
    reference = prediction = None
    if claim.compare_to is not None:
        reference = metric_at_round(
            results_by_arm[claim.compare_to], claim.metric, stage.name, at, control
        )
        if claim.kind != "exact":
            reference = _remove_rounding_differences(reference, values)
    if claim.analytic is not None:
        prediction = float(
            _value_at_round(record.stage(stage.name).analytic_values[claim.analytic], at)
        )
    return ClaimData(values, reference, prediction)


def _remove_rounding_differences(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The reference, with `values` wherever the two are equal but for rounding in float32.

    Arms that are equal in exact arithmetic may differ systematically in the last bits, and with
    enough replicates any such difference would be found.
    """
    size = np.maximum(np.abs(values), np.abs(reference)).max()
    alike = np.abs(values - reference) <= TOLERANCE_IN_ULPS * np.finfo(np.float32).eps * size
    return np.where(alike, values, reference)


def metric_at_round(
    cell_result: CellResult, metric: str, stage: str, at_round: int, control: CellResult | None
) -> Float[np.ndarray, " replicate"]:
    """One number a replicate: a measure after so many rounds, averaged over worlds and episodes.

    Derived measures need the control's record.
    """
    column = cell_result.stage(stage).rounds.index(at_round)
    if metric == "effect_vs_control":
        assert control is not None  # seen to when the scenario was checked
        return effect_by_replicate(cell_result, control, stage)[:, column]
    return cell_result.by_replicate(metric, stage)[:, column]


def effect_by_replicate(
    cell_result: CellResult, control: CellResult, stage: str | None = None
) -> Float[np.ndarray, "replicate round"]:
    """Distance of an arm's centre from the control's, world by world on shared draws.

    Averaged over the worlds and episodes of each replicate.
    """
    here, there = _mean_value(cell_result.stage(stage)), _mean_value(control.stage(stage))
    if here.shape[-1] != there.shape[-1]:
        raise UserError(
            f"causal_drift needs as many values in {cell_result.cell} as in {control.cell}: "
            f"{here.shape[-1]} and {there.shape[-1]}",
            code="wrong_shape",
            path="effect_vs_control",
        )
    apart = effect_vs_control(here, there)
    return mean_by_label(cell_result.replicate, apart.mean(1))


def _mean_value(stage_result: StageResult) -> Float[np.ndarray, "world episode round value"]:
    return np.stack([stage_result.metrics[name] for name in stage_result.components("mean_value")], -1)


def _value_at_round(analytic_value: Any, at_round: int) -> float:
    return analytic_value if np.ndim(analytic_value) == 0 else analytic_value[at_round]
