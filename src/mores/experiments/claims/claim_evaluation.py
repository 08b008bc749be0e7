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
from mores.experiments.claims.verdicts import Figures, Verdict
from mores.experiments.results.cell_result import Record, StageRecord, mean_by
from mores.experiments.scenario.cell import Cell
from mores.experiments.scenario.claim_inputs import arm_of
from mores.experiments.scenario.specification import Claim, Scenario
from mores.metrics.drift import causal_drift

ROUNDINGS = 32  # last bits of float32 by which equal arms may differ after many operations

Records = Mapping[str, Record]  # by cell id


@dataclasses.dataclass(frozen=True)
class Judged:
    """The verdict on a claim, and over a sweep those at each point of it.

    Attributes:
        verdict: over all points.
        arm: the arm it is about.
        points: of the sweep, in its order; one, without paths, where there is none.
        by_point: the verdict at each; none where the claim is over uncertain parameters.
    """

    verdict: Verdict
    arm: str
    points: list[Mapping[str, Any]]
    by_point: list[Verdict]


def judge_all(scenario: Scenario, cells: Sequence[Cell], records: Records) -> list[Judged]:
    """What becomes of each claim; over a sweep a claim must hold at every point."""
    points = by_point(cells)
    return [_judged(claim, scenario, points, records) for claim in scenario.claims]


def point_key(cell: Cell) -> str:
    """What cells at the same point of the sweep, and of the uncertain parameters, share."""
    point = dict(cell.point) if cell.purpose == "arm" else None  # arms may keep values of their own
    return json.dumps([cell.purpose, cell.number, point], sort_keys=True)


def by_point(cells: Sequence[Cell]) -> list[dict[str, Cell]]:
    """The cells at each point by arm, the points in the order of their first cells."""
    points: dict[str, dict[str, Cell]] = {}
    for cell in cells:
        points.setdefault(point_key(cell), {})[cell.arm] = cell
    return list(points.values())


def _judged(
    claim: Claim, scenario: Scenario, by_arm: Sequence[dict[str, Cell]], records: Records
) -> Judged:
    arm = arm_of(scenario, claim) or ""
    purpose = "draw" if claim.interval == "parameters" else "arm"
    points: list[Mapping[str, Any]] = []
    found: list[Figures] = []
    ablated: list[Figures] = []
    remarks: list[str] = []
    idle: list[bool] = []
    for here in by_arm:
        if arm in here and here[arm].purpose == purpose:
            needed = {claim.against, claim.ablation, scenario.control, arm} & here.keys()
            beside = {name: records[here[name].id] for name in needed}
            points.append(dict(here[arm].point))
            found.append(figures_of(claim, scenario, arm, beside))
            if claim.ablation is not None:
                ablated.append(figures_of(claim, scenario, claim.ablation, beside))
            remarks.append(trainings_stopped(claim, scenario, arm, beside))
            idle.append(claim.kind == "learned" and nobody_learned(claim, scenario, beside[arm]))
    if claim.interval == "parameters":
        overall = _refused(verdicts.judge_draws(claim, found, ablated), arm, any(idle))
        remark = f"at one of the draws or more, {told}" if (told := _first(remarks)) else ""
        return Judged(_remarked(overall, remark), arm, [{}], [])
    parts = zip(found, ablated or [None] * len(found), idle, remarks, strict=True)
    bare = [
        (_refused(verdicts.judge(claim, *figures, there), arm, nobody), told)
        for figures, there, nobody, told in parts
    ]
    single = [_remarked(verdict, told) for verdict, told in bare]
    if len(single) == 1:
        return Judged(single[0], arm, points, single)
    remark = f"at one of the points or more, {told}" if (told := _first(remarks)) else ""
    overall = verdicts.over_points(claim, [verdict for verdict, _ in bare])
    return Judged(_remarked(overall, remark), arm, points, single)


def trainings_stopped(claim: Claim, scenario: Scenario, arm: str, beside: Records) -> str:
    """How many of the trainings that a claim looks at had stopped early, in words; or nothing.

    They count as they are: whoever stopped goes on as it had become, and to leave it out would be
    to choose among results.
    """
    names = [stage.name for stage in scenario.until(claim.stage)]
    told = []
    for name in dict.fromkeys(filter(None, (arm, claim.against, claim.ablation))):
        record = beside[name]
        stopped = [one for one in record.stopped if one.stage in names]
        if stopped:
            many = len({one.replicate if one.replicate >= 0 else one.line for one in stopped})
            n = len(np.unique(record.replicate))
            told.append(f"{many} of {n} trainings in {name} had stopped")
    return ", ".join(told)


