"""Arms and metrics that claims, targets and sensitivity analyses need."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from mores.experiments.scenario.source_locations import KeyPath
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Stage, Target

Estimand = Claim | Target | Sensitivity
EFFECT_VS_CONTROL = "effect_vs_control"  # short for distance_from_control(mean_value)
_DISTANCE = re.compile(r"distance_from_control\((.+)\)$")


def metric_compared_with_control(metric: str) -> str | None:
    """The recorded metric whose distance from the control's a name stands for.

    `distance_from_control(NAME)` is the Euclidean distance between the arm's vector and the
    control's, world by world, of any recorded metric. `None`: the name is a metric itself.
    """
    match = _DISTANCE.match(metric)
    return "mean_value" if metric == EFFECT_VS_CONTROL else match[1] if match else None


def claim_arm(scenario: Scenario, estimand: Estimand) -> str | None:
    """The named arm, else the control, else the only arm. None if there are several."""
    if estimand.arm is not None:
        return estimand.arm
    arms = scenario.arm_names
    return scenario.control or (arms[0] if len(arms) == 1 else None)


def arms_of(scenario: Scenario, estimand: Estimand) -> list[str]:
    """The arms that an estimand names or implies: its own one first."""
    references = getattr(estimand, "references", None) or ()
    ablation = getattr(estimand, "ablation", None)
    beliefs = getattr(estimand, "stated_belief", None)
    controls = (beliefs.verbatim, beliefs.paraphrased) if beliefs is not None else ()
    arms = (claim_arm(scenario, estimand), estimand.compare_to, ablation, *references, *controls)
    return [arm for arm in arms if arm is not None]


def estimands(scenario: Scenario) -> Iterator[tuple[KeyPath, Estimand, Stage]]:
    """Claims, targets and the sensitivity analysis, with their paths and stages."""
    for i, claim in enumerate(scenario.claims):
        yield ("claims", i), claim, scenario.stage(claim.stage)
    for i, target in enumerate(scenario.calibration.targets if scenario.calibration else ()):
        yield ("calibration", "targets", i), target, scenario.stage(None)
    if scenario.uncertainty is not None and scenario.uncertainty.sensitivity is not None:
        path = ("uncertainty", "sensitivity")
        yield path, scenario.uncertainty.sensitivity, scenario.stage(None)


def arms_by_section(scenario: Scenario) -> dict[str, list[str]]:
    """Arms that are simulated for `uncertainty` and for `calibration`."""
    by_section: dict[str, list[Estimand]] = {"uncertainty": [], "calibration": []}
    for path, estimand, _ in estimands(scenario):
        if not isinstance(estimand, Claim):
            by_section[str(path[0])].append(estimand)
        elif estimand.interval == "parameters":
            by_section["uncertainty"].append(estimand)
    return {section: required_arms(scenario, each) for section, each in by_section.items()}


def required_arms(scenario: Scenario, selected: Sequence[Estimand]) -> list[str]:
    """Arms that claims, targets or a sensitivity analysis need, without repetitions."""
    needed: list[str | None] = []
    for estimand in selected:
        needed += arms_of(scenario, estimand)
        if metric_compared_with_control(estimand.metric) is not None:
            needed.append(scenario.control)
    return [arm for arm in dict.fromkeys(needed) if arm in scenario.arm_names]
