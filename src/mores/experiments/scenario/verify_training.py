"""Whether those who are to learn can: their players, and what was recorded of their roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.environment import Capability, Policy, get_role
from mores.core.errors import UserError
from mores.experiments.scenario.cell import BuiltCell, Cell
from mores.experiments.scenario.claim_inputs import claim_arm
from mores.experiments.scenario.conditions import DEFAULT_ARM
from mores.experiments.scenario.source_locations import (
    Problem,
    SourceMap,
    problem_at_path,
    suggestion,
)
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Stage


def training_problems(
    scenario: Scenario, source_map: SourceMap, cells: Sequence[tuple[Cell, BuiltCell]]
) -> list[Problem]:
    """Roles that are to learn, and can in no arm; a stage of search in which nobody can.

    In an arm that lacks the role, or where its player of that stage is of a kind that does not
    learn, nobody learns: that is what a twin is. Of such an arm no claim can say what it learned.
    """
    problems = []
    for number, stage in enumerate(scenario.stages):
        players = [built.stages[number].policies for _, built in cells]
        for i, role in enumerate(stage.roles_to_train):
            wrong = [why for seated in players if (why := _training_obstacle(stage, role, seated))]
            if wrong and len(wrong) == len(players):
                why = next((why for why in wrong if why.code != "unknown_name"), wrong[0])
                path = ("stages", number, "roles_to_train", i)
                problems.append(problem_at_path(source_map, str(why), *path, code=why.code))
        able = any(player.supports("act_with_search") for seated in players for player in seated.values())
        if stage.loop == "search" and players and not able:
            message = "assist: no player here searches when it decides: play is the same"
            problems.append(
                problem_at_path(source_map, message, "stages", number, "loop", code="unsupported")
            )
    for i, claim in enumerate(scenario.claims):
        arm = claim_arm(scenario, claim)
        here = [built for cell, built in cells if cell.arm == arm]
        if (
            claim.kind == "learned"
            and here
            and not any(_any_policy_trains(b, claim, scenario) for b in here)
        ):
            message = (
                f"learned: nobody learns in {arm} up to then: name an arm in which somebody does"
            )
            problems.append(
                problem_at_path(source_map, message, "claims", i, "kind", code="not_trained")
            )
        without = [cell for cell, _ in cells if cell.arm == claim.ablation]
        if any(
            _same_spec(cell, other) for cell, _ in cells if cell.arm == arm for other in without
        ):
            message = f"is the same as {arm}, so what is claimed cannot vanish in it"
            problems.append(
                problem_at_path(source_map, message, "claims", i, "ablation", code="conflict")
            )
    return problems


def _same_spec(one: Cell, other: Cell) -> bool:
    """Whether two arms do not differ."""
    kept = ("point", "env", "population", "policies")
    return all(getattr(one, name) == getattr(other, name) for name in kept)


def _any_policy_trains(built: BuiltCell, claim: Claim, scenario: Scenario) -> bool:
    """Whether anybody in a cell learns in the stages up to that of a claim."""
    stages = built.stages[: len(scenario.stages_through(claim.stage))]
    return any(
        _training_obstacle(staged.stage, role, staged.policies) is None
        and not staged.policies[role].frozen
        for staged in stages
        for role in staged.stage.roles_to_train
    )


def _training_obstacle(stage: Stage, role: str, policies: Mapping[str, Policy]) -> UserError | None:
    """Why a role cannot learn in a stage."""
    if role not in policies:
        message = f"there is no role {role!r}{suggestion(role, policies)}"
        return UserError(message, code="unknown_name", path=f"players.{role}")
    player = policies[role]
    kind = type(player).__name__
    able: Capability = "update" if stage.loop == "train" else "fit_offline"
    if not player.supports(able):
        what = f"cannot learn {'from reward' if able == 'roles_to_train' else 'from a record'}"
    elif not player.supports("on_episode_start"):
        what = "would forget: it defines no `again`"
    else:
        return None
    message = f"{role}'s player, {kind}, {what}"
    return UserError(message, code="unsupported", path=f"players.{role}")


def no_update_problems(
    scenario: Scenario, source_map: SourceMap, cell: Cell, built: BuiltCell, stage_index: int
) -> list[Problem]:
    """Roles that could learn in a stage, and of which it is certain that they will not."""
    problems = []
    staged = built.stages[stage_index]
    stage, players = staged.stage, staged.policies
    able = [
        role for role in stage.roles_to_train if _training_obstacle(stage, role, players) is None
    ]
    lessons = built.dataset_stage_indices(stage_index) if stage.loop == "fit_offline" else [stage_index]
    for n in lessons if able else ():
        short = built.stages[n].environment.min_rounds_message(built.stages[n].rounds)
        if short:
            path = ("rounds",) if built.stages[n].stage.rounds is None else ("stages", n, "rounds")
            problems.append(problem_at_path(source_map, short, *path, code="out_of_range"))
    for role in able if stage.loop == "train" else ():
        player, rounds = players[role], stage.episodes * staged.rounds
        if player.frozen:
            continue
        try:
            vain = player.never_updates_reason(
                get_role(staged.environment, role), rounds, scenario.worlds
            )
        except UserError:
            continue  # it will be told where it begins
        if vain:
            where = "" if cell.arm == DEFAULT_ARM else f" of {cell.arm}"
            message = f"learns nothing in stage {stage.name}{where}: {vain}"
            origin = cell.stage_spec(stage_index).origin
            problems.append(
                origin.component_problem(("policies", role), message, code="not_trained")
            )
    return problems


def offline_dataset_problems(
    source_map: SourceMap, built: BuiltCell, stage_index: int
) -> list[Problem]:
    """Roles whose record of earlier stages does not fit together, or is empty."""
    problems = []
    stage, players = built.stages[stage_index].stage, built.stages[stage_index].policies
    played = [built.stages[n] for n in built.dataset_stage_indices(stage_index)]
    for i, role in enumerate(stage.roles_to_train if stage.loop == "fit_offline" else ()):
        if role not in players:
            continue  # an arm in which nobody learns
        sights = {
            (r.num_agents, r.observation_space.size)
            for s in played
            for r in s.environment.roles
            if r.name == role
        }
        if not sights:
            code = "missing"
            message = f"{role} has not played yet: there is no record to learn from"
        elif len(sights) > 1:
            code = "conflict"
            message = (
                f"{role} has other seats, or sees something else, in different stages: one record "
                "cannot have both"
            )
        else:
            continue
        problems.append(
            problem_at_path(source_map, message, "stages", stage_index, "roles_to_train", i, code=code)
        )
    return problems
