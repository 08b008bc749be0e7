"""What claims, targets and sensitivity analyses look at: which arms it takes to make a figure."""

from __future__ import annotations

from collections.abc import Sequence

from mores.experiments.scenario.conditions import ONLY_ARM
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Sensitivity, Target

DERIVED = {"causal_drift": "centre"}  # computed for claims from this measure and the control's


def arm_of(scenario: Scenario, claim: Claim | Target | Sensitivity) -> str | None:
    """The arm a claim is about: the one it names, else the control, else the only one."""
    if claim.arm is not None:
        return claim.arm
    arms = list(scenario.arms) or [ONLY_ARM]
    return scenario.control or (arms[0] if len(arms) == 1 else None)


def arms_played(scenario: Scenario) -> dict[str, list[str]]:
    """The arms that are played at uncertain parameters, and those that calibration plays."""
    uncertain: list[Claim | Sensitivity] = [
        claim for claim in scenario.claims if claim.interval == "parameters"
    ]
    if scenario.uncertain is not None and scenario.uncertain.sensitivity is not None:
        uncertain.append(scenario.uncertain.sensitivity)
    targets = [] if scenario.calibration is None else scenario.calibration.targets
    return {
        "uncertain": arms_looked_at(scenario, uncertain),
        "calibration": arms_looked_at(scenario, targets),
    }


def arms_looked_at(scenario: Scenario, looks: Sequence[Claim | Target | Sensitivity]) -> list[str]:
    """The arms that it takes to make some figures, each once."""
    arms: dict[str, None] = {}
    for look in looks:
        needed = [arm_of(scenario, look), look.against, getattr(look, "ablation", None)]
        if look.measure in DERIVED:
            needed.append(scenario.control)
        for arm in needed:
            if arm is not None and arm in (scenario.arms or [ONLY_ARM]):
                arms[arm] = None
    return list(arms)
