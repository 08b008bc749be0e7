"""Attribution: effects of the arms' changes against the control, and their interactions."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from mores.analysis.intervals import IntervalEstimate, compare, estimate
from mores.experiments.claims.claim_evaluation import effect_by_replicate
from mores.experiments.results.cell_result import CellResult
from mores.report.figures.plot_data import ReportData, value_label

MAX_METRICS = 6


class ArmEffect(NamedTuple):
    """Effect of an arm, or interaction of two changes, at the end of the run.

    An interaction is the combined effect minus the two single effects.
    """

    name: str  # of the arm; for an interaction, the names of both arms
    factors: tuple[str, ...]  # changed parts of the scenario: AI, peers, history, people, ...
    arm: str  # whose style the bar has
    components: Mapping[str, IntervalEstimate]  # signed differences, by name of value or metric
    distance: IntervalEstimate | None = None  # of the mean value from the control's, if defined
    is_interaction: bool = False


def arm_effects(data: ReportData) -> list[ArmEffect]:
    """Effects of the arms at the end of the run, followed by the interactions.

    Without recorded mean values, the effects on the claims' metrics by the claims' statistics.
    """
    control, drift = data.control_record, data.drift
    if control is None:
        return []
    changes_by_arm = _changed_parameters(data, list(drift) or data.treatment_arms)
    if not drift:
        return _metric_effects(data, control, changes_by_arm)
    effects = []
    ends = {arm: values[:, :, -1] for arm, values in drift.items()}  # value replicate

    def by_value(differences: np.ndarray) -> dict[str, IntervalEstimate]:
        return {value_label(control, i): _mean(differences[i]) for i in data.top_dimensions(3)}

    for arm, changes in changes_by_arm.items():
        distance = _mean(effect_by_replicate(data.record(arm), control)[:, -1])
        effects.append(ArmEffect(arm, _factors(changes), arm, by_value(ends[arm]), distance))
    for arm, first, second in _factor_combinations(changes_by_arm):
        interaction = by_value(ends[arm] - ends[first] - ends[second])
        factors = _factors(changes_by_arm[arm])
        effects.append(ArmEffect(f"{first} + {second}", factors, arm, interaction, None, True))
    return effects


def _mean(differences: np.ndarray) -> IntervalEstimate:
    """Mean of differences by replicate. Differences of 0 or 1 are no outcomes of a share."""
    return estimate(differences, is_difference=True)


def _metric_effects(
    data: ReportData, control: CellResult, changes_by_arm: Mapping[str, Mapping[str, Any]]
) -> list[ArmEffect]:
    references = {}
    for claim in data.scenario.claims:
        if not claim.checks_every_replicate and claim.metric in control.names:
            reference = control.by_replicate(claim.metric)[:, -1]
            if np.isfinite(reference).all() and len(references) < MAX_METRICS:
                references.setdefault(claim.metric, (reference, claim.statistic))
    effects = []
    for arm, changes in changes_by_arm.items():
        record = data.record(arm)
        components = {
            name.replace("_", " "): compare(record.by_replicate(name)[:, -1], *reference)
            for name, reference in references.items()
            if name in record.names
        }
        if components:
            effects.append(ArmEffect(arm, _factors(changes), arm, components))
    return effects


# --- changed parameters -------------------------------------------------------------------------


def _changed_parameters(data: ReportData, arms: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Dotted paths at which an arm's cell differs from the control's, with the arm's values."""
    control = data.parameters(data.scenario.control or "")
    changes = {}
    for arm in arms:
        own = data.parameters(arm)
        changes[arm] = {p: own.get(p) for p in own | control if own.get(p) != control.get(p)}
    return changes


def _factors(changes: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the changed parts of the scenario."""
    return tuple(dict.fromkeys(_factor(path) for path in sorted(changes))) or ("none",)


def _factor(path: str) -> str:
    parts = path.split(".")
    is_ai = any(p.startswith("ai_") or p.endswith("_ai") or "assistant" in p for p in parts)
    if parts[0] == "policies" or is_ai:
        return "AI"
    if "peers" in parts or "graph" in parts:
        return "peers"
    if parts[0] == "population":
        return "people"
    return "history" if "history" in parts else "environment"


def _factor_combinations(
    changes: Mapping[str, Mapping[str, Any]],
) -> Iterator[tuple[str, str, str]]:
    """Triples of an arm and two others with disjoint changes, whose union it has."""
    arms = [arm for arm in changes if changes[arm]]
    for first, second in itertools.combinations(arms, 2):
        union = {**changes[first], **changes[second]}
        if len(union) == len(changes[first]) + len(changes[second]):
            yield from ((arm, first, second) for arm in arms if changes[arm] == union)
