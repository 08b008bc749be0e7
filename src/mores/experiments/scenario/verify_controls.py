"""Control of persona claims: two arms that only state a belief; whether an order applies."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mores.experiments.scenario.cell import BuiltCell, Cell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.source_locations import Problem, SourceMap
from mores.experiments.scenario.specification import Scenario
from mores.registry import build

STATED_BELIEF = "stated_belief"  # parameter of the environment
MAY_DIFFER = (STATED_BELIEF, "num_orders", "num_templates")


def control_problems(
    scenario: Scenario, source_map: SourceMap, cells: Sequence[BuiltCell]
) -> Iterator[Problem]:
    """Problems of controls that differ from the claim's arm in more, or do not state a belief."""
    for index, claim in enumerate(scenario.claims):
        if claim.stated_belief is None:
            continue
        arm = claim_arm(scenario, claim)
        own = {str(each.cell.point): each for each in cells if each.cell.arm == arm}
        for wording, control in claim.stated_belief:
            path = ("claims", index, "stated_belief", wording)
            for built in cells:
                reference = own.get(str(built.cell.point))
                if built.cell.arm != control or reference is None:
                    continue
                if _parameters(reference) != _parameters(built):
                    message = f"may differ from {arm} only in env.{', env.'.join(MAY_DIFFER)}"
                    yield source_map.problem(message, *path, code="conflict")
                elif built.cell.env.get(STATED_BELIEF) != wording:
                    message = f"needs env.{STATED_BELIEF}: {wording}"
                    yield source_map.problem(message, *path, code="conflict")
                elif reference.cell.env.get(STATED_BELIEF, "none") != "none":
                    message = f"the claim's arm {arm} states a belief itself"
                    yield source_map.problem(message, *path, code="conflict")


def _parameters(built: BuiltCell) -> tuple[Mapping[str, Any], object, object, object]:
    """What a control must have in common with the claim's arm."""
    cell = built.cell
    env = {name: value for name, value in cell.env.items() if name not in MAY_DIFFER}
    return env, cell.population, cell.policies, cell.stages


def lists_options(cell: Cell) -> bool:
    """Whether a language model of a cell answers from a list of options, whose order may matter.

    So do policies whose readout is not stated: the environment determines it.
    """
    readouts = []
    for spec in cell.policies.values():
        parameters = {name: value for name, value in spec.items() if name != "kind"}
        policy = build("policy", spec["kind"], parameters, strict=True)
        readouts.append(getattr(policy, "readout", None))
    known = [readout for readout in readouts if readout is not None]
    return not known or any(readout.lists_options for readout in known)
