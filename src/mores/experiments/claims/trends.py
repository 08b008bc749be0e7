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

from mores.experiments.claims.claim_estimates import ClaimData, Comparison
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
    """

    point: Mapping[str, Any]
    data: ClaimData
    ablation: ClaimData | None = None
    remark: str = ""
    untrained: bool = False


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
    )


def _weighted(data: Sequence[ClaimData], weights: Float[np.ndarray, " point"]) -> ClaimData:
    comparisons = [each.comparison for each in data if each.comparison is not None]
    comparison: Comparison = _sum(comparisons, weights) if comparisons else None
    if isinstance(comparison, np.floating):
        comparison = float(comparison)
    bounds = [each.bounds for each in data]
    known = [pair for pair in bounds if pair is not None]
    combined = None
    if len(known) == len(bounds):
        ends = [sorted((w * low, w * high)) for w, (low, high) in zip(weights, known, strict=True)]
        combined = (sum(low for low, _ in ends), sum(high for _, high in ends))
    values = np.asarray(_sum([each.values for each in data], weights))
    return ClaimData(values, comparison, combined, all(each.deterministic for each in data))


def _sum(terms: Sequence[Any], weights: Float[np.ndarray, " point"]) -> Any:
    return sum(weight * term for weight, term in zip(weights, terms, strict=True))
