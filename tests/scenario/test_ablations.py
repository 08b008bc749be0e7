"""Ablations of learned claims remove the signal that is learned from, not the training."""

from __future__ import annotations

import functools

import pytest

from mores.core.learner import Learner
from mores.experiments.scenario.cell import BuiltCell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.expansion import build_cells
from mores.experiments.scenario.loading import bundled_scenarios, load_scenario
from mores.experiments.scenario.specification import Claim, Scenario

LEARNED = [
    (name, index)
    for name in bundled_scenarios()
    for index, claim in enumerate(load_scenario(name, []).scenario.claims)
    if claim.kind == "learned"
]


def training(built: BuiltCell, claim: Claim, scenario: Scenario) -> list[tuple[str, object]]:
    """Stages up to that of the claim in which a learner that is not frozen trains."""
    stages = built.stages[: len(scenario.stages_through(claim.stage))]
    return [
        (each.stage.name, role)
        for each in stages
        for role in each.stage.roles_to_train
        if isinstance(policy := each.policies.get(role), Learner) and not policy.frozen
    ]


@functools.cache
def cells(name: str) -> tuple[Scenario, dict[str, BuiltCell]]:
    """A scenario and its cells by arm."""
    loaded = load_scenario(name, [])
    return loaded.scenario, {each.cell.arm: each for each in build_cells(loaded)}


def test_there_are_learned_claims() -> None:
    assert len(LEARNED) >= 21


@pytest.mark.parametrize(("name", "index"), LEARNED)
def test_the_ablation_trains_as_the_arm_does(name: str, index: int) -> None:
    scenario, built = cells(name)
    claim = scenario.claims[index]
    arm, ablation = built[str(claim_arm(scenario, claim))], built[str(claim.ablation)]
    assert training(arm, claim, scenario)
    assert training(ablation, claim, scenario) == training(arm, claim, scenario)
