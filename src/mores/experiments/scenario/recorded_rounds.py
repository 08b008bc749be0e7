"""Rounds of a stage after which metrics are recorded."""

from __future__ import annotations

from mores.experiments.scenario.cell import CellPurpose
from mores.experiments.scenario.claim_inputs import estimands
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Stage


def recorded_rounds(
    scenario: Scenario, stage: Stage, purpose: CellPurpose = "arm"
) -> tuple[int, ...]:
    """Rounds of a stage's episodes after which metrics are recorded.

    The first, every `record_every`-th, the last, and those that claims and targets use. At samples
    of uncertain parameters (`purpose` "draw") only the last and those.
    """
    last = scenario.rounds_per_episode(stage)
    required = {
        estimand.at_round
        for _, estimand, used_in in estimands(scenario)
        if estimand.at_round is not None
        and (not isinstance(estimand, Claim) or used_in.name == stage.name)
    }
    regular = range(0, last + 1, scenario.record_every) if purpose == "arm" else ()
    return tuple(sorted(number for number in {*regular, last, *required} if number <= last))
