"""Put a scenario's claims to what was recorded."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mores.analysis import verdicts
from mores.analysis.drift import causal_drift
from mores.analysis.verdicts import Verdict
from mores.errors import UserError
from mores.run.cells import Record, mean_by
from mores.scenario.cell import Cell
from mores.scenario.model import Claim, Scenario
from mores.scenario.verify import arm_of

ROUNDINGS = 32  # last bits of float32 by which equal arms may differ after many operations

Records = Mapping[str, Record]  # by cell id


@dataclasses.dataclass(frozen=True)
class Judged:
    """The verdict on a claim, and over a sweep those at each point of it.

    Attributes:
        verdict: over all points.
        arm: the arm it is about.
        points: of the sweep, in its order; one, without paths, where there is none.
        by_point: the verdict at each.
    """

    verdict: Verdict
    arm: str
    points: list[Mapping[str, Any]]
    by_point: list[Verdict]


def judge_all(scenario: Scenario, cells: Sequence[Cell], records: Records) -> list[Judged]:
    """What becomes of each claim; over a sweep a claim must hold at every point."""
    return [_judged(claim, scenario, cells, records) for claim in scenario.claims]


def point_key(cell: Cell) -> str:
    """What cells at the same point of the sweep have in common."""
    return json.dumps(dict(cell.point), sort_keys=True)


def _judged(claim: Claim, scenario: Scenario, cells: Sequence[Cell], records: Records) -> Judged:
    at = scenario.rounds if claim.at is None else claim.at
    arm = arm_of(scenario, claim) or ""
    points: list[Mapping[str, Any]] = []
    single: list[Verdict] = []
    for cell in cells:
        if cell.arm != arm:
            continue
        others = {c.arm: records[c.id] for c in cells if point_key(c) == point_key(cell)}
        record = records[cell.id]
        values = values_at(record, claim.measure, at, _control(others, scenario))
        reference = prediction = None
        if claim.against is not None:
            other = others[claim.against]
            reference = values_at(other, claim.measure, at, _control(others, scenario))
            if claim.kind != "exact":
                reference = _beyond_rounding(reference, values)
        if claim.prediction is not None:
            prediction = float(_at(record.predictions[claim.prediction], at))
        points.append(dict(cell.point))
        single.append(verdicts.judge(claim, values, reference, prediction))
    overall = single[0] if len(single) == 1 else verdicts.over_points(claim, single)
    return Judged(overall, arm, points, single)


def _beyond_rounding(reference: np.ndarray, values: np.ndarray) -> np.ndarray:
    """The reference, with `values` wherever the two are equal but for rounding in float32.

    Arms that are equal in exact arithmetic may differ systematically in the last bits, and with
    enough replicates any such difference would be found.
    """
    size = np.maximum(np.abs(values), np.abs(reference)).max()
    alike = np.abs(values - reference) <= ROUNDINGS * np.finfo(np.float32).eps * size
    return np.where(alike, values, reference)


def _control(records: Mapping[str, Record], scenario: Scenario) -> Record | None:
    return None if scenario.control is None else records[scenario.control]


def values_at(record: Record, measure: str, at: int, control: Record | None) -> np.ndarray:
    """One number a replicate: a measure after so many rounds. Derived measures need the control."""
    column = record.rounds.index(at)
    if measure == "causal_drift":
        assert control is not None  # seen to when the scenario was checked
        return drift_from(record, control)[:, column]
    return record.by_replicate(measure)[:, column]


def drift_from(record: Record, control: Record) -> np.ndarray:
    """Distance of an arm's centre from the control's, world by world on shared draws.

    Averaged over the worlds of each replicate: `[replicate, round]`.
    """
    here, there = _centre(record), _centre(control)
    if here.shape[-1] != there.shape[-1]:
        raise UserError(
            f"causal_drift needs as many values in {record.cell} as in {control.cell}: "
            f"{here.shape[-1]} and {there.shape[-1]}"
        )
    apart = causal_drift(here, there)
    return mean_by(record.replicate, apart)


def _centre(record: Record) -> np.ndarray:
    return np.stack([record.measures[n] for n in record.components("centre")], -1)


def _at(prediction: Any, at: int) -> float:
    return prediction if np.ndim(prediction) == 0 else prediction[at]
