"""Claims about a sweep: the slope of a metric in a swept parameter, or a step at every value.

The points of a sweep share their random numbers, replicate by replicate. A slope is the least
squares slope over the values of the parameter, one per replicate, so that its interval is that of
any other statistic. `monotone_in` takes the change from each value to the next, one per replicate:
the claim must hold for every step, which needs no correction for their number (see
`verdicts.combine_verdicts`).
"""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from mores.experiments.claims.claim_estimates import (
    ClaimData,
    Comparison,
    without_rounding_differences,
)
from mores.experiments.claims.persona_audit import PersonaAudit
from mores.experiments.scenario.specification import Claim


@dataclasses.dataclass(frozen=True)
class PointData:
    """A claim's data at a point of the sweep.

    Attributes:
        point: the point.
        data: in the claim's arm.
        ablation: the same in the ablation of a learned claim.
        remark: on trainings that stopped early.
        untrained: whether no model of the arm was updated.
        audit: that of a persona claim.
    """

    point: Mapping[str, Any]
    data: ClaimData
    ablation: ClaimData | None = None
    remark: str = ""
    untrained: bool = False
    audit: PersonaAudit | None = None


def trend_points(claim: Claim, points: Sequence[PointData]) -> list[PointData]:
    """The data of a claim about a swept parameter, at each combination of the other parameters.

    The points of another claim are returned unchanged.
    """
    path = claim.slope_in or claim.monotone_in
    if path is None:
        return list(points)
    groups: dict[str, list[PointData]] = {}
    for point in points:
        others = {name: value for name, value in point.point.items() if name != path}
        groups.setdefault(json.dumps(others, sort_keys=True), []).append(point)
    trends = []
    for members in groups.values():
        ordered = sorted(members, key=lambda member: member.point[path])
        if claim.slope_in is not None:
            x = np.array([member.point[path] for member in ordered], dtype=np.float64)
            weights = (x - x.mean()) / ((x - x.mean()) ** 2).sum()
            others = {n: v for n, v in ordered[0].point.items() if n != path}
            trends.append(_combine(ordered, weights, others))
            continue
        for before, after in itertools.pairwise(ordered):
            step = f"{before.point[path]} to {after.point[path]}"
            trends.append(
                _combine([before, after], np.array([-1.0, 1.0]), {**after.point, path: step})
            )
    return trends


def _combine(
    points: Sequence[PointData], weights: Float[np.ndarray, " point"], point: Mapping[str, Any]
) -> PointData:
    """The weighted sum of the data at several points."""
    ablations = [each.ablation for each in points if each.ablation is not None]
    return PointData(
        point,
        _weighted([each.data for each in points], weights),
        _weighted(ablations, weights) if ablations else None,
        next((each.remark for each in points if each.remark), ""),
        any(each.untrained for each in points),
        next((each.audit for each in points if each.audit and each.audit.problem), points[0].audit),
    )


def _weighted(data: Sequence[ClaimData], weights: Float[np.ndarray, " point"]) -> ClaimData:
    comparisons = [each.comparison for each in data if each.comparison is not None]
    comparison: Comparison = None
    if comparisons:
        numbers = isinstance(comparisons[0], float)
        arrays = [np.atleast_1d(np.asarray(each, dtype=np.float64)) for each in comparisons]
        summed = _contrast(arrays, weights)
        comparison = float(summed[0]) if numbers else summed
    bounds = [each.bounds for each in data]
    known = [pair for pair in bounds if pair is not None]
    combined = None
    if len(known) == len(bounds):
        ends = [sorted((w * low, w * high)) for w, (low, high) in zip(weights, known, strict=True)]
        combined = (sum(low for low, _ in ends), sum(high for _, high in ends))
    values = _contrast([each.values for each in data], weights)
    deterministic = all(each.deterministic for each in data)
    return ClaimData(values, comparison, combined, deterministic, is_difference=True)


def _contrast(
    terms: Sequence[Float[np.ndarray, " replicate"]], weights: Float[np.ndarray, " point"]
) -> Float[np.ndarray, " replicate"]:
    """The weighted sum of values at several points, of weights that sum to 0.

    It is computed from the differences from the first point, without those that are rounding, so
    that values that do not change have a sum of exactly 0.
    """
    first = np.asarray(terms[0], dtype=np.float64)
    total = np.zeros_like(first)
    for weight, term in zip(weights, terms, strict=True):
        total += weight * (without_rounding_differences(np.asarray(term), first) - first)
    return total
