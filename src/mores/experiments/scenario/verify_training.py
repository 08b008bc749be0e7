"""Whether those who are to learn can: their players, and what was recorded of their roles."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mores.core.environment import Ability, Player, role_named
from mores.core.errors import UserError
from mores.experiments.scenario.cell import Built, Cell
from mores.experiments.scenario.claim_inputs import arm_of
from mores.experiments.scenario.conditions import ONLY_ARM
from mores.experiments.scenario.source_locations import Places, Problem, nearest, problem_at
from mores.experiments.scenario.specification import Claim, Scenario
from mores.experiments.scenario.stages import Stage


def learners(
    scenario: Scenario, places: Places, cells: Sequence[tuple[Cell, Built]]
) -> list[Problem]:
    """Roles that are to learn, and can in no arm; a stage of search in which nobody can.

    In an arm that lacks the role, or where its player of that stage is of a kind that does not
    learn, nobody learns: that is what a twin is. Of such an arm no claim can say what it learned.
    """
    problems = []
    for number, stage in enumerate(scenario.stages):
        players = [built.stages[number].players for _, built in cells]
        for i, role in enumerate(stage.learn):
            wrong = [why for seated in players if (why := _unable(stage, role, seated))]
            if wrong and len(wrong) == len(players):
                why = next((why for why in wrong if why.code != "unknown_name"), wrong[0])
                path = ("stages", number, "learn", i)
                problems.append(problem_at(places, str(why), *path, code=why.code))
        able = any(player.can("assist") for seated in players for player in seated.values())
        if stage.loop == "assist" and players and not able:
            message = "assist: no player here searches when it decides: play is the same"
            problems.append(
                problem_at(places, message, "stages", number, "loop", code="unsupported")
            )
    for i, claim in enumerate(scenario.claims):
        arm = arm_of(scenario, claim)
        here = [built for cell, built in cells if cell.arm == arm]
        if claim.kind == "learned" and here and not any(_learns(b, claim, scenario) for b in here):
            message = (
                f"learned: nobody learns in {arm} up to then: name an arm in which somebody does"
            )
            problems.append(problem_at(places, message, "claims", i, "kind", code="not_trained"))
        without = [cell for cell, _ in cells if cell.arm == claim.ablation]
        if any(_same(cell, other) for cell, _ in cells if cell.arm == arm for other in without):
            message = f"is the same as {arm}, so what is claimed cannot vanish in it"
            problems.append(problem_at(places, message, "claims", i, "ablation", code="conflict"))
    return problems


def _same(one: Cell, other: Cell) -> bool:
    """Whether two arms do not differ."""
    kept = ("point", "env", "people", "players")
    return all(getattr(one, name) == getattr(other, name) for name in kept)


def _learns(built: Built, claim: Claim, scenario: Scenario) -> bool:
    """Whether anybody in a cell learns in the stages up to that of a claim."""
    stages = built.stages[: len(scenario.until(claim.stage))]
    return any(
        _unable(staged.stage, role, staged.players) is None and not staged.players[role].still
        for staged in stages
        for role in staged.stage.learn
    )


def _unable(stage: Stage, role: str, players: Mapping[str, Player]) -> UserError | None:
    """Why a role cannot learn in a stage."""
    if role not in players:
        message = f"there is no role {role!r}{nearest(role, players)}"
        return UserError(message, code="unknown_name", path=f"players.{role}")
    player = players[role]
    kind = type(player).__name__
    able: Ability = "learn" if stage.loop == "improve" else "fit"
    if not player.can(able):
        what = f"cannot learn {'from reward' if able == 'learn' else 'from a record'}"
    elif not player.can("again"):
        what = "would forget: it defines no `again`"
    else:
        return None
    message = f"{role}'s player, {kind}, {what}"
    return UserError(message, code="unsupported", path=f"players.{role}")


def in_vain(
    scenario: Scenario, places: Places, cell: Cell, built: Built, number: int
) -> list[Problem]:
    """Roles that could learn in a stage, and of which it is certain that they will not."""
    problems = []
    staged = built.stages[number]
    stage, players = staged.stage, staged.players
    able = [role for role in stage.learn if _unable(stage, role, players) is None]
    lessons = built.record_of(number) if stage.loop == "fit" else [number]
    for n in lessons if able else ():
        short = built.stages[n].game.too_short(built.stages[n].rounds)
        if short:
            path = ("rounds",) if built.stages[n].stage.rounds is None else ("stages", n, "rounds")
            problems.append(problem_at(places, short, *path, code="out_of_range"))
    for role in able if stage.loop == "improve" else ():
        player, rounds = players[role], stage.episodes * staged.rounds
        if player.still:
            continue
        try:
            vain = player.in_vain(role_named(staged.game, role), rounds, scenario.worlds)
        except UserError:
            continue  # it will be told where it begins
        if vain:
            where = "" if cell.arm == ONLY_ARM else f" of {cell.arm}"
            message = f"learns nothing in stage {stage.name}{where}: {vain}"
            origin = cell.asked(number).origin
            problems.append(origin.part(("players", role), message, code="not_trained"))
    return problems


def fitted(places: Places, built: Built, number: int) -> list[Problem]:
    """Roles whose record of earlier stages does not fit together, or is empty."""
    problems = []
    stage, players = built.stages[number].stage, built.stages[number].players
    played = [built.stages[n] for n in built.record_of(number)]
    for i, role in enumerate(stage.learn if stage.loop == "fit" else ()):
        if role not in players:
            continue  # an arm in which nobody learns
        sights = {(r.count, r.sees.size) for s in played for r in s.game.roles if r.name == role}
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
        problems.append(problem_at(places, message, "stages", number, "learn", i, code=code))
    return problems
