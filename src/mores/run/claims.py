"""Put a scenario's claims to what was recorded."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mores.analysis import verdicts
from mores.analysis.drift import causal_drift
from mores.analysis.verdicts import Verdict
from mores.run.cells import Record, mean_by
from mores.scenario.cell import Cell
from mores.scenario.model import Claim, Scenario
from mores.scenario.verify import arm_of

Records = Mapping[str, Record]  # by cell id


def verdicts_of(scenario: Scenario, cells: Sequence[Cell], records: Records) -> list[Verdict]:
    """The verdict on each claim; over a sweep a claim must hold at every point."""
    return [_verdict(claim, scenario, cells, records) for claim in scenario.claims]


def point_key(cell: Cell) -> str:
    """What cells at the same point of the sweep have in common."""
    return json.dumps(dict(cell.point), sort_keys=True)


def _verdict(claim: Claim, scenario: Scenario, cells: Sequence[Cell], records: Records) -> Verdict:
    at = scenario.rounds if claim.at is None else claim.at
    arm = arm_of(scenario, claim)
    single = []
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
        if claim.prediction is not None:
            prediction = float(_at(record.predictions[claim.prediction], at))
        single.append(verdicts.judge(claim, values, reference, prediction))
    return single[0] if len(single) == 1 else verdicts.over_points(claim, single)


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
    apart = causal_drift(_centre(record), _centre(control))
    return mean_by(record.replicate, apart)


def _centre(record: Record) -> np.ndarray:
    return np.stack([record.measures[n] for n in record.components("centre")], -1)


def _at(prediction: Any, at: int) -> float:
    return prediction if np.ndim(prediction) == 0 else prediction[at]