def nobody_learned(claim: Claim, scenario: Scenario, record: Record) -> bool:
    """Whether all who were to learn in an arm, in the stages up to a claim's, made no update."""
    names = [stage.name for stage in scenario.until(claim.stage)]
    taught = [one for one in record.taught if one.stage in names]
    return bool(taught) and all(one.nothing for one in taught)


def _refused(verdict: Verdict, arm: str, nobody: bool) -> Verdict:
    """The verdict on a learned claim, which cannot hold where nobody learned."""
    if not nobody:
        return verdict
    reason = f"nobody in {arm} ever learned anything: no policy made an update"
    return dataclasses.replace(verdict, verdict="fails", reason=reason)


def _first(remarks: Sequence[str]) -> str:
    return next(filter(None, remarks), "")


def _remarked(verdict: Verdict, remark: str) -> Verdict:
    """A verdict with something else that is to be known, in its reason as well."""
    if not remark:
        return verdict
    return dataclasses.replace(verdict, reason=f"{verdict.reason}; {remark}", remark=remark)


def figures_of(claim: Claim, scenario: Scenario, arm: str, beside: Records) -> Figures:
    """What a claim looks at, one figure a replicate, at one point.

    Args:
        claim: the claim, or anything that names a measure, a stage and a round as it does.
        scenario: what it belongs to.
        arm: the arm that it is about.
        beside: the records of the arms at that point, by arm.
    """
    stage = scenario.stage(claim.stage)
    at = scenario.rounds_in(stage) if claim.at is None else claim.at
    record, control = beside[arm], beside.get(scenario.control or "")
    values = values_at(record, claim.measure, stage.name, at, control)
    reference = prediction = None
    if claim.against is not None:
        reference = values_at(beside[claim.against], claim.measure, stage.name, at, control)
        if claim.kind != "exact":
            reference = _beyond_rounding(reference, values)
    if claim.prediction is not None:
        prediction = float(_at(record.stage(stage.name).predictions[claim.prediction], at))
    return Figures(values, reference, prediction)


def _beyond_rounding(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The reference, with `values` wherever the two are equal but for rounding in float32.

    Arms that are equal in exact arithmetic may differ systematically in the last bits, and with
    enough replicates any such difference would be found.
    """
    size = np.maximum(np.abs(values), np.abs(reference)).max()
    alike = np.abs(values - reference) <= ROUNDINGS * np.finfo(np.float32).eps * size
    return np.where(alike, values, reference)


def values_at(
    record: Record, measure: str, stage: str, at: int, control: Record | None
) -> Float[np.ndarray, " replicate"]:
    """One number a replicate: a measure after so many rounds, averaged over worlds and episodes.

    Derived measures need the control's record.
    """
    column = record.stage(stage).rounds.index(at)
    if measure == "causal_drift":
        assert control is not None  # seen to when the scenario was checked
        return drift_from(record, control, stage)[:, column]
    return record.by_replicate(measure, stage)[:, column]


def drift_from(
    record: Record, control: Record, stage: str | None = None
) -> Float[np.ndarray, "replicate round"]:
    """Distance of an arm's centre from the control's, world by world on shared draws.

    Averaged over the worlds and episodes of each replicate.
    """
    here, there = _centre(record.stage(stage)), _centre(control.stage(stage))
    if here.shape[-1] != there.shape[-1]:
        raise UserError(
            f"causal_drift needs as many values in {record.cell} as in {control.cell}: "
            f"{here.shape[-1]} and {there.shape[-1]}",
            code="wrong_shape",
            path="causal_drift",
        )
    apart = causal_drift(here, there)
    return mean_by(record.replicate, apart.mean(1))


def _centre(stage: StageRecord) -> Float[np.ndarray, "world episode round value"]:
    return np.stack([stage.measures[name] for name in stage.components("centre")], -1)


def _at(prediction: Any, at: int) -> float:
    return prediction if np.ndim(prediction) == 0 else prediction[at]
