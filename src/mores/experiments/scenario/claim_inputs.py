"""What claims, targets and sensitivity analyses look at: which arms it takes to make a figure."""

from __future__ import annotations

from collections.abc import Sequence

from mores.experiments.scenario.conditions import DEFAULT_ARM
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Target

DERIVED_METRICS = {
    "effect_vs_control": "mean_value"
}  # computed for claims from this measure and the control's


def claim_arm(scenario: Scenario, estimand: Claim | Target | Sensitivity) -> str | None:
    """The arm a claim is about: the one it names, else the control, else the only one."""
    if estimand.arm is not None:
        return estimand.arm
    arms = list(scenario.arms) or [DEFAULT_ARM]
    return scenario.control or (arms[0] if len(arms) == 1 else None)


def arms_by_section(scenario: Scenario) -> dict[str, list[str]]:
    """The arms that are played at uncertain parameters, and those that calibration plays."""
    uncertain: list[Claim | Sensitivity] = [
        claim for claim in scenario.claims if claim.interval == "parameters"
    ]
    if scenario.uncertainty is not None and scenario.uncertainty.sensitivity is not None:
        uncertain.append(scenario.uncertainty.sensitivity)
    targets = [] if scenario.calibration is None else scenario.calibration.targets
    return {
        "uncertainty": required_arms(scenario, uncertain),
        "calibration": required_arms(scenario, targets),
    }


def required_arms(
    scenario: Scenario, estimands: Sequence[Claim | Target | Sensitivity]
) -> list[str]:
    """The arms that it takes to make some figures, each once."""
    arms: dict[str, None] = {}
    for look in estimands:
        needed = [claim_arm(scenario, look), look.compare_to, getattr(look, "ablation", None)]
        if look.metric in DERIVED_METRICS:
            needed.append(scenario.control)
        for arm in needed:
            if arm is not None and arm in (scenario.arms or [DEFAULT_ARM]):
                arms[arm] = None
    return list(arms)
